{{/* What the servers of this chart have in common. */}}

{{/* Files of the chart as ConfigMap entries: (list root folder names). */}}
{{- define "sicargabox.files" -}}
{{- $root := index . 0 -}}{{- $folder := index . 1 -}}
{{- range index . 2 }}
{{ . }}: |
  {{- $root.Files.Get (printf "files/%s/%s" $folder .) | nindent 2 }}
{{- end }}
{{- end }}

{{- define "sicargabox.keptVolumes" -}}
persistentVolumeClaimRetentionPolicy:
  whenDeleted: {{ ternary "Retain" "Delete" .keep }}
  whenScaled: Retain
{{- end }}

{{/* (list root component storage) */}}
{{- define "sicargabox.claim" -}}
{{- $storage := index . 2 -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata:
    name: data
    labels:
      {{- include "sicargabox.selector" (list (index . 0) (index . 1)) | nindent 6 }}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with $storage.className }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ $storage.size }}
{{- end }}

{{/* Figures of a Redis server or Sentinel: (list root address secret). */}}
{{- define "sicargabox.redisExporter" -}}
{{- $root := index . 0 -}}{{- $exporter := $root.Values.redis.exporter -}}
- name: exporter
  image: {{ include "sicargabox.foreignImage" $exporter.image }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  # No CONFIG GET, which its user may not ask: it would tell the replication's password.
  args: [--config-command=-, "--web.listen-address=:9121"]
  ports:
    - name: exporter
      containerPort: 9121
  env:
    - name: REDIS_ADDR
      value: {{ index . 1 }}
    - name: REDIS_USER
      value: exporter
    - name: REDIS_PASSWORD
      valueFrom:
        secretKeyRef:
          name: {{ index . 2 }}
          key: exporter
  startupProbe:
    httpGet: {path: /health, port: exporter}
    periodSeconds: 1
    failureThreshold: 60
  livenessProbe:
    httpGet: {path: /health, port: exporter}
    periodSeconds: 20
    timeoutSeconds: 5
    failureThreshold: 6
  readinessProbe:
    httpGet: {path: /health, port: exporter}
    periodSeconds: 10
    timeoutSeconds: 5
  {{- include "sicargabox.restricted" . | nindent 2 }}
  {{- include "sicargabox.resources" $exporter.resources | nindent 2 }}
{{- end }}

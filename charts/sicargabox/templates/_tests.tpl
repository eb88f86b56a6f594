{{/* A pod of `helm test`: a dict of root name command user database search, and restart for one whose command does not
     wait by itself: a new pod may ask before the NetworkPolicies know its address. */}}
{{- define "sicargabox.testPod" -}}
{{- $root := .root -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "sicargabox.fullname" $root }}-test-{{ .name }}
  labels:
    {{- include "sicargabox.labels" (list $root "test") | nindent 4 }}
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  {{- include "sicargabox.podSpec" (list $root "test" dict 10001 10001 5) | nindent 2 }}
  restartPolicy: {{ .restart | default "Never" }}
  activeDeadlineSeconds: {{ add 60 (int $root.Values.tests.timeoutSeconds) }}
  containers:
    - name: test
      image: {{ include "sicargabox.image" (list $root $root.Values.api.image) }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command: {{ toJson .command }}
      env:
        {{- include "sicargabox.environment" . | nindent 8 }}
      {{- include "sicargabox.settingsOfAll" $root | nindent 6 }}
      {{- include "sicargabox.restricted" $root | nindent 6 }}
      {{- include "sicargabox.resources" (dict "requests" (dict "cpu" "20m" "memory" "96Mi") "limits" (dict "memory" "256Mi")) | nindent 6 }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        {{- include "sicargabox.secretMounts" . | nindent 8 }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- include "sicargabox.secretVolumes" . | nindent 4 }}
{{- end }}

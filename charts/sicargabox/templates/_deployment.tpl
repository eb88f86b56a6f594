{{/* The one Deployment of all our processes. Takes a dict:
     root component image command pod resources settings grace
     replicas    absent: an autoscaler owns the number
     user        its name at Redis
     database    whether it signs in at PostgreSQL, search: whether it speaks with Elasticsearch
     port        of its probes and figures
     variables   more environment, YAML
     sleep       seconds between leaving the Service and SIGTERM
     counters    whether children count in a folder in memory
     surge       replace by one more pod instead of one fewer
     probes      YAML, in place of /healthz and /readyz */}}
{{- define "sicargabox.deployment" -}}
{{- $root := .root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "sicargabox.fullname" $root }}-{{ .component }}
  labels:
    {{- include "sicargabox.labels" (list $root .component) | nindent 4 }}
spec:
  {{- if hasKey . "replicas" }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: {{ ternary 0 1 (default false .surge) }}
  selector:
    matchLabels:
      {{- include "sicargabox.selector" (list $root .component) | nindent 6 }}
  template:
    metadata:
      {{- include "sicargabox.podMetadata" (list $root .component .pod (include "sicargabox.settingsChecksum" $root | fromYaml)) | nindent 6 }}
    spec:
      {{- include "sicargabox.podSpec" (list $root .component .pod 10001 10001 .grace) | nindent 6 }}
      {{- include "sicargabox.spread" (list $root .component .pod true) | nindent 6 }}
      {{- if and .database $root.Values.migrate.enabled }}
      initContainers:
        {{- include "sicargabox.waitForSchema" (list $root .image) | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "sicargabox.image" (list $root .image) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: {{ toJson .command }}
          ports:
            - name: http
              containerPort: {{ .port }}
          env:
            {{- include "sicargabox.environment" . | nindent 12 }}
            {{- with .variables }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- if .counters }}
            - name: PROMETHEUS_MULTIPROC_DIR
              value: /run/sicargabox
            {{- end }}
          {{- include "sicargabox.settingsOfAll" $root | nindent 10 }}
          {{- if .probes }}
          {{- .probes | nindent 10 }}
          {{- else }}
          {{- include "sicargabox.probes" (list "http" 180) | nindent 10 }}
          {{- end }}
          {{- with .sleep }}
          lifecycle:
            preStop:
              sleep:
                seconds: {{ . }}
          {{- end }}
          {{- include "sicargabox.restricted" $root | nindent 10 }}
          {{- include "sicargabox.resources" .resources | nindent 10 }}
          volumeMounts:
            - name: tmp
              mountPath: /tmp
            {{- if .counters }}
            - name: counters
              mountPath: /run/sicargabox
            {{- end }}
            {{- include "sicargabox.secretMounts" . | nindent 12 }}
      volumes:
        - name: tmp
          emptyDir:
            sizeLimit: 256Mi
        {{- if .counters }}
        - name: counters
          emptyDir:
            medium: Memory
            sizeLimit: 64Mi
        {{- end }}
        {{- include "sicargabox.secretVolumes" . | nindent 8 }}
{{- end }}

{{/* (list root component service-values) */}}
{{- define "sicargabox.service" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $service := index . 2 -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "sicargabox.fullname" $root }}-{{ $component }}
  labels:
    {{- include "sicargabox.labels" (list $root $component) | nindent 4 }}
  {{- with $service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $service.type }}
  {{- if and $service.externalTrafficPolicy (ne $service.type "ClusterIP") }}
  externalTrafficPolicy: {{ $service.externalTrafficPolicy }}
  {{- end }}
  ports:
    - name: http
      port: {{ $service.port }}
      targetPort: http
  selector:
    {{- include "sicargabox.selector" (list $root $component) | nindent 4 }}
{{- end }}

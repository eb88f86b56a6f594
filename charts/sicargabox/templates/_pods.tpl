{{/* What every pod and container has in common. */}}

{{/* Metadata of a pod template: (list root component pod-values annotations). */}}
{{- define "sicargabox.podMetadata" -}}
{{- $root := index . 0 -}}{{- $pod := index . 2 -}}
labels:
  {{- include "sicargabox.podLabels" (list $root (index . 1)) | nindent 2 }}
  {{- with merge (deepCopy ($pod.labels | default dict)) $root.Values.podDefaults.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (deepCopy (index . 3)) ($pod.annotations | default dict) $root.Values.podDefaults.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where pods run, and as whom: (list root component pod-values uid gid grace). */}}
{{- define "sicargabox.podSpec" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $defaults := $root.Values.podDefaults -}}{{- $pod := index . 2 -}}
serviceAccountName: {{ include "sicargabox.fullname" $root }}-{{ $component }}
automountServiceAccountToken: false
# Kubernetes would set SICARGABOX_…_PORT and FLOWER_PORT for Services of those names, which our settings would read.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ index . 5 }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ index . 3 }}
  runAsGroup: {{ index . 4 }}
  fsGroup: {{ index . 4 | default 1000 }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $pod.priorityClassName | default $defaults.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $pod.nodeSelector | default $defaults.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.tolerations | default $defaults.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Away from each other: (list root component pod-values rolls), rolls: a Deployment, whose old pods do not count. */}}
{{- define "sicargabox.spread" -}}
{{- $root := index . 0 -}}
{{- $spread := merge (deepCopy ((index . 2).spread | default dict)) $root.Values.podDefaults.spread -}}
topologySpreadConstraints:
  {{- range $key, $how := dict "kubernetes.io/hostname" $spread.hostname "topology.kubernetes.io/zone" $spread.zone }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: {{ $how }}
    # A node that takes no pods (a control plane's, a drained or a lost one) is none to be fair to: with the default each
    # of them would hold back the second pod on every other node.
    nodeTaintsPolicy: Honor
    labelSelector:
      matchLabels:
        {{- include "sicargabox.selector" (list $root (index $ 1)) | nindent 8 }}
    {{- if index $ 3 }}
    matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
{{- end }}

{{- define "sicargabox.restricted" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- define "sicargabox.resources" -}}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}

{{/* HTTP probes of one of our processes: (list port-name start-seconds). */}}
{{- define "sicargabox.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: {{ index . 0 }}}
  periodSeconds: 1
  timeoutSeconds: 3
  failureThreshold: {{ index . 1 }}
livenessProbe:
  httpGet: {path: /healthz, port: {{ index . 0 }}}
  periodSeconds: 10
  timeoutSeconds: 15
  failureThreshold: 6
{{- /* Slow is not away: pods that a busy node made answer after 6 s were all taken from their Service, and every request
       was refused. And while the database is away for a moment, a 503 with Retry-After says more than no connection. */}}
readinessProbe:
  httpGet: {path: /readyz, port: {{ index . 0 }}}
  periodSeconds: 5
  timeoutSeconds: 10
  failureThreshold: 4
{{- end }}

{{/* The environment of one of our processes: (dict root user database search settings). user: its name at Redis;
     database: whether it signs in there; search: whether it speaks with Elasticsearch. */}}
{{- define "sicargabox.environment" -}}
{{- $root := .root -}}{{- $values := $root.Values -}}
- name: SICARGABOX_ENVIRONMENT
  value: production
- name: SICARGABOX_HOST
  value: 0.0.0.0
- name: SICARGABOX_DATA_DIR
  value: /tmp/sicargabox
- name: SICARGABOX_SECRET_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "sicargabox.secretOf.key" $root }}
      key: {{ $values.secretKey.key }}
- name: SICARGABOX_DATABASE_URL
  value: {{ include "sicargabox.databaseUrl" $root | quote }}
{{- if .database }}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "sicargabox.secretOf.database" $root }}
      key: {{ include "sicargabox.databasePasswordKey" $root }}
{{- end }}
- name: SICARGABOX_REDIS_URL
  value: {{ include "sicargabox.redisUrl" $root | quote }}
{{- if .user }}
{{- $external := eq $values.redis.mode "external" }}
{{- $who := index $values.redis.external.users .user }}
- name: SICARGABOX_REDIS_USERNAME
  value: {{ ternary $who.username .user $external | quote }}
{{- if include "sicargabox.secretOf.redis" $root }}
- name: SICARGABOX_REDIS_PASSWORD_FILE
  value: /secrets/redis/password
{{- end }}
{{- if include "sicargabox.behindSentinels" $root }}
- name: SICARGABOX_REDIS_SENTINEL_MASTER
  value: {{ ternary $values.redis.external.sentinelMaster "mymaster" $external | quote }}
- name: SICARGABOX_REDIS_SENTINEL_USERNAME
  value: {{ ternary $values.redis.external.sentinel.username "reader" $external | quote }}
{{- if include "sicargabox.secretOf.sentinel" $root }}
- name: SICARGABOX_REDIS_SENTINEL_PASSWORD_FILE
  value: /secrets/redis/sentinel-password
{{- end }}
{{- end }}
{{- if and $external $values.redis.external.tls.enabled }}
- name: SICARGABOX_REDIS_TLS
  value: "true"
{{- with $values.redis.external.tls.ca.existingSecret }}
- name: SICARGABOX_REDIS_TLS_CA_FILE
  value: /secrets/redis/ca.crt
{{- end }}
{{- end }}
{{- end }}
{{- if .search }}
- name: SICARGABOX_SEARCH_URL
  value: {{ include "sicargabox.searchUrl" $root | quote }}
{{- if eq $values.search.mode "internal" }}
- name: SICARGABOX_SEARCH_USERNAME
  value: elastic
- name: SICARGABOX_SEARCH_PASSWORD_FILE
  value: /secrets/search/password
{{- else }}
{{- with $values.search.external.username }}
- name: SICARGABOX_SEARCH_USERNAME
  value: {{ . | quote }}
{{- end }}
{{- if and $values.search.external.existingSecret $values.search.external.passwordKey }}
- name: SICARGABOX_SEARCH_PASSWORD_FILE
  value: /secrets/search/password
{{- end }}
{{- if and $values.search.external.existingSecret $values.search.external.apiKeyKey }}
- name: SICARGABOX_SEARCH_API_KEY_FILE
  value: /secrets/search/api-key
{{- end }}
{{- with $values.search.external.ca.existingSecret }}
- name: SICARGABOX_SEARCH_CA_FILE
  value: /secrets/search/ca.crt
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $value := .settings }}
- name: SICARGABOX_{{ $name }}
  value: {{ include "sicargabox.plain" $value | quote }}
{{- end }}
{{- end }}

{{/* A value as text. Helm reads numbers as floating ones, and toString would make 1e+06 of a million. */}}
{{- define "sicargabox.plain" -}}
{{- if kindIs "float64" . }}{{ toJson . }}{{ else }}{{ toString . }}{{ end -}}
{{- end }}

{{- define "sicargabox.settingsOfAll" -}}
envFrom:
  - configMapRef:
      name: {{ include "sicargabox.fullname" . }}-settings
{{- end }}

{{- define "sicargabox.settingsChecksum" -}}
checksum/settings: {{ include "sicargabox.settingsData" . | sha256sum }}
{{- end }}

{{/* A mounted part of a Secret: (list source-secret key path). */}}
{{- define "sicargabox.secretItem" -}}
- secret:
    name: {{ index . 0 }}
    items:
      - key: {{ index . 1 }}
        path: {{ index . 2 }}
{{- end }}

{{/* The passwords a process needs and no other, as files; the same arguments as the environment. */}}
{{- define "sicargabox.secretVolumes" -}}
{{- $root := .root -}}{{- $values := $root.Values -}}
{{- $external := eq $values.redis.mode "external" -}}
{{- if .user }}
{{- $who := index $values.redis.external.users .user }}
{{- $redis := include "sicargabox.secretOf.redis" $root }}
{{- $sentinel := and (include "sicargabox.behindSentinels" $root) (include "sicargabox.secretOf.sentinel" $root) }}
{{- $ca := and $external $values.redis.external.tls.enabled $values.redis.external.tls.ca.existingSecret }}
{{- if or $redis $sentinel $ca }}
- name: redis-secrets
  projected:
    defaultMode: 0440
    sources:
      {{- if $redis }}
      {{- include "sicargabox.secretItem" (list $redis (ternary $who.key .user $external) "password") | nindent 6 }}
      {{- end }}
      {{- if $sentinel }}
      {{- include "sicargabox.secretItem" (list $sentinel (ternary $values.redis.external.sentinel.key "reader" $external) "sentinel-password") | nindent 6 }}
      {{- end }}
      {{- if $ca }}
      {{- include "sicargabox.secretItem" (list $ca $values.redis.external.tls.ca.key "ca.crt") | nindent 6 }}
      {{- end }}
{{- end }}
{{- end }}
{{- if .search }}
{{- $own := $values.search.external }}
{{- if eq $values.search.mode "internal" }}
- name: search-secrets
  projected:
    defaultMode: 0440
    sources:
      {{- include "sicargabox.secretItem" (list (include "sicargabox.secretOf.search" $root) $values.search.internal.key "password") | nindent 6 }}
{{- else if or (and $own.existingSecret (or $own.passwordKey $own.apiKeyKey)) $own.ca.existingSecret }}
- name: search-secrets
  projected:
    defaultMode: 0440
    sources:
      {{- if and $own.existingSecret $own.passwordKey }}
      {{- include "sicargabox.secretItem" (list $own.existingSecret $own.passwordKey "password") | nindent 6 }}
      {{- end }}
      {{- if and $own.existingSecret $own.apiKeyKey }}
      {{- include "sicargabox.secretItem" (list $own.existingSecret $own.apiKeyKey "api-key") | nindent 6 }}
      {{- end }}
      {{- with $own.ca.existingSecret }}
      {{- include "sicargabox.secretItem" (list . $own.ca.key "ca.crt") | nindent 6 }}
      {{- end }}
{{- end }}
{{- end }}
{{- if and .database (eq $values.database.mode "external") $values.database.external.ca.existingSecret }}
- name: database-secrets
  projected:
    defaultMode: 0440
    sources:
      {{- include "sicargabox.secretItem" (list $values.database.external.ca.existingSecret $values.database.external.ca.key "ca.crt") | nindent 6 }}
{{- end }}
{{- end }}

{{- define "sicargabox.secretMounts" -}}
{{- range $volume := include "sicargabox.secretVolumes" . | fromYamlArray }}
- name: {{ $volume.name }}
  mountPath: /secrets/{{ trimSuffix "-secrets" $volume.name }}
  readOnly: true
{{- end }}
{{- end }}

{{/* Waits until the migration job has brought the tables to this release: (list root image). */}}
{{- define "sicargabox.waitForSchema" -}}
{{- $root := index . 0 -}}
- name: wait-for-schema
  image: {{ include "sicargabox.image" . }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  command: [sicargabox, migrate, --only-wait, {{ $root.Values.migrate.waitSeconds | quote }}]
  env:
    {{- include "sicargabox.environment" (dict "root" $root "user" "" "database" true "search" false "settings" dict) | nindent 4 }}
  {{- include "sicargabox.settingsOfAll" $root | nindent 2 }}
  {{- include "sicargabox.restricted" . | nindent 2 }}
  {{- include "sicargabox.resources" $root.Values.migrate.resources | nindent 2 }}
  volumeMounts:
    - name: tmp
      mountPath: /tmp
    {{- include "sicargabox.secretMounts" (dict "root" $root "user" "" "database" true "search" false) | nindent 4 }}
{{- end }}

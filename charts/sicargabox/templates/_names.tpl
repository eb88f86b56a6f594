{{/* Names, labels, addresses and images. */}}

{{- define "sicargabox.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 36 | trimSuffix "-" -}}
{{- end }}

{{- define "sicargabox.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 36 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "sicargabox.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 36 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* What never changes in a component's life: selectors are immutable. Takes (list root component). */}}
{{- define "sicargabox.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "sicargabox.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "sicargabox.labels" -}}
{{- $root := index . 0 -}}
{{ include "sicargabox.selector" . }}
app.kubernetes.io/version: {{ $root.Values.image.tag | default $root.Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/part-of: sicargabox
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- end }}

{{/* Those of a pod: nothing that a release changes, since that makes new pods; the servers' would be an outage of all. Our
     own are made anew by their image at any rate. */}}
{{- define "sicargabox.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "sicargabox.selector" . }}
{{- if not (has (index . 1) (list "postgres" "redis" "sentinel" "elasticsearch")) }}
app.kubernetes.io/version: {{ $root.Values.image.tag | default $root.Chart.AppVersion | trunc 63 | quote }}
{{- end }}
app.kubernetes.io/part-of: sicargabox
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end }}

{{/* One of our images: (list root image), image = {repository, tag}. */}}
{{- define "sicargabox.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- $registry := $root.Values.image.registry -}}
{{- $tag := $image.tag | default $root.Values.image.tag | default $root.Chart.AppVersion -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}{{ ternary "@" ":" (hasPrefix "sha256:" $tag) }}{{ $tag }}
{{- end }}

{{/* Somebody else's: {registry, repository, tag}. */}}
{{- define "sicargabox.foreignImage" -}}
{{- with .registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .repository }}{{ ternary "@" ":" (hasPrefix "sha256:" .tag) }}{{ .tag }}
{{- end }}

{{- define "sicargabox.host" -}}
{{- $root := index . 0 -}}
{{- printf "%s-%s.%s.svc.%s" (include "sicargabox.fullname" $root) (index . 1) $root.Release.Namespace $root.Values.clusterDomain -}}
{{- end }}

{{/* Lasting names of a StatefulSet's pods, "host:port host:port": (list root component replicas port). */}}
{{- define "sicargabox.members" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $port := index . 3 -}}
{{- $names := list -}}
{{- range $number := until (int (index . 2)) -}}
{{- $names = append $names (printf "%s-%s-%d.%s:%v" (include "sicargabox.fullname" $root) $component $number (include "sicargabox.host" (list $root (printf "%s-pods" $component))) $port) -}}
{{- end -}}
{{- join " " $names -}}
{{- end }}

{{- define "sicargabox.redisMembers" -}}{{ include "sicargabox.members" (list . "redis" 3 6379) }}{{- end }}
{{- define "sicargabox.sentinelMembers" -}}{{ include "sicargabox.members" (list . "sentinel" 3 26379) }}{{- end }}

{{- define "sicargabox.redisUrl" -}}
{{- if eq .Values.redis.mode "external" -}}
{{- .Values.redis.external.url -}}
{{- else if eq .Values.redis.mode "standalone" -}}
redis://{{ include "sicargabox.host" (list . "redis") }}:6379
{{- else -}}
{{- $parts := list -}}
{{- range splitList " " (include "sicargabox.sentinelMembers" .) }}{{ $parts = append $parts (printf "sentinel://%s" .) }}{{ end -}}
{{- join ";" $parts -}}
{{- end -}}
{{- end }}

{{/* Whether Sentinels are asked for the primary. */}}
{{- define "sicargabox.behindSentinels" -}}
{{- if or (eq .Values.redis.mode "sentinel") (and (eq .Values.redis.mode "external") (hasPrefix "sentinel://" .Values.redis.external.url)) }}true{{ end -}}
{{- end }}

{{- define "sicargabox.databaseHost" -}}
{{- if eq .Values.database.mode "external" }}{{ .Values.database.external.host }}{{ else }}{{ include "sicargabox.host" (list . "postgres") }}{{ end -}}
{{- end }}

{{- define "sicargabox.databasePort" -}}
{{- if eq .Values.database.mode "external" }}{{ .Values.database.external.port }}{{ else }}5432{{ end -}}
{{- end }}

{{/* Without the password: libpq takes it from PGPASSWORD, so no character of it needs quoting in an address. */}}
{{- define "sicargabox.databaseUrl" -}}
postgresql://{{ .Values.database.username | urlquery }}@{{ include "sicargabox.databaseHost" . }}:{{ include "sicargabox.databasePort" . }}/{{ .Values.database.name }}
{{- if eq .Values.database.mode "external" -}}
?sslmode={{ .Values.database.external.sslmode }}{{ with .Values.database.external.ca.existingSecret }}&sslrootcert=/secrets/database/ca.crt{{ end }}
{{- end -}}
{{- end }}

{{- define "sicargabox.searchUrl" -}}
{{- if eq .Values.search.mode "external" }}{{ .Values.search.external.url }}{{ else }}http://{{ include "sicargabox.host" (list . "elasticsearch") }}:9200{{ end -}}
{{- end }}

{{- define "sicargabox.publicUrl" -}}
{{- if .Values.publicUrl -}}
{{- .Values.publicUrl -}}
{{- else if ne .Values.route.kind "none" -}}
{{- ternary "http" "https" (and (eq .Values.route.kind "ingress") (not .Values.route.ingress.tls.enabled)) }}://{{ .Values.route.host }}
{{- else -}}
http://127.0.0.1:8000
{{- end -}}
{{- end }}

{{- define "sicargabox.adminUrl" -}}
{{- if .Values.adminUrl -}}
{{- .Values.adminUrl -}}
{{- else if ne .Values.route.kind "none" -}}
{{- include "sicargabox.publicUrl" . -}}
{{- else -}}
http://127.0.0.1:8001
{{- end -}}
{{- end }}

{{- define "sicargabox.secretName" -}}
{{- $root := index . 0 -}}
{{- index . 2 | default (printf "%s-%s" (include "sicargabox.fullname" $root) (index . 1)) -}}
{{- end }}
{{- define "sicargabox.secretOf.key" -}}{{ include "sicargabox.secretName" (list . "key" .Values.secretKey.existingSecret) }}{{- end }}
{{- define "sicargabox.secretOf.administrator" -}}{{ include "sicargabox.secretName" (list . "administrator" .Values.administrator.existingSecret) }}{{- end }}
{{- define "sicargabox.secretOf.flower" -}}{{ include "sicargabox.secretName" (list . "flower" .Values.flower.existingSecret) }}{{- end }}
{{- define "sicargabox.secretOf.database" -}}
{{- if eq .Values.database.mode "external" }}{{ .Values.database.external.existingSecret }}{{ else }}{{ include "sicargabox.secretName" (list . "postgres" .Values.database.internal.existingSecret) }}{{ end -}}
{{- end }}
{{- define "sicargabox.secretOf.scaler" -}}{{ .Values.database.scaler.existingSecret | default (include "sicargabox.secretOf.database" .) }}{{- end }}
{{- define "sicargabox.secretOf.redis" -}}
{{- if eq .Values.redis.mode "external" }}{{ .Values.redis.external.existingSecret }}{{ else }}{{ include "sicargabox.secretName" (list . "redis" .Values.redis.internal.existingSecret) }}{{ end -}}
{{- end }}
{{- define "sicargabox.secretOf.sentinel" -}}
{{- if eq .Values.redis.mode "external" }}{{ .Values.redis.external.sentinel.existingSecret }}{{ else }}{{ include "sicargabox.secretName" (list . "sentinel" .Values.redis.sentinel.existingSecret) }}{{ end -}}
{{- end }}
{{- define "sicargabox.secretOf.search" -}}
{{- if eq .Values.search.mode "external" }}{{ .Values.search.external.existingSecret }}{{ else }}{{ include "sicargabox.secretName" (list . "elasticsearch" .Values.search.internal.existingSecret) }}{{ end -}}
{{- end }}

{{- define "sicargabox.databasePasswordKey" -}}{{ if eq .Values.database.mode "external" }}{{ .Values.database.external.passwordKey }}{{ else }}password{{ end }}{{- end }}
{{- define "sicargabox.scalerPasswordKey" -}}{{ if eq .Values.database.mode "external" }}{{ .Values.database.external.scalerPasswordKey }}{{ else }}scaler-password{{ end }}{{- end }}

{{/* KEDA's trigger takes no certificates: what its operator's own do not vouch for can be encrypted and not verified. */}}
{{- define "sicargabox.scalerSslmode" -}}
{{- $external := .Values.database.external -}}
{{- if ne .Values.database.mode "external" -}}
disable
{{- else -}}
{{- .Values.database.scaler.sslmode | default (ternary "require" $external.sslmode (hasPrefix "verify-" $external.sslmode)) -}}
{{- end -}}
{{- end }}

{{/* The enabled workers, each with its defaults, as YAML by name. */}}
{{- define "sicargabox.workers" -}}
{{- $workers := dict -}}
{{- range $name, $own := .Values.workers -}}
{{- if $own -}}
{{- $worker := mergeOverwrite (deepCopy $.Values.workerDefaults) (deepCopy $own) -}}
{{- if $worker.enabled }}{{ $_ := set $workers $name $worker }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toYaml $workers -}}
{{- end }}

{{- define "sicargabox.kubeVersion" -}}{{ .Values.kubeVersionOverride | default .Capabilities.KubeVersion.Version }}{{- end }}

{{/* Every component that has pods, as a YAML list. */}}
{{- define "sicargabox.components" -}}
- api
- scheduler
- test
{{- if .Values.admin.enabled }}
- admin
{{- end }}
{{- if .Values.flower.enabled }}
- flower
{{- end }}
{{- if .Values.migrate.enabled }}
- migrate
{{- end }}
{{- range $name, $_ := include "sicargabox.workers" . | fromYaml }}
- {{ $name }}-worker
{{- end }}
{{- if ne .Values.redis.mode "external" }}
- redis
{{- end }}
{{- if eq .Values.redis.mode "sentinel" }}
- sentinel
{{- end }}
{{- if eq .Values.database.mode "internal" }}
- postgres
{{- end }}
{{- if eq .Values.search.mode "internal" }}
- elasticsearch
{{- end }}
{{- end }}

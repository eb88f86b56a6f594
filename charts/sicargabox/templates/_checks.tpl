{{/* Values that contradict each other end the render, with what to do. */}}
{{- define "sicargabox.checks" -}}
{{- $values := .Values -}}
{{- $problems := list -}}
{{- if and $values.api.autoscaling.enabled (not (kindIs "invalid" $values.api.replicas)) -}}
{{- $problems = append $problems "api.replicas and api.autoscaling.enabled: the autoscaler owns the number; unset one" -}}
{{- end -}}
{{- if gt (int $values.api.autoscaling.minReplicas) (int $values.api.autoscaling.maxReplicas) -}}
{{- $problems = append $problems "api.autoscaling.minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- $version := include "sicargabox.kubeVersion" . -}}
{{- $queues := dict -}}
{{- range $name, $worker := include "sicargabox.workers" . | fromYaml -}}
{{- $scaling := $worker.autoscaling -}}
{{- if and (ne $values.autoscaling.mode "none") (not (kindIs "invalid" $worker.replicas)) -}}
{{- $problems = append $problems (printf "workers.%s.replicas and autoscaling.mode=%s: the autoscaler owns the number; unset one" $name $values.autoscaling.mode) -}}
{{- end -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- $problems = append $problems (printf "workers.%s.autoscaling.minReplicas is more than maxReplicas" $name) -}}
{{- end -}}
{{- if and (eq $values.autoscaling.mode "keda") (gt (int $scaling.fallbackReplicas) (int $scaling.maxReplicas)) -}}
{{- $problems = append $problems (printf "workers.%s.autoscaling.fallbackReplicas is more than maxReplicas" $name) -}}
{{- end -}}
{{- range $queue := $worker.queues -}}
{{- if hasKey $queues $queue -}}
{{- $problems = append $problems (printf "the queue %s has two workers, %s and %s: each would be scaled by the other's work" $queue (get $queues $queue) $name) -}}
{{- end -}}
{{- $_ := set $queues $queue $name -}}
{{- end -}}
{{- end -}}
{{- if and (eq $values.autoscaling.mode "keda") (include "sicargabox.lacks" (list . "keda.sh/v1alpha1/ScaledObject")) -}}
{{- $problems = append $problems "autoscaling.mode=keda: this cluster has no KEDA; install it, or set autoscaling.mode=none" -}}
{{- end -}}
{{- range $value, $kind := dict "podMonitors" "PodMonitor" "rules" "PrometheusRule" -}}
{{- if and (get $values.monitoring $value).enabled (include "sicargabox.lacks" (list $ (printf "monitoring.coreos.com/v1/%s" $kind))) -}}
{{- $problems = append $problems (printf "monitoring.%s.enabled: this cluster knows no %s; install the Prometheus operator (or its CRDs), or set monitoring.%s.enabled=false" $value $kind $value) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $values.route.kind "gateway") (include "sicargabox.lacks" (list . "gateway.networking.k8s.io/v1/HTTPRoute")) -}}
{{- $problems = append $problems "route.kind=gateway: this cluster knows no HTTPRoute; install the Gateway API's CRDs, or set route.kind=ingress" -}}
{{- end -}}
{{- if eq $values.database.mode "external" -}}
{{- if not $values.database.external.host }}{{ $problems = append $problems "database.mode=external: set database.external.host" }}{{ end -}}
{{- if not $values.database.external.existingSecret }}{{ $problems = append $problems "database.mode=external: name the Secret with the passwords, database.external.existingSecret" }}{{ end -}}
{{- end -}}
{{- if and (eq $values.redis.mode "external") (not $values.redis.external.url) -}}
{{- $problems = append $problems "redis.mode=external: set redis.external.url" -}}
{{- end -}}
{{- if and (eq $values.search.mode "external") (not $values.search.external.url) -}}
{{- $problems = append $problems "search.mode=external: set search.external.url" -}}
{{- end -}}
{{- if and (eq $values.search.mode "internal") (gt (int $values.search.replicas) 0) -}}
{{- $problems = append $problems "search.replicas: the internal Elasticsearch has one node, which can hold no copies" -}}
{{- end -}}
{{- if ne $values.route.kind "none" -}}
{{- if not $values.route.host }}{{ $problems = append $problems "route.kind: set route.host" }}{{ end -}}
{{- if and $values.networkPolicy.enabled (not $values.networkPolicy.routeFrom) }}{{ $problems = append $problems "route.kind and networkPolicy.enabled: say in networkPolicy.routeFrom where the controller's pods are" }}{{ end -}}
{{- end -}}
{{- if $values.networkPolicy.enabled -}}
{{- range $part, $from := dict "api" "routeFrom" "admin" "routeFrom" "flower" "flowerFrom" -}}
{{- $there := get $values $part -}}
{{- if and (ne $there.service.type "ClusterIP") (ne $there.enabled false) (not (get $values.networkPolicy $from)) -}}
{{- $problems = append $problems (printf "%s.service.type=%s: the NetworkPolicies let nobody in; say in networkPolicy.%s who may come, for example [{ipBlock: {cidr: 192.0.2.0/24}}]" $part $there.service.type $from) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq $values.route.kind "gateway") (not $values.route.gateway.name) -}}
{{- $problems = append $problems "route.kind=gateway: set route.gateway.name" -}}
{{- end -}}
{{- if and (eq $values.route.kind "ingress") $values.route.ingress.tls.enabled (not $values.route.ingress.tls.secretName) -}}
{{- $problems = append $problems "route.ingress.tls.enabled: set route.ingress.tls.secretName" -}}
{{- end -}}
{{- if $values.gitops -}}
{{- $wanted := dict "secretKey.existingSecret" $values.secretKey.existingSecret "administrator.existingSecret" $values.administrator.existingSecret -}}
{{- if $values.flower.enabled }}{{ $_ := set $wanted "flower.existingSecret" $values.flower.existingSecret }}{{ end -}}
{{- if eq $values.database.mode "internal" }}{{ $_ := set $wanted "database.internal.existingSecret" $values.database.internal.existingSecret }}{{ end -}}
{{- if ne $values.redis.mode "external" }}{{ $_ := set $wanted "redis.internal.existingSecret" $values.redis.internal.existingSecret }}{{ end -}}
{{- if eq $values.redis.mode "sentinel" }}{{ $_ := set $wanted "redis.sentinel.existingSecret" $values.redis.sentinel.existingSecret }}{{ end -}}
{{- if eq $values.search.mode "internal" }}{{ $_ := set $wanted "search.internal.existingSecret" $values.search.internal.existingSecret }}{{ end -}}
{{- range $path, $set := $wanted -}}
{{- if not $set }}{{ $problems = append $problems (printf "gitops: %s must name a Secret, since every render would make other passwords" $path) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n  - %s" (join "\n  - " $problems)) -}}
{{- end -}}
{{- end }}

{{/* Whether the cluster that is rendered for is known and has not this kind: (list root group/version/kind). Without a
     cluster (helm template) Helm knows groups and no kinds, and under GitOps the CRDs may come with the same sync. */}}
{{- define "sicargabox.lacks" -}}
{{- $root := index . 0 -}}{{- $known := $root.Capabilities.APIVersions -}}
{{- if and ($known.Has "v1/ConfigMap") (not $root.Values.gitops) (not ($known.Has (index . 1))) }}true{{ end -}}
{{- end }}

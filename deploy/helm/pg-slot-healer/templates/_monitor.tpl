{{/* A component's ServiceMonitor or PodMonitor, by the same endpoints. Takes root, component and kind. */}}
{{- define "pg-slot-healer.monitor" -}}
{{- $values := index .root.Values .component -}}
{{- $monitor := ternary $values.serviceMonitor $values.podMonitor (eq .kind "ServiceMonitor") -}}
{{- $namespace := include "pg-slot-healer.namespace" .root -}}
{{- if $monitor.enabled -}}
{{- include "pg-slot-healer.oneWayToScrape" . -}}
apiVersion: monitoring.coreos.com/v1
kind: {{ .kind }}
metadata:
  name: {{ include "pg-slot-healer.componentName" . }}
  namespace: {{ default $namespace $monitor.namespace }}
  labels:
    {{- include "pg-slot-healer.labels" (dict "root" .root "component" .component "extra" $monitor.additionalLabels) | nindent 4 }}
spec:
  {{- if ne (default $namespace $monitor.namespace) $namespace }}
  namespaceSelector:
    matchNames: [{{ $namespace }}]
  {{- end }}
  selector:
    matchLabels:
      {{- include "pg-slot-healer.selectorLabels" . | nindent 6 }}
  {{ ternary "endpoints" "podMetricsEndpoints" (eq .kind "ServiceMonitor") }}:
    {{- include "pg-slot-healer.endpoints" (dict "root" .root "component" .component "monitor" $monitor) | nindent 4 }}
{{- end }}
{{- end }}

{{/* Refuses two ways to scrape the same pods. Takes root and component. */}}
{{- define "pg-slot-healer.oneWayToScrape" -}}
{{- $values := index .root.Values .component -}}
{{- $enabled := list -}}
{{- range $way := list "serviceMonitor" "podMonitor" "scrapeConfig" -}}
{{- if dig $way "enabled" false $values }}{{ $enabled = append $enabled $way }}{{ end -}}
{{- end -}}
{{- if gt (len $enabled) 1 -}}
{{- fail (printf "%s: enable %s, not both: every series would be there twice" .component (join " or " $enabled)) -}}
{{- end -}}
{{- end }}

{{/* The scrapes of deploy/kubernetes, with the user's intervals and relabelling. Takes root, component and the monitor's values. */}}
{{- define "pg-slot-healer.endpoints" -}}
{{- $monitor := .monitor -}}
{{- $name := include "pg-slot-healer.componentName" . -}}
{{- $endpoints := list -}}
{{- range (include "pg-slot-healer.shipped" . | fromYaml).endpoints }}
{{- /* The second scrape has parameters; only the exporter has it. */}}
{{- $timing := $monitor }}
{{- if hasKey . "params" }}{{ $timing = $monitor.creations }}{{ end }}
{{- if $timing.enabled }}
{{- $relabelings := list }}
{{- range .relabelings }}
{{- if eq (default "" .targetLabel) "instance" }}
{{- $relabelings = append $relabelings (dict "targetLabel" "instance" "replacement" $name) }}
{{- else }}
{{- $relabelings = append $relabelings . }}
{{- end }}
{{- end }}
{{- $own := dict "relabelings" (concat $relabelings $monitor.relabelings) "interval" $timing.interval "scrapeTimeout" $timing.scrapeTimeout }}
{{- range $key := list "scheme" "tlsConfig" "basicAuth" "metricRelabelings" }}
{{- with index $monitor $key }}{{ $_ := set $own $key . }}{{ end }}
{{- end }}
{{- $endpoints = append $endpoints (mergeOverwrite . $own) }}
{{- end }}
{{- end }}
{{- toYaml $endpoints }}
{{- end }}

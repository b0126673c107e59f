{{/* The name of the chart, as a label. */}}
{{- define "pg-slot-healer.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The first part of every object's name. 52 characters leave room for what the controllers append. */}}
{{- define "pg-slot-healer.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "pg-slot-healer.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* The name of a component's objects. Takes root and component. */}}
{{- define "pg-slot-healer.componentName" -}}
{{- $fullname := include "pg-slot-healer.fullname" .root -}}
{{- if eq .component "healer" }}{{ $fullname }}{{ else }}{{ printf "%s-%s" $fullname .component }}{{ end }}
{{- end }}

{{- define "pg-slot-healer.serviceAccountName" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- if $account.create }}{{ default (include "pg-slot-healer.componentName" .) $account.name }}
{{- else }}{{ default "default" $account.name }}
{{- end }}
{{- end }}

{{/* Kubernetes lets nobody change the selector of a Deployment: nothing here may depend on a version or on labels of the user. */}}
{{- define "pg-slot-healer.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pg-slot-healer.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component | quote }}
{{- end }}

{{/* Labels of an object. Takes root; component (if it has one); extra: labels of the user, which never replace the chart's. */}}
{{- define "pg-slot-healer.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/name" (include "pg-slot-healer.name" .root)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_")
  "app.kubernetes.io/managed-by" .root.Release.Service
  "app.kubernetes.io/part-of" "pg-slot-healer"
-}}
{{- with .component }}{{ $_ := set $own "app.kubernetes.io/component" . }}{{ end -}}
{{- toYaml (mergeOverwrite (dict) .root.Values.commonLabels (.extra | default dict) $own) }}
{{- end }}

{{/* Labels of the pods, without a version: an upgrade that changes nothing else must not restart them. Takes root and component. */}}
{{- define "pg-slot-healer.podLabels" -}}
{{- $own := include "pg-slot-healer.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "pg-slot-healer" -}}
{{- toYaml (mergeOverwrite (dict) .root.Values.commonLabels (index .root.Values .component).podLabels $own) }}
{{- end }}

{{/* What deploy/kubernetes says about a component, as YAML. Takes root and component. */}}
{{- define "pg-slot-healer.shipped" -}}
{{- index (.root.Files.Get "files/shipped.yaml" | fromYaml) .component | toYaml }}
{{- end }}

{{/* Shipped settings with the user's in place of those of the same name; null leaves a setting out. Takes shipped and own. */}}
{{- define "pg-slot-healer.override" -}}
{{- $result := .shipped -}}
{{- range $key, $value := .own -}}
{{- if kindIs "invalid" $value }}{{ $result = omit $result $key }}{{ else }}{{ $result = set $result $key $value }}{{ end -}}
{{- end -}}
{{- toYaml $result }}
{{- end }}

{{- define "pg-slot-healer.image" -}}
{{- $image := .Values.image -}}
{{- with .Values.global.imageRegistry | default $image.registry }}{{ . }}/{{ end -}}
{{- $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "pg-slot-healer.configMapName" -}}
{{- default (include "pg-slot-healer.fullname" .) .Values.existingConfigMap }}
{{- end }}

{{/* The configuration as text. A ConfigMap is open to more people than a Secret, so no password may be in it. */}}
{{- define "pg-slot-healer.configuration" -}}
{{- if and (not .Values.config.clusters) (not .Values.config.include) }}
{{- fail "config.clusters: name at least one cluster with its nodes, or set existingConfigMap to a ConfigMap with pgslot.yml" }}
{{- end -}}
{{- $text := toYaml .Values.config -}}
{{- if regexMatch "(?i)(password\\s*=|://[^/@\\s\"']*:[^/@\\s\"']+@)" $text }}
{{- fail "config: it has a password, and it becomes a ConfigMap. Put the connection string into a key of the Secret and name that file by conninfo_file" }}
{{- end -}}
{{- $text }}
{{- end }}

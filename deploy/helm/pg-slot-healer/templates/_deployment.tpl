{{/* A component's Deployment. Takes root and component. */}}
{{- define "pg-slot-healer.deployment" -}}
{{- $root := .root -}}
{{- $values := index .root.Values .component -}}
{{- $shipped := include "pg-slot-healer.shipped" . | fromYaml -}}
{{- $name := include "pg-slot-healer.componentName" . -}}
{{- $selector := include "pg-slot-healer.selectorLabels" . -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ include "pg-slot-healer.namespace" $root }}
  labels:
    {{- include "pg-slot-healer.labels" . | nindent 4 }}
  {{- with $values.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  replicas: {{ $values.replicas | default 1 }}
  strategy:
    {{- toYaml $shipped.strategy | nindent 4 }}
  revisionHistoryLimit: {{ $values.revisionHistoryLimit }}
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "pg-slot-healer.podLabels" . | nindent 8 }}
      annotations:
        {{- if not $root.Values.existingConfigMap }}
        # A changed configuration starts new pods.
        checksum/config: {{ include "pg-slot-healer.configuration" $root | sha256sum }}
        {{- end }}
        kubectl.kubernetes.io/default-container: {{ $shipped.container.command | first }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "pg-slot-healer.serviceAccountName" . }}
      automountServiceAccountToken: {{ $values.serviceAccount.automountToken }}
      enableServiceLinks: false
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "pg-slot-healer.override" (dict "shipped" $shipped.podSecurityContext "own" $values.podSecurityContext) | nindent 8 }}
      {{- range $key := list "affinity" "dnsConfig" "hostAliases" "nodeSelector" "tolerations" }}
      {{- with index $values $key }}
      {{ $key }}:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      {{- with $values.dnsPolicy }}
      dnsPolicy: {{ . }}
      {{- end }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- if $values.topologySpreadConstraints }}
      topologySpreadConstraints:
        {{- range $values.topologySpreadConstraints }}
        {{- $selects := dict "labelSelector" (dict "matchLabels" ($selector | fromYaml)) }}
        - {{ include "pg-slot-healer.override" (dict "shipped" $selects "own" .) | nindent 10 | trim }}
        {{- end }}
      {{- end }}
      {{- with $values.terminationGracePeriodSeconds }}
      terminationGracePeriodSeconds: {{ . }}
      {{- end }}
      {{- with $values.extraInitContainers }}
      initContainers:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - {{ include "pg-slot-healer.container" (dict "root" $root "values" $values "shipped" $shipped) | nindent 10 | trim }}
        {{- with $values.extraContainers }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      volumes:
        {{- include "pg-slot-healer.volumes" (dict "root" $root "values" $values "shipped" $shipped) | nindent 8 }}
{{- end }}

{{/* The program's container. Takes root, the component's values and what is shipped for it. */}}
{{- define "pg-slot-healer.container" -}}
{{- $values := .values -}}
{{- $shipped := .shipped.container -}}
name: {{ $shipped.command | first }}
image: {{ include "pg-slot-healer.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command:
  {{- toYaml $shipped.command | nindent 2 }}
args:
  {{- toYaml $shipped.args | nindent 2 }}
  {{- if $values.webConfig.existingSecret }}
  - --web.config.file=/run/secrets/pgslot/web/{{ $values.webConfig.key }}
  {{- end }}
  {{- with $values.extraArgs }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  {{- toYaml $shipped.ports | nindent 2 }}
{{- range $kind := list "livenessProbe" "readinessProbe" }}
{{- $probe := index $shipped $kind }}
{{- if $values.webConfig.existingSecret }}
{{- if eq $values.webConfig.probes "TCP" }}
{{- $probe = set (omit $probe "httpGet") "tcpSocket" (dict "port" $probe.httpGet.port) }}
{{- else }}
{{- $_ := set $probe.httpGet "scheme" $values.webConfig.probes }}
{{- end }}
{{- end }}
{{ $kind }}:
  {{- include "pg-slot-healer.override" (dict "shipped" $probe "own" (index $values $kind)) | nindent 2 }}
{{- end }}
{{- with $shipped.lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml $values.resources | nindent 2 }}
securityContext:
  {{- include "pg-slot-healer.override" (dict "shipped" $shipped.securityContext "own" $values.securityContext) | nindent 2 }}
volumeMounts:
  {{- toYaml $shipped.volumeMounts | nindent 2 }}
  {{- if $values.webConfig.existingSecret }}
  - name: web-config
    mountPath: /run/secrets/pgslot/web
    readOnly: true
  {{- end }}
  {{- with $values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* The pod's volumes, those of deploy/kubernetes with the names of this release. Takes what the container takes. */}}
{{- define "pg-slot-healer.volumes" -}}
{{- $secrets := .root.Values.existingSecrets -}}
{{- $names := dict "exporter-conninfo" $secrets.exporterConninfo "healer-conninfo" $secrets.healerConninfo "webhook-token" $secrets.webhookToken -}}
{{- $volumes := list -}}
{{- range .shipped.volumes }}
{{- if .configMap }}
{{- $volumes = append $volumes (dict "name" .name "configMap" (dict "name" (include "pg-slot-healer.configMapName" $.root))) }}
{{- else }}
{{- $secret := dict "secretName" (index $names .name) "defaultMode" .secret.defaultMode }}
{{- $volumes = append $volumes (dict "name" .name "secret" $secret) }}
{{- end }}
{{- end }}
{{- with .values.webConfig.existingSecret }}
{{- $volumes = append $volumes (dict "name" "web-config" "secret" (dict "secretName" . "defaultMode" 0440)) }}
{{- end }}
{{- toYaml (concat $volumes .values.extraVolumes) }}
{{- end }}

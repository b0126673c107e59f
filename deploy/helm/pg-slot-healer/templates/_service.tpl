{{/* A component's ServiceAccount. Takes root and component. */}}
{{- define "pg-slot-healer.serviceAccount" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- if $account.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "pg-slot-healer.serviceAccountName" . }}
  namespace: {{ include "pg-slot-healer.namespace" .root }}
  labels:
    {{- include "pg-slot-healer.labels" . | nindent 4 }}
  {{- with $account.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: {{ $account.automountToken }}
{{- end }}
{{- end }}

{{/* A component's Service. Takes root and component. */}}
{{- define "pg-slot-healer.service" -}}
{{- $service := (index .root.Values .component).service -}}
{{- $shipped := include "pg-slot-healer.shipped" . | fromYaml -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "pg-slot-healer.componentName" . }}
  namespace: {{ include "pg-slot-healer.namespace" .root }}
  labels:
    {{- include "pg-slot-healer.labels" (dict "root" .root "component" .component "extra" $service.labels) | nindent 4 }}
  {{- with $service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $service.type }}
  {{- with $shipped.service }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  selector:
    {{- include "pg-slot-healer.selectorLabels" . | nindent 4 }}
  ports:
    - name: http
      port: {{ $service.port }}
      targetPort: http
      {{- with $service.nodePort }}
      nodePort: {{ . }}
      {{- end }}
{{- end }}

{{/* A component's PodDisruptionBudget. Takes root and component. */}}
{{- define "pg-slot-healer.podDisruptionBudget" -}}
{{- $budget := (index .root.Values .component).podDisruptionBudget -}}
{{- if $budget.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "pg-slot-healer.componentName" . }}
  namespace: {{ include "pg-slot-healer.namespace" .root }}
  labels:
    {{- include "pg-slot-healer.labels" . | nindent 4 }}
spec:
  {{- /* Kubernetes takes one of the two. */}}
  {{- if not (kindIs "invalid" $budget.maxUnavailable) }}
  maxUnavailable: {{ $budget.maxUnavailable }}
  {{- else }}
  minAvailable: {{ $budget.minAvailable }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "pg-slot-healer.selectorLabels" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* A component's NetworkPolicy. Takes root and component. */}}
{{- define "pg-slot-healer.networkPolicy" -}}
{{- $policy := .root.Values.networkPolicy -}}
{{- $values := index .root.Values .component -}}
{{- $shipped := include "pg-slot-healer.shipped" . | fromYaml -}}
{{- if $policy.enabled -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "pg-slot-healer.componentName" . }}
  namespace: {{ include "pg-slot-healer.namespace" .root }}
  labels:
    {{- include "pg-slot-healer.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "pg-slot-healer.selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    # Scrapes, and to the healer webhooks. The port is the pod's, whatever the Service's is.
    - from:
        {{- include "pg-slot-healer.monitoringNamespaces" .root | trim | nindent 8 }}
      ports:
        - port: {{ (first $shipped.container.ports).containerPort }}
    {{- with $policy.extraIngress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  egress:
    - to:
        {{- toYaml $policy.dnsServers | nindent 8 }}
      ports:
        - port: 53
          protocol: UDP
        - port: 53
          protocol: TCP
    # PostgreSQL and Patroni.
    - ports:
        {{- range $policy.serverPorts }}
        - port: {{ . }}
        {{- end }}
      {{- with $policy.servers }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- if eq .component "healer" }}
    # Alertmanager, which the healer asks for what fires.
    - to:
        {{- include "pg-slot-healer.monitoringNamespaces" .root | trim | nindent 8 }}
      ports:
        - port: {{ $policy.alertmanagerPort }}
    {{- end }}
    {{- with $policy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}

{{- define "pg-slot-healer.monitoringNamespaces" -}}
{{- range .Values.networkPolicy.monitoringNamespaces }}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . | quote }}
{{- end }}
{{- end }}

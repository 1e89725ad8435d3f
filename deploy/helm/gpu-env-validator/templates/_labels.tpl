{{- define "labels" -}}
app.kubernetes.io/name: gpu-env-validator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "selector" -}}
app.kubernetes.io/name: gpu-env-validator
app.kubernetes.io/component: daemon
{{- end -}}

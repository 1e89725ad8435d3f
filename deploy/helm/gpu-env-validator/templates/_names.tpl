{{- /* Of every object, in front of what follows. */ -}}
{{- define "gpu-validator.fullname" -}}
{{- $base := .Values.nameOverride | default "gpu-validator" -}}
{{- $name := contains $base .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $base) -}}
{{- .Values.fullnameOverride | default $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{- /* Of what the whole cluster or a node shares: no namespace has a dot, so no two are the same. */ -}}
{{- define "gpu-validator.id" -}}
{{- $name := include "gpu-validator.fullname" . -}}
{{- eq $name .Release.Namespace | ternary $name (printf "%s.%s" .Release.Namespace $name) -}}
{{- end -}}

{{- define "gpu-validator.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "gpu-validator.fullname" .) "default") -}}
{{- end -}}

{{- define "gpu-validator.app" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gpu-validator.labels" -}}
{{ include "gpu-validator.app" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "gpu-validator.selector" -}}
{{ include "gpu-validator.app" . }}
app.kubernetes.io/component: daemon
{{- end -}}

{{- define "gpu-validator.image" -}}
{{- with .Values.image -}}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /* Of every object, in front of what follows: a DNS label, since a Service's is one. */ -}}
{{- define "gpu-validator.fullname" -}}
{{- $base := .Values.nameOverride | default "gpu-validator" -}}
{{- $release := replace "." "-" .Release.Name -}}
{{- $name := contains $base $release | ternary $release (printf "%s-%s" $release $base) -}}
{{- if gt (len $name) 45 -}}
{{- /* The end stays, by which the alerts know the job; the digest tells two long names apart. */ -}}
{{- $kept := trunc (sub 37 (len $base) | int) $release | trimSuffix "-" -}}
{{- $name = printf "%s-%s-%s" $kept (sha256sum .Release.Name | trunc 6) $base -}}
{{- end -}}
{{- $name = .Values.fullnameOverride | default $name -}}
{{- if not (regexMatch "^[a-z]" $name) -}}
{{- fail (printf "fullnameOverride: no Service can be called %s; give a name that begins with a letter" $name) -}}
{{- end -}}
{{- $name -}}
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
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "gpu-validator.labels" -}}
{{ include "gpu-validator.app" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Of maps the first that has a key has its say: YAML takes no key twice. */ -}}
{{- define "gpu-validator.merged" -}}
{{- $all := dict -}}
{{- range . }}{{ $all = merge $all (. | default dict) }}{{ end -}}
{{- toYaml $all -}}
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

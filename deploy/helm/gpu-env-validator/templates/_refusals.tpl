{{- /* What renders, and would not do what its writer meant. */ -}}
{{- define "gpu-validator.refusals" -}}
{{- $v := .Values -}}
{{- $expect := $v.config.expect | default dict -}}
{{- if and (kindIs "map" $expect) (hasKey $expect "gpus") -}}
{{- fail "config.expect.gpus: the chart's expectGpus is a variable, which beats the file: use expectGpus" -}}
{{- end -}}
{{- $files := $v.config.files | default dict -}}
{{- if kindIs "map" $files -}}
{{- if or (hasKey $files "nfd") (hasKey $files "ready") -}}
{{- fail "config.files: no path of the container outlives it: use featureFile or statusFile" -}}
{{- end -}}
{{- end -}}
{{- $web := $v.config.web | default dict -}}
{{- $listens := kindIs "map" $web | ternary (get $web "listen_address") "" -}}
{{- range $v.extraEnv }}{{ if eq (upper .name) "GPU_VALIDATOR_WEB__LISTEN_ADDRESS" }}{{ $listens = .value }}{{ end }}{{ end -}}
{{- if and $listens (not (regexMatch "^(0\\.0\\.0\\.0)?:8790$" (toString $listens))) -}}
{{- fail (printf "web.listen_address %v: the kubelet, the Service and the sidecar ask port 8790 of every address, so the pod would never be ready" $listens) -}}
{{- end -}}
{{- $named := dict -}}
{{- range $v.extraEnv -}}
{{- if hasKey $named .name }}{{ fail (printf "extraEnv: %s is there twice" .name) }}{{ end -}}
{{- $_ := set $named .name true -}}
{{- end -}}
{{- $rolling := $v.updateStrategy.rollingUpdate | default dict -}}
{{- $none := list "0" "0%" "<nil>" -}}
{{- if and (eq $v.updateStrategy.type "RollingUpdate") (not (has (toString $rolling.maxSurge) $none)) -}}
{{- if not (has (toString $rolling.maxUnavailable) (list "0" "0%")) -}}
{{- fail "updateStrategy.rollingUpdate: Kubernetes takes maxSurge with maxUnavailable 0 alone" -}}
{{- end -}}
{{- end -}}
{{- if and $v.nodeReadiness.enabled (not $v.serviceAccount.create) (not $v.serviceAccount.name) -}}
{{- fail "serviceAccount.name: nodeReadiness would give its rights on nodes to every pod of the account `default`; name one of its own" -}}
{{- end -}}
{{- range $other, $own := .pools -}}
{{- if ne $other $.pool -}}
{{- include "gpu-validator.refuseOverlap" (dict "pool" $.pool "other" $other "mine" (get $.pools $.pool) "others" $own) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Every node of the other pool would have this pool's pod as well: two number their GPUs there. */ -}}
{{- define "gpu-validator.refuseOverlap" -}}
{{- $within := and (eq (toYaml .mine.affinity) (toYaml .others.affinity)) (eq (toYaml .mine.tolerations) (toYaml .others.tolerations)) -}}
{{- range $label, $text := .mine.nodeSelector -}}
{{- if ne (toString (get $.others.nodeSelector $label)) $text }}{{ $within = false }}{{ end -}}
{{- end -}}
{{- if $within -}}
{{- fail (printf "pools: %s selects every node of %s too; a node belongs to one pool" .pool .other) -}}
{{- end -}}
{{- end -}}

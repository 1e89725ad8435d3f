{{- /* What names a target: the same for both monitors, and in deploy/prometheus. */ -}}
{{- define "gpu-validator.relabelings" -}}
# A pod's name changes with each rollout; the node's stays, and series go on.
- sourceLabels: [__meta_kubernetes_pod_node_name]
  targetLabel: node
- sourceLabels: [__meta_kubernetes_pod_node_name]
  targetLabel: instance
# The pool: within one, all nodes should compute with the same versions. What the pod says itself, else
# the first of these labels that its node has; write your own beside them.
- sourceLabels:
    - __meta_kubernetes_pod_label_gpu_validator_pool
    - __meta_kubernetes_node_label_gpu_validator_pool
    - __meta_kubernetes_node_label_cloud_google_com_gke_nodepool
    - __meta_kubernetes_node_label_eks_amazonaws_com_nodegroup
    - __meta_kubernetes_node_label_kubernetes_azure_com_agentpool
    - __meta_kubernetes_node_label_karpenter_sh_nodepool
  regex: ";*([^;]+).*"
  targetLabel: pool
{{- end -}}

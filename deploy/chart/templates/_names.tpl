{{/* What pods of server and driver are selected by. */}}
{{- define "strongroom.server" -}}
{app.kubernetes.io/name: strongroom, app.kubernetes.io/component: server}
{{- end }}
{{- define "strongroom.driver" -}}
{app.kubernetes.io/name: strongroom, app.kubernetes.io/component: csi-driver}
{{- end }}

{{/* Where the kubelet keeps its pods and plugins. */}}
{{- define "strongroom.kubelet" -}}
{{ get (dict "k0s" "/var/lib/k0s/kubelet" "microk8s" "/var/snap/microk8s/common/var/lib/kubelet") .Values.platform | default "/var/lib/kubelet" }}
{{- end }}

{{- define "strongroom.pullSecrets" -}}
{{- with .Values.imagePullSecrets -}}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

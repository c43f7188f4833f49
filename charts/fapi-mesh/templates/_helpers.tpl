{{/* What all objects of the chart are known by. */}}
{{- define "fapi-mesh.labels" -}}
app.kubernetes.io/name: fapi-operator
app.kubernetes.io/part-of: fapi-mesh
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* What the pods of the operator are selected by. */}}
{{- define "fapi-mesh.selector" -}}
app.kubernetes.io/name: fapi-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The name of an image, of {image, root}. */}}
{{- define "fapi-mesh.image" -}}
{{ printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) }}
{{- end }}

{{/* As Pod Security `restricted` wants a container. */}}
{{- define "fapi-mesh.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* And a pod. */}}
{{- define "fapi-mesh.pod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Where the API server finds a webhook, of {root, path}. Whom to trust there is told by the operator. */}}
{{- define "fapi-mesh.webhook" -}}
admissionReviewVersions: [v1]
clientConfig:
  service: {name: fapi-operator, namespace: {{ .root.Release.Namespace }}, path: {{ .path }}, port: 443}
failurePolicy: Fail
matchPolicy: Equivalent
sideEffects: NoneOnDryRun
timeoutSeconds: 5
{{- end }}

{{/* What is asked about when it comes to injection. */}}
{{- define "fapi-mesh.pods" -}}
rules:
- {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: Namespaced}
{{- end }}

{{/* Nothing is injected into what the cluster or the operator need to start. */}}
{{- define "fapi-mesh.elsewhere" -}}
- {key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system, {{ .Release.Namespace }}]}
{{- end }}

{{/* What a Job of the end runs, as a service account of its name, of {root, name, flag}. */}}
{{- define "fapi-mesh.job" -}}
activeDeadlineSeconds: 120
template:
  metadata:
    labels:
      app.kubernetes.io/name: {{ .name }}
      app.kubernetes.io/part-of: fapi-mesh
  spec:
    serviceAccountName: {{ .name }}
    restartPolicy: Never
    {{- with .root.Values.imagePullSecrets }}
    imagePullSecrets: {{- toYaml . | nindent 4 }}
    {{- end }}
    securityContext: {{- include "fapi-mesh.pod" .root | nindent 6 }}
    containers:
    - name: operator
      image: {{ include "fapi-mesh.image" (dict "image" .root.Values.image "root" .root) | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: [--source=kubernetes, --operator-namespace={{ .root.Release.Namespace }}, {{ .flag }}]
      securityContext: {{- include "fapi-mesh.container" .root | nindent 8 }}
      resources:
        requests: {cpu: 10m, memory: 32Mi}
        limits: {memory: 128Mi}
    {{- with .root.Values.nodeSelector }}
    nodeSelector: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .root.Values.tolerations }}
    tolerations: {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* A pod that runs the program in a role. Its files are the node's; what the pod has of its own goes along as variables. */}}
{{- define "widgets.pod" -}}
{{- $secrets := "/var/run/secrets/kubernetes.io/serviceaccount" -}}
serviceAccountName: {{ .account }}
terminationGracePeriodSeconds: 1
restartPolicy: {{ .restart }}
volumes:
- name: node
  hostPath: {path: /, type: Directory}
{{- if .certificates }}
- name: certificates
  secret: {secretName: {{ .root.Release.Name }}-webhook}
{{- end }}
containers:
- name: {{ .role }}
  image: {{ .root.Values.image }}
  imagePullPolicy: IfNotPresent
  command:
  - sh
  - -ec
  - |
    export OPERATOR_TOKEN=$(cat {{ $secrets }}/token) OPERATOR_AUTHORITY=$(base64 -w0 {{ $secrets }}/ca.crt)
    {{- if .certificates }}
    export OPERATOR_CERTIFICATE=$(base64 -w0 /certificates/tls.crt) OPERATOR_KEY=$(base64 -w0 /certificates/tls.key)
    {{- end }}
    exec chroot /node {{ required "program is needed" .root.Values.program }} --exact an_operator_in_a_pod --ignored --nocapture
  env:
  - {name: OPERATOR_ROLE, value: {{ .role }}}
  - {name: OPERATOR_RELEASE, value: {{ .root.Release.Name }}}
  - {name: OPERATOR_MAXIMUM, value: {{ .root.Values.maximum | quote }}}
  - name: OPERATOR_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: OPERATOR_NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  {{- if .certificates }}
  ports:
  - {name: https, containerPort: 8443}
  readinessProbe:
    tcpSocket: {port: https}
    periodSeconds: 1
  {{- end }}
  volumeMounts:
  - {name: node, mountPath: /node, readOnly: {{ not .writes }}}
  {{- if .certificates }}
  - {name: certificates, mountPath: /certificates, readOnly: true}
  {{- end }}
{{- end }}

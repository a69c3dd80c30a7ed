{{/* Names, labels and what every pod of ours shares. */}}
{{- define "ratchet.name" -}}
{{ printf "%s-%s" .Release.Name .part | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "ratchet.selector" -}}
app.kubernetes.io/name: ratchet
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "ratchet.labels" -}}
{{ include "ratchet.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "ratchet.secret" -}}
{{ required "secrets.existingSecret: name a Secret with clickhouse_password, analyst_password and tenant_NAME_key" .Values.secrets.existingSecret }}
{{- end }}

{{- define "ratchet.pod" -}}
serviceAccountName: {{ include "ratchet.name" (merge (dict "part" "pods") .) }}
automountServiceAccountToken: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
# Each process finishes what it has in hand on SIGTERM.
terminationGracePeriodSeconds: 45
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if not .Values.affinity }}
# Replicas of a part apart from each other where there are nodes for it.
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "ratchet.selector" . | nindent 8 }}
{{- end }}
{{- end }}

{{/* Takes part, module, port, values (of the part), learn (bool), secrets (list of files) and env (list). */}}
{{- define "ratchet.container" -}}
- name: {{ .part }}
  image: "{{ ternary .Values.image.learnRepository .Values.image.repository .learn }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [{{ .module }}, --directory, /ratchet]
  env:
    {{- range .files }}
    - {name: {{ index . 0 }}, value: /run/secrets/ratchet/{{ index . 1 }}}
    {{- end }}
    {{- with .env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - {name: http, containerPort: {{ .port }}}
  # Slow to start is no reason to be killed: a rebuild's swap or a large lifecycle may take minutes.
  startupProbe:
    httpGet: {path: /healthz, port: http}
    periodSeconds: 5
    failureThreshold: 60
  livenessProbe:
    httpGet: {path: /healthz, port: http}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  readinessProbe:
    httpGet: {path: /readyz, port: http}
    periodSeconds: 5
    timeoutSeconds: 5
    failureThreshold: 2
  resources: {{- toYaml .values.resources | nindent 4 }}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
  volumeMounts:
    - {name: settings, mountPath: /ratchet/ratchet.toml, subPath: ratchet.toml, readOnly: true}
    - {name: secrets, mountPath: /run/secrets/ratchet, readOnly: true}
    - {name: data, mountPath: /ratchet/var}
    - {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "ratchet.volumes" -}}
- name: settings
  configMap: {name: {{ include "ratchet.name" (merge (dict "part" "settings") .) }}}
# Only what this part needs of the Secret is in its files.
- name: secrets
  {{- if .files }}
  secret:
    secretName: {{ include "ratchet.secret" . }}
    defaultMode: 0440
    items:
      {{- range .files }}
      - {key: {{ index . 1 }}, path: {{ index . 1 }}}
      {{- end }}
  {{- else }}
  # no items would be all of them
  emptyDir: {}
  {{- end }}
- name: tmp
  emptyDir: {}
{{- end }}

{{- define "ratchet.tenantFiles" -}}
{{- $files := list }}
{{- range $name := keys .Values.tenants | sortAlpha }}
{{- $files = append $files (list (printf "RATCHET_TENANTS__%s__KEY_FILE" (upper $name)) (printf "tenant_%s_key" $name)) }}
{{- end }}
{{- toJson $files }}
{{- end }}

{{- define "ratchet.settingsHash" -}}
checksum/settings: {{ toJson (dict "settings" .Values.settings "tenants" .Values.tenants) | sha256sum }}
{{- end }}

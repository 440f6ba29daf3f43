//! What the commands are given.

pub(crate) const PASSWORD: &[u8] = b"correct horse battery staple\n";
pub(crate) const SECRET: &str = "secret/apps/db";
pub(crate) const POLICY: &str = "{kind: Role, name: r, rules: [{paths: [secret/x], verbs: [read]}]}\n";
pub(crate) const POD: &str = "
kind: Pod
apiVersion: v1
metadata: {name: p, namespace: n}
spec:
  serviceAccountName: app
  containers: []
  volumes:
  - name: secrets
    csi: {driver: csi.strongroom.dev, readOnly: true, volumeAttributes: {secrets: \"- path: secret/apps/db\"}}
";
pub(crate) const CLASS: &str = "
kind: SecretProviderClass
metadata: {name: db}
spec:
  provider: vault
  parameters:
    objects: \"- {objectName: password, secretPath: secret/data/apps/db, secretKey: k}\"
";
/// A database where nobody is.
pub(crate) const AWAY: [&str; 9] =
    ["--host", "127.0.0.1", "--port", "9", "--user", "strongroom", "--plaintext", "--password-file", "-"];
pub(crate) const ROLE: [&str; 3] =
    ["database/reporting", "--creation", "CREATE ROLE {{name}} LOGIN PASSWORD {{password}}"];

//! Pods of tests: busybox that sleeps beside a volume of secrets. Only what a test wants to be different has to be said.

use serde_json::{Value, json};

/// In every cluster that `tests/cluster/up` starts.
pub const BUSYBOX: &str = "throw-away.local/busybox:1";
/// Where the secrets are in a pod.
pub const MOUNT: &str = "/secrets";

#[derive(Clone, Debug)]
pub struct Pod {
    namespace: String,
    name: String,
    account: String,
    user: u32,
    group: Option<u32>,
    attributes: serde_json::Map<String, Value>,
    command: Vec<String>,
    image: String,
    host_users: bool,
}

impl Pod {
    /// Sleeps as the user 1000 with these secrets, written as in a manifest.
    pub fn new(namespace: &str, name: &str, secrets: &str) -> Pod {
        let mut attributes = serde_json::Map::new();
        attributes.insert("secrets".into(), secrets.into());
        attributes.insert("uid".into(), "1000".into());
        let command = ["sleep", "3600"].map(str::to_owned).to_vec();
        let (namespace, name, account) = (namespace.to_owned(), name.to_owned(), "app".to_owned());
        let image = BUSYBOX.to_owned();
        Pod {
            namespace,
            name,
            account,
            user: 1000,
            group: None,
            attributes,
            command,
            image,
            host_users: true,
        }
    }

    /// With this `fsGroup`; the volume names no owner, so its files are readable through the group alone.
    #[must_use]
    pub fn group(mut self, group: u32) -> Pod {
        self.attributes.remove("uid");
        self.group = Some(group);
        self
    }

    /// In a user namespace of its own: its users are not the node's.
    #[must_use]
    pub fn own_users(mut self) -> Pod {
        self.host_users = false;
        self
    }

    /// Of another image.
    #[must_use]
    pub fn image(mut self, image: &str) -> Pod {
        self.image = image.to_owned();
        self
    }

    /// Of another service account than `app`.
    #[must_use]
    pub fn account(mut self, account: &str) -> Pod {
        self.account = account.to_owned();
        self
    }

    /// Another attribute of the volume.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Pod {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// Runs this script of the shell instead of sleeping.
    #[must_use]
    pub fn script(mut self, script: &str) -> Pod {
        self.command = ["sh", "-c", script].map(str::to_owned).to_vec();
        self
    }

    /// The object: unprivileged in every respect, as the Pod Security level `restricted` wants it.
    pub fn object(&self) -> Value {
        let mut security = json!({
            "runAsNonRoot": true,
            "runAsUser": self.user,
            "runAsGroup": self.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        if let (Some(group), Some(fields)) = (self.group, security.as_object_mut()) {
            fields.insert("fsGroup".into(), group.into());
        }
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": self.namespace, "name": self.name},
            "spec": {
                "serviceAccountName": self.account,
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "hostUsers": self.host_users,
                "securityContext": security,
                "containers": [{
                    "name": "main",
                    "image": self.image,
                    "command": self.command,
                    "securityContext": {
                        "readOnlyRootFilesystem": true,
                        "allowPrivilegeEscalation": false,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "secrets", "mountPath": MOUNT, "readOnly": true}],
                }],
                "volumes": [{
                    "name": "secrets",
                    "csi": {"driver": "csi.strongroom.dev", "readOnly": true, "volumeAttributes": self.attributes},
                }],
            },
        })
    }
}

/// A namespace with a service account `app`, which takes only pods of the level `restricted`.
pub fn namespace(name: &str) -> [Value; 2] {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": name, "name": "app"}}),
    ]
}

//! Pods of tests: busybox that sleeps beside a volume of secrets. Only what a test wants to be different has to be said.

use serde_json::{Value, json};

/// In every cluster that `tests/cluster/up` starts.
pub const BUSYBOX: &str = "throw-away.local/busybox:1";
/// Where the secrets are in a pod.
pub const MOUNT: &str = "/secrets";

/// A pod to be.
#[derive(Clone, Debug)]
pub struct Pod {
    namespace: String,
    name: String,
    account: String,
    user: u32,
    attributes: serde_json::Map<String, Value>,
    command: Vec<String>,
}

impl Pod {
    /// Sleeps as the user 1000 with these secrets, written as in a manifest.
    pub fn new(namespace: &str, name: &str, secrets: &str) -> Pod {
        let mut attributes = serde_json::Map::new();
        attributes.insert("secrets".into(), secrets.into());
        // The files belong to the pod's user: a kubelet of 1.20 does not tell the driver the pod's group.
        attributes.insert("uid".into(), "1000".into());
        let command = ["sleep", "3600"].map(str::to_owned).to_vec();
        let (namespace, name, account) = (namespace.to_owned(), name.to_owned(), "app".to_owned());
        Pod { namespace, name, account, user: 1000, attributes, command }
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

    /// The object: unprivileged in every respect.
    pub fn object(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": self.namespace, "name": self.name},
            "spec": {
                "serviceAccountName": self.account,
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {"runAsNonRoot": true, "runAsUser": self.user, "runAsGroup": self.user},
                "containers": [{
                    "name": "main",
                    "image": BUSYBOX,
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

/// A namespace with a service account `app`.
pub fn namespace(name: &str) -> [Value; 2] {
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": name, "name": "app"}}),
    ]
}

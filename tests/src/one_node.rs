//! A cluster of one node, small enough for a test: a server, a fake Kubernetes API, the driver, and a namespace `shop`
//! whose pods of the account `web` may read what is theirs.

use std::{fs, io, time::Duration};

use strongroom_client::{Client, SealKind, SecretBytes};
use tempfile::TempDir;

use crate::{
    fake_kubernetes::{FakeKubernetes, Pod},
    node::{Kubelet, Node, Volume},
    server::Options,
    world::World,
};

/// The secret of the namespace; it has the keys `password` and `user`.
pub const DB: &str = "secret/apps/shop/db";
/// What a volume with that secret says.
pub const SECRETS: &str = "- path: secret/apps/{{namespace}}/db\n";
const TOKEN_LIFE: Duration = Duration::from_secs(3600);
const POLICY: &str = r#"
kind: Role
name: own
rules:
- paths: ["secret/apps/{{namespace}}/**"]
  verbs: [read, list]
---
kind: Binding
name: own
role: own
subjects:
- serviceAccount: {cluster: main, namespace: shop, name: web}
"#;

pub struct OneNode {
    pub kubernetes: FakeKubernetes,
    pub world: World,
    pub node: Node,
    /// Somebody who may write.
    pub root: Client,
    /// Of the node, and of further ones.
    pub home: TempDir,
}

/// Whether real mounts can be made. Only root can; CI is root, and does not skip in silence.
///
/// # Panics
/// In CI without root.
pub fn may_mount() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "CI runs the mount tests, so it runs them as root");
    root
}

impl OneNode {
    /// Starts everything, with the secret at `one`.
    ///
    /// # Errors
    /// A part did not come up.
    pub async fn start(local: bool) -> io::Result<OneNode> {
        let kubernetes = FakeKubernetes::start().await?;
        let config =
            if local { kubernetes.config_toml_local("main") } else { kubernetes.config_toml("main") };
        let world = World::open_with(SealKind::File, &Options { config, ..Options::default() }).await?;
        world.apply(POLICY).await?;
        let root = world.root().await?;
        let home = tempfile::tempdir()?;
        let node = Node::start(home.path(), &world.server, &[])?;
        let cluster = OneNode { kubernetes, world, node, root, home };
        cluster.put("one").await?;
        Ok(cluster)
    }

    /// Another node of the same cluster, whose driver gets these arguments as well. Its home is a folder of that name.
    ///
    /// # Errors
    /// Its driver did not come up.
    pub fn add_node(&self, name: &str, more: &[&str]) -> io::Result<Node> {
        let home = self.home.path().join(name);
        fs::create_dir(&home)?;
        Node::start(&home, &self.world.server, more)
    }

    /// The kubelet of the first node.
    ///
    /// # Errors
    /// The driver does not listen.
    pub async fn kubelet(&self) -> io::Result<Kubelet> {
        Ok(Kubelet::new(self.node.channel().await?))
    }

    /// A new version of the secret.
    ///
    /// # Errors
    /// It is refused.
    pub async fn put(&self, password: &str) -> io::Result<()> {
        let put = self.root.put(DB).value("password", SecretBytes::from(password.as_bytes()));
        let put = put.value("user", SecretBytes::from(b"shop".as_slice()));
        put.send().await.map(drop).map_err(io::Error::other)
    }

    /// The token that the kubelet has for a pod.
    pub fn token(&self, pod: &Pod) -> String {
        self.kubernetes.token(pod, "strongroom", TOKEN_LIFE)
    }

    /// A pod of the account `web`, with the volume that most want.
    ///
    /// # Errors
    /// The kubelet's folder cannot be made.
    pub fn pod(&self, name: &str) -> io::Result<(Pod, Volume)> {
        let pod = self.kubernetes.create_pod("shop", "web", name);
        let volume = self.node.volume(&pod, "secrets", SECRETS)?;
        Ok((pod, volume))
    }
}

//! A cluster of one node, small enough for a test: a shop's server and fake Kubernetes API, and the driver.

use std::{fs, io};

use tempfile::TempDir;

use crate::{
    fake_kubernetes::Pod,
    node::{Kubelet, Node, Volume},
    shop::Shop,
};

/// What a volume with that secret says.
pub const SECRETS: &str = "- path: secret/apps/{{namespace}}/db\n";

pub struct OneNode {
    pub shop: Shop,
    pub node: Node,
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
    /// Starts everything.
    ///
    /// # Errors
    /// A part did not come up.
    pub async fn start(local: bool) -> io::Result<OneNode> {
        let shop = Shop::open(local).await?;
        let home = tempfile::tempdir()?;
        let node = Node::start(home.path(), &shop.world.server, &[])?;
        Ok(OneNode { shop, node, home })
    }

    /// Another node of the same cluster, whose driver gets these arguments as well. Its home is a folder of that name.
    ///
    /// # Errors
    /// Its driver did not come up.
    pub fn add_node(&self, name: &str, more: &[&str]) -> io::Result<Node> {
        let home = self.home.path().join(name);
        fs::create_dir(&home)?;
        Node::start(&home, &self.shop.world.server, more)
    }

    /// The kubelet of the first node.
    ///
    /// # Errors
    /// The driver does not listen.
    pub async fn kubelet(&self) -> io::Result<Kubelet> {
        Ok(Kubelet::new(self.node.channel().await?))
    }

    /// A pod of the account `web`, with the volume that most want.
    ///
    /// # Errors
    /// The kubelet's folder cannot be made.
    pub fn pod(&self, name: &str) -> io::Result<(Pod, Volume)> {
        let pod = self.shop.pod(name);
        let volume = self.node.volume(&pod, "secrets", SECRETS)?;
        Ok((pod, volume))
    }
}

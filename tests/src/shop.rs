//! A server that trusts a fake cluster called `main`, and a secret of its namespace `shop` that the pods of the account `web`
//! may read.

use std::{io, time::Duration};

use strongroom_client::{Client, SealKind, SecretBytes};

use crate::{
    fake_kubernetes::{FakeKubernetes, Pod},
    server::Options,
    world::World,
};

/// The secret of the namespace; it has the keys `password` and `user`.
pub const DB: &str = "secret/apps/shop/db";
/// How long a token of a pod is good for.
pub const HOUR: Duration = Duration::from_secs(3600);
/// The accounts `web` of `shop` and `api` of `pay` may read what belongs to their namespace.
const OWN_NAMESPACE: &str = r#"
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
- serviceAccount: {cluster: main, namespace: pay, name: api}
"#;

pub struct Shop {
    pub kubernetes: FakeKubernetes,
    pub world: World,
    /// Somebody who may write.
    pub root: Client,
}

/// A server that trusts this cluster, with the password at `one`. `local`: it verifies tokens itself.
///
/// # Errors
/// It did not come up.
pub async fn trusting(kubernetes: &FakeKubernetes, local: bool) -> io::Result<World> {
    let config = if local { kubernetes.config_toml_local("main") } else { kubernetes.config_toml("main") };
    let world = World::open_with(SealKind::File, &Options { config, ..Options::default() }).await?;
    world.apply(OWN_NAMESPACE).await?;
    put(&world.root().await?, "one").await?;
    Ok(world)
}

/// A new version of the secret.
///
/// # Errors
/// It is refused.
pub async fn put(client: &Client, password: &str) -> io::Result<()> {
    let put = client.put(DB).value("password", SecretBytes::from(password.as_bytes()));
    let put = put.value("user", SecretBytes::from(b"shop".as_slice()));
    put.send().await.map(drop).map_err(io::Error::other)
}

impl Shop {
    /// Starts a cluster, and a server that trusts it.
    ///
    /// # Errors
    /// A part did not come up.
    pub async fn open(local: bool) -> io::Result<Shop> {
        let kubernetes = FakeKubernetes::start().await?;
        let world = trusting(&kubernetes, local).await?;
        let root = world.root().await?;
        Ok(Shop { kubernetes, world, root })
    }

    /// A new version of the secret.
    ///
    /// # Errors
    /// It is refused.
    pub async fn put(&self, password: &str) -> io::Result<()> {
        put(&self.root, password).await
    }

    /// A pod of the account `web`.
    pub fn pod(&self, name: &str) -> Pod {
        self.kubernetes.create_pod("shop", "web", name)
    }

    /// The token that the kubelet has for a pod.
    pub fn token(&self, pod: &Pod) -> String {
        self.kubernetes.token(pod, "strongroom", HOUR)
    }
}

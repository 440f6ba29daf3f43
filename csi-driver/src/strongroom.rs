//! The real server, through the client library: one client, whose connections the sessions of all pods share. Nothing here
//! waits for the server but the call that needs it.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use strongroom_client::{Change, Client, Error, Lease, LeaseSelector, ResultStream, Secret, SecretBytes};
use tokio::{sync::OnceCell, time::Instant};

use crate::{
    config::Config,
    limits,
    session::{Given, Server, Session, Times},
};

pub struct Strongroom {
    config: Config,
    client: OnceCell<Client>,
}

impl Strongroom {
    /// Connects when the first pod comes: a node starts whether the server is there or not.
    pub fn new(config: Config) -> Self {
        Self { config, client: OnceCell::new() }
    }

    /// Reads the CA file at most, which each connection then reads again.
    async fn client(&self) -> Result<&Client, Error> {
        self.client.get_or_try_init(|| self.build()).await
    }

    async fn build(&self) -> Result<Client, Error> {
        let mut builder = Client::builder(&self.config.server)
            .ca_file(&self.config.server_ca)
            .connect_timeout(limits::CONNECT)
            .timeout(limits::REQUEST)
            // It has no session of its own, and those of the pods are not renewed: see `Session::is_usable`.
            .renew_in_background(false);
        if let Some(name) = &self.config.server_name {
            builder = builder.server_name(name);
        }
        builder.connect_lazily().await
    }
}

#[async_trait]
impl Server for Strongroom {
    async fn log_in(&self, token: &SecretBytes) -> Result<Box<dyn Session>, Error> {
        let token = SecretBytes::from(token.expose());
        let client = self.client().await?.log_in_as_pod(&self.config.cluster, token).await?;
        let now = Instant::now();
        let session = client.known_session();
        // By the server's clock alone: how far this node's is off does not matter.
        let from_now = |end: fn(&strongroom_client::Session) -> Timestamp| {
            let session = session.as_ref()?;
            Some(now + Duration::try_from(end(session).duration_since(session.issued_at)).ok()?)
        };
        let (ends_at, usable_until) =
            (from_now(|session| session.max_expires_at), from_now(|session| session.expires_at));
        Ok(Box::new(PodSession { client, ends_at, usable_until }))
    }
}

struct PodSession {
    client: Client,
    ends_at: Option<Instant>,
    usable_until: Option<Instant>,
}

#[async_trait]
impl Session for PodSession {
    async fn read(&self, path: &str, version: Option<u64>) -> Result<Secret, Error> {
        match version {
            Some(version) => self.client.get_version(path, version).await,
            None => self.client.get(path).await,
        }
    }

    async fn issue(&self, path: &str) -> Result<Given, Error> {
        let issued = self.client.leases().issue(path, None).await?;
        let (lease, at_most) = match issued.lease {
            Some(lease) => (Some(lease.id.clone()), times(&lease).at_most),
            None => (None, issued.lifetime),
        };
        Ok(Given { fields: issued.fields, lease, times: Times { lifetime: issued.lifetime, at_most } })
    }

    async fn renew(&self, lease: &str) -> Result<Times, Error> {
        Ok(times(&self.client.leases().renew(lease, None).await?))
    }

    async fn revoke(&self, lease: &str) -> Result<(), Error> {
        self.client.leases().revoke(&LeaseSelector::Id(lease.to_owned())).await.map(drop)
    }

    fn watch(&self, paths: Vec<String>) -> ResultStream<Change> {
        self.client.watch(paths)
    }

    fn ends_at(&self) -> Option<Instant> {
        self.ends_at
    }

    fn is_usable(&self) -> bool {
        self.usable_until.is_some_and(|end| Instant::now() + limits::REQUEST < end)
    }

    async fn log_out(&self) {
        if !self.is_usable() {
            return;
        }
        if let Err(error) = self.client.auth().logout().await {
            tracing::debug!(%error, "a session could not be ended; it expires by itself");
        }
    }
}

/// By the server's clock alone.
fn times(lease: &Lease) -> Times {
    let more = lease.max_expires_at.duration_since(lease.expires_at).try_into().unwrap_or_default();
    Times { lifetime: lease.lifetime, at_most: lease.lifetime.saturating_add(more) }
}

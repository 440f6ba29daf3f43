//! The real server, through the client library. Sessions of many pods share a connection. A connection takes only so many
//! that the server's limit of streams is not reached, and a connection that broke is not given out again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use jiff::Timestamp;
use strongroom_client::{Change, Client, Error, ErrorKind, ResultStream, Secret, SecretBytes};
use tokio::sync::Mutex;

use crate::{
    config::Config,
    fetch::{Server, Session},
    limits,
};

pub struct Strongroom {
    config: Config,
    connections: Mutex<Vec<Arc<SharedConnection>>>,
}

/// A connection, and how many sessions are on it.
struct SharedConnection {
    client: Client,
    sessions: AtomicUsize,
    broken: AtomicBool,
}

impl Strongroom {
    /// Connects when the first pod comes: a node starts whether the server is there or not.
    pub fn new(config: Config) -> Self {
        Self { config, connections: Mutex::default() }
    }

    /// A slot on a connection with room. One caller opens a new connection for all who wait, with the CA file as it is now.
    async fn connection(&self) -> Result<SessionSlot, Error> {
        let mut connections = self.connections.lock().await;
        connections.retain(|connection| !connection.broken.load(Ordering::Relaxed));
        let has_room = |connection: &&Arc<SharedConnection>| {
            connection.sessions.load(Ordering::Relaxed) < limits::SESSIONS_PER_CONNECTION
        };
        if let Some(connection) = connections.iter().find(has_room) {
            return Ok(SessionSlot::take(connection));
        }
        let connection = Arc::new(SharedConnection {
            client: self.connect().await?,
            sessions: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
        });
        let slot = SessionSlot::take(&connection);
        connections.push(connection);
        Ok(slot)
    }

    async fn connect(&self) -> Result<Client, Error> {
        let mut builder = Client::builder(&self.config.server)
            .ca_file(&self.config.server_ca)
            .connect_timeout(limits::REQUEST)
            .timeout(limits::REQUEST);
        if let Some(name) = &self.config.server_name {
            builder = builder.server_name(name);
        }
        builder.connect().await
    }
}

/// A session's place on a connection; given back when dropped.
struct SessionSlot(Arc<SharedConnection>);

impl SessionSlot {
    fn take(connection: &Arc<SharedConnection>) -> Self {
        connection.sessions.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connection))
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Server for Strongroom {
    async fn log_in(&self, token: &SecretBytes) -> Result<Box<dyn Session>, Error> {
        let slot = self.connection().await?;
        let token = SecretBytes::from(token.expose());
        match slot.0.client.log_in_as_pod(&self.config.cluster, token).await {
            Ok(client) => Ok(Box::new(PodSession { client, _slot: slot })),
            Err(error) => {
                if matches!(error.kind(), ErrorKind::Connection | ErrorKind::DeadlineExceeded) {
                    slot.0.broken.store(true, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }
}

struct PodSession {
    client: Client,
    _slot: SessionSlot,
}

#[async_trait]
impl Session for PodSession {
    async fn read(&self, path: &str, version: Option<u64>) -> Result<Secret, Error> {
        match version {
            Some(version) => self.client.get_version(path, version).await,
            None => self.client.get(path).await,
        }
    }

    fn watch(&self, paths: Vec<String>) -> ResultStream<Change> {
        self.client.watch(paths)
    }

    fn ends_at(&self) -> Option<Timestamp> {
        self.client.session_ends_at()
    }

    async fn log_out(&self) {
        if let Err(error) = self.client.auth().logout().await {
            tracing::debug!(%error, "a session could not be ended; it expires by itself");
        }
    }
}

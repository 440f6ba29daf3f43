//! The real server, by the client library. Sessions of many pods share a connection; a connection takes so many that the
//! server's limit of streams is not met, and a connection that broke is not given out again.

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
    lines: Mutex<Vec<Arc<Line>>>,
}

/// A connection, and how many sessions are on it.
struct Line {
    client: Client,
    sessions: AtomicUsize,
    broken: AtomicBool,
}

impl Strongroom {
    /// Connects when the first pod comes: a node starts whether the server is there or not.
    pub fn new(config: Config) -> Self {
        Self { config, lines: Mutex::default() }
    }

    /// A connection with room. Made by one for all who wait, with the CA file as it is now.
    async fn line(&self) -> Result<Seat, Error> {
        let mut lines = self.lines.lock().await;
        lines.retain(|line| !line.broken.load(Ordering::Relaxed));
        let has_room =
            |line: &&Arc<Line>| line.sessions.load(Ordering::Relaxed) < limits::SESSIONS_PER_CONNECTION;
        if let Some(line) = lines.iter().find(has_room) {
            return Ok(Seat::take(line));
        }
        let line = Arc::new(Line {
            client: self.connect().await?,
            sessions: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
        });
        let seat = Seat::take(&line);
        lines.push(line);
        Ok(seat)
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
struct Seat(Arc<Line>);

impl Seat {
    fn take(line: &Arc<Line>) -> Self {
        line.sessions.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(line))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Server for Strongroom {
    async fn log_in(&self, token: &SecretBytes) -> Result<Box<dyn Session>, Error> {
        let seat = self.line().await?;
        let token = SecretBytes::from(token.expose());
        match seat.0.client.log_in_as_pod(&self.config.cluster, token).await {
            Ok(client) => Ok(Box::new(PodSession { client, _seat: seat })),
            Err(error) => {
                if matches!(error.kind(), ErrorKind::Connection | ErrorKind::DeadlineExceeded) {
                    seat.0.broken.store(true, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }
}

struct PodSession {
    client: Client,
    _seat: Seat,
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
            tracing::debug!(%error, "a session could not be ended, it ends by itself");
        }
    }
}

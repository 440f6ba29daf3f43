//! Watches that reconnect by themselves. The server says only that something changed, never the value; after a gap the
//! reader is told to read again. `follow.rs` does so.

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use strongroom_proto::{v1, v1::watch_response::Kind};
use tokio::time::sleep;

use super::secrets::service;
use crate::{
    answer::{ResultStream, timestamp},
    client::Client,
    error::Error,
    transport::{answers::Answers, bearer::wants_login, retry},
};

/// A change of a secret, or of the watch itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The path of the secret; empty for [`ChangeKind::Started`], [`ChangeKind::Interrupted`] and [`ChangeKind::Resync`].
    pub path: String,
    /// The version; 0 where that has no meaning.
    pub version: u64,
    /// With [`ChangeKind::Started`], and with the [`ChangeKind::Resync`] of a watch that was opened again: of each watched
    /// path that is a secret whose latest version can be read, which one that is. So nobody has to read again what they
    /// have. Empty if the server does not say it.
    pub current: Vec<Current>,
}

/// The latest version of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Current {
    /// The path of the secret.
    pub path: String,
    /// The number of the version.
    pub version: u64,
    /// When it was written: it tells it from one of the same number that was made after the secret was destroyed.
    pub created_at: Timestamp,
}

impl Change {
    /// Makes a change as a server would tell it, for tests of what follows from one.
    pub fn new(kind: ChangeKind, path: impl Into<String>, version: u64) -> Self {
        Self { kind, path: path.into(), version, current: Vec::new() }
    }
}

impl Current {
    /// Makes one as a server would tell it, for tests of what follows from it.
    pub fn new(path: impl Into<String>, version: u64, created_at: Timestamp) -> Self {
        Self { path: path.into(), version, created_at }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeKind {
    /// The watch is open for the first time: every change from now on is reported.
    Started,
    /// A new version.
    Written,
    /// A version was deleted.
    Deleted,
    /// A deleted version is back.
    Undeleted,
    /// A version, or the whole secret, is gone for good.
    Destroyed,
    /// Custom metadata or settings changed.
    Metadata,
    /// The connection broke and could not be opened again at once. No changes are reported until a
    /// [`Resync`](Self::Resync).
    Interrupted,
    /// Changes may have been missed (a broken connection, a slow reader): read again everything that you use.
    Resync,
    /// Something that only a later version of this library knows.
    Other,
}

/// The state of a watch between two changes.
struct Watch {
    client: Client,
    paths: Vec<String>,
    stream: Option<Answers<v1::WatchResponse>>,
    started: bool,
    failures: u32,
}

impl Client {
    /// Watches secrets, or everything below folders, for changes. Reconnects by itself and then yields
    /// [`ChangeKind::Resync`]; ends only after an error that does not pass by itself, such as a refusal.
    pub fn watch<P: Into<String>>(&self, paths: impl IntoIterator<Item = P>) -> ResultStream<Change> {
        let watch = Watch {
            client: self.clone(),
            paths: paths.into_iter().map(Into::into).collect(),
            stream: None,
            started: false,
            failures: 0,
        };
        stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(change) => Some((Ok(change), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }
}

impl Watch {
    async fn next(&mut self) -> Result<Change, Error> {
        loop {
            match self.step().await {
                Ok(message) => return Ok(self.change(message)),
                Err(why) => {
                    self.stream = None;
                    self.pause(why).await?;
                    // Reported once for each gap, and not at all for a gap that ends at once.
                    if self.started && self.failures == 2 {
                        return Ok(Change::new(ChangeKind::Interrupted, "", 0));
                    }
                }
            }
        }
    }

    /// The next message; fails without an error if the server ended the stream in good order.
    async fn step(&mut self) -> Result<v1::WatchResponse, Option<Error>> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let opened = self.open().await.map_err(Some)?;
                self.stream.insert(opened)
            }
        };
        stream.next().await.transpose().map_err(Some)?.ok_or(None)
    }

    async fn open(&self) -> Result<Answers<v1::WatchResponse>, Error> {
        let message = v1::WatchRequest { paths: self.paths.clone() };
        self.client.session().open(message, |ch, rq| async move { service(ch).watch(rq).await }).await
    }

    async fn pause(&mut self, mut error: Option<Error>) -> Result<(), Error> {
        // The token the stream was opened with has ended: opening again uses the renewed one, or logs in.
        let stale = |error: &Error| wants_login(error) && self.failures == 0;
        if let Some(error) = error.take_if(|error| !stale(error) && !retry::watch_goes_on(error)) {
            return Err(error);
        }
        self.failures = self.failures.saturating_add(1);
        if let Some(error) = &error {
            tracing::debug!(%error, "the watch broke; opening it again");
        }
        sleep(retry::watch_pause(self.failures, error.as_ref())).await;
        Ok(())
    }

    fn change(&mut self, message: v1::WatchResponse) -> Change {
        self.failures = 0;
        let kind = match message.kind() {
            Kind::Started if self.started => ChangeKind::Resync,
            Kind::Started => {
                self.started = true;
                ChangeKind::Started
            }
            Kind::Written => ChangeKind::Written,
            Kind::Deleted => ChangeKind::Deleted,
            Kind::Undeleted => ChangeKind::Undeleted,
            Kind::Destroyed => ChangeKind::Destroyed,
            Kind::Metadata => ChangeKind::Metadata,
            Kind::Resync => ChangeKind::Resync,
            Kind::Unspecified => ChangeKind::Other,
        };
        let current = message.current.into_iter();
        let current = current
            .map(|current| Current::new(current.path, current.version, timestamp(current.created_at_ms)));
        Change { kind, path: message.path, version: message.version, current: current.collect() }
    }
}

#[cfg(test)]
mod tests {
    use strongroom_proto::Reason;

    use super::*;
    use crate::{
        ErrorKind,
        fake::{Fake, refusal},
    };

    #[tokio::test]
    async fn a_broken_watch_is_opened_again_and_says_so() {
        let fake = Fake::start().await;
        let mut changes = fake.client().watch(["secret/a"]);
        assert_eq!(changes.next().await.unwrap().unwrap().kind, ChangeKind::Started);
        fake.write();
        let change = changes.next().await.unwrap().unwrap();
        let written = Change::new(ChangeKind::Written, "secret/a", 2);
        assert_eq!(change, written);

        // A gap that heals at once is told as such, a longer one when it begins, too.
        fake.break_watches();
        assert_eq!(changes.next().await.unwrap().unwrap().kind, ChangeKind::Resync);
        fake.fail([refusal(Reason::Sealed), refusal(Reason::ShuttingDown)]);
        fake.break_watches();
        assert_eq!(changes.next().await.unwrap().unwrap().kind, ChangeKind::Interrupted);
        assert_eq!(changes.next().await.unwrap().unwrap().kind, ChangeKind::Resync);
        fake.write();
        assert_eq!(changes.next().await.unwrap().unwrap().version, 3);
    }

    #[tokio::test]
    async fn a_refused_watch_ends() {
        let fake = Fake::start().await;
        fake.fail([refusal(Reason::PermissionDenied)]);
        let mut changes = fake.client().watch(["secret/a"]);
        let error = changes.next().await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Denied { .. }));
        assert!(changes.next().await.is_none());
    }

    #[tokio::test]
    async fn a_watch_survives_the_end_of_its_session() {
        let fake = Fake::start().await;
        let mut changes = fake.client().watch(["secret/a"]);
        assert_eq!(changes.next().await.unwrap().unwrap().kind, ChangeKind::Started);
        fake.expire_tokens();
        fake.break_watches();
        assert_eq!(changes.next().await.unwrap().unwrap().kind, ChangeKind::Resync);
        assert_eq!(fake.logins(), 1);
    }
}

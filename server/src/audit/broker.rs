//! The way into the log: a request hands over its [`Event`] and gets [`Recorded`] once it is durable.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    task::Poll,
};

use tokio::sync::{oneshot, watch};

use super::{
    Durability, Event, EventKind, RecoverError, RecoveredLog, Settings, Sink, Status,
    chain::StoreState,
    desk::Desk,
    file::{Directory, FileError, Log, SegmentFile},
    query::Reader,
    queue::{AuditError, Control, Health, Item, Shared, Signing, Track},
    recover::{self, OpenIntent},
    writer::Writer,
};
use crate::{
    clock::Clock,
    crypto::SigningKey,
    model::{LogPoint, RequestId},
};

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where; best on a file system of its own.
    pub directory: PathBuf,
    /// When a record counts as written.
    pub durability: Durability,
    /// A segment is closed when it has this many bytes, and each day (UTC).
    pub segment_bytes: u64,
}

/// Proof that a request stands in the log. Made only here, and only when it is true.
#[derive(Debug)]
pub struct Recorded {
    request_id: RequestId,
}

/// The audit log. Share it in an `Arc`. Close it before the end: dropping it lets the writer finish on its own.
pub struct Broker {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    reader: Reader,
    clock: Arc<dyn Clock>,
}

impl Config {
    /// 256 MiB and fsync.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), durability: Durability::Fsync, segment_bytes: 256 << 20 }
    }
}

impl From<&Settings> for Config {
    fn from(settings: &Settings) -> Self {
        Self {
            directory: settings.directory.clone(),
            durability: settings.durability,
            segment_bytes: settings.segment_mib << 20,
        }
    }
}

impl Recorded {
    pub fn request_id(&self) -> RequestId {
        self.request_id
    }
}

impl Broker {
    /// Locks the directory, recovers what is in it, starts the writer and records the start.
    ///
    /// # Errors
    /// The directory cannot be used, or what is in it is damaged beyond what a crash explains.
    pub fn open(
        config: &Config,
        clock: Arc<dyn Clock>,
        sinks: Vec<Box<dyn Sink>>,
    ) -> Result<(Self, RecoveredLog), RecoverError> {
        let directory = Directory::open(&config.directory)?;
        let opened = recover::recover(&directory)?;
        let ahead = config.durability == Durability::Fsync && directory.overwrites_in_place();
        let log = Box::new(SegmentFile::open(directory, opened.segment, ahead)?);
        let broker = Self::start(config, clock, sinks, log, &opened)?;
        Ok((broker, opened))
    }

    pub(super) fn start(
        config: &Config,
        clock: Arc<dyn Clock>,
        sinks: Vec<Box<dyn Sink>>,
        log: Box<dyn Log>,
        opened: &RecoveredLog,
    ) -> Result<Self, FileError> {
        let shared = Arc::new(Shared::default());
        shared.durable_seq.store(opened.next_seq - 1, Ordering::Release);
        let (durable, watch) = watch::channel(opened.next_seq - 1);
        let writer = Writer::new(config, shared.clone(), clock.clone(), sinks, log, opened, durable)
            .map_err(FileError::io("keep room free in", &config.directory))?;
        let desk = Arc::new(Desk::new(shared.clone(), config.durability, writer));
        let of_thread = Arc::clone(&desk);
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || of_thread.run())
            .map_err(FileError::io("start a thread for", &config.directory))?;
        let reader = Reader::new(config.directory.clone(), watch);
        Ok(Self { shared, desk, reader, clock })
    }

    /// Writes the event down and returns when it is durable. Dropping the future does not take the record back.
    ///
    /// # Errors
    /// It is not known to be durable: the request must not be answered.
    pub async fn record(&self, event: &Event<'_>) -> Result<Recorded, AuditError> {
        if let Some(item) = self.desk.at_once(item(event))? {
            self.in_line(item).await?;
        }
        Ok(Recorded { request_id: event.request_id })
    }

    /// Until it is durable.
    async fn in_line(&self, item: Item) -> Result<(), AuditError> {
        let mut item = Some(item);
        let mut ticket = 0;
        std::future::poll_fn(|context| match item.take() {
            Some(item) => {
                match self.shared.push(Item { waker: Some(context.waker().clone()), ..item }) {
                    Ok(given) => ticket = given,
                    Err(error) => return Poll::Ready(Err(error)),
                }
                Poll::Pending
            }
            None => self.shared.poll(ticket, context),
        })
        .await
    }

    /// Like [`Broker::record`], but does not wait for the disk: for an end that the store can tell as well, should the line be
    /// lost. It is on the disk before any record that is handed over after it, and until then its request is not settled.
    ///
    /// # Errors
    /// It will never be durable.
    pub fn hand_over(&self, event: &Event<'_>) -> Result<(), AuditError> {
        match self.desk.at_once(item(event))? {
            Some(item) => self.shared.push(item).map(drop),
            None => Ok(()),
        }
    }

    /// Like [`Broker::record`] for the refusal of somebody unknown, which anybody can cause: beyond what `Sampler` lets
    /// through it is only counted, and each second records tell how many there were, and from where.
    ///
    /// # Errors
    /// As [`Broker::record`].
    pub async fn refuse(&self, event: &Event<'_>) -> Result<(), AuditError> {
        self.shared.check()?;
        if self.shared.refusals().admit(self.clock.now(), event.peer, event.operation) {
            return self.record(event).await.map(drop);
        }
        self.shared.suppressed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// From now on `settled` is told of each request whose end is durable in the log, whatever the durability of records, and
    /// how far the log is on the disk; before anybody else learns of it.
    pub fn on_settled(&self, settled: impl Fn(&[RequestId], LogPoint) + Send + 'static) {
        // A log that failed settles nothing.
        let _ = self.shared.tell(Control::Settles(Box::new(settled)));
    }

    /// From now on checkpoints are signed; returns when the first one is written. `state` tells what is durable in the
    /// store, never more, and answers at once. The log's line of the unseal carries the `note`, if it is not empty.
    pub async fn unsealed(
        &self,
        key: SigningKey,
        state: Box<dyn Fn() -> StoreState + Send>,
        note: impl Into<String>,
    ) {
        let (note, (began, done)) = (note.into(), oneshot::channel());
        if self.shared.tell(Control::Unsealed(Box::new(Signing { key, state, note, began }))) {
            // A log that failed has no checkpoints to sign.
            let _ = done.await;
        }
    }

    /// Makes a last checkpoint and gives the key away; returns when it is gone.
    pub async fn sealed(&self) {
        let (reply, done) = oneshot::channel();
        if self.shared.tell(Control::Sealed(reply)) {
            // A writer that failed drops the key and the reply.
            let _ = done.await;
        }
    }

    /// Writes what waits, makes a last checkpoint, ends the writer.
    pub async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.shared.tell(Control::Close(reply)) {
            let _ = done.await;
        }
    }

    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// The way to read it.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let (reply, _) = oneshot::channel();
        let _ = self.shared.tell(Control::Close(reply));
    }
}

fn item(event: &Event<'_>) -> Item {
    Item { body: event.body(), track: track(event), waker: None }
}

fn track(event: &Event<'_>) -> Track {
    match (event.kind, event.status) {
        (EventKind::Request, Status::Pending) => {
            let intent = Box::new(OpenIntent {
                seq: 0,
                request_id: event.request_id,
                operation: event.operation.to_owned(),
                paths: event.paths.iter().map(|path| (*path).to_owned()).collect(),
            });
            let end = intent.longest_end(event.objects.iter().map(String::len));
            Track::Opens(intent, end)
        }
        (EventKind::Outcome | EventKind::Recovered(_), _) => Track::Closes(event.request_id),
        _ => Track::Nothing,
    }
}

#[cfg(test)]
#[path = "broker_tests.rs"]
mod tests;

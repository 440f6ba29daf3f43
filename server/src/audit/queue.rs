//! Between the requests and the writer: a bounded queue in, and a ticket by which a request learns that its record is
//! durable. No allocation and no channel for each record: the queue holds the waker, one atomic number tells who is done.

mod linger;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

pub(super) use linger::Linger;
use tokio::sync::oneshot;

use super::{chain::StoreState, recover::OpenIntent, sampler::Sampler};
use crate::{
    crypto::SigningKey,
    limits,
    model::{LogPoint, RequestId},
};

/// Most records that wait for the writer: far more than requests the server lets in at once, and at 1 KiB each still
/// only 8 MiB.
const QUEUE: usize = 8192;
const _: () = assert!(QUEUE >= 2 * limits::RECORDS_AT_ONCE, "the queue has room for whoever has a slot");

/// Why a request was not written down. It must not be answered then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    /// The log cannot be written.
    #[error("the audit log cannot be written: {cause}")]
    Unavailable {
        /// What is the matter.
        cause: Arc<str>,
    },
    /// The disk is slower than the requests.
    #[error("too many records wait for the audit log")]
    Overloaded,
}

/// How the log is.
#[derive(Clone, Debug)]
pub struct Health {
    /// Why nothing can be written any more, until a restart.
    pub failed: Option<Arc<str>>,
    /// The file system is too full; goes away by itself when there is space.
    pub full: bool,
    /// Records written since the start, checkpoints and the like not counted.
    pub records: u64,
    /// Groups they were written in, each with one write and one fdatasync.
    pub groups: u64,
    /// Refusals of unknown callers that were counted instead of written.
    pub suppressed: u64,
    /// Number of the last durable record.
    pub durable_seq: u64,
}

/// One record that waits for the writer.
pub(super) struct Item {
    pub(super) body: Vec<u8>,
    pub(super) track: Track,
    pub(super) waker: Option<Waker>,
}

/// What a record does to the set of open intents.
pub(super) enum Track {
    Nothing,
    /// Once it is written, room is kept for its end, of at most so many bytes.
    Opens(Box<OpenIntent>, u64),
    Closes(RequestId),
}

/// What the chain adds to a record, at most.
pub(super) const FRAME: u64 = 256;
/// Of the room, what nobody is promised: for lines of the log's own.
const OWN_PART: u64 = 8;

impl Item {
    /// Bytes of its line, at most.
    pub(super) fn bytes(&self) -> u64 {
        self.body.len() as u64 + FRAME
    }

    /// Bytes of the end that it will have.
    fn end(&self) -> u64 {
        if let Track::Opens(_, end) = self.track { end.saturating_add(FRAME) } else { 0 }
    }

    /// What was let in gets its end, however full it is.
    fn is_end(&self) -> bool {
        matches!(self.track, Track::Closes(_))
    }
}

/// Hears of requests whose end is durable, and how far the log is.
pub(super) type Settled = Box<dyn Fn(&[RequestId], LogPoint) + Send>;

/// With what checkpoints are signed from now on.
pub(super) struct Signing {
    pub(super) key: SigningKey,
    pub(super) state: Box<dyn Fn() -> StoreState + Send>,
    /// What is to be remembered about the unseal; empty for nothing.
    pub(super) note: String,
    /// Told when the first checkpoint is written.
    pub(super) began: oneshot::Sender<()>,
}

/// What the writer is told beside records.
pub(super) enum Control {
    Unsealed(Box<Signing>),
    Settles(Settled),
    Sealed(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// What the requests and the writer share.
#[derive(Default)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    /// Tickets up to this one are durable.
    durable: AtomicU64,
    /// Futures that were polled again with another waker than the queue has; few, if any.
    late: Mutex<HashMap<u64, Waker>>,
    failed: OnceLock<Arc<str>>,
    full: AtomicBool,
    /// Bytes that the file has room for, whatever others do with the file system.
    room: AtomicU64,
    /// Of these, what records in the queue and the ends of open intents will need.
    promised: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) durable_seq: AtomicU64,
    refusals: Mutex<Sampler>,
    pub(super) suppressed: AtomicU64,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    controls: Vec<Control>,
    /// Tickets given so far.
    given: u64,
    closed: bool,
    writer_waits: bool,
    /// For so many records; for any, if it is 0.
    wanted: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under these locks; if it did, the numbers would still be right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Whether records are taken at the moment, other than ends.
    pub(super) fn check(&self) -> Result<(), AuditError> {
        self.check_alive()?;
        if self.full.load(Ordering::Relaxed) {
            return Err(AuditError::Unavailable { cause: "its file system is full".into() });
        }
        Ok(())
    }

    pub(super) fn check_alive(&self) -> Result<(), AuditError> {
        match self.failed.get() {
            Some(cause) => Err(AuditError::Unavailable { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Whether there is room for it in queue and file, and for the end that it will have. Ends have theirs already.
    fn has_room(&self, queue: &Queue, item: &Item) -> Result<(), AuditError> {
        if item.is_end() {
            return Ok(());
        }
        let room = self.room.load(Ordering::Acquire);
        let needed =
            self.promised.load(Ordering::Acquire).saturating_add(item.bytes()).saturating_add(item.end());
        if queue.items.len() >= QUEUE || needed > room - room / OWN_PART {
            return Err(AuditError::Overloaded);
        }
        Ok(())
    }

    /// Which refusals are written, and those that were not.
    pub(super) fn refusals(&self) -> MutexGuard<'_, Sampler> {
        lock(&self.refusals)
    }

    /// The line, if there is room for this record in it and in the file.
    fn admit(&self, item: &Item) -> Result<MutexGuard<'_, Queue>, AuditError> {
        if item.is_end() {
            self.check_alive()?
        } else {
            self.check()?
        }
        let queue = lock(&self.queue);
        if queue.closed {
            drop(queue);
            self.check_alive()?;
            return Err(AuditError::Unavailable { cause: "the server is stopping".into() });
        }
        self.has_room(&queue, item)?;
        Ok(queue)
    }

    /// The next ticket, with room for the record and for its end.
    fn ticket(&self, queue: &mut Queue, item: &Item) -> u64 {
        self.promised.fetch_add(item.bytes().saturating_add(item.end()), Ordering::AcqRel);
        queue.given += 1;
        queue.given
    }

    /// Puts a record in line and gives its ticket.
    pub(super) fn push(&self, item: Item) -> Result<u64, AuditError> {
        let mut queue = self.admit(&item)?;
        let ticket = self.ticket(&mut queue, &item);
        queue.items.push_back(item);
        if queue.items.len() >= queue.wanted {
            self.wake_writer(queue);
        }
        Ok(ticket)
    }

    /// For a record that does not get in line: if nobody waits there and it is its `turn`, gives a ticket for it. Whoever gets in
    /// line from then on comes after it.
    pub(super) fn overtake_nobody<T>(
        &self,
        item: &Item,
        turn: impl FnOnce() -> Option<T>,
    ) -> Result<Option<T>, AuditError> {
        let mut queue = self.admit(item)?;
        if !queue.items.is_empty() || !queue.controls.is_empty() {
            return Ok(None);
        }
        let turn = turn();
        if turn.is_some() {
            self.ticket(&mut queue, item);
        }
        Ok(turn)
    }

    /// Tells the writer something. Returns whether there is one.
    pub(super) fn tell(&self, control: Control) -> bool {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return false;
        }
        if matches!(control, Control::Close(_)) {
            queue.closed = true;
        }
        queue.controls.push(control);
        self.wake_writer(queue);
        true
    }

    /// Without a system call while the writer is busy anyway.
    fn wake_writer(&self, mut queue: MutexGuard<'_, Queue>) {
        let waits = std::mem::take(&mut queue.writer_waits);
        drop(queue);
        if waits {
            self.arrived.notify_one();
        }
    }

    /// Ready when the record of `ticket` is durable, or never will be.
    pub(super) fn poll(&self, ticket: u64, context: &Context<'_>) -> Poll<Result<(), AuditError>> {
        if let Some(answer) = self.answer(ticket) {
            return Poll::Ready(answer);
        }
        lock(&self.late).insert(ticket, context.waker().clone());
        // The writer may have been done between the first look and the insertion.
        match self.answer(ticket) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }

    fn answer(&self, ticket: u64) -> Option<Result<(), AuditError>> {
        if self.durable.load(Ordering::Acquire) >= ticket {
            return Some(Ok(()));
        }
        self.failed.get().map(|cause| Err(AuditError::Unavailable { cause: cause.clone() }))
    }

    pub(super) fn health(&self) -> Health {
        Health {
            failed: self.failed.get().cloned(),
            full: self.full.load(Ordering::Relaxed),
            records: self.durable.load(Ordering::Relaxed),
            groups: self.groups.load(Ordering::Relaxed),
            suppressed: self.suppressed.load(Ordering::Relaxed),
            durable_seq: self.durable_seq.load(Ordering::Acquire),
        }
    }

    /// For the writer: waits for work, but not past `until`.
    pub(super) fn wait(&self, until: Instant) {
        let mut queue = lock(&self.queue);
        while queue.items.is_empty() && queue.controls.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue.writer_waits = true;
            queue = self.arrived.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.writer_waits = false;
    }

    /// For the writer: takes at most `most` records of those that wait.
    pub(super) fn take(&self, most: usize, items: &mut Vec<Item>) -> Vec<Control> {
        let mut queue = lock(&self.queue);
        let count = most.min(queue.items.len());
        items.extend(queue.items.drain(..count));
        // Told after these records, so done after them: a close leaves nothing behind.
        if queue.items.is_empty() { std::mem::take(&mut queue.controls) } else { Vec::new() }
    }

    /// For the writer: these are durable; wakes whoever waits for them.
    pub(super) fn done(&self, items: &mut Vec<Item>) {
        let durable = self.durable.load(Ordering::Relaxed) + items.len() as u64;
        self.durable.store(durable, Ordering::Release);
        items.drain(..).filter_map(|item| item.waker).for_each(Waker::wake);
        let mut late = lock(&self.late);
        if !late.is_empty() {
            let woken: Vec<_> = late.extract_if(|ticket, _| *ticket <= durable).collect();
            drop(late);
            woken.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }

    /// For the writer: it is over.
    pub(super) fn fail(&self, cause: &str, items: &mut Vec<Item>) {
        // Only the first cause counts.
        let _ = self.failed.set(cause.into());
        let mut queue = lock(&self.queue);
        queue.closed = true;
        items.extend(queue.items.drain(..));
        // Dropping them answers whoever waits for them.
        queue.controls.clear();
        drop(queue);
        items.drain(..).filter_map(|item| item.waker).for_each(Waker::wake);
        let late = std::mem::take(&mut *lock(&self.late));
        late.into_values().for_each(Waker::wake);
    }

    /// For the writer: the file has room for so many bytes more.
    pub(super) fn set_room(&self, bytes: u64) {
        self.room.store(bytes, Ordering::Release);
    }

    /// For the writer: so many bytes that were promised are in the file now, or will not be needed.
    pub(super) fn keep(&self, bytes: u64) {
        let _ = self.promised.fetch_update(Ordering::AcqRel, Ordering::Acquire, |promised| {
            Some(promised.saturating_sub(bytes))
        });
    }

    /// For the writer: this is promised from the start, to intents that the last run left open.
    pub(super) fn promise(&self, bytes: u64) {
        self.promised.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// For the writer: whether the file system is too full.
    pub(super) fn set_full(&self, full: bool) -> bool {
        self.full.swap(full, Ordering::Relaxed)
    }
}

/// How often the writer looks after checkpoints, space and counts when nothing else wakes it.
pub(super) const TICK: Duration = Duration::from_secs(1);

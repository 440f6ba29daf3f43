//! What writes the log, one at a time (`desk.rs`). It takes whatever waits, gives each record its place in the chain, appends all of
//! it with one write and one fdatasync, and only then lets the requests continue. An error of the file ends it for good:
//! after a failed fsync nobody knows what is on the disk (fsyncgate), so nothing more is promised.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::{
    Config, Durability, Event, EventKind, RecoveredLog, Sink, Status, StoreState,
    chain::{CHECKPOINT_RECORDS, Chain},
    file::Log,
    queue::{self, Control, Item, Linger, Settled, Shared, Signing, TICK, Track},
    recover::OpenIntent,
};
use crate::{
    clock::Clock,
    crypto::SigningKey,
    model::{LogPoint, RequestId},
};

/// Most open intents carried into a new segment. There are never more than requests in flight (`limits::MOST_IN_FLIGHT`)
/// and attempts to unseal; beyond that somebody forgot outcomes, and the oldest are let go.
const CARRIED: usize = 3 * CHECKPOINT_RECORDS as usize / 2;
/// Bytes kept for the next group; a larger one gives its memory back.
const BUFFER: usize = 4 << 20;

type State = Box<dyn Fn() -> StoreState + Send>;

/// What to wait for before the next round.
pub(super) struct Plan {
    pub(super) until: Instant,
    pub(super) linger: Option<Linger>,
    pub(super) most: usize,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    log: Box<dyn Log>,
    chain: Chain,
    signer: Option<(SigningKey, State)>,
    sinks: Vec<Box<dyn Sink>>,
    durable: watch::Sender<u64>,
    durability: Durability,
    segment_bytes: u64,
    /// `2026-11-23`, of the segment's first record.
    segment_day: String,
    /// Lines on their way into the file.
    buffer: Vec<u8>,
    /// Records taken from the queue, not in the buffer yet.
    taken: Vec<Item>,
    /// Records whose lines are in the buffer.
    items: Vec<Item>,
    open: BTreeMap<u64, OpenIntent>,
    /// What is promised to the end of each.
    ends: HashMap<RequestId, u64>,
    /// Bytes of records in the buffer, as they were promised.
    buffered: u64,
    /// Requests whose end was appended since the last sync.
    closed: Vec<RequestId>,
    settled: Settled,
    /// On the disk for good.
    synced: LogPoint,
    /// Something was appended without a sync.
    unsynced: bool,
    /// Records of the last group that was taken.
    last_group: usize,
    next_tick: Instant,
}

impl Writer {
    pub(super) fn new(
        config: &Config,
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        sinks: Vec<Box<dyn Sink>>,
        log: Box<dyn Log>,
        opened: &RecoveredLog,
        durable: watch::Sender<u64>,
    ) -> io::Result<Self> {
        let began = opened.segment_began.clone().unwrap_or_else(|| clock.now().to_string());
        let mut writer = Self {
            shared,
            clock,
            log,
            chain: Chain::new(opened.next_seq, opened.head),
            signer: None,
            sinks,
            durable,
            durability: config.durability,
            segment_bytes: config.segment_bytes,
            segment_day: day(&began).to_owned(),
            buffer: Vec::new(),
            taken: Vec::new(),
            items: Vec::new(),
            open: opened.open_intents.iter().map(|intent| (intent.seq, intent.clone())).collect(),
            ends: HashMap::new(),
            buffered: 0,
            closed: Vec::new(),
            settled: Box::new(|_, _| {}),
            // Opening the segment synced it.
            synced: opened.end(),
            unsynced: false,
            last_group: 0,
            next_tick: Instant::now() + TICK,
        };
        for intent in &opened.open_intents {
            let end = intent.longest_end(std::iter::empty());
            writer.ends.insert(intent.request_id, end);
            writer.shared.promise(end);
        }
        writer.make_room()?;
        let reason = match opened.cut {
            0 => String::new(),
            bytes => format!("cut {bytes} bytes of a record that the last run did not finish"),
        };
        writer.append(&Event { reason: &reason, ..Event::own(EventKind::Start) });
        Ok(writer)
    }

    /// When the next round is due, and whether it waits for company: only where each group costs a wait for the disk.
    pub(super) fn plan(&self) -> Plan {
        Plan {
            until: if self.buffer.is_empty() { self.next_tick } else { Instant::now() },
            linger: Linger::after(self.last_group).filter(|_| self.durability == Durability::Fsync),
            most: self.most(),
        }
    }

    /// Whether nothing has to be written or done before the next record.
    pub(super) fn is_idle(&self) -> bool {
        self.buffer.is_empty()
            && self.chain.since_checkpoint() + 1 < CHECKPOINT_RECORDS
            && Instant::now() < self.next_tick
            && !self.is_over(&self.clock.now().to_string())
    }

    /// One record, when it is idle.
    pub(super) fn write(&mut self, item: Item) -> io::Result<()> {
        self.taken.push(item);
        self.append_taken();
        self.flush()
    }

    /// The last that is done with it.
    pub(super) fn close(mut self) {
        if let Err(error) = self.log.close() {
            tracing::warn!(%error, "the audit log is whole, but zeros are left behind its last line; the next start removes them");
        }
        self.sinks.drain(..).for_each(Sink::close);
    }

    /// After an error: whoever waits is told.
    pub(super) fn abandon(mut self, cause: &str) {
        self.signer = None;
        self.items.append(&mut self.taken);
        self.shared.fail(cause, &mut self.items);
    }

    /// How many records may come before a checkpoint is due, at most; it opens the group after the one that reached the number.
    fn most(&self) -> usize {
        let most = match self.signer {
            Some(_) => CHECKPOINT_RECORDS.saturating_sub(self.chain.since_checkpoint()).max(1),
            None => CHECKPOINT_RECORDS,
        };
        usize::try_from(most).unwrap_or(1)
    }

    /// Whether the segment is long enough, or of another day.
    fn is_over(&self, now: &str) -> bool {
        self.log.segment_bytes() >= self.segment_bytes || day(now) != self.segment_day
    }

    /// One group; `Some` when it was the last one.
    pub(super) fn round(&mut self) -> io::Result<Option<oneshot::Sender<()>>> {
        let most = self.most();
        let controls = self.shared.take(most, &mut self.taken);
        self.last_group = self.taken.len();
        self.upkeep()?;
        self.append_taken();
        self.flush()?;
        let mut closed = None;
        for control in controls {
            closed = self.obey(control)?.or(closed);
        }
        if self.signer.is_some() && self.chain.since_checkpoint() >= CHECKPOINT_RECORDS {
            self.checkpoint()?;
        }
        Ok(closed)
    }

    /// What is due each second, before anything else of this group.
    fn upkeep(&mut self) -> io::Result<()> {
        let now = self.clock.now().to_string();
        // The room that is kept is that of this segment: a full file system would have none for another.
        if self.is_over(&now) && !self.shared.is_full() {
            self.rotate(&now)?;
        }
        if Instant::now() < self.next_tick {
            return Ok(());
        }
        self.next_tick = Instant::now() + TICK;
        self.log.in_place()?;
        self.watch_space()?;
        self.append_suppressed();
        self.flush()?;
        if self.chain.since_checkpoint() > 0 {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Whether there is as much as there should be.
    fn make_room(&mut self) -> io::Result<bool> {
        let room = self.log.reserve()?;
        self.shared.set_room(room.bytes);
        Ok(room.is_enough)
    }

    fn watch_space(&mut self) -> io::Result<()> {
        let full = !self.make_room()? || self.log.usage()?.is_full();
        if self.shared.set_full(full) != full {
            match full {
                true => tracing::error!(
                    "the audit log's file system is full; nothing is answered until it is not"
                ),
                false => tracing::info!("the audit log's file system has space again"),
            }
        }
        Ok(())
    }

    fn append_taken(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        let time = self.clock.now().to_string();
        for item in &mut self.taken {
            let seq = self.chain.next_seq();
            self.chain.append(&time, &item.body, &mut self.buffer);
            self.buffered += item.bytes();
            match std::mem::replace(&mut item.track, Track::Nothing) {
                Track::Nothing => {}
                Track::Opens(intent, end) => {
                    self.ends.insert(intent.request_id, end.saturating_add(queue::FRAME));
                    self.open.insert(seq, OpenIntent { seq, ..*intent });
                }
                Track::Closes(id) => {
                    self.buffered += self.ends.remove(&id).unwrap_or_default();
                    self.open.retain(|_, intent| intent.request_id != id);
                    self.closed.push(id);
                }
            }
        }
        self.items.append(&mut self.taken);
        while self.open.len() > CARRIED
            && let Some((_, forgotten)) = self.open.pop_first()
        {
            self.buffered += self.ends.remove(&forgotten.request_id).unwrap_or_default();
        }
    }

    /// Counts that are not in the log yet.
    fn append_suppressed(&mut self) {
        let counted = self.shared.refusals().take();
        for suppressed in &counted {
            self.append(&suppressed.event());
        }
    }

    fn append(&mut self, event: &Event<'_>) {
        let time = self.clock.now().to_string();
        self.chain.append(&time, &event.body(), &mut self.buffer);
    }

    /// Signs what is durable. A checkpoint is always the first line of a write, so that a torn write never has one
    /// behind the tear; that is what recovery relies on.
    fn checkpoint(&mut self) -> io::Result<()> {
        self.flush()?;
        self.sync()?;
        self.log.in_place()?;
        if let Some((key, state)) = &self.signer {
            let time = self.clock.now().to_string();
            self.chain.checkpoint(&time, key, state(), &mut self.buffer);
        }
        Ok(())
    }

    /// Closes the segment with a checkpoint and opens the next one with another and with the open intents.
    fn rotate(&mut self, now: &str) -> io::Result<()> {
        self.checkpoint()?;
        self.flush()?;
        self.sync()?;
        self.log.start_segment(self.chain.next_seq())?;
        self.make_room()?;
        day(now).clone_into(&mut self.segment_day);
        self.checkpoint()?;
        for (_, intent) in std::mem::take(&mut self.open) {
            let paths: Vec<&str> = intent.paths.iter().map(String::as_str).collect();
            let event = Event {
                paths: &paths,
                ..Event::new(EventKind::Carried, intent.request_id, &intent.operation, Status::Pending)
            };
            let seq = self.chain.next_seq();
            self.append(&event);
            self.open.insert(seq, OpenIntent { seq, ..intent });
        }
        self.flush()
    }

    fn obey(&mut self, control: Control) -> io::Result<Option<oneshot::Sender<()>>> {
        match control {
            Control::Settles(settled) => {
                settled(&[], self.synced);
                self.settled = settled;
            }
            Control::Unsealed(signing) => {
                let Signing { key, state, note, began } = *signing;
                self.signer = Some((key, state));
                self.append(&Event { reason: &note, ..Event::own(EventKind::Unsealed) });
                self.checkpoint()?;
                self.flush()?;
                // Whatever the durability of records: from here on the store is written to, and a store without a checkpoint
                // in its log looks like one whose log is lost.
                self.sync()?;
                // Whoever asked may have gone away.
                let _ = began.send(());
            }
            Control::Sealed(reply) => {
                self.append(&Event::own(EventKind::Sealed));
                self.last_checkpoint()?;
                // Whoever asked may have gone away.
                let _ = reply.send(());
            }
            Control::Close(reply) => {
                self.append_suppressed();
                self.append(&Event::own(EventKind::Stop));
                self.last_checkpoint()?;
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    fn last_checkpoint(&mut self) -> io::Result<()> {
        self.checkpoint()?;
        self.signer = None;
        self.flush()?;
        self.sync()
    }

    /// Makes everything in the buffer durable, then tells whoever waits for it.
    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.log.append(&self.buffer)?;
        if !self.make_room()? && !self.shared.is_full() {
            self.watch_space()?;
        }
        self.shared.keep(std::mem::take(&mut self.buffered));
        self.unsynced = true;
        if self.durability == Durability::Fsync {
            self.sync()?;
        }
        if !self.items.is_empty() {
            self.shared.groups.fetch_add(1, Ordering::Relaxed);
        }
        let last = self.chain.next_seq() - 1;
        self.shared.durable_seq.store(last, Ordering::Release);
        // Readers of the log first: who is woken next may read it at once.
        self.durable.send_replace(last);
        self.shared.done(&mut self.items);
        if !self.sinks.is_empty() {
            let lines = Bytes::copy_from_slice(&self.buffer);
            self.sinks.iter_mut().for_each(|sink| sink.offer(&lines));
        }
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.unsynced) {
            self.log.sync()?;
            // Nobody is told that a record is durable, and no checkpoint is signed, while the log is not where it belongs.
            self.log.in_place()?;
            // A sync comes only after the buffer was appended, so these ends are on the disk now.
            self.synced = self.chain.point();
            (self.settled)(&self.closed, self.synced);
            self.closed.clear();
        }
        Ok(())
    }
}

/// The date of an RFC 3339 time.
fn day(time: &str) -> &str {
    time.split_once('T').map_or(time, |(day, _)| day)
}

//! All leases of the store in memory, without what the engines need to end them; and the queue of those to be ended. Knows no
//! store.

use std::{
    collections::{BTreeMap, HashMap},
    ops::{Bound, RangeInclusive},
    sync::Arc,
};

use super::{Cause, Counts, Info, Lease, queue::Queue};
use crate::model::{RequestId, Timestamp};

/// So many failed attempts, and it is called stuck: one or two can be a restart of a database.
const STUCK: u32 = 3;

#[derive(Default)]
pub(super) struct Book {
    entries: BTreeMap<RequestId, Entry>,
    queue: Queue,
    /// How many each principal has.
    held: HashMap<Box<str>, usize>,
}

struct Entry {
    lease: Arc<Lease>,
    /// A request is making or renewing it: it is not ended meanwhile.
    busy: bool,
    last_error: Option<Box<str>>,
}

impl Book {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn held_by(&self, principal: &str) -> usize {
        self.held.get(principal).copied().unwrap_or_default()
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&Arc<Lease>> {
        self.entries.get(&id).map(|entry| &entry.lease)
    }

    /// One that is new or has changed. What is known of its end stays known.
    pub(super) fn put(&mut self, mut lease: Lease, now: Timestamp) {
        let id = lease.id;
        if let Some(entry) = self.entries.get_mut(&id) {
            lease.ending = lease.ending.or(entry.lease.ending);
            entry.lease = Arc::new(lease);
        } else {
            *self.held.entry(lease.session.principal.to_string().into()).or_default() += 1;
            self.entries.insert(id, Entry { lease: Arc::new(lease), busy: false, last_error: None });
        }
        self.requeue(id, now);
    }

    /// It is gone.
    pub(super) fn remove(&mut self, id: RequestId) {
        self.queue.succeeded(id);
        let Some(entry) = self.entries.remove(&id) else { return };
        let holder = entry.lease.session.principal.to_string();
        if let Some(count) = self.held.get_mut(&*holder) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&*holder);
            }
        }
    }

    /// Nobody ends it until it is [released](Book::release). False: somebody else has it, or it is to be ended.
    pub(super) fn hold(&mut self, id: RequestId, now: Timestamp) -> bool {
        match self.entries.get_mut(&id) {
            Some(entry) if !entry.busy && entry.lease.ending.is_none() && now < entry.lease.expires => {
                entry.busy = true;
                self.queue.remove(id);
                true
            }
            _ => false,
        }
    }

    pub(super) fn release(&mut self, id: RequestId, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.busy = false;
            self.requeue(id, now);
        }
    }

    /// It is to be ended, as soon as nobody has it; at once, also if it was to be tried again later.
    pub(super) fn end(&mut self, id: RequestId, cause: Cause, now: Timestamp) {
        self.mark(id, cause);
        self.requeue(id, now);
    }

    /// It is to be ended, when its turn comes.
    pub(super) fn mark(&mut self, id: RequestId, cause: Cause) {
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.lease.ending.is_none()
        {
            entry.lease = Arc::new(Lease { ending: Some(cause), ..Lease::clone(&entry.lease) });
        }
    }

    fn requeue(&mut self, id: RequestId, now: Timestamp) {
        if let Some(entry) = self.entries.get(&id)
            && !entry.busy
        {
            self.queue.set(entry.lease.path.mount(), id, entry.lease.due(now));
        }
    }

    /// The next to be ended; an attempt at it runs from here on.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<Arc<Lease>> {
        let id = self.queue.take(now)?;
        let lease = self.entries.get(&id).map(|entry| Arc::clone(&entry.lease));
        if lease.is_none() {
            self.queue.remove(id);
        }
        lease
    }

    /// The attempt failed. Says whether it is the first one that did.
    pub(super) fn failed(&mut self, id: RequestId, error: &str, now: Timestamp) -> bool {
        self.queue.failed(id, now);
        let first = self.queue.of(id).is_some_and(|(failures, _)| failures == 1);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.last_error = Some(error.into());
        }
        first
    }

    /// The attempt found that it is to live on.
    pub(super) fn spare(&mut self, lease: Lease, now: Timestamp) {
        self.queue.remove(lease.id);
        self.put(lease, now);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Lease>> {
        self.entries.values().map(|entry| &entry.lease)
    }

    /// Those after an id, in their order.
    pub(super) fn after(&self, after: Option<RequestId>) -> impl Iterator<Item = Info> + '_ {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries.range((from, Bound::Unbounded)).map(|(id, entry)| self.info(*id, entry))
    }

    pub(super) fn within(&self, ids: RangeInclusive<RequestId>) -> Vec<RequestId> {
        self.entries.range(ids).map(|(id, _)| *id).collect()
    }

    pub(super) fn info_of(&self, id: RequestId) -> Option<Info> {
        self.entries.get(&id).map(|entry| self.info(id, entry))
    }

    fn info(&self, id: RequestId, entry: &Entry) -> Info {
        let (failures, next_attempt) = self.queue.of(id).unwrap_or_default();
        Info {
            lease: Arc::clone(&entry.lease),
            failures,
            stuck: failures >= STUCK,
            last_error: entry.last_error.clone(),
            next_attempt: (entry.lease.ending.is_some() || failures > 0).then_some(next_attempt),
        }
    }

    pub(super) fn counts(&self, now: Timestamp) -> Counts {
        let mut counts = Counts::default();
        for (id, entry) in &self.entries {
            let failures = self.queue.of(*id).map_or(0, |(failures, _)| failures);
            match () {
                () if failures >= STUCK => counts.stuck += 1,
                () if entry.lease.ending.is_some() || entry.lease.expires <= now => counts.ending += 1,
                () => counts.live += 1,
            }
        }
        counts
    }
}

//! What is revoked, in memory: tables that are replaced as a whole, so that a check takes no lock. Knows no store.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;

use super::{Session, Which};
use crate::model::{SessionId, Timestamp};

/// Each is replaced as a whole when a session is revoked, so it should stay small: 2,000 entries when all are full.
const SHARDS: usize = 256;

/// A table that is replaced as a whole.
type Table<K> = ArcSwap<HashMap<K, Entry>>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Sessions issued then or before are dead.
    pub(super) up_to: Timestamp,
    /// No session it covers can be alive from then on.
    pub(super) until: Timestamp,
}

/// See the module.
pub(super) struct Revoked {
    sessions: Vec<Table<SessionId>>,
    principals: Table<Arc<str>>,
    methods: Table<Arc<str>>,
    pods: Table<Arc<str>>,
    entries: AtomicUsize,
    /// The tables hold what the store has. Otherwise anybody might be revoked, so everybody is.
    known: AtomicBool,
}

impl Entry {
    pub(super) fn merge(self, other: Self) -> Self {
        Self { up_to: self.up_to.max(other.up_to), until: self.until.max(other.until) }
    }
}

impl Revoked {
    /// Before anything was read.
    pub(super) fn unknown() -> Self {
        Self {
            sessions: (0..SHARDS).map(|_| Table::default()).collect(),
            principals: Table::default(),
            methods: Table::default(),
            pods: Table::default(),
            entries: AtomicUsize::new(0),
            known: AtomicBool::new(false),
        }
    }

    /// All that the store has is in the tables now.
    pub(super) fn complete(&self) {
        self.known.store(true, Ordering::Release);
    }

    /// Whether `session` is revoked: a few look-ups, no lock.
    pub(super) fn covers(&self, session: &Session) -> bool {
        let shard = self.shard(session.id).is_some_and(|shard| shard.load().contains_key(&session.id));
        shard
            || covers(&self.methods, session.issued, || session.method().into())
            || covers(&self.principals, session.issued, || session.principal.to_string().into())
            || session
                .principal
                .pod()
                .is_some_and(|pod| covers(&self.pods, session.issued, || pod.uid.as_ref().into()))
            // Looked at last: who met a table that was emptied before sees that it was.
            || !self.known.load(Ordering::Acquire)
    }

    /// Makes it visible to checks. Replaces a table by compare-and-swap, so that revocations at the same time do not lose
    /// one another. What is there only grows.
    pub(super) fn show(&self, which: &Which, entry: Entry) {
        let is_new = match which {
            Which::Session(id) => self.shard(*id).is_some_and(|shard| put(shard, *id, entry)),
            Which::Principal(principal) => put(&self.principals, Arc::from(&**principal), entry),
            Which::Method(method) => put(&self.methods, Arc::from(&**method), entry),
            Which::Pod(uid) => put(&self.pods, Arc::from(&**uid), entry),
        };
        self.entries.fetch_add(usize::from(is_new), Ordering::Relaxed);
    }

    /// Drops what covers no living session any more.
    pub(super) fn prune(&self, now: Timestamp) {
        let texts = [&self.principals, &self.methods, &self.pods];
        let dropped: usize = self.sessions.iter().map(|shard| drop_over(shard, now)).sum::<usize>()
            + texts.into_iter().map(|table| drop_over(table, now)).sum::<usize>();
        self.entries.fetch_sub(dropped, Ordering::Relaxed);
    }

    /// Holds nothing any more.
    pub(super) fn forget(&self) {
        self.known.store(false, Ordering::Release);
        self.sessions.iter().for_each(|shard| shard.store(Arc::default()));
        [&self.principals, &self.methods, &self.pods]
            .into_iter()
            .for_each(|table| table.store(Arc::default()));
        self.entries.store(0, Ordering::Relaxed);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// As if there were so many.
    #[cfg(test)]
    pub(super) fn pretend(&self, entries: usize) {
        self.entries.store(entries, Ordering::Relaxed);
    }

    /// Ids are random, so their first byte spreads them evenly.
    fn shard(&self, id: SessionId) -> Option<&Table<SessionId>> {
        let [first, ..] = id.0;
        self.sessions.get(usize::from(first))
    }
}

/// Mostly the table is empty; then nobody has to make the key.
fn covers(table: &Table<Arc<str>>, issued: Timestamp, key: impl FnOnce() -> Box<str>) -> bool {
    let table = table.load();
    !table.is_empty() && table.get(&*key()).is_some_and(|entry| issued <= entry.up_to)
}

/// Says whether it is new.
fn put<K: Clone + Eq + Hash>(table: &Table<K>, key: K, entry: Entry) -> bool {
    let before = table.rcu(|table| {
        let mut table = HashMap::clone(table);
        let merged = table.get(&key).map_or(entry, |old| entry.merge(*old));
        table.insert(key.clone(), merged);
        table
    });
    !before.contains_key(&key)
}

/// Says how many there were. One that was revoked again meanwhile has a later end and stays.
fn drop_over<K: Clone + Eq + Hash>(table: &Table<K>, now: Timestamp) -> usize {
    let over = |table: &HashMap<K, Entry>| table.values().filter(|entry| entry.until <= now).count();
    if over(&table.load()) == 0 {
        return 0;
    }
    let before = table.rcu(|table| {
        let mut table = HashMap::clone(table);
        table.retain(|_, entry| entry.until > now);
        table
    });
    over(&before)
}

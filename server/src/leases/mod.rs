//! Leases: what was issued and has to end, in the store and, to find what is due, in memory. Here is written down what exists,
//! for how long and for whom; how it is made and unmade is the engines' business, and who asks for what is the core's.
//!
//! A lease is durable before anything is made, and gone only when it was unmade: nothing that was issued is ever unknown here.
//! A session that is over is not written down a second time: whether it is, is asked of each lease now and then, so that
//! neither a restart nor news from elsewhere is a special case.

mod book;
mod queue;
mod record;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{Notify, watch};

use crate::{
    barrier::{BarrierError, Changes, Derived, View},
    clock::Clock,
    model::{Path, Principal, RequestId, SecretBytes, SessionId, Timestamp},
    storage::{Condition, Revision, StoreKey},
    tokens::Session,
};
use book::Book;
pub use record::{Cause, Lease, Stored};
use record::{LEASE, address, corrupt, ids_of};

/// Where leases are, for policies: the path that one was issued at follows.
pub const PLACE: &str = "sys/leases";
/// Most leases of a store: some 200 MB of memory. A hundred thousand pods with two each.
pub const MAX_LEASES: usize = 200_000;
/// Most of one principal, all pods of a service account together: a loop that asks again and again fills neither the store nor
/// a database.
pub const MAX_HELD: usize = 20_000;
/// Records of one scan.
const RECORDS: usize = 100;
/// Records of one batch: each may be as large as a record can be, and a batch has room for some.
const BATCH: usize = 16;
/// Leases looked at before others get their turn.
const SLICE: usize = 1000;
/// A conflict means that somebody changed the same lease at the same moment.
const MAX_TRIES: usize = 16;

/// Why something was not done to a lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("there are {MAX_LEASES} leases already; end some, or let them expire")]
    Full,
    #[error("{holder} has {MAX_HELD} leases already; end some, or let them expire")]
    HolderFull { holder: String },
    #[error("the lease {0} does not exist")]
    NoSuch(RequestId),
    #[error("the lease {0} is being ended")]
    Ending(RequestId),
    /// The store or the keys.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
}

/// Which leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    All,
    Id(RequestId),
    /// At this path and below it.
    Prefix(Path),
    Principal(Box<str>),
    Session(SessionId),
    /// By its uid.
    Pod(Box<str>),
    /// The caller's.
    Own,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page {
    pub which: Selector,
    /// Only those that could not be ended.
    pub stuck: bool,
    /// Those whose id follows this one.
    pub after: Option<RequestId>,
    pub limit: usize,
}

/// A lease, for people.
pub struct Info {
    pub lease: Arc<Lease>,
    pub failures: u32,
    pub stuck: bool,
    pub last_error: Option<Box<str>>,
    /// Only if it is to be ended.
    pub next_attempt: Option<Timestamp>,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub live: usize,
    pub ending: usize,
    pub stuck: usize,
}

/// See the module.
pub struct Leases {
    view: View,
    clock: Arc<dyn Clock>,
    /// Held for microseconds, or milliseconds where all are looked at; never across an await.
    book: Mutex<Book>,
    /// Something may be due.
    woken: Notify,
    /// An attempt came to its end.
    attempts: watch::Sender<()>,
}

/// A lease that a request makes or renews. Dropped without being finished, it is to be ended.
#[must_use = "it is ended when this is dropped"]
pub struct Held<'a> {
    leases: &'a Leases,
    lease: Lease,
    data: SecretBytes,
    revision: Revision,
    unfinished: Option<Cause>,
}

impl Leases {
    /// Everything in `view`, which no other subsystem uses.
    ///
    /// # Errors
    /// A record does not open.
    pub async fn load(view: View, clock: Arc<dyn Clock>) -> Result<Self, BarrierError> {
        let leases = Self {
            view,
            clock,
            book: Mutex::default(),
            woken: Notify::new(),
            attempts: watch::Sender::new(()),
        };
        Derived::load(&leases).await?;
        Ok(leases)
    }

    /// Writes down what is about to be made, durably, for the request that it is named after.
    ///
    /// # Errors
    /// There are too many, or the store failed. Nothing may be made then.
    pub async fn begin(&self, lease: Lease, data: SecretBytes) -> Result<Held<'_>, LeaseError> {
        self.check_room(&lease)?;
        let id = lease.id;
        let changes = Changes {
            conditions: vec![(address(id), Condition::Absent)],
            puts: vec![(address(id), lease.encode(&data))],
            by: Some(id),
            ..Changes::default()
        };
        let revision = self.view.commit(changes).await?;
        let now = self.clock.now();
        let mut book = self.book();
        book.put(lease.clone(), now);
        // One that has expired already is ended after it was made.
        book.hold(id, Timestamp::default());
        Ok(Held { leases: self, lease, data, revision, unfinished: Some(Cause::Failed) })
    }

    /// Takes one that lives, to renew it.
    ///
    /// # Errors
    /// There is none, it is being ended, or somebody else renews it.
    pub async fn hold(&self, id: RequestId) -> Result<Held<'_>, LeaseError> {
        let Stored { lease, data, revision } = self.read(id).await?.ok_or(LeaseError::NoSuch(id))?;
        let now = self.clock.now();
        if !self.book().hold(id, now) {
            return Err(match lease.ending.is_some() || lease.expires <= now {
                true => LeaseError::Ending(id),
                false => BarrierError::Conflict.into(),
            });
        }
        Ok(Held { leases: self, lease, data, revision, unfinished: None })
    }

    /// What is known of it.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, id: RequestId) -> Result<Arc<Lease>, LeaseError> {
        self.book().get(id).cloned().ok_or(LeaseError::NoSuch(id))
    }

    /// As it is in the store, with what the engine needs.
    ///
    /// # Errors
    /// It does not open, or the store cannot be read.
    pub async fn read(&self, id: RequestId) -> Result<Option<Stored>, BarrierError> {
        let record = self.view.get(&address(id)).await?;
        record.map(|record| Stored::read(id, &record)).transpose()
    }

    /// The next that is to be ended now; whoever takes it says how that went.
    pub fn take(&self) -> Option<Arc<Lease>> {
        let now = self.clock.now();
        self.book().take(now)
    }

    /// Waits until something may be due that was not before.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    /// It was unmade, or somebody gave it up: durably gone.
    ///
    /// # Errors
    /// The store failed; it is unmade once more later.
    pub async fn remove(&self, id: RequestId, by: RequestId) -> Result<(), BarrierError> {
        let deletes = vec![address(id)];
        self.view.commit(Changes { deletes, urgent: true, by: Some(by), ..Changes::default() }).await?;
        self.gone(id);
        Ok(())
    }

    /// Its record is no longer in the store.
    pub fn gone(&self, id: RequestId) {
        self.book().remove(id);
        self.attempts.send_replace(());
    }

    /// It could not be unmade. The first time that is written down with why it has to be: a restart goes on with it even if
    /// the reason is gone by then.
    pub async fn failed(&self, lease: &Lease, error: &str) {
        let now = self.clock.now();
        let first = self.book().failed(lease.id, error, now);
        self.attempts.send_replace(());
        if !first {
            return;
        }
        match self.write_ends(&[lease.id], lease.cause(), None).await {
            Ok(()) => self.book().mark(lease.id, lease.cause()),
            Err(error) => {
                tracing::warn!(lease = %lease.id, %error, "why a lease has to end could not be written down");
            }
        }
    }

    /// It was renewed elsewhere, and lives on.
    pub fn spare(&self, lease: Lease) {
        let now = self.clock.now();
        self.book().spare(lease, now);
    }

    /// From here on these are to be ended, durably, whatever becomes of this server. The last batch bears the request's name.
    ///
    /// # Errors
    /// The store failed; some may be marked.
    pub async fn end(
        &self,
        ids: &[RequestId],
        cause: Cause,
        by: Option<RequestId>,
    ) -> Result<(), BarrierError> {
        let last = ids.len().saturating_sub(1) / BATCH;
        for (n, ids) in ids.chunks(BATCH).enumerate() {
            self.write_ends(ids, cause, by.filter(|_| n == last)).await?;
            let (mut book, now) = (self.book(), self.clock.now());
            ids.iter().for_each(|id| book.end(*id, cause, now));
        }
        self.woken.notify_one();
        Ok(())
    }

    /// Waits until each of these is gone or could not be unmade, at most for `most`. Says how many are left, and what the last
    /// attempt at one of them said.
    pub async fn settled(&self, ids: &[RequestId], most: Duration) -> (usize, Option<Box<str>>) {
        let (mut attempts, mut rest) = (self.attempts.subscribe(), ids);
        let settled = attempts.wait_for(|()| {
            let book = self.book();
            let is_settled = |id: &RequestId| book.info_of(*id).is_none_or(|info| info.failures > 0);
            // Who is, stays so: each is looked at until then, and not once more for each of the others.
            while let Some((first, others)) = rest.split_first()
                && is_settled(first)
            {
                rest = others;
            }
            rest.is_empty()
        });
        // How far they are is asked either way.
        drop(tokio::time::timeout(most, settled).await);
        let book = self.book();
        let left: Vec<Info> = ids.iter().filter_map(|id| book.info_of(*id)).collect();
        (left.len(), left.into_iter().find_map(|info| info.last_error))
    }

    /// Ends those whose session is over. Says how many that are.
    pub async fn review(&self, is_over: impl Fn(&Session) -> bool) -> usize {
        let living: Vec<Arc<Lease>> =
            self.book().all().filter(|lease| lease.ending.is_none()).cloned().collect();
        let mut ended = 0;
        for slice in living.chunks(SLICE) {
            let over: Vec<_> = slice.iter().filter(|lease| is_over(&lease.session)).collect();
            if !over.is_empty() {
                let (mut book, now) = (self.book(), self.clock.now());
                over.iter().for_each(|lease| book.end(lease.id, Cause::Session, now));
                ended += over.len();
            }
            tokio::task::yield_now().await;
        }
        ended
    }

    /// Those that match, as `caller` means it.
    pub fn select(&self, which: &Selector, caller: &Principal) -> Vec<Arc<Lease>> {
        let book = self.book();
        match which {
            Selector::Id(id) => book.get(*id).cloned().into_iter().collect(),
            _ => book.all().filter(|lease| which.matches(lease, caller)).cloned().collect(),
        }
    }

    /// One page of those that match, and whether there are more.
    pub fn page(&self, asked: &Page, caller: &Principal) -> (Vec<Info>, bool) {
        let Page { which, stuck, after, limit } = asked;
        let book = self.book();
        let matches = |info: &Info| which.matches(&info.lease, caller) && (info.stuck || !stuck);
        let mut page: Vec<Info> = match which {
            Selector::Id(id) => book.info_of(*id).into_iter().collect(),
            _ => book.after(*after).filter(matches).take(limit + 1).collect(),
        };
        let more = page.len() > *limit;
        page.truncate(*limit);
        (page, more)
    }

    pub fn counts(&self) -> Counts {
        let now = self.clock.now();
        self.book().counts(now)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_room(&self, lease: &Lease) -> Result<(), LeaseError> {
        let (book, holder) = (self.book(), lease.session.principal.to_string());
        match () {
            () if book.len() >= MAX_LEASES => Err(LeaseError::Full),
            () if book.held_by(&holder) >= MAX_HELD => Err(LeaseError::HolderFull { holder }),
            () => Ok(()),
        }
    }

    async fn write_ends(
        &self,
        ids: &[RequestId],
        cause: Cause,
        by: Option<RequestId>,
    ) -> Result<(), BarrierError> {
        for _ in 0..MAX_TRIES {
            let mut changes = Changes { urgent: true, by, ..Changes::default() };
            for id in ids {
                // One that has ended meanwhile needs nothing.
                let Some(mut stored) = self.read(*id).await? else { continue };
                if stored.lease.ending.is_some() {
                    continue;
                }
                stored.lease.ending = Some(cause);
                changes.conditions.push((address(*id), Condition::At(stored.revision)));
                changes.puts.push((address(*id), stored.lease.encode(&stored.data)));
            }
            let written = match changes.puts.is_empty() {
                true => Ok(()),
                false => self.view.commit(changes).await.map(drop),
            };
            match written {
                Err(BarrierError::Conflict) => tokio::task::yield_now().await,
                other => return other,
            }
        }
        Err(BarrierError::Conflict)
    }
}

impl Held<'_> {
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// For the engine.
    pub fn data(&self) -> &SecretBytes {
        &self.data
    }

    /// It is made.
    pub fn made(mut self) {
        self.unfinished = None;
    }

    /// It is not, or nobody knows: what there is of it is unmade, also after a restart.
    ///
    /// # Errors
    /// That could not be written down; it is unmade all the same, unless the server dies before.
    pub async fn failed(self) -> Result<(), BarrierError> {
        let (leases, id) = (self.leases, self.lease.id);
        drop(self);
        leases.end(&[id], Cause::Failed, None).await
    }

    /// It lives until then, durably.
    ///
    /// # Errors
    /// The store failed, or somebody ends it; then nothing is known of its time.
    pub async fn renewed(mut self, expires: Timestamp, by: RequestId) -> Result<Lease, BarrierError> {
        if self.lease.ending.is_some() {
            return Err(BarrierError::Conflict);
        }
        self.lease.expires = expires;
        let (leases, at) = (self.leases, address(self.lease.id));
        let changes = Changes {
            conditions: vec![(at.clone(), Condition::At(self.revision))],
            puts: vec![(at, self.lease.encode(&self.data))],
            by: Some(by),
            ..Changes::default()
        };
        leases.view.commit(changes).await?;
        let now = leases.clock.now();
        leases.book().put(self.lease.clone(), now);
        Ok(self.lease.clone())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let (mut book, now) = (self.leases.book(), self.leases.clock.now());
        if let Some(cause) = self.unfinished {
            book.end(self.lease.id, cause, now);
        }
        book.release(self.lease.id, now);
        drop(book);
        self.leases.woken.notify_one();
    }
}

impl Selector {
    /// Below `sys/leases`, what has to be granted to ask about all of these at once. `None`: that turns out with the lease, or
    /// they are the caller's own.
    pub fn place(&self) -> Option<String> {
        match self {
            Self::Prefix(path) => Some(format!("{PLACE}/{path}")),
            Self::All | Self::Principal(_) | Self::Session(_) | Self::Pod(_) => Some(PLACE.to_owned()),
            Self::Id(_) | Self::Own => None,
        }
    }

    /// For the audit log.
    pub fn describe(&self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Id(id) => format!("lease {id}"),
            Self::Prefix(path) => format!("below {path}"),
            Self::Principal(principal) => format!("principal {principal}"),
            Self::Session(id) => format!("session {id}"),
            Self::Pod(uid) => format!("pod {uid}"),
            Self::Own => "the caller's own".to_owned(),
        }
    }

    fn matches(&self, lease: &Lease, caller: &Principal) -> bool {
        let session = &lease.session;
        match self {
            Self::All => true,
            Self::Id(id) => lease.id == *id,
            Self::Prefix(path) => lease.path == *path || lease.path.is_within(path),
            Self::Principal(principal) => session.principal.to_string() == **principal,
            Self::Session(id) => session.id == *id,
            Self::Pod(uid) => session.principal.pod().is_some_and(|pod| pod.uid == *uid),
            Self::Own => session.principal.is_same(caller),
        }
    }
}

#[async_trait]
impl Derived for Leases {
    async fn load(&self) -> Result<(), BarrierError> {
        let mut gone: BTreeSet<RequestId> = self.book().all().map(|lease| lease.id).collect();
        let mut after = None;
        loop {
            let page = self.view.scan(LEASE, "", after.as_ref(), RECORDS).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.cursor.clone());
            let stored = page.iter().map(Stored::found).collect::<Result<Vec<_>, _>>()?;
            let (mut book, now) = (self.book(), self.clock.now());
            for Stored { lease, .. } in stored {
                gone.remove(&lease.id);
                book.put(lease, now);
            }
        }
        let mut book = self.book();
        gone.into_iter().for_each(|id| book.remove(id));
        drop(book);
        self.woken.notify_one();
        Ok(())
    }

    async fn changed(&self, keys: &[StoreKey]) -> Result<(), BarrierError> {
        for key in keys.iter().filter(|key| self.view.is_in(LEASE, "", key)) {
            match self.view.find(LEASE, key).await? {
                Some(found) => {
                    let stored = Stored::found(&found)?;
                    let now = self.clock.now();
                    self.book().put(stored.lease, now);
                }
                None => {
                    let mut book = self.book();
                    let gone = book.within(ids_of(key).ok_or_else(corrupt)?);
                    gone.into_iter().for_each(|id| book.remove(id));
                }
            }
        }
        self.woken.notify_one();
        Ok(())
    }

    fn forget(&self) {
        *self.book() = Book::default();
    }
}

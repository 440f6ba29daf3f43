//! Which sessions were revoked before their time. Durable, and judged on each request against immutable snapshots, so a
//! check takes no lock.
//!
//! A principal or a method is revoked *up to a moment*: every session issued then or before is dead, later ones live.
//! That is exact only together with how both times are taken. A session's time of issue is when its login **began**,
//! before the credential was judged; a revocation's time is taken **after** the last login was accepted by the state that
//! it ends. What ends it (a deleted user, a new password) is one batch with the revocation, so that no crash leaves the one
//! without the other; from before its time is taken until the batch is done no login is accepted (`auth::users`). So a
//! login that was judged by the old state began before the revocation, and within the same millisecond it is still caught,
//! because the comparison is `issued <= up to`. The price: a login of the new state that
//! begins in the very millisecond of the revocation is refused, too, and works when it is tried again. A server whose
//! clock is set back can have issued a session in what is now the future; a revocation by principal or method does not
//! reach that one, a revocation by session does.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use prost::Message;

use super::{
    Session,
    revoked::{Cutoff, Revoked},
    which::{FOLDERS, REVOCATION, Which},
};
use crate::{
    auth::MAX_LIFETIME,
    barrier::{BarrierError, Changes, Cursor, Derived, Found, SealedChanges, View},
    clock::Steady,
    model::{RequestId, SecretBytes, Timestamp},
    storage::{Condition, StoreKey},
};

/// Most revocations of sessions kept at a time: about 40 MB. Nobody logs out that often within a day; without a limit a
/// loop of login and logout could fill memory and disk.
pub const MAX_REVOCATIONS: usize = 500_000;
/// Places beyond [`MAX_REVOCATIONS`] for principals and methods, so that no flood of logouts keeps an admin from
/// revoking.
const RESERVED: usize = 10_000;
/// How much longer than the sessions it covers a revocation is kept: the clock may be set back.
const CLOCK_MARGIN: Duration = Duration::from_secs(3600);
/// Records of one scan, and deletes of one batch.
const PAGE: usize = 100;
/// A conflict means that somebody else revoked the same at the same moment; each round one of them gets through.
const MAX_TRIES: usize = 64;

/// Why something was not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// See [`MAX_REVOCATIONS`].
    #[error("too many revocations at a time; try again later, or revoke the principal")]
    Full,
    /// It could not be made durable. It may come true all the same.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
}

/// The revocations of one store.
pub struct Revocations {
    view: View,
    revoked: Revoked,
    /// What the time is at least, by the store: see [`Revocations::prune`].
    known: Mutex<KnownTime>,
}

/// A time that the store has, and when it was read.
#[derive(Clone, Copy)]
struct KnownTime {
    newest: Timestamp,
    read: Steady,
}

/// The end of sessions that came true with a change: see [`Revocations::ending`].
#[must_use = "sessions go on in this process until it is shown"]
pub struct Ending {
    which: Which,
    entry: Cutoff,
}

/// A stored revocation; what is revoked is the record's name.
#[derive(Clone, PartialEq, prost::Message)]
struct RevocationRecord {
    #[prost(int64, tag = "1")]
    up_to_ms: i64,
    #[prost(int64, tag = "2")]
    until_ms: i64,
}

impl Ending {
    /// The first moment of sessions that go on.
    pub fn after(&self) -> Timestamp {
        self.entry.up_to.plus(Duration::from_millis(1))
    }
}

impl Revocations {
    /// Everything in `view`, which no other subsystem uses.
    ///
    /// # Errors
    /// A record does not open. Then nothing may be let in: it could be the revocation of anybody.
    pub async fn load(view: View, read: Steady) -> Result<Self, BarrierError> {
        let known = Mutex::new(KnownTime { newest: Timestamp::default(), read });
        let revocations = Self { view, revoked: Revoked::unknown(), known };
        revocations.read().await?;
        Ok(revocations)
    }

    /// Whether `session` is revoked: a few look-ups, no lock.
    pub fn covers(&self, session: &Session) -> bool {
        self.revoked.covers(session)
    }

    /// Revokes, durably first. `now` is taken after the change that this follows: see the module.
    ///
    /// # Errors
    /// Nothing is revoked until this has returned `Ok`.
    pub async fn revoke(
        &self,
        which: Which,
        now: Timestamp,
        by: Option<RequestId>,
    ) -> Result<(), RevokeError> {
        let until = now.plus(MAX_LIFETIME).plus(CLOCK_MARGIN);
        self.insert(which, Cutoff { up_to: now, until }, by).await
    }

    /// Revokes one session that is at hand, as a logout does: it is remembered only as long as that one could live.
    ///
    /// # Errors
    /// As [`Revocations::revoke`].
    pub async fn end(
        &self,
        session: &Session,
        now: Timestamp,
        by: Option<RequestId>,
    ) -> Result<(), RevokeError> {
        let until = session.max_expires.plus(CLOCK_MARGIN);
        self.insert(Which::Session(session.id), Cutoff { up_to: now, until }, by).await
    }

    /// What has to be committed for the sessions to end, and what is to be shown once it is. It fails with the batch if
    /// somebody revokes the same meanwhile.
    ///
    /// # Errors
    /// There are too many already, or the store failed.
    pub async fn ending(&self, which: Which, now: Timestamp) -> Result<(SealedChanges, Ending), RevokeError> {
        self.check_room(&which)?;
        let until = now.plus(MAX_LIFETIME).plus(CLOCK_MARGIN);
        let (changes, entry) = self.merged(&which, Cutoff { up_to: now, until }).await?;
        Ok((self.view.seal(changes)?, Ending { which, entry }))
    }

    /// They have ended: it is durable.
    pub fn show(&self, ending: Ending) {
        self.revoked.show(&ending.which, ending.entry);
    }

    /// Forgets what covers no living session any more, and says how many that were. To be called now and then.
    ///
    /// A clock that is ahead is not believed: what it makes forgotten would cover sessions again once the clock is right. So
    /// it counts only as far as something else bears it out: the newest revocation there was at the start and the time that
    /// has passed since, or that everything here has been over for as long as any session lives.
    ///
    /// # Errors
    /// The store; what was forgotten until then stays forgotten.
    pub async fn prune(&self, now: Timestamp, steady: Steady) -> Result<usize, BarrierError> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let up = steady.since(known.read);
        let now = match up < MAX_LIFETIME.saturating_add(CLOCK_MARGIN) {
            true => now.min(known.newest.plus(up)),
            false => now,
        };
        let mut pruned = 0;
        for folder in FOLDERS {
            let mut after = None;
            while let Some(page) = self.page(folder, after.as_ref()).await? {
                let over: Vec<_> = page.found.iter().filter(|found| found.entry.until <= now).collect();
                if self.delete(&over).await? {
                    pruned += over.len();
                }
                after = Some(page.last);
            }
        }
        // Here by their own end, so that what another server deleted goes as well.
        self.revoked.prune(now);
        Ok(pruned)
    }

    /// The newest that the store had when it was read: a time that was once.
    pub fn latest(&self) -> Timestamp {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).newest
    }

    /// How many there are, for a metric.
    pub fn len(&self) -> usize {
        self.revoked.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn insert(&self, which: Which, entry: Cutoff, by: Option<RequestId>) -> Result<(), RevokeError> {
        self.check_room(&which)?;
        let entry = self.store(&which, entry, by).await?;
        self.revoked.show(&which, entry);
        Ok(())
    }

    fn check_room(&self, which: &Which) -> Result<(), RevokeError> {
        let limit = match which {
            Which::Session(_) => MAX_REVOCATIONS,
            Which::Principal(_) | Which::Method(_) | Which::Pod(_) => MAX_REVOCATIONS + RESERVED,
        };
        if self.len() < limit { Ok(()) } else { Err(RevokeError::Full) }
    }

    /// Makes it durable and says what stands there now. Two revocations of the same never lose one another: the record
    /// is written only over what was read, and only ever grows.
    async fn store(
        &self,
        which: &Which,
        entry: Cutoff,
        by: Option<RequestId>,
    ) -> Result<Cutoff, BarrierError> {
        for _ in 0..MAX_TRIES {
            let (changes, merged) = self.merged(which, entry).await?;
            match self.view.commit(Changes { by, ..changes }).await {
                Ok(_) => return Ok(merged),
                Err(BarrierError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(BarrierError::Conflict)
    }

    /// The changes that make it so, and what stands there then.
    async fn merged(&self, which: &Which, entry: Cutoff) -> Result<(Changes, Cutoff), BarrierError> {
        let address = which.address();
        let (condition, merged) = match self.view.get(&address).await? {
            None => (Condition::Absent, entry),
            Some(old) => (Condition::At(old.revision), entry.merge(Cutoff::read(old.content.expose())?)),
        };
        let changes = Changes {
            conditions: vec![(address.clone(), condition)],
            puts: vec![(address, merged.write())],
            urgent: true,
            ..Changes::default()
        };
        Ok((changes, merged))
    }

    /// Everything, also what is over by the clock: it may be the clock that is wrong.
    async fn read(&self) -> Result<(), BarrierError> {
        for folder in FOLDERS {
            let mut after = None;
            while let Some(page) = self.page(folder, after.as_ref()).await? {
                for found in &page.found {
                    self.revoked.show(&found.which, found.entry);
                    let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                    known.newest = known.newest.max(found.entry.up_to);
                }
                after = Some(page.last);
            }
        }
        self.revoked.complete();
        Ok(())
    }

    /// Deletes records that are over, unless one of them is changed meanwhile: then all of them wait for the next time.
    async fn delete(&self, over: &[&StoredRevocation]) -> Result<bool, BarrierError> {
        if over.is_empty() {
            return Ok(false);
        }
        let changes = Changes {
            conditions: over.iter().map(|found| (found.which.address(), found.condition)).collect(),
            deletes: over.iter().map(|found| found.which.address()).collect(),
            urgent: true,
            ..Changes::default()
        };
        match self.view.commit(changes).await {
            Ok(_) => Ok(true),
            Err(BarrierError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next records of a folder; `None` at its end.
    async fn page(&self, folder: &str, after: Option<&Cursor>) -> Result<Option<Page>, BarrierError> {
        let records = self.view.scan(REVOCATION, folder, after, PAGE).await?;
        let Some(last) = records.last().map(|record| record.cursor.clone()) else {
            return Ok(None);
        };
        let mut found = Vec::with_capacity(records.len());
        for record in records {
            found.push(StoredRevocation::read(folder, &record)?);
        }
        Ok(Some(Page { found, last }))
    }
}

/// Two servers never take a revocation from each other: what is told is merged into what is there.
#[async_trait]
impl Derived for Revocations {
    async fn load(&self) -> Result<(), BarrierError> {
        self.read().await
    }

    async fn changed(&self, keys: &[StoreKey]) -> Result<(), BarrierError> {
        for key in keys {
            let Some(folder) = FOLDERS.into_iter().find(|folder| self.view.is_in(REVOCATION, folder, key))
            else {
                continue;
            };
            // One that is gone covers nothing any more, and goes here by its own end.
            if let Some(record) = self.view.find(REVOCATION, key).await? {
                let StoredRevocation { which, entry, .. } = StoredRevocation::read(folder, &record)?;
                self.revoked.show(&which, entry);
            }
        }
        Ok(())
    }

    /// Until it is loaded again everybody is revoked.
    fn forget(&self) {
        self.revoked.forget();
    }
}

struct Page {
    found: Vec<StoredRevocation>,
    last: Cursor,
}

struct StoredRevocation {
    which: Which,
    entry: Cutoff,
    condition: Condition,
}

impl StoredRevocation {
    fn read(folder: &str, record: &Found) -> Result<Self, BarrierError> {
        Ok(Self {
            which: Which::from_record(folder, &record.name).ok_or_else(corrupt)?,
            entry: Cutoff::read(record.entry.content.expose())?,
            condition: Condition::At(record.entry.revision),
        })
    }
}

impl Cutoff {
    fn read(bytes: &[u8]) -> Result<Self, BarrierError> {
        let record = RevocationRecord::decode(bytes).map_err(|_| corrupt())?;
        Ok(Self {
            up_to: Timestamp::from_millis(record.up_to_ms),
            until: Timestamp::from_millis(record.until_ms),
        })
    }

    fn write(self) -> SecretBytes {
        let record = RevocationRecord { up_to_ms: self.up_to.as_millis(), until_ms: self.until.as_millis() };
        SecretBytes::new(record.encode_to_vec())
    }
}

fn corrupt() -> BarrierError {
    BarrierError::Corrupt { kind: REVOCATION, namespace: String::from("sys/tokens") }
}

#[cfg(test)]
#[path = "revocations_tests.rs"]
mod tests;

//! What the store keeps of the audit log. First, how far the log is on the disk, so that an older copy of it is noticed. Second,
//! which requests have changed the store although the log does not hold their outcome durably yet. Each batch
//! carries these in its ledger, so that after a crash the store itself can say of an intent without an outcome whether it
//! was applied: the answer is as atomic as the write.
//!
//! An id enters with the batch that it asked for and leaves once its outcome is durable, so there are never more of them
//! than requests in progress and outcomes that are not on the disk yet. The caller of a request that is in here does not wait
//! for its outcome: whatever becomes of that line, it has its end.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::model::{LogPoint, RequestId};

/// Most ids of a ledger, 48 KiB. Requests in progress are a third of it at most, and so are those that were answered before
/// their outcome was on the disk: an intent waits for all lines before it. With `audit.durability = "os"`, outcomes of up to a
/// second, or a thousand records, are not on the disk yet either.
pub(super) const MAX: usize = 3 * 1024;

/// See the module. There is one for the whole life of a process: a request may outlive the seal that it met.
#[derive(Debug, Default)]
pub struct Applied(Mutex<Sets>);

#[derive(Debug, Default)]
struct Sets {
    /// Applied by this process.
    own: HashSet<RequestId>,
    /// Found in the store at an unseal.
    inherited: HashSet<RequestId>,
    /// The log is on the disk up to there, and no power cut takes that back.
    durable: LogPoint,
}

impl Applied {
    /// The log is on the disk up to there. It holds what became of these requests: nobody will ask for them any more.
    pub fn settle(&self, ids: &[RequestId], durable: LogPoint) {
        let mut sets = self.lock();
        sets.durable = durable;
        for id in ids {
            sets.own.remove(id);
            sets.inherited.remove(id);
        }
    }

    /// These were applied; to be told before anybody else learns of it.
    pub fn add(&self, ids: &[RequestId]) {
        self.lock().own.extend(ids);
    }

    /// Whether the store would say of this request that it was applied, if the log lost its outcome.
    pub fn vouches_for(&self, id: RequestId) -> bool {
        self.lock().own.contains(&id)
    }

    /// Forgets all that an earlier process left, except what is still wanted.
    pub fn keep_inherited(&self, wanted: impl Fn(&RequestId) -> bool) {
        self.lock().inherited.retain(wanted);
    }

    /// What a ledger says is applied.
    pub(super) fn inherit(&self, found: &HashSet<RequestId>) {
        let mut sets = self.lock();
        let Sets { own, inherited, .. } = &mut *sets;
        inherited.extend(found.difference(own));
    }

    /// How far the log is on the disk, as far as we were told.
    pub fn log(&self) -> LogPoint {
        self.lock().durable
    }

    /// The ids for the ledger of a batch that `more` asked for.
    pub(super) fn and(&self, more: &[RequestId]) -> HashSet<RequestId> {
        let sets = self.lock();
        sets.own.iter().chain(&sets.inherited).chain(more).copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Sets> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

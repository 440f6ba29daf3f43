//! A group in the making: batches of several callers that become one. Each is judged against the store and those before
//! it, as if they had come one after the other, and is accepted or refused alone.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::{BarrierError, Records};
use crate::{
    crypto::{Digest, sha256},
    model::RequestId,
    storage::{Batch, Condition, MAX_BATCH_BYTES, MAX_BATCH_OPERATIONS, Record, Revision, StoreKey},
};

/// Most changes of a group; one operation is left for the digest's record.
pub(super) const GROUP_CHANGES: usize = MAX_BATCH_OPERATIONS - 1;
/// Most bytes of values of a group, with room for the digest's record.
pub(super) const GROUP_BYTES: usize = MAX_BATCH_BYTES - (64 << 10);

pub(super) type Reply = oneshot::Sender<Result<Revision, BarrierError>>;

/// A batch that waits for its group.
pub(super) struct Member {
    pub(super) batch: Batch,
    /// The request that asked for it.
    pub(super) by: Option<RequestId>,
    pub(super) reply: Reply,
}

/// A group in the making.
#[derive(Default)]
pub(super) struct Group {
    /// Every key that a member reads or writes.
    pub(super) slots: BTreeMap<StoreKey, Slot>,
    pub(super) accepted: Vec<Reply>,
    /// Requests that the accepted ones belong to.
    pub(super) requests: Vec<RequestId>,
    /// All of them are, or none.
    pub(super) urgent: bool,
    /// Answered after the write, so that who reads again then sees what was in the way.
    pub(super) refused: Vec<(Reply, BarrierError)>,
}

pub(super) struct Slot {
    /// Revision and hash of the value that the store has.
    pub(super) stored: Option<(Revision, Digest)>,
    pub(super) change: Change,
}

pub(super) enum Change {
    None,
    Put(Vec<u8>),
    Delete,
}

impl Group {
    /// Accepts a member, or refuses it alone.
    pub(super) async fn join(&mut self, member: Member, records: &Records) {
        let Member { batch, by, reply } = member;
        match self.judge(&batch, records).await {
            Ok(()) => {
                self.apply(batch);
                self.requests.extend(by);
                self.accepted.push(reply);
            }
            Err(error) => self.refused.push((reply, error)),
        }
    }

    /// Looks at every key of the member and checks its conditions against the store and the members before it.
    async fn judge(&mut self, batch: &Batch, records: &Records) -> Result<(), BarrierError> {
        for (key, condition) in &batch.conditions {
            if !self.slot(key, records).await?.holds(*condition) {
                return Err(BarrierError::Conflict);
            }
        }
        for key in batch.deletes.iter().chain(batch.puts.iter().map(|(key, _)| key)) {
            self.slot(key, records).await?;
        }
        Ok(())
    }

    fn apply(&mut self, batch: Batch) {
        for key in batch.deletes {
            self.change(&key, Change::Delete);
        }
        for (key, value) in batch.puts {
            self.change(&key, Change::Put(value));
        }
    }

    fn change(&mut self, key: &[u8], change: Change) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.change = change;
        }
    }

    async fn slot(&mut self, key: &StoreKey, records: &Records) -> Result<&Slot, BarrierError> {
        if !self.slots.contains_key(key) {
            let stored = records.store.get(key).await?;
            let stored = stored.map(|Record { value, revision }| (revision, sha256(&value)));
            self.slots.insert(key.clone(), Slot { stored, change: Change::None });
        }
        self.slots.get(key).ok_or(BarrierError::Stopped)
    }
}

impl Slot {
    /// A record written earlier in the group has a revision that nobody can know yet, so no `At` fits it.
    fn holds(&self, condition: Condition) -> bool {
        match (&self.change, condition) {
            (Change::None, Condition::Absent) => self.stored.is_none(),
            (Change::None, Condition::At(revision)) => {
                self.stored.is_some_and(|(stored, _)| stored == revision)
            }
            (Change::Delete, Condition::Absent) => true,
            (Change::Put(_), _) | (Change::Delete, Condition::At(_)) => false,
        }
    }
}

/// What a member takes of [`GROUP_CHANGES`]. At least one, so that members that only check do not make an endless group.
pub(super) fn cost(batch: &Batch) -> usize {
    (batch.puts.len() + batch.deletes.len()).max(1)
}

pub(super) fn size(batch: &Batch) -> usize {
    batch.puts.iter().map(|(_, value)| value.len()).sum()
}

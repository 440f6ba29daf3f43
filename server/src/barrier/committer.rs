//! The committer: the one task that writes. It groups what callers want written at the same time, so that they share one
//! wait for the disk, and carries the set digest along. It sees sealed records only.
//!
//! Every batch stands on the digest's record as this committer wrote it last. So a second writer on the same store, a
//! committer of an earlier unseal for example, is noticed at once, and the one that comes late ends.

use std::{
    collections::{BTreeMap, HashSet},
    ops::ControlFlow,
    sync::Arc,
};

use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot, watch,
};

use super::{
    BarrierError, DIGEST, DIGEST_KEY, Records,
    applied::{self, Applied},
    digest::{SetDigest, SetMac},
    scrub::{self, Scrub},
};
use crate::{
    crypto::{CryptoError, Digest, sha256},
    model::RequestId,
    storage::{
        Batch, Condition, MAX_BATCH_BYTES, MAX_BATCH_OPERATIONS, Record, Revision, StoreError, StoreKey,
    },
};

/// Most changes of a group; one operation is left for the digest's record.
const GROUP_CHANGES: usize = MAX_BATCH_OPERATIONS - 1;
/// Most bytes of values of a group, with room for the digest's record.
pub(super) const GROUP_BYTES: usize = MAX_BATCH_BYTES - (64 << 10);

pub(super) type Reply = oneshot::Sender<Result<Revision, BarrierError>>;

/// What can be asked of the committer.
pub(super) enum Message {
    Commit(Member),
    /// Check everything.
    Scrub(scrub::Reply),
    /// End after what came before.
    Stop,
}

/// A batch on its way into a group.
pub(super) struct Member {
    pub(super) batch: Batch,
    /// The request that asked for it.
    pub(super) by: Option<RequestId>,
    pub(super) reply: Reply,
}

/// Where the store stands: enough to notice that it was taken back to an earlier state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestState {
    /// Number of the last batch; 0 before the first.
    pub batch_seq: u64,
    /// Keyed sum over all records after it.
    pub digest: Digest,
}

/// What the digest's record holds: `batch_seq u64 | digest 32 | term u32 | records sealed under it u64 | request ids 16
/// each`. The ids are those of [`Applied`], and not kept in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) state: DigestState,
    term: u32,
    sealed: u64,
    /// Of the digest's record; none before the first batch.
    revision: Option<Revision>,
}

pub(super) struct Committer {
    records: Arc<Records>,
    mac: SetMac,
    applied: Arc<Applied>,
    /// The current ledger. Its end tells that the committer ended.
    ledger: watch::Sender<Ledger>,
    queue: mpsc::Receiver<Message>,
    /// Taken from the queue, but for the next group.
    carried: Option<Message>,
    scrub: Option<Scrub>,
}

/// A group in the making.
#[derive(Default)]
struct Group {
    /// Every key that a member reads or writes.
    slots: BTreeMap<StoreKey, Slot>,
    accepted: Vec<Reply>,
    /// Requests that the accepted ones belong to.
    requests: Vec<RequestId>,
    /// Answered after the write, so that who reads again then sees what was in the way.
    refused: Vec<(Reply, BarrierError)>,
}

struct Slot {
    /// As the store has it.
    stored: Option<(Revision, Digest)>,
    change: Change,
}

enum Change {
    None,
    Put(Vec<u8>),
    Delete,
}

/// How a group changes sums of records.
#[derive(Clone, Copy, Default)]
struct Delta {
    minus: SetDigest,
    plus: SetDigest,
}

impl Committer {
    pub(super) fn new(
        records: Arc<Records>,
        mac: SetMac,
        applied: Arc<Applied>,
        ledger: watch::Sender<Ledger>,
        queue: mpsc::Receiver<Message>,
    ) -> Self {
        Self { records, mac, applied, ledger, queue, carried: None, scrub: None }
    }

    /// Until all handles are dropped, it is told to stop, or a write has an unknown end.
    pub(super) async fn run(mut self) {
        while let ControlFlow::Continue(message) = self.next().await {
            let mut flow = ControlFlow::Continue(());
            match message {
                Some(Message::Commit(member)) => flow = self.group(member).await,
                Some(Message::Scrub(reply)) => self.scrub = Some(Scrub::new(reply)),
                Some(Message::Stop) => self.queue.close(),
                None => {}
            }
            if flow.is_break() {
                return;
            }
            self.scrub_step().await;
        }
    }

    /// The next message; none if a scrub should take a step instead of waiting for one.
    async fn next(&mut self) -> ControlFlow<(), Option<Message>> {
        if let Some(message) = self.carried.take() {
            return ControlFlow::Continue(Some(message));
        }
        if self.scrub.is_none() {
            return self
                .queue
                .recv()
                .await
                .map_or(ControlFlow::Break(()), |message| ControlFlow::Continue(Some(message)));
        }
        match self.queue.try_recv() {
            Ok(message) => ControlFlow::Continue(Some(message)),
            Err(TryRecvError::Empty) => ControlFlow::Continue(None),
            Err(TryRecvError::Disconnected) => ControlFlow::Break(()),
        }
    }

    /// Writes one member and all that wait behind it as far as they fit. Break: nothing can be written any more.
    async fn group(&mut self, first: Member) -> ControlFlow<()> {
        let (mut changes, mut bytes) = (cost(&first.batch), size(&first.batch));
        let mut group = Group::default();
        group.join(first, &self.records).await;
        while let Ok(message) = self.queue.try_recv() {
            match message {
                Message::Commit(next)
                    if changes + cost(&next.batch) <= GROUP_CHANGES
                        && bytes + size(&next.batch) <= GROUP_BYTES =>
                {
                    changes += cost(&next.batch);
                    bytes += size(&next.batch);
                    group.join(next, &self.records).await;
                }
                other => {
                    self.carried = Some(other);
                    break;
                }
            }
        }
        self.write(group).await
    }

    async fn write(&mut self, group: Group) -> ControlFlow<()> {
        let mut flow = ControlFlow::Continue(());
        if !group.accepted.is_empty() {
            let (result, next) = self.write_batch(group.slots, &group.requests).await;
            flow = next;
            for reply in group.accepted {
                // A caller may have gone; the write stands.
                let _gone = reply.send(match &result {
                    Ok(revision) => Ok(*revision),
                    Err(error) => Err(error.clone()),
                });
            }
        }
        for (reply, error) in group.refused {
            let _gone = reply.send(Err(error));
        }
        flow
    }

    /// One batch with the digest's record in it. Break: what the store holds is not known any more.
    async fn write_batch(
        &mut self,
        slots: BTreeMap<StoreKey, Slot>,
        requests: &[RequestId],
    ) -> (Result<Revision, BarrierError>, ControlFlow<()>) {
        let applied = self.applied.and(requests);
        if applied.len() > applied::MAX {
            let refused = BarrierError::TooLarge("too many outcomes are on their way to the audit log");
            return (Err(refused), ControlFlow::Continue(()));
        }
        let (all, passed) = self.deltas(&slots);
        let mut batch = Batch::default();
        for (key, slot) in slots {
            match slot.change {
                Change::None => {}
                Change::Put(value) => batch.puts.push((key, value)),
                Change::Delete => batch.deletes.push(key),
            }
        }
        let ledger = *self.ledger.borrow();
        let mut next = ledger.after(all, self.records.keyring.load().active_term(), batch.puts.len());
        match self.records.seal(DIGEST_KEY, "", &next.encode(&applied)) {
            Ok(record) => batch.puts.push((DIGEST_KEY.to_vec(), record)),
            Err(error) => return (Err(error.into()), ControlFlow::Continue(())),
        }
        batch
            .conditions
            .push((DIGEST_KEY.to_vec(), ledger.revision.map_or(Condition::Absent, Condition::At)));

        match self.records.store.commit(batch).await {
            Ok(revision) => {
                next.revision = Some(revision);
                self.applied.add(requests);
                if let Some(scrub) = &mut self.scrub {
                    scrub.adjust(passed.minus, passed.plus);
                }
                self.ledger.send_replace(next);
                (Ok(revision), ControlFlow::Continue(()))
            }
            Err(error @ (StoreError::ReadOnly(_) | StoreError::TooLarge(_))) => {
                (Err(error.into()), ControlFlow::Continue(()))
            }
            Err(error) => {
                tracing::error!(%error, "the committer ends: the state of the store is not known any more");
                (Err(error.into()), ControlFlow::Break(()))
            }
        }
    }

    /// How the group changes the digest, and the sum that a scrub has so far.
    fn deltas(&self, slots: &BTreeMap<StoreKey, Slot>) -> (Delta, Delta) {
        let (mut all, mut passed) = (Delta::default(), Delta::default());
        for (key, slot) in slots {
            let new = match &slot.change {
                Change::None => continue,
                Change::Put(value) => self.mac.of_value(key, value),
                Change::Delete => SetDigest::default(),
            };
            let old = slot.stored.as_ref().map_or(SetDigest::default(), |(_, hash)| self.mac.of(key, hash));
            all = all.and(old, new);
            if self.scrub.as_ref().is_some_and(|scrub| scrub.has_passed(key)) {
                passed = passed.and(old, new);
            }
        }
        (all, passed)
    }

    /// One page of a scrub, if there is one.
    async fn scrub_step(&mut self) {
        let Some(mut scrub) = self.scrub.take() else { return };
        if scrub.is_abandoned() {
            return;
        }
        match self.records.store.scan(&[], scrub.cursor(), scrub::PAGE).await {
            Err(error) => scrub.fail(error.into()),
            Ok(page) if page.is_empty() => {
                let ledger = *self.ledger.borrow();
                match Ledger::read(&self.records).await {
                    Ok((stored, _)) if stored == ledger => {}
                    _ => scrub
                        .problem(String::from("the record of the set digest is not the one written last")),
                }
                scrub.finish(&ledger);
            }
            Ok(page) => {
                scrub.step(page, &self.records, &self.mac);
                self.scrub = Some(scrub);
                // A store that never waits must not keep others from the processor.
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Group {
    /// Accepts a member, or refuses it alone.
    async fn join(&mut self, member: Member, records: &Records) {
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

impl Delta {
    fn and(self, minus: SetDigest, plus: SetDigest) -> Self {
        Self { minus: self.minus.plus(minus), plus: self.plus.plus(plus) }
    }
}

impl Ledger {
    /// Of a store that is being made: there is no batch yet, but the request that made it is applied.
    pub(super) fn first(term: u32) -> Self {
        Self { state: DigestState::default(), term, sealed: 1, revision: None }
    }

    /// As the store has it. An empty store has none yet; elsewhere a missing one was taken away.
    pub(super) async fn read(records: &Records) -> Result<(Self, HashSet<RequestId>), BarrierError> {
        let corrupt = || BarrierError::Corrupt { kind: DIGEST, namespace: String::from("the store") };
        match records.store.get(DIGEST_KEY).await? {
            Some(Record { value, revision }) => {
                let content = records.open(DIGEST_KEY, &value).map_err(|_| corrupt())?.into_content();
                let (ledger, applied) = Self::decode(content.expose()).map_err(|_| corrupt())?;
                Ok((Self { revision: Some(revision), ..ledger }, applied))
            }
            None if records.store.scan(&[], Some(DIGEST_KEY), 1).await?.is_empty() => {
                let empty = Self { state: DigestState::default(), term: 0, sealed: 0, revision: None };
                Ok((empty, HashSet::new()))
            }
            None => Err(corrupt()),
        }
    }

    /// The same elsewhere.
    pub(super) fn in_state(self, state: DigestState) -> Self {
        Self { state, ..self }
    }

    pub(super) fn digest(&self) -> SetDigest {
        SetDigest::from_bytes(&self.state.digest)
    }

    /// How many records were written under `term`.
    pub(super) fn sealed_under(&self, term: u32) -> u64 {
        if term == self.term { self.sealed } else { 0 }
    }

    /// After one more batch with `puts` records and its own.
    fn after(&self, delta: Delta, term: u32, puts: usize) -> Self {
        let puts = u64::try_from(puts).unwrap_or(u64::MAX).saturating_add(1);
        Self {
            state: DigestState {
                batch_seq: self.state.batch_seq.saturating_add(1),
                digest: self.digest().minus(delta.minus).plus(delta.plus).to_bytes(),
            },
            term,
            sealed: self.sealed_under(term).saturating_add(puts),
            revision: self.revision,
        }
    }

    pub(super) fn encode(&self, applied: &HashSet<RequestId>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + 32 + 4 + 8 + 16 * applied.len());
        bytes.extend_from_slice(&self.state.batch_seq.to_be_bytes());
        bytes.extend_from_slice(&self.state.digest);
        bytes.extend_from_slice(&self.term.to_be_bytes());
        bytes.extend_from_slice(&self.sealed.to_be_bytes());
        applied.iter().for_each(|id| bytes.extend_from_slice(&id.0));
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, HashSet<RequestId>), CryptoError> {
        let (batch_seq, rest) = bytes.split_first_chunk::<8>().ok_or(CryptoError)?;
        let (digest, rest) = rest.split_first_chunk::<32>().ok_or(CryptoError)?;
        let (term, rest) = rest.split_first_chunk::<4>().ok_or(CryptoError)?;
        let (sealed, rest) = rest.split_first_chunk::<8>().ok_or(CryptoError)?;
        let (applied, []) = rest.as_chunks::<16>() else { return Err(CryptoError) };
        let ledger = Self {
            state: DigestState { batch_seq: u64::from_be_bytes(*batch_seq), digest: *digest },
            term: u32::from_be_bytes(*term),
            sealed: u64::from_be_bytes(*sealed),
            revision: None,
        };
        Ok((ledger, applied.iter().copied().map(RequestId).collect()))
    }
}

/// What a member takes of [`GROUP_CHANGES`]. At least one, so that members that only check do not make an endless group.
fn cost(batch: &Batch) -> usize {
    (batch.puts.len() + batch.deletes.len()).max(1)
}

fn size(batch: &Batch) -> usize {
    batch.puts.iter().map(|(_, value)| value.len()).sum()
}

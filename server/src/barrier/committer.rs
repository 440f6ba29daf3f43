//! The committer: the one task that writes. It groups what callers want written at the same time, so that they share one
//! wait for the disk, and carries the set digest along. It sees sealed records only.
//!
//! Every batch stands on the digest's record as this committer wrote it last. So a second writer on the same store, a
//! committer of an earlier unseal for example, is noticed at once, and the one that comes late ends.
//!
//! Before it closes a group it lets others run a few times: those who were woken together, by the record that they waited for,
//! reach the queue one after the other. That changes only which group they are in; each is judged as if it came alone.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    watch,
};

use super::{
    BarrierError, DIGEST_KEY, Records,
    applied::{self, Applied},
    digest::{SetDigest, SetMac},
    group::{Change, GROUP_BYTES, GROUP_CHANGES, Group, Member, Slot, cost, size},
    ledger::{Delta, Ledger},
    scrub::{self, Scrub},
};
use crate::{
    model::RequestId,
    storage::{Batch, Condition, Revision, StoreError, StoreKey},
};

/// How often a group that could be closed is left open for those who are about to come: as often as it takes a request that has
/// its record to seal what it wants written and to hand it over. A round without anybody costs a few microseconds, a batch of its
/// own costs a wait for the disk.
const ROUNDS: usize = 3;

/// What can be asked of the committer.
pub(super) enum Message {
    Commit(Member),
    /// Check everything.
    Scrub(scrub::Reply),
    /// End after what came before.
    Stop,
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
        // An urgent one is never held up by others that there is no room for.
        let urgent = first.batch.urgent;
        let mut group = Group { urgent, ..Group::default() };
        group.join(first, &self.records).await;
        let mut rounds = 0;
        loop {
            match self.queue.try_recv() {
                Ok(Message::Commit(next))
                    if next.batch.urgent == urgent
                        && changes + cost(&next.batch) <= GROUP_CHANGES
                        && bytes + size(&next.batch) <= GROUP_BYTES =>
                {
                    changes += cost(&next.batch);
                    bytes += size(&next.batch);
                    group.join(next, &self.records).await;
                }
                Ok(other) => {
                    self.carried = Some(other);
                    break;
                }
                Err(_) if rounds < ROUNDS => {
                    rounds += 1;
                    tokio::task::yield_now().await;
                }
                Err(_) => break,
            }
        }
        self.write(group).await
    }

    async fn write(&mut self, group: Group) -> ControlFlow<()> {
        let mut flow = ControlFlow::Continue(());
        if !group.accepted.is_empty() {
            let (result, next) = self.write_batch(group.slots, &group.requests, group.urgent).await;
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
        urgent: bool,
    ) -> (Result<Revision, BarrierError>, ControlFlow<()>) {
        let applied = self.applied.and(requests);
        if applied.len() > applied::MAX {
            let refused = BarrierError::TooLarge("too many outcomes wait for the audit log");
            return (Err(refused), ControlFlow::Continue(()));
        }
        let (all, passed) = self.deltas(&slots);
        let mut batch = Batch { urgent, ..Batch::default() };
        for (key, slot) in slots {
            match slot.change {
                Change::None => {}
                Change::Put(value) => batch.puts.push((key, value)),
                Change::Delete => batch.deletes.push(key),
            }
        }
        let ledger = *self.ledger.borrow();
        let term = self.records.keyring.load().active_term();
        let mut next = ledger.after(all, term, batch.puts.len(), self.applied.log());
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
                tracing::error!(%error, "the committer stops: the state of the store is unknown");
                self.records.store.fail(&error);
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

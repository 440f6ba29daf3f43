//! The one thread that writes. Nothing is acknowledged, or visible, before fdatasync has returned; after an I/O error
//! nothing is written any more, because a second fsync may succeed over pages the kernel has already dropped.

use std::{
    collections::HashMap,
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokio::sync::mpsc;

use super::{
    Durable, Hooks, REVISION_KEY, Request, Shared, copies::Copies, decode, encode, fatal, mark::Mark, space,
};
use crate::storage::{Batch, Revision, StoreError};

pub(super) struct WriteThread {
    pub(super) shared: Arc<Shared>,
    /// Our own handle of sled's log: errors of its background fsync, which sled only logs, show here too.
    pub(super) log: File,
    pub(super) mark: Mark,
    pub(super) copies: Copies,
    pub(super) hooks: Hooks,
}

impl WriteThread {
    /// Until every sender is gone, or an I/O error.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(Request { batch, answer }) = requests.blocking_recv() {
            let committed = catch_unwind(AssertUnwindSafe(|| self.commit(&batch)))
                .unwrap_or_else(|_| Err(StoreError::Unknown("sled panicked".into())));
            let unknown = match &committed {
                Err(StoreError::Unknown(reason)) => Some(reason.clone()),
                _ => None,
            };
            if let Some(reason) = &unknown {
                (self.hooks.on_fatal)(reason);
            }
            // Whoever asked may have gone; what is durable is durable.
            let _ = answer.send(committed);
            if unknown.is_some() {
                return;
            }
        }
        if let Err(error) = self.mark.sync() {
            tracing::warn!(%error, "the store's mark may be an earlier one after a power cut");
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<Revision, StoreError> {
        let shared = &self.shared;
        for (key, condition) in &batch.conditions {
            let found = shared.db.get(key).map_err(fatal)?.map(|stored| decode(&stored)).transpose()?;
            if !condition.holds(found.map(|record| record.revision)) {
                return Err(StoreError::Conflict(key.clone()));
            }
        }
        space::writable(&self.hooks, &shared.directory, batch.urgent)?;

        let last = shared.durable.load().revision;
        let revision = Revision(last.0.saturating_add(1));
        let mut before = HashMap::with_capacity(batch.puts.len().saturating_add(batch.deletes.len()));
        for key in batch.puts.iter().map(|(key, _)| key).chain(&batch.deletes) {
            before.insert(key.clone(), shared.db.get(key).map_err(fatal)?);
        }
        shared.publish(Durable { revision: last, before });
        self.write(batch, revision).map_err(StoreError::Unknown)?;
        self.mark.set(revision.0);
        self.copies.follow(batch);
        shared.publish(Durable { revision, before: HashMap::new() });
        Ok(revision)
    }

    fn write(&self, batch: &Batch, revision: Revision) -> Result<(), String> {
        let mut changes = sled::Batch::default();
        for (key, value) in &batch.puts {
            changes.insert(key.as_slice(), encode(revision, value));
        }
        for key in &batch.deletes {
            changes.remove(key.as_slice());
        }
        changes.insert(REVISION_KEY.as_slice(), &revision.0.to_be_bytes());
        let db = &self.shared.db;
        db.apply_batch(changes).map_err(|error| format!("writing failed: {error}"))?;
        // sled's flush writes its log but does not sync it on Linux (it only calls sync_file_range).
        db.flush().map_err(|error| format!("flushing failed: {error}"))?;
        (self.hooks.before_sync)()
            .and_then(|()| self.log.sync_data())
            .map_err(|error| format!("fdatasync failed: {error}"))
    }
}

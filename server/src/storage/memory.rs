//! A store that forgets everything when it is dropped: for tests, and the shortest statement of what the contract means.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{Batch, Page, Record, Revision, Store, StoreError, StoreKey, check};

/// See the module.
#[derive(Default)]
pub struct MemoryStore {
    contents: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    records: BTreeMap<StoreKey, Record>,
    last: u64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The revision of the newest batch; 0 before the first.
    pub fn last_revision(&self) -> Revision {
        Revision(self.contents().last)
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        // Nothing between two changes of a batch can panic, so a poisoned lock still guards whole batches.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        check::key(key)?;
        Ok(self.contents().records.get(key).cloned())
    }

    async fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Page, StoreError> {
        check::bound(prefix)?;
        check::bound(after.unwrap_or_default())?;
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let contents = self.contents();
        let records = contents.records.range::<[u8], _>((start, Bound::Unbounded));
        let matching = records.take_while(|(key, _)| key.starts_with(prefix));
        Ok(matching.take(limit).map(|(key, record)| (key.clone(), record.clone())).collect())
    }

    async fn commit(&self, batch: Batch) -> Result<Revision, StoreError> {
        check::batch(&batch)?;
        let mut contents = self.contents();
        for (key, condition) in &batch.conditions {
            let found = contents.records.get(key).map(|record| record.revision);
            if !condition.holds(found) {
                return Err(StoreError::Conflict(key.clone()));
            }
        }
        contents.last = contents.last.saturating_add(1);
        let revision = Revision(contents.last);
        for key in &batch.deletes {
            contents.records.remove(key);
        }
        for (key, value) in batch.puts {
            contents.records.insert(key, Record { value, revision });
        }
        Ok(revision)
    }

    fn kind(&self) -> &'static str {
        "memory"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::conformance;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn keeps_the_contract() {
        conformance::run(async || MemoryStore::new()).await;
    }
}

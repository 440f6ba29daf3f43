//! The limits of the contract, judged the same way by every store and before anything is touched.

use std::collections::HashSet;

use super::{
    Batch, Condition, MAX_BATCH_BYTES, MAX_BATCH_OPERATIONS, MAX_KEY_BYTES, MAX_VALUE_BYTES, Revision,
    StoreError,
};

/// Most conditions of one batch: a few for every operation, since a batch may also depend on records it does not write.
const MAX_BATCH_CONDITIONS: usize = 4 * MAX_BATCH_OPERATIONS;

/// Whether `key` can be the key of a record. An empty one cannot: etcd refuses it.
pub(super) fn key(key: &[u8]) -> Result<(), StoreError> {
    if key.is_empty() {
        return Err(StoreError::TooLarge("a key is empty"));
    }
    bound(key)
}

/// Whether `key` can be compared with keys of records: a prefix or the place where a scan continues.
pub(super) fn bound(key: &[u8]) -> Result<(), StoreError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(StoreError::TooLarge("a key is too long"));
    }
    Ok(())
}

/// Whether `batch` keeps every limit.
pub(super) fn batch(batch: &Batch) -> Result<(), StoreError> {
    let operations = batch.puts.len().saturating_add(batch.deletes.len());
    if operations > MAX_BATCH_OPERATIONS {
        return Err(StoreError::TooLarge("too many puts and deletes in one batch"));
    }
    if batch.conditions.len() > MAX_BATCH_CONDITIONS {
        return Err(StoreError::TooLarge("too many conditions in one batch"));
    }
    if batch.puts.iter().any(|(_, value)| value.len() > MAX_VALUE_BYTES) {
        return Err(StoreError::TooLarge("a value is too large"));
    }
    if batch.puts.iter().map(|(_, value)| value.len()).sum::<usize>() > MAX_BATCH_BYTES {
        return Err(StoreError::TooLarge("the values of one batch are too large together"));
    }
    for (condition, _) in &batch.conditions {
        key(condition)?;
    }
    let mut changed = HashSet::with_capacity(operations);
    for changing in batch.puts.iter().map(|(key, _)| key).chain(&batch.deletes) {
        key(changing)?;
        if !changed.insert(changing) {
            return Err(StoreError::TooLarge("a key is changed twice in one batch"));
        }
    }
    Ok(())
}

impl Condition {
    /// Whether it holds for a record last written at `found`, or for none.
    pub(super) fn holds(self, found: Option<Revision>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::At(revision) => found == Some(revision),
        }
    }
}

//! A view: the part of the barrier one engine or subsystem can see. Its namespace is hashed into every key, so there is
//! no address with which it could reach anything else.

use std::{fmt, sync::Arc};

use super::{
    Barrier, BarrierError, MAX_PLAINTEXT, RecordKind,
    group::{GROUP_BYTES, GROUP_CHANGES, cost},
    record,
};
use crate::{
    model::{RequestId, SecretBytes},
    storage::{Batch, Condition, Record, Revision, StoreKey},
};

/// Most puts and deletes, and most conditions, of one [`Changes`]: a 1 MiB secret is 18 records, and no single caller may
/// fill a group alone.
const MAX_CHANGES: usize = 100;

/// Where a record is, within a view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    pub kind: RecordKind,
    /// The folder to scan to find it: `apps/payments`, or empty.
    pub folder: Box<str>,
    /// Its name in the folder.
    pub name: Box<str>,
    /// Tells records of one name apart: a version and chunk, or 0. Records of one name scan in this order.
    pub part: u64,
}

/// An opened record.
#[derive(Debug)]
pub struct OpenedRecord {
    pub content: SecretBytes,
    /// When it was written, for conditions.
    pub revision: Revision,
}

/// Changes of one view, sealed: to happen together with those of another.
#[derive(Debug, Default)]
pub struct SealedChanges {
    batch: Batch,
    bytes: usize,
}

/// Changes of one view that happen together or not at all. At most 100 puts and deletes.
#[derive(Debug, Default)]
pub struct Changes {
    pub conditions: Vec<(Address, Condition)>,
    /// Written; at most [`super::MAX_PLAINTEXT`] each, the name included.
    pub puts: Vec<(Address, SecretBytes)>,
    pub deletes: Vec<Address>,
    /// Those of another view that happen with these or not at all.
    pub with: SealedChanges,
    /// They take rights or data away: see [`Batch::urgent`].
    pub urgent: bool,
    /// The request that asked for them, so that the next start knows that it was applied; none: the server's own upkeep.
    pub by: Option<RequestId>,
}

/// One record of a scan.
#[derive(Debug)]
pub struct Found {
    /// Its name in the folder.
    pub name: Box<str>,
    pub part: u64,
    /// Where the next scan continues.
    pub cursor: Cursor,
    pub entry: OpenedRecord,
}

/// A place in a scan; opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub(super) Vec<u8>);

/// See the module.
#[derive(Clone)]
pub struct View {
    barrier: Arc<Barrier>,
    namespace: Arc<str>,
}

impl View {
    pub(super) fn new(barrier: Arc<Barrier>, namespace: &str) -> Self {
        Self { barrier, namespace: namespace.into() }
    }

    /// The record at `address`.
    ///
    /// # Errors
    /// It does not open, or the store cannot be read.
    pub async fn get(&self, address: &Address) -> Result<Option<OpenedRecord>, BarrierError> {
        let records = &self.barrier.records;
        let key = self.key(address);
        let Some(Record { value, revision }) = records.store.get(&key).await? else { return Ok(None) };
        match records.open(&key, &value) {
            Ok(opened) if opened.name() == &*address.name => {
                Ok(Some(OpenedRecord { content: opened.into_content(), revision }))
            }
            _ => Err(self.corrupt(address.kind)),
        }
    }

    /// At most `limit` records of `kind` in `folder`, in the (meaningless but stable) order of their hashed names.
    ///
    /// # Errors
    /// One of them does not open, or the store cannot be read.
    pub async fn scan(
        &self,
        kind: RecordKind,
        folder: &str,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<Found>, BarrierError> {
        let records = &self.barrier.records;
        let prefix = self.prefix(kind, folder);
        let page = records.store.scan(&prefix, after.map(|cursor| &*cursor.0), limit).await?;
        page.into_iter().map(|(key, record)| self.found(kind, key, record)).collect()
    }

    /// Erases all records of `kind` in `folder`, some at a time: after an error or a crash it is done again.
    ///
    /// # Errors
    /// One of them does not open, or the store failed.
    pub async fn erase(&self, kind: RecordKind, folder: &str) -> Result<(), BarrierError> {
        loop {
            let page = self.scan(kind, folder, None, MAX_CHANGES).await?;
            if page.is_empty() {
                return Ok(());
            }
            let address =
                |found: Found| Address { kind, folder: folder.into(), name: found.name, part: found.part };
            let deletes = page.into_iter().map(address).collect();
            self.commit(Changes { deletes, urgent: true, ..Changes::default() }).await?;
        }
    }

    /// Whether `key` is that of a record of `kind` in `folder`.
    pub fn is_in(&self, kind: RecordKind, folder: &str, key: &[u8]) -> bool {
        key.first() == Some(&kind.byte()) && key.starts_with(&self.prefix(kind, folder))
    }

    /// What the keys of all records of `kind` in `folder` begin with, and no others of this store.
    pub fn prefix(&self, kind: RecordKind, folder: &str) -> StoreKey {
        record::folder_prefix(&self.barrier.records.names, &self.namespace, kind, folder)
    }

    /// The record of `kind` under a key of the store, which tells its folder to those only who know it; see
    /// [`View::is_in`].
    ///
    /// # Errors
    /// It does not open, or the store cannot be read.
    pub async fn find(&self, kind: RecordKind, key: &StoreKey) -> Result<Option<Found>, BarrierError> {
        let record = self.barrier.records.store.get(key).await?;
        record.map(|record| self.found(kind, key.clone(), record)).transpose()
    }

    /// Does all of `changes` durably, or nothing. Groups with what others commit at the same time. Of a deleted and a put
    /// record at one address the put is what remains.
    ///
    /// # Errors
    /// A condition does not hold, something is too large, or the store failed. After `Store(Unknown)` and `Stopped` read
    /// again before deciding anything.
    pub async fn commit(&self, changes: Changes) -> Result<Revision, BarrierError> {
        let by = changes.by;
        let SealedChanges { batch, .. } = self.seal(changes)?;
        self.barrier.commit(batch, by).await
    }

    /// Makes `changes` ready to be committed with those of another view, as [`Changes::with`]. Whose request they are is
    /// said there.
    ///
    /// # Errors
    /// Something is too large, or there is no randomness.
    pub fn seal(&self, changes: Changes) -> Result<SealedChanges, BarrierError> {
        if changes.puts.len() + changes.deletes.len() > MAX_CHANGES || changes.conditions.len() > MAX_CHANGES
        {
            return Err(BarrierError::TooLarge("more than 100 changes or conditions"));
        }
        // Sealed here, in the caller's time, so that the one committer is not what everybody waits for.
        let SealedChanges { mut batch, mut bytes } = changes.with;
        batch.urgent |= changes.urgent;
        batch.conditions.extend(changes.conditions.iter().map(|(at, condition)| (self.key(at), *condition)));
        batch.deletes.extend(changes.deletes.iter().map(|address| self.key(address)));
        for (address, content) in &changes.puts {
            if address.name.len() + content.len() > MAX_PLAINTEXT {
                return Err(BarrierError::TooLarge("a record of more than 60 KiB"));
            }
            let key = self.key(address);
            let sealed = self.barrier.records.seal(&key, &address.name, content.expose())?;
            bytes += sealed.len();
            batch.puts.push((key, sealed));
        }
        if bytes > GROUP_BYTES || cost(&batch) > GROUP_CHANGES {
            return Err(BarrierError::TooLarge("more than 1,216 KiB or 255 changes at once"));
        }
        Ok(SealedChanges { batch, bytes })
    }

    fn key(&self, address: &Address) -> StoreKey {
        record::store_key(&self.barrier.records.names, &self.namespace, address)
    }

    fn found(&self, kind: RecordKind, key: StoreKey, record: Record) -> Result<Found, BarrierError> {
        let opened = self.barrier.records.open(&key, &record.value).map_err(|_| self.corrupt(kind))?;
        let part = key.last_chunk::<8>().map(|part| u64::from_be_bytes(*part)).ok_or(self.corrupt(kind))?;
        let name = opened.name().into();
        let entry = OpenedRecord { content: opened.into_content(), revision: record.revision };
        Ok(Found { name, part, cursor: Cursor(key), entry })
    }

    fn corrupt(&self, kind: RecordKind) -> BarrierError {
        BarrierError::Corrupt { kind, namespace: self.namespace.to_string() }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({})", self.namespace)
    }
}

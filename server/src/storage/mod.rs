//! The store contract: a map of opaque keys to sealed bytes, with atomic, durable, conditional batches.
//!
//! It promises no more than sled and etcd can both keep. A store sees ciphertext and hashed names only; it knows nothing
//! of secrets, paths or keys.

use async_trait::async_trait;

mod check;
pub mod conformance;
pub mod fault;
pub mod memory;
pub mod sled;

/// A key of the store: at most [`MAX_KEY_BYTES`].
pub type StoreKey = Vec<u8>;

/// Longest key.
pub const MAX_KEY_BYTES: usize = 128;
/// Largest value: with 8 MiB segments sled never spills such a value into an unsynced blob file.
pub const MAX_VALUE_BYTES: usize = 64 << 10;
/// Most puts and deletes together in one batch. A group of the committer fits into it.
pub const MAX_BATCH_OPERATIONS: usize = 256;
/// Most bytes of all values of one batch (etcd's default request limit is 1.5 MiB).
pub const MAX_BATCH_BYTES: usize = 1_310_720;

/// When a record was last written: the number of the batch that did it. Starts at 1 and only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A stored value and when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub value: Vec<u8>,
    /// The number of the batch that wrote it.
    pub revision: Revision,
}

/// What must be so for a batch to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is no such record.
    Absent,
    /// The record is as it was then.
    At(Revision),
}

/// Changes that happen together or not at all. A key stands at most once among puts and deletes.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// All must hold, judged before any change of this batch.
    pub conditions: Vec<(StoreKey, Condition)>,
    pub puts: Vec<(StoreKey, Vec<u8>)>,
    /// Removed; removing what is not there is fine.
    pub deletes: Vec<StoreKey>,
    /// It takes rights or data away. A store that is too full for others has room for this a while longer, so that whoever
    /// filled it can be shut out.
    pub urgent: bool,
}

/// Why a store could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// A condition did not hold; nothing was changed.
    #[error("a record changed in the meantime")]
    Conflict(StoreKey),
    /// The batch or a key breaks a limit of the contract; nothing was changed.
    #[error("this cannot be stored: {0}")]
    TooLarge(&'static str),
    /// The disk is nearly full; nothing was changed. Reads continue.
    #[error("the store is read-only: {0}")]
    ReadOnly(String),
    /// It may have happened, or not: read again before deciding anything.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(String),
    /// The store cannot continue.
    #[error("the store failed: {0}")]
    Fatal(String),
}

/// What a scan gives: in the order of the keys.
pub type Page = Vec<(StoreKey, Record)>;

/// A durable ordered map. Every implementation passes [`conformance`].
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The record under `key`. Only what is durable is visible.
    async fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError>;

    /// At most `limit` records whose keys start with `prefix` and are greater than `after`, in order.
    async fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Page, StoreError>;

    /// Does all of `batch` or nothing, durably, and says at which revision. Batches are serializable.
    async fn commit(&self, batch: Batch) -> Result<Revision, StoreError>;

    /// Whether it is too full for what is not urgent.
    fn is_full(&self) -> bool {
        false
    }

    /// How the store names itself in messages and metrics: `sled`, `memory`.
    fn kind(&self) -> &'static str;
}

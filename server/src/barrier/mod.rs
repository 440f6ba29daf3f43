//! The barrier: the one place where plaintext becomes ciphertext. Above it everything speaks of names and plaintext,
//! below it there are hashed names and sealed records.

mod applied;
mod assay;
mod committer;
#[cfg(test)]
pub(crate) mod conformance;
mod derived;
mod digest;
mod failed;
mod group;
mod keyring;
mod ledger;
pub mod record;
mod scrub;
mod stored_keyring;
#[cfg(test)]
mod tests;
mod view;

use std::{collections::HashSet, fmt, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

pub use applied::Applied;
pub use assay::{Account, Assay};
pub use derived::Derived;
pub use failed::Failed;
pub use keyring::{Keyring, Purpose};
pub use ledger::{DigestState, commit_of};
pub use scrub::ScrubReport;
pub use stored_keyring::StoredKeyring;
pub use view::{Address, Changes, Cursor, Found, OpenedRecord, SealedChanges, View};

use crate::{
    clock::Clock,
    crypto::{CryptoError, Entropy, Key, MacKey},
    model::{LogPoint, RequestId, StoreId},
    storage::{Batch, Condition, Revision, Store, StoreError, StoreKey},
};
use committer::{Committer, Message};
use failed::Watched;
use group::Member;
use ledger::Ledger;

/// What kind of thing a record is: the first byte of its store key, and part of what its ciphertext is bound to. Whoever
/// keeps such records declares their kind. A number is given once and never used again; `server/tests/tidy.rs` looks for
/// two of the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKind {
    byte: u8,
    name: &'static str,
}

/// How the root key is kept (not sealed: it must be read before anything can be opened).
const SEAL: RecordKind = RecordKind::new(0, "Seal");
/// The keyring, sealed under the root key.
const KEYRING: RecordKind = RecordKind::new(1, "Keyring");
/// Batch number and set digest.
const DIGEST: RecordKind = RecordKind::new(2, "Digest");

impl RecordKind {
    /// A kind with its number, and a name for the log.
    pub const fn new(byte: u8, name: &'static str) -> Self {
        Self { byte, name }
    }

    /// The first byte of its store keys.
    pub const fn byte(self) -> u8 {
        self.byte
    }
}

impl fmt::Debug for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Store key of the record that says how the root key is kept. Written at init, before there is a barrier.
pub const SEAL_KEY: &[u8] = &[SEAL.byte];
/// Store key of the keyring's record, which [`Keyring::seal`] makes. Written at init together with the seal's.
pub const KEYRING_KEY: &[u8] = &[KEYRING.byte];
/// Store key of the batch number and set digest.
pub const DIGEST_KEY: &[u8] = &[DIGEST.byte];

/// Longest plaintext of one record, its name included: with the sealing around it a record stays within the store's 64 KiB.
pub const MAX_PLAINTEXT: usize = 60 << 10;

/// Why something could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BarrierError {
    /// A record did not open: changed, moved, cut or of another store. Never "not found".
    #[error("a stored record of kind {kind:?} in {namespace} does not open: it was changed or moved")]
    Corrupt { kind: RecordKind, namespace: String },
    /// A condition did not hold; nothing was written. Read again and retry.
    #[error("somebody else changed it at the same moment")]
    Conflict,
    /// Too large for a record or a batch.
    #[error("too large for one write: {0}")]
    TooLarge(&'static str),
    /// No randomness, or a key of the wrong size.
    #[error(transparent)]
    Crypto(#[from] crate::crypto::CryptoError),
    /// The committer is gone: the server is stopping or was sealed.
    #[error("the server is stopping")]
    Stopped,
    /// The store refused it or failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for BarrierError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(_) => Self::Conflict,
            StoreError::TooLarge(what) => Self::TooLarge(what),
            other => Self::Store(other),
        }
    }
}

/// Commits that may wait for the committer; more wait outside.
const QUEUE: usize = 1024;

/// An unsealed store. Dropping the last handle ends the committer after what it has been given.
pub struct Barrier {
    records: Arc<Records>,
    clock: Arc<dyn Clock>,
    queue: mpsc::Sender<Message>,
    ledger: watch::Receiver<Ledger>,
    /// Requests whose outcome may be missing in the audit log, as the store had them at the opening.
    applied: HashSet<RequestId>,
    /// Held during a scrub, so that there is one at a time.
    scrubbing: Mutex<()>,
}

/// What sealing and opening needs; shared by the callers and the committer, so that neither holds the other.
struct Records {
    store: Watched,
    store_id: StoreId,
    keyring: ArcSwap<Keyring>,
    names: MacKey,
    entropy: Arc<dyn Entropy>,
}

/// The records a store begins with, beside that of the seal: the keyring, sealed under `root`, and a ledger that says that
/// the request which makes the store was applied.
///
/// # Errors
/// No randomness.
pub fn first_records(
    keyring: &Keyring,
    root: &Key,
    store_id: StoreId,
    by: RequestId,
    entropy: &dyn Entropy,
) -> Result<[(StoreKey, Vec<u8>); 2], CryptoError> {
    let ledger = Ledger::first(keyring.active_term()).encode(&HashSet::from([by]));
    let ledger = record::seal(keyring, store_id, DIGEST_KEY, "", &ledger, entropy)?;
    let keyring = keyring.seal(root, store_id, entropy)?;
    Ok([(KEYRING_KEY.to_vec(), keyring), (DIGEST_KEY.to_vec(), ledger)])
}

impl Barrier {
    /// Opens a store with its keyring and starts the committer. What the store has `applied` is taken over there; that it
    /// `failed` is noted there.
    ///
    /// # Errors
    /// The digest's record does not open, is missing beside other records, or the store cannot be read.
    pub async fn open(
        store: Arc<dyn Store>,
        store_id: StoreId,
        keyring: Keyring,
        entropy: Arc<dyn Entropy>,
        clock: Arc<dyn Clock>,
        applied: Arc<Applied>,
        failed: Arc<Failed>,
    ) -> Result<Arc<Self>, BarrierError> {
        let set_mac = digest::SetMac::new(&keyring);
        let names = MacKey::new(&keyring.purpose(Purpose::Names));
        let keyring = ArcSwap::from_pointee(keyring);
        let store = Watched::new(store, failed);
        let records = Arc::new(Records { store, store_id, keyring, names, entropy });

        let (queue, jobs) = mpsc::channel(QUEUE);
        let (ledger, found) = Ledger::read(&records).await?;
        applied.inherit(&found);
        let (publish, ledger) = watch::channel(ledger);
        let committer = Committer::new(Arc::clone(&records), set_mac, applied, publish, jobs);
        tokio::spawn(committer.run());
        Ok(Arc::new(Self { records, clock, queue, ledger, applied: found, scrubbing: Mutex::new(()) }))
    }

    /// The part of the store that belongs to `namespace`.
    pub fn view(self: &Arc<Self>, namespace: &str) -> View {
        View::new(Arc::clone(self), namespace)
    }

    /// The key for `purpose`; no rotation and no rekey changes it.
    pub fn purpose(&self, purpose: Purpose) -> Key {
        self.records.keyring.load().purpose(purpose)
    }

    /// Number of the last batch and digest of all records after it: what an audit checkpoint signs.
    pub fn state(&self) -> DigestState {
        self.ledger.borrow().state
    }

    /// How far the audit log was when the last batch was written; all zeros if that was before stores kept it.
    pub fn log(&self) -> LogPoint {
        self.ledger.borrow().log
    }

    /// Writes down how far the audit log is, and nothing else.
    ///
    /// # Errors
    /// The write failed.
    pub async fn note_log(&self) -> Result<(), BarrierError> {
        self.commit(Batch::default(), None).await.map(drop)
    }

    /// Whether that request had changed the store when it was opened. Known only of requests whose outcome the audit log
    /// may be missing.
    pub fn was_applied(&self, request: &RequestId) -> bool {
        self.applied.contains(request)
    }

    /// The term that seals new records.
    pub fn active_term(&self) -> u32 {
        self.records.keyring.load().active_term()
    }

    /// Whether the active term is over, by its age or by the number of records.
    pub fn rotation_due(&self) -> bool {
        let keyring = self.records.keyring.load();
        keyring.rotation_due(self.clock.now(), self.ledger.borrow().sealed_under(keyring.active_term()))
    }

    /// Starts a new term and returns its number. What is sealed stays as it is and opens as before.
    ///
    /// # Errors
    /// `root` is not the root key, or the write failed; then the old term continues.
    pub async fn rotate(&self, root: &Key, by: RequestId) -> Result<u32, BarrierError> {
        let (stored, revision) = self.stored_keyring(root).await?;
        let entropy = &*self.records.entropy;
        let rotated = stored.rotate(entropy, self.clock.now())?;
        let record = rotated.seal(root, self.records.store_id, entropy)?;
        let batch = Batch {
            conditions: vec![(KEYRING_KEY.to_vec(), Condition::At(revision))],
            puts: vec![(KEYRING_KEY.to_vec(), record)],
            deletes: Vec::new(),
            urgent: false,
        };
        self.commit(batch, Some(by)).await?;
        // Only now: nothing may be sealed under a term that a crash could forget.
        let term = rotated.active_term();
        self.records.install(rotated);
        Ok(term)
    }

    /// Seals the keyring under `new_root` and stores it in one batch with `seal_record`, which says how that root is kept.
    ///
    /// # Errors
    /// `root` is not the root key, or the write failed; then the old root key stays in use.
    pub async fn rekey(
        &self,
        root: &Key,
        new_root: &Key,
        seal_record: Vec<u8>,
        by: RequestId,
    ) -> Result<(), BarrierError> {
        let (stored, revision) = self.stored_keyring(root).await?;
        let record = stored.seal(new_root, self.records.store_id, &*self.records.entropy)?;
        let batch = Batch {
            conditions: vec![(KEYRING_KEY.to_vec(), Condition::At(revision))],
            puts: vec![(KEYRING_KEY.to_vec(), record), (SEAL_KEY.to_vec(), seal_record)],
            deletes: Vec::new(),
            urgent: false,
        };
        self.commit(batch, Some(by)).await.map(drop)
    }

    /// Reads every record of the store and compares them with the set digest, while writes continue.
    ///
    /// # Errors
    /// The store cannot be read, or the committer ended.
    pub async fn scrub(&self) -> Result<ScrubReport, BarrierError> {
        let _one = self.scrubbing.lock().await;
        let (reply, report) = oneshot::channel();
        self.queue.send(Message::Scrub(reply)).await.map_err(|_| BarrierError::Stopped)?;
        report.await.map_err(|_| BarrierError::Stopped)?
    }

    /// Ends the committer after what it has been given; returns when it is done.
    pub async fn stop(&self) {
        // A committer that is gone already is as good.
        let _gone = self.queue.send(Message::Stop).await;
        let mut ledger = self.ledger.clone();
        while ledger.changed().await.is_ok() {}
    }

    /// Hands a sealed batch to the committer. Once it is queued it happens, whether or not the caller waits.
    async fn commit(&self, batch: Batch, by: Option<RequestId>) -> Result<Revision, BarrierError> {
        let (reply, done) = oneshot::channel();
        self.queue
            .send(Message::Commit(Member { batch, by, reply }))
            .await
            .map_err(|_| BarrierError::Stopped)?;
        done.await.map_err(|_| BarrierError::Stopped)?
    }

    /// The keyring as it is stored, and proof that `root` is the root key. Sealing it under a wrong one would be the end
    /// of the store.
    async fn stored_keyring(&self, root: &Key) -> Result<(Keyring, Revision), BarrierError> {
        let record = self.records.store.get(KEYRING_KEY).await?.ok_or(CryptoError)?;
        Ok((Keyring::open(root, self.records.store_id, &record.value)?, record.revision))
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Barrier({}, {:?})", self.records.store_id, self.records.keyring.load())
    }
}

impl Records {
    fn seal(&self, key: &[u8], name: &str, content: &[u8]) -> Result<Vec<u8>, CryptoError> {
        record::seal(&self.keyring.load(), self.store_id, key, name, content, &*self.entropy)
    }

    fn open(&self, key: &[u8], sealed: &[u8]) -> Result<record::Plaintext, CryptoError> {
        record::open(&self.keyring.load(), self.store_id, key, sealed)
    }

    /// Two rotations may end in any order; the newer keyring holds all terms of the older one.
    fn install(&self, rotated: Keyring) {
        let rotated = Arc::new(rotated);
        self.keyring.rcu(|current| {
            let newer = rotated.active_term() > current.active_term();
            Arc::clone(if newer { &rotated } else { current })
        });
    }
}

//! The embedded store: sled 0.34.7, made safe. sled alone does not sync its log on Linux, can leave a directory that does
//! not open after a power cut or a container stop, and only logs a failed fsync; what stands in this folder is there
//! because of that. One tree, no subscribers, no merge operators, no transactions: only the paths that were cut-tested.
//!
//! A value is stored as its revision (8 bytes, big-endian) and then its bytes.

mod commit;
mod copies;
mod directory;
mod log;
mod mark;
mod open;
mod space;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

pub use self::{
    directory::OpenError,
    log::{Damage, Gap, Place, Remains, Wreck},
};
use super::{Batch, MAX_KEY_BYTES, Page, Record, Revision, Store, StoreError, StoreKey, check};

/// Where the newest revision is kept. Longer than any key may be, so no record can have it.
const REVISION_KEY: [u8; MAX_KEY_BYTES + 1] = [0xff; MAX_KEY_BYTES + 1];

/// Scans that a commit overtakes this often make commits wait for them.
const SCAN_ATTEMPTS: usize = 4;

/// Larger scans leave the runtime's threads: this many records are read in well under a millisecond from the cache.
const SCAN_INLINE: usize = 256;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct SledOptions {
    /// Where it lives; made if missing.
    pub directory: PathBuf,
    /// Of sled's page cache.
    pub cache_bytes: u64,
    /// Open even on NFS, SMB, FUSE and the like, whose fsync may promise less.
    pub allow_unsafe_filesystem: bool,
    /// Size of the ballast file that a full disk can be opened with. 16 MiB is a good one.
    pub reserve_bytes: u64,
    /// A commit that is known to have been acknowledged, 0 for none. A store that would be opened without it, by cutting
    /// its log, is not opened; a new store goes on behind it.
    pub at_least: Revision,
    /// Records without which no other one opens: copies of them are kept beside the log.
    pub copied: Vec<StoreKey>,
}

/// Says how many bytes of a directory's file system are free, and how many there are.
pub type SpaceProbe = dyn Fn(&Path) -> io::Result<(u64, u64)> + Send + Sync;

/// What a test can watch and break.
pub struct Hooks {
    /// An I/O error after which nothing can be promised. Ends the process, unless a test looks.
    pub on_fatal: Box<dyn Fn(&str) + Send + Sync>,
    /// Between applying a batch and syncing it. An error counts as one of fdatasync.
    pub before_sync: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
    /// How full the disk is.
    pub space: Box<SpaceProbe>,
}

/// See the module.
pub struct SledStore {
    shared: Arc<Shared>,
    /// `None` only while dropping: closing it ends the committer.
    requests: Option<mpsc::Sender<Request>>,
    committer: Option<JoinHandle<()>>,
    /// Held, not read. Last, so that it is given up after sled is closed.
    _lock: File,
}

struct Request {
    batch: Batch,
    answer: oneshot::Sender<Result<Revision, StoreError>>,
}

struct Shared {
    db: sled::Db,
    durable: ArcSwap<Durable>,
    /// Held while `durable` is replaced, and by a scan that commits keep overtaking.
    gate: Mutex<()>,
    directory: PathBuf,
}

/// What readers may see: the tree, except that these keys are still as they were.
struct Durable {
    /// Of the newest durable batch.
    revision: Revision,
    /// What the keys of the batch in flight held before it (`None`: nothing).
    before: HashMap<StoreKey, Option<sled::IVec>>,
}

impl SledStore {
    /// The revision of the newest durable batch; 0 before the first.
    pub fn last_revision(&self) -> Revision {
        self.shared.durable.load().revision
    }

    /// Whether sled has kept every value in its log. It never syncs the files it would otherwise put them into.
    ///
    /// # Errors
    /// It has not, or the folder cannot be read.
    pub fn check_blobs(&self) -> Result<(), StoreError> {
        let blobs = self.shared.directory.join("blobs");
        let mut entries = std::fs::read_dir(&blobs).map_err(|error| StoreError::Fatal(error.to_string()))?;
        match entries.next() {
            None => Ok(()),
            Some(_) => {
                Err(StoreError::Fatal(format!("{} is not empty: its files are not durable", blobs.display())))
            }
        }
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(committer) = self.committer.take() {
            // It finishes what is queued; a panic of it was already fatal.
            let _ = committer.join();
        }
    }
}

#[async_trait]
impl Store for SledStore {
    // sled reads synchronously. From the cache that takes microseconds, from the disk one page: less than a hand-over to
    // a blocking thread and back would cost.
    async fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        check::key(key)?;
        self.shared.get(key)
    }

    async fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Page, StoreError> {
        check::bound(prefix)?;
        check::bound(after.unwrap_or_default())?;
        if limit <= SCAN_INLINE {
            return self.shared.scan(prefix, after, limit);
        }
        let (shared, prefix, after) = (Arc::clone(&self.shared), prefix.to_vec(), after.map(<[u8]>::to_vec));
        let scanning = tokio::task::spawn_blocking(move || shared.scan(&prefix, after.as_deref(), limit));
        scanning.await.map_err(|error| StoreError::Fatal(error.to_string()))?
    }

    async fn commit(&self, batch: Batch) -> Result<Revision, StoreError> {
        check::batch(&batch)?;
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(stopped)?;
        requests.send(Request { batch, answer }).await.map_err(|_| stopped())?;
        // Taken by the committer, it goes on even if this future is dropped; if the committer dies, nobody knows.
        answered.await.map_err(|_| StoreError::Unknown("the committer ended".into()))?
    }

    fn is_full(&self) -> bool {
        space::of(&self.shared.directory).is_ok_and(space::is_full)
    }

    fn kind(&self) -> &'static str {
        "sled"
    }
}

impl Shared {
    /// The tree FIRST, then what is in flight. Were it the other way round, a batch could begin in between and be seen
    /// before it is durable. This way, a value of a batch that was read from the tree was in flight before the read, so
    /// now either it still is, and the value before it is there to be taken, or it has become durable. If a later batch is
    /// in flight by now, the earlier one is durable, and what the later one found is durable too.
    fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        let stored = self.db.get(key).map_err(fatal)?;
        let durable = self.durable.load();
        let visible = durable.before.get(key).unwrap_or(&stored);
        visible.as_ref().map(|stored| decode(stored)).transpose()
    }

    /// A scan reads many pages, so it must see the same thing in flight before and after: then no batch began or ended
    /// in between, and the tree differs from what is durable only in the keys that are overlaid.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Page, StoreError> {
        for _ in 0..SCAN_ATTEMPTS {
            let durable = self.durable.load_full();
            let page = self.overlaid(&durable, prefix, after, limit)?;
            if Arc::ptr_eq(&durable, &self.durable.load()) {
                return Ok(page);
            }
        }
        let _no_batch_begins_or_ends = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.overlaid(&self.durable.load_full(), prefix, after, limit)
    }

    fn overlaid(
        &self,
        durable: &Durable,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        // The overlay takes away at most as many records as it has keys, so what remains still fills the page.
        let enough = limit.saturating_add(durable.before.len());
        let mut found = BTreeMap::new();
        for entry in self.db.range::<&[u8], _>((start, Bound::Unbounded)).take(enough) {
            // Ends at the first error: sled would repeat it for ever.
            let (key, stored) = entry.map_err(fatal)?;
            if !key.starts_with(prefix) || *key == REVISION_KEY {
                break;
            }
            found.insert(key.to_vec(), stored);
        }
        let in_range = |key: &[u8]| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        for (key, before) in durable.before.iter().filter(|(key, _)| in_range(key)) {
            match before {
                Some(stored) => found.insert(key.clone(), stored.clone()),
                None => found.remove(key),
            };
        }
        found.into_iter().take(limit).map(|(key, stored)| Ok((key, decode(&stored)?))).collect()
    }

    fn publish(&self, durable: Durable) {
        let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.durable.store(Arc::new(durable));
    }
}

fn decode(stored: &[u8]) -> Result<Record, StoreError> {
    let (revision, value) = stored
        .split_first_chunk::<8>()
        .ok_or_else(|| StoreError::Fatal("a stored record is too short: the database is damaged".into()))?;
    Ok(Record { value: value.to_vec(), revision: Revision(u64::from_be_bytes(*revision)) })
}

fn encode(revision: Revision, value: &[u8]) -> Vec<u8> {
    [&revision.0.to_be_bytes(), value].concat()
}

fn fatal(error: sled::Error) -> StoreError {
    StoreError::Fatal(error.to_string())
}

fn stopped() -> StoreError {
    StoreError::Fatal("the committer has ended".into())
}

//! `strongroom-server salvage`: what is intact of a store that cannot be opened, into a new one. The damaged files are only
//! read. Every record is opened before it counts, and at the end digest and audit log say whether these are all.

mod keys;
mod loss;
mod report;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use keys::{KeysError, Shares};
pub use report::Report;

use crate::{
    audit::Glance,
    barrier::{Account, Assay, BarrierError, DIGEST_KEY, DigestState, KEYRING_KEY, SEAL_KEY, commit_of},
    crypto::{CryptoError, Entropy},
    seal::Seals,
    storage::{
        Batch, MAX_BATCH_BYTES, MAX_BATCH_OPERATIONS, Record, Revision, Store, StoreError, StoreKey,
        sled::{OpenError, Place, Remains, SledOptions, SledStore, Wreck},
    },
};

/// Records of a page when the new store is read back.
const PAGE: usize = 256;

/// What to do.
pub struct Order<'a> {
    /// The damaged store.
    pub from: &'a Path,
    /// Its audit log.
    pub audit: &'a Path,
    /// The new store: how to open it. Its directory must be empty or missing.
    pub into: SledOptions,
    pub seals: Seals,
    pub shares: Shares,
}

/// Why nothing could be salvaged.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The new store would be mixed with something.
    #[error("{} is not empty: name a directory that is empty or does not exist yet", .0.display())]
    NotEmpty(PathBuf),
    /// The damaged store.
    #[error("reading the damaged store in {path}: {1}", path = .0.display())]
    Wreck(PathBuf, io::Error),
    /// The audit log.
    #[error("reading the audit log in {path}: {1}", path = .0.display())]
    Log(PathBuf, io::Error),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// No randomness, or a key of the wrong size.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
    /// The new store.
    #[error("making the new store: {0}")]
    Open(#[from] OpenError),
    /// Writing to it.
    #[error("writing the new store: {0}")]
    Store(#[from] StoreError),
    /// It does not hold what was written.
    #[error("the new store does not hold what was written to it: look at its disk")]
    NotReadBack,
}

impl From<CryptoError> for SalvageError {
    fn from(error: CryptoError) -> Self {
        Self::Barrier(error.into())
    }
}

/// What was found and is to be written.
struct Found<'a> {
    wreck: &'a Wreck,
    assay: &'a Assay,
    remains: &'a Remains,
}

/// Brings back what is intact.
///
/// # Errors
/// See [`SalvageError`]. The damaged store is as it was in any case.
pub async fn run(order: Order<'_>, entropy: &dyn Entropy) -> Result<Report, SalvageError> {
    let into = order.into.directory.clone();
    if into.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(SalvageError::NotEmpty(into));
    }
    let unread = |error| SalvageError::Wreck(order.from.to_owned(), error);
    let log = Glance::at(order.audit).map_err(|error| SalvageError::Log(order.audit.to_owned(), error))?;
    let told = log.checkpoint.as_ref();
    let told = told.map_or(Revision(0), |checkpoint| commit_of(checkpoint.state.batch_seq));
    let wreck = Wreck::open(order.from, told).map_err(unread)?;

    let first = wreck.remains(|_, _| true).map_err(unread)?;
    let candidates = |key| versions(&wreck, &first, key).map_err(unread);
    let keys = keys::find(&candidates(SEAL_KEY)?, &candidates(KEYRING_KEY)?, &order.seals, &order.shares)?;
    let assay = Assay::new(keys.keyring, keys.store_id);

    let fits = |key: &[u8], value: &[u8]| match key {
        SEAL_KEY | KEYRING_KEY => true,
        _ => assay.opens(key, value),
    };
    let mut remains = wreck.remains(fits).map_err(unread)?;
    let damaged = sift(&wreck, &mut remains, &assay).map_err(unread)?;
    let found = Found { wreck: &wreck, assay: &assay, remains: &remains };

    let accounts = loss::accounts(&found).map_err(unread)?;
    let digest = assay.digest(found.records()).map_err(unread)?;
    // A log that somebody else signed, or changed, says nothing of this store.
    let key = assay.audit_key()?;
    let believed = log.checkpoint.as_ref().filter(|checkpoint| checkpoint.verify(&key).is_ok());
    let believed = believed.map(|checkpoint| DigestState {
        batch_seq: checkpoint.state.batch_seq,
        digest: checkpoint.state.set_digest,
    });
    let newest = accounts.last();
    let complete = loss::complete(digest, newest, believed, wreck.acknowledged());
    let lost = if complete.is_some() { Vec::new() } else { loss::names(&wreck, &accounts, &log) };

    // What is not all of it is never taken for the state that the log attests: who starts on it has to say so.
    let state = complete.unwrap_or_else(|| DigestState {
        batch_seq: match (believed, newest) {
            (Some(state), _) => state.batch_seq.saturating_sub(1),
            (None, Some(newest)) => newest.account.state.batch_seq,
            (None, None) => 0,
        },
        digest,
    });
    let account: Option<&Account> = newest.map(|newest| &newest.account);
    let special = [
        (SEAL_KEY.to_vec(), keys.seal),
        (KEYRING_KEY.to_vec(), keys.sealed_keyring),
        (DIGEST_KEY.to_vec(), assay.seal_state(account, state, entropy)?),
    ];
    let options = SledOptions { at_least: wreck.last(), ..order.into };
    write(options, special, &found).await?;
    let report = Report {
        from: order.from.to_owned(),
        into,
        damage: wreck.damage(),
        gaps: wreck.gaps(),
        records: found.count(),
        damaged_records: damaged,
        homeless: remains.homeless,
        complete: complete.map(|state| state.batch_seq),
        batch_seq: newest.map(|newest| newest.account.state.batch_seq),
        log: believed.map(|state| state.batch_seq),
        log_unreadable: log.unreadable,
        forgotten: wreck.has_forgotten(),
        lost,
    };
    Ok(report)
}

/// Every value a key ever had, the newest first. The copy beside the log comes last: it may be one change behind.
fn versions(wreck: &Wreck, remains: &Remains, key: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let places = remains.history.get(key).into_iter().flatten().rev();
    let mut values = places.map(|place| Ok(wreck.record(*place)?.value)).collect::<io::Result<Vec<_>>>()?;
    values.extend(wreck.copy(key));
    values.dedup();
    Ok(values)
}

/// Takes out what does not open; how many there were.
fn sift(wreck: &Wreck, remains: &mut Remains, assay: &Assay) -> io::Result<u64> {
    let mut broken: Vec<StoreKey> = Vec::new();
    for (key, place) in &remains.records {
        if is_special(key) {
            continue;
        }
        if !assay.opens(key, &wreck.record(*place)?.value) {
            broken.push(key.clone());
        }
    }
    for key in &broken {
        remains.records.remove(key);
    }
    Ok(broken.len() as u64)
}

/// Of those the new store has its own.
fn is_special(key: &[u8]) -> bool {
    [SEAL_KEY, KEYRING_KEY, DIGEST_KEY].contains(&key)
}

impl Found<'_> {
    fn places(&self) -> impl Iterator<Item = (&StoreKey, &Place)> {
        self.remains.records.iter().filter(|(key, _)| !is_special(key))
    }

    fn count(&self) -> u64 {
        self.places().count() as u64
    }

    fn records(&self) -> impl Iterator<Item = io::Result<(StoreKey, Vec<u8>)>> {
        self.places().map(|(key, place)| Ok((key.clone(), self.wreck.record(*place)?.value)))
    }
}

/// Writes the new store and reads it back.
async fn write(
    options: SledOptions,
    special: [(StoreKey, Vec<u8>); 3],
    found: &Found<'_>,
) -> Result<(), SalvageError> {
    let unread = |error: io::Error| StoreError::Fatal(error.to_string());
    let store = SledStore::open(options)?;
    let (mut batch, mut bytes) = (Batch::default(), 0);
    // The seal comes last: a store without one is not begun, so a salvage that was cut off cannot be mistaken for a store.
    for record in found.records().chain(special.into_iter().rev().map(Ok)) {
        let (key, value) = record.map_err(unread)?;
        if batch.puts.len() == MAX_BATCH_OPERATIONS || bytes + value.len() > MAX_BATCH_BYTES {
            store.commit(std::mem::take(&mut batch)).await?;
            bytes = 0;
        }
        bytes += value.len();
        batch.puts.push((key, value));
    }
    store.commit(batch).await?;

    let (mut after, mut expected): (Option<StoreKey>, _) = (None, found.places());
    loop {
        let page = store.scan(&[], after.as_deref(), PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (key, Record { value, .. }) in page.iter().filter(|(key, _)| !is_special(key)) {
            let same = match expected.next() {
                Some((wanted, place)) if wanted == key => {
                    found.wreck.record(*place).map_err(unread)?.value == *value
                }
                _ => false,
            };
            if !same {
                return Err(SalvageError::NotReadBack);
            }
        }
    }
    if expected.next().is_some() { Err(SalvageError::NotReadBack) } else { Ok(()) }
}

//! How the root key is kept while the server is down: wrapped under a seal key that people hold in shares, or that a
//! file holds. A seal knows nothing of the keyring or of what the root key opens.

mod file;
mod progress;
mod record;
mod shamir;
mod share;

pub use file::{FileSeal, FileSealError};
pub use progress::{PARTIAL_SHARES_LIVE, Progress, Step};
pub use record::{MalformedRecord, SealRecord};
pub use share::{SetId, Share};

use crate::{
    crypto::{self, CryptoError, Entropy, Key},
    model::{Invalid, SecretBytes, StoreId},
};

/// Binds what a seal key wraps to this purpose.
const LABEL: &str = "strongroom seal v1";
/// Most shares needed: more people than that do not come together at three in the morning.
pub const MAX_THRESHOLD: u8 = 10;
/// How often all new shares are tried in random groups before they are given out.
const PROOF_ROUNDS: usize = 3;

/// A way to keep the root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// In status, configuration and documentation.
    pub name: &'static str,
    pub description: &'static str,
    /// In a stored record; given once and never used again.
    pub number: u32,
}

/// Shares that people hold.
pub const SHAMIR: Kind =
    Kind { name: "shamir", description: "shares held by people; a threshold of them unseals", number: 1 };
/// A file the server reads by itself.
pub const FILE: Kind =
    Kind { name: "file", description: "a key file; the server unseals by itself", number: 2 };

/// All kinds. A new seal is a file beside this one and a line here.
pub const KINDS: &[Kind] = &[SHAMIR, FILE];

/// The seal to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealConfig {
    /// Any `threshold` of `shares` open it.
    Shamir {
        /// 1 to 255.
        shares: u8,
        /// 1 to 10, at most `shares`.
        threshold: u8,
    },
    /// The key file named in the server's configuration.
    File,
}

/// Why a seal could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Not a possible configuration.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A file seal without a file.
    #[error("no key file is configured: set seal.key_file")]
    NoKeyFile,
    /// The record names another kind of seal.
    #[error("the store is sealed with {0}, not with a key file")]
    OtherKind(&'static str),
    #[error(transparent)]
    File(#[from] FileSealError),
    /// The seal key is not the one that wrapped the root key.
    #[error("the key file is not the one this store was sealed with")]
    WrongKey,
    /// The proof before use failed; nothing was changed.
    #[error("the new seal does not open what it sealed; nothing was changed")]
    ProofFailed,
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// Why a share is refused. Says which mistake it was, never anything of the share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareRejected {
    /// Something else.
    #[error("this is not a share; a share starts with srs1-")]
    NotAShare,
    /// Of a later format.
    #[error("the share has a format that this server does not know")]
    Version,
    /// A character is wrong or missing.
    #[error("the share is mistyped: its check sum does not fit")]
    Mistyped,
    /// Of another store, or from before a rekey.
    #[error("the share belongs to another store or to a set that was replaced by a rekey")]
    ForeignSet,
    /// Right set, other threshold: not made by us.
    #[error("the share names another threshold than this store's seal")]
    WrongThreshold,
    #[error("this share was given already; another one is needed")]
    Duplicate,
    /// Enough shares, and they do not open the root key. All were forgotten.
    #[error("the shares do not open the root key: at least one is wrong; all were forgotten, start over")]
    WrongCombination,
    /// Not enough in one request.
    #[error("{given} shares were given, {threshold} are needed")]
    TooFew {
        /// In the request.
        given: usize,
        threshold: u8,
    },
    /// The store needs no shares.
    #[error("this store is not sealed with shares")]
    NotShamir,
}

impl SealConfig {
    /// Which kind it is.
    pub fn kind(self) -> Kind {
        match self {
            SealConfig::Shamir { .. } => SHAMIR,
            SealConfig::File => FILE,
        }
    }

    /// # Errors
    /// Shares or threshold out of range.
    pub fn validate(self) -> Result<(), Invalid> {
        let SealConfig::Shamir { shares, threshold } = self else { return Ok(()) };
        if shares == 0 {
            return Err(Invalid::new("seal.shamir.shares", "is 0; expected 1 to 255"));
        }
        if !(1..=MAX_THRESHOLD.min(shares)).contains(&threshold) {
            let most = MAX_THRESHOLD.min(shares);
            return Err(Invalid::new(
                "seal.shamir.threshold",
                format!(
                    "is {threshold}; expected 1 to {most} (at most {MAX_THRESHOLD}, and no more than shares)"
                ),
            ));
        }
        Ok(())
    }
}

/// Seals `root` anew and proves that it opens again before anything is given out, so that a switch to the new record
/// can lose nothing.
///
/// # Errors
/// See [`SealError`]; nothing was changed but that a missing key file may have been created.
pub fn create(
    config: SealConfig,
    root: &Key,
    store: StoreId,
    file: Option<&FileSeal>,
    entropy: &dyn Entropy,
) -> Result<(SealRecord, Vec<Share>), SealError> {
    config.validate()?;
    let mut set = SetId::default();
    entropy.fill(&mut set)?;
    let kind = config.kind();
    match config {
        SealConfig::Shamir { shares, threshold } => {
            let key = Key::random(entropy)?;
            let wrapped = crypto::seal(&key, LABEL, &store.0, root.expose(), entropy)?;
            let record = SealRecord { kind, shares, threshold, set, store, wrapped };
            let mut shares: Vec<Share> = shamir::split(key.expose(), shares, threshold, entropy)?
                .into_iter()
                .map(|point| Share { set, threshold, point })
                .collect();
            prove_shares(&record, &mut shares, root, entropy)?;
            Ok((record, shares))
        }
        SealConfig::File => {
            let file = file.ok_or(SealError::NoKeyFile)?;
            let key = file.read_or_create(entropy)?;
            let wrapped = crypto::seal(&key, LABEL, &store.0, root.expose(), entropy)?;
            let record = SealRecord { kind, shares: 0, threshold: 0, set, store, wrapped };
            prove(&open_with_file(&record, file)?, root)?;
            Ok((record, Vec::new()))
        }
    }
}

/// The root key, from shares given at once: what rekey asks for.
///
/// # Errors
/// The first share that is refused, or that they do not open it.
pub fn open_with_shares(record: &SealRecord, shares: &[SecretBytes]) -> Result<Key, ShareRejected> {
    if record.kind != SHAMIR {
        return Err(ShareRejected::NotShamir);
    }
    let mut accepted: Vec<Share> = Vec::new();
    // No set has more than 255 shares; a 256th is a duplicate in any case.
    for text in shares.iter().take(256) {
        let share = accept(text, record, &accepted)?;
        accepted.push(share);
    }
    if accepted.len() < usize::from(record.threshold) {
        return Err(ShareRejected::TooFew { given: accepted.len(), threshold: record.threshold });
    }
    unwrap(record, &accepted).map_err(|_| ShareRejected::WrongCombination)
}

/// The root key, with the key file.
///
/// # Errors
/// See [`SealError`].
pub fn open_with_file(record: &SealRecord, file: &FileSeal) -> Result<Key, SealError> {
    if record.kind != FILE {
        return Err(SealError::OtherKind(record.kind.name));
    }
    let root = crypto::open(&file.read()?, LABEL, &record.store.0, &record.wrapped)
        .map_err(|_| SealError::WrongKey)?;
    Key::from_slice(root.expose()).map_err(|_| SealError::WrongKey)
}

/// Judges one share by itself and against those before it.
fn accept(text: &SecretBytes, record: &SealRecord, before: &[Share]) -> Result<Share, ShareRejected> {
    let share = Share::parse(text)?;
    if share.set != record.set {
        return Err(ShareRejected::ForeignSet);
    }
    if share.threshold != record.threshold {
        return Err(ShareRejected::WrongThreshold);
    }
    if before.iter().any(|other| other.point.x == share.point.x) {
        return Err(ShareRejected::Duplicate);
    }
    Ok(share)
}

fn unwrap(record: &SealRecord, shares: &[Share]) -> Result<Key, CryptoError> {
    let points: Vec<_> = shares.iter().map(|share| &share.point).collect();
    let key = Key::from_bytes(&shamir::combine(&points));
    let root = crypto::open(&key, LABEL, &record.store.0, &record.wrapped)?;
    Key::from_slice(root.expose())
}

/// Tries every share at least once a round, in random groups of exactly the threshold.
fn prove_shares(
    record: &SealRecord,
    shares: &mut [Share],
    root: &Key,
    entropy: &dyn Entropy,
) -> Result<(), SealError> {
    let group = usize::from(record.threshold);
    for _ in 0..PROOF_ROUNDS {
        shamir::shuffle(shares, entropy)?;
        let last = shares.get(shares.len().saturating_sub(group)..).unwrap_or_default();
        for chosen in shares.chunks_exact(group).chain([last]) {
            prove(&unwrap(record, chosen).map_err(|_| SealError::ProofFailed)?, root)?;
        }
    }
    Ok(())
}

fn prove(opened: &Key, root: &Key) -> Result<(), SealError> {
    use subtle::ConstantTimeEq;
    if bool::from(opened.expose().ct_eq(root.expose())) { Ok(()) } else { Err(SealError::ProofFailed) }
}

#[cfg(test)]
mod tests;

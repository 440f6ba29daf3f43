//! How the root key is kept while the server is down: wrapped under a seal key that people hold in shares, or that the
//! server gets by itself. A seal knows nothing of the keyring or of what the root key opens.

mod by_file;
mod by_shares;
mod file;
mod progress;
mod record;
mod shamir;
mod share;

pub use file::{FileSeal, FileSealError, inspect};
pub use progress::{PARTIAL_SHARES_LIVE, Progress, Step};
pub use record::{MalformedRecord, SealRecord};
pub use share::{SetId, Share};

use crate::{
    crypto::{self, CryptoError, Entropy, Key},
    model::{Invalid, SecretBytes, StoreId},
};

/// Binds what a seal key wraps to this purpose.
const LABEL: &str = "strongroom seal v1";
/// All kinds there are; a new seal is a file beside this one, what can be asked of it in [`SealConfig`] and a line here.
pub const KINDS: &[SealKind] = &[by_shares::KIND, by_file::KIND];

/// Most shares needed: more people than that do not come together at three in the morning.
pub const MAX_THRESHOLD: u8 = 10;
/// What the configuration says of seals.
pub use crate::config::Seal as Settings;

/// A kind of seal.
#[derive(Clone, Copy, Debug)]
pub struct SealKind {
    /// In status, configuration and documentation.
    pub name: &'static str,
    pub description: &'static str,
    /// In a stored record; given once and never used again.
    pub number: u32,
    /// Whether people open it with shares; otherwise the server opens it by itself.
    pub by_shares: bool,
    build: fn(&Settings) -> Box<dyn Seal>,
}

/// The number is what counts.
impl PartialEq for SealKind {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for SealKind {}

/// A way to keep the root key: wrapped in a record, and got out of it again by the server itself, or by people who give
/// shares one by one. [`SealKind::by_shares`] says which of the two; the other of `open` and `combine` is not there then.
trait Seal: Send + Sync {
    fn kind(&self) -> SealKind;

    /// Wraps `root` for `store`, with the shares that open it if people are to hold some.
    fn wrap(
        &self,
        config: SealConfig,
        root: &Key,
        store: StoreId,
        entropy: &dyn Entropy,
    ) -> Result<(SealRecord, Vec<Share>), SealError>;

    /// The root key, which the server can get at by itself; nothing if it lacks what that takes.
    fn open(&self, _record: &SealRecord) -> Result<Option<Key>, SealError> {
        Ok(None)
    }

    /// The root key, with as many shares as it takes, each of which was accepted before.
    fn combine(&self, _record: &SealRecord, _shares: &[Share]) -> Result<Key, ShareRejected> {
        Err(ShareRejected::NotShamir)
    }

    /// The root key, with what people have instead of shares, for instance what stands in a file.
    fn open_with(&self, _record: &SealRecord, _given: &[SecretBytes]) -> Result<Key, ShareRejected> {
        Err(ShareRejected::NotShamir)
    }

    /// Opens what was wrapped, in as many ways as people may do it, and compares.
    fn prove(
        &self,
        record: &SealRecord,
        _shares: &mut [Share],
        root: &Key,
        _entropy: &dyn Entropy,
    ) -> Result<(), SealError> {
        same(&self.open(record)?.ok_or(SealError::ProofFailed)?, root)
    }
}

/// One seal of each kind.
pub struct Seals(Vec<Box<dyn Seal>>);

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

impl SealConfig {
    /// For the audit log.
    pub fn describe(&self) -> String {
        match self {
            Self::Shamir { shares, threshold } => format!("to {shares} shares, of which {threshold} open it"),
            Self::File => "to a key file".to_owned(),
        }
    }
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
    #[error("this is not a seal of the kind {0}")]
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
    /// It is not a share at all.
    #[error("this is not a share; a share starts with srs1-")]
    NotAShare,
    /// Its format is a later one.
    #[error("the share has a format that this server does not know")]
    Version,
    /// A character is wrong or missing.
    #[error("the share is mistyped: its checksum does not match")]
    Mistyped,
    /// It is from another store, or from before a rekey.
    #[error("the share belongs to another store or to a set that was replaced by a rekey")]
    ForeignSet,
    /// It is of the right set but has another threshold, so this server did not make it.
    #[error("the share has a different threshold from this store's seal")]
    WrongThreshold,
    #[error("this share was already given; another one is needed")]
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
    /// A file seal, and not the content of its file.
    #[error("the content of the server's key file is needed, and nothing else")]
    NotTheKeyFile,
    /// The store needs no shares.
    #[error("this store is not sealed with shares")]
    NotShamir,
}

impl SealConfig {
    pub fn kind(self) -> SealKind {
        match self {
            SealConfig::Shamir { .. } => by_shares::KIND,
            SealConfig::File => by_file::KIND,
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

impl Seals {
    /// With what the configuration says of them. Nothing is touched yet.
    pub fn build(settings: &Settings) -> Self {
        Self(KINDS.iter().map(|kind| (kind.build)(settings)).collect())
    }

    /// Seals `root` and proves that it opens again before anything is given out, so that a switch to the new record
    /// can lose nothing.
    ///
    /// # Errors
    /// See [`SealError`]; nothing was changed but that a missing key file may have been created.
    pub fn create(
        &self,
        config: SealConfig,
        root: &Key,
        store: StoreId,
        entropy: &dyn Entropy,
    ) -> Result<(SealRecord, Vec<Share>), SealError> {
        config.validate()?;
        let seal = self.of(config.kind()).ok_or(SealError::OtherKind(config.kind().name))?;
        let (record, mut shares) = seal.wrap(config, root, store, entropy)?;
        seal.prove(&record, &mut shares, root, entropy)?;
        Ok((record, shares))
    }

    /// The root key, if the server can get at it by itself.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn open(&self, record: &SealRecord) -> Result<Option<Key>, SealError> {
        self.of(record.kind).map_or(Ok(None), |seal| seal.open(record))
    }

    /// The root key, from shares given at once: what rekey asks for.
    ///
    /// # Errors
    /// The first share that is refused, or that they do not open it.
    pub fn open_with_shares(
        &self,
        record: &SealRecord,
        shares: &[SecretBytes],
    ) -> Result<Key, ShareRejected> {
        let mut accepted: Vec<Share> = Vec::new();
        // No set has more than 255 shares; a 256th is a duplicate in any case.
        for text in shares.iter().take(256) {
            let share = accept(text, record, &accepted)?;
            accepted.push(share);
        }
        if accepted.len() < usize::from(record.threshold) {
            return Err(ShareRejected::TooFew { given: accepted.len(), threshold: record.threshold });
        }
        self.combine(record, &accepted)
    }

    /// Whether `given` opens the seal: as many shares as it takes, or what the server opens it with. Who has that may
    /// have everything: what is sealed otherwise, and a root token.
    ///
    /// # Errors
    /// It does not.
    pub fn prove_right(&self, record: &SealRecord, given: &[SecretBytes]) -> Result<(), ShareRejected> {
        if record.kind.by_shares {
            return self.open_with_shares(record, given).map(drop);
        }
        self.of(record.kind).ok_or(ShareRejected::NotShamir)?.open_with(record, given).map(drop)
    }

    fn combine(&self, record: &SealRecord, shares: &[Share]) -> Result<Key, ShareRejected> {
        self.of(record.kind).ok_or(ShareRejected::NotShamir)?.combine(record, shares)
    }

    fn of(&self, kind: SealKind) -> Option<&dyn Seal> {
        self.0.iter().map(|seal| &**seal).find(|seal| seal.kind() == kind)
    }
}

/// Judges one share by itself and against those before it.
fn accept(text: &SecretBytes, record: &SealRecord, before: &[Share]) -> Result<Share, ShareRejected> {
    if !record.kind.by_shares {
        return Err(ShareRejected::NotShamir);
    }
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

/// The root key under `key`, bound to its store and this purpose.
fn wrap(key: &Key, root: &Key, store: StoreId, entropy: &dyn Entropy) -> Result<Vec<u8>, CryptoError> {
    crypto::seal(key, LABEL, &store.0, root.expose(), entropy)
}

/// Opens what [`wrap`] made.
fn unwrap(key: &Key, record: &SealRecord) -> Result<Key, CryptoError> {
    let root = crypto::open(key, LABEL, &record.store.0, &record.wrapped)?;
    Key::from_slice(root.expose())
}

/// Drawn again for every seal.
fn new_set(entropy: &dyn Entropy) -> Result<SetId, CryptoError> {
    let mut set = SetId::default();
    entropy.fill(&mut set)?;
    Ok(set)
}

fn same(opened: &Key, root: &Key) -> Result<(), SealError> {
    use subtle::ConstantTimeEq;
    if bool::from(opened.expose().ct_eq(root.expose())) { Ok(()) } else { Err(SealError::ProofFailed) }
}

#[cfg(test)]
mod tests;

//! The barrier: the one place where plaintext becomes ciphertext. Above it everything speaks of names and plaintext,
//! below it there are hashed names and sealed records.

mod committer;
mod digest;
mod keyring;
mod record;
mod view;

pub use view::{Address, Changes, Entry, View};

use crate::storage::{StoreError, Revision};

/// What kind of thing a record is: the first byte of its store key, and part of what its ciphertext is bound to.
/// A number is given once and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// How the root key is kept (not sealed: it must be read before anything can be opened).
    Seal = 0,
    /// The keyring, sealed under the root key.
    Keyring = 1,
    /// Batch number and set digest.
    Digest = 2,
    /// kv: names, versions and metadata of one secret.
    KvSecret = 16,
    /// kv: the bytes of one version, in chunks.
    KvVersion = 17,
    /// kv: a folder within a folder.
    KvFolder = 18,
    /// A role.
    Role = 32,
    /// A binding.
    Binding = 33,
    /// A user of userpass.
    User = 48,
    /// A revocation of sessions.
    Revocation = 49,
    /// A mount.
    Mount = 64,
}

/// Longest plaintext of one record, its name included: with the sealing around it a record stays within the store's 64 KiB.
pub const MAX_PLAINTEXT: usize = 60 << 10;

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BarrierError {
    /// A record did not open: changed, moved, cut or of another store. Never "not found".
    #[error("a stored record of kind {kind:?} in {namespace} does not open: it was changed or moved")]
    Corrupt {
        /// Of what kind.
        kind: Kind,
        /// Whose.
        namespace: String,
    },
    /// A condition did not hold; nothing was written. Read again and retry.
    #[error("changed by somebody else at the same moment")]
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
    /// The store said no.
    #[error(transparent)]
    Store(StoreError),
}

//! Secrets engines: what can be done under a mount. An engine gets a [`Permit`] and a [`View`] and knows nothing of
//! tokens, policy, audit, leases or the wire.

use async_trait::async_trait;

use crate::{
    barrier::{BarrierError, View},
    model::{Invalid, Timestamp, Verb},
    permit::Permit,
};

#[cfg(test)]
mod conformance;
pub mod kv;
mod mounts;

pub use mounts::Mounts;

/// A kind of engine that can be mounted.
pub struct Kind {
    /// Name in the mount table.
    pub name: &'static str,
    /// One sentence for people.
    pub description: &'static str,
    /// Makes one that keeps everything in `view`.
    pub build: fn(View) -> Box<dyn Engine>,
}

/// All kinds there are; a new engine is one file and one line here.
pub const KINDS: &[Kind] = &[kv::KIND];

/// What an engine is asked to do; where, the permit says.
pub enum Operation {
    /// For kv.
    Kv(kv::Operation),
}

/// What an engine answers.
pub enum Output {
    /// Of kv.
    Kv(kv::Output),
}

/// One mounted engine.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Does it. Dropping the future may leave a write done; it never leaves one half done.
    async fn run(&self, permit: Permit, operation: Operation) -> Result<Output, EngineError>;
}

/// Why an engine could not.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The permit does not hold the verb that turned out to be needed.
    #[error("needs {0}")]
    Needs(Verb),
    /// Nothing there.
    #[error("nothing there")]
    NotFound,
    /// The version is hidden.
    #[error("version {version} was deleted at {at}; undelete brings it back")]
    Deleted {
        /// Which.
        version: u64,
        /// Since when.
        at: Timestamp,
    },
    /// The version's bytes are gone.
    #[error("version {version} was destroyed")]
    Destroyed {
        /// Which.
        version: u64,
    },
    /// The version's time is over.
    #[error("version {version} expired at {at}")]
    Expired {
        /// Which.
        version: u64,
        /// Since when.
        at: Timestamp,
    },
    /// Check-and-set failed.
    #[error("expected version {expected}, but the current version is {current}")]
    VersionMismatch {
        /// By the caller.
        expected: u64,
        /// In the store.
        current: u64,
    },
    /// The secret wants expected_version.
    #[error("this secret demands expected_version (cas_required is set); the current version is {current}")]
    CasRequired {
        /// In the store.
        current: u64,
    },
    /// The operation is not one of this engine's.
    #[error("this mount cannot do that")]
    WrongEngine,
    /// The store or the keys.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
}

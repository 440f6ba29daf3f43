//! Why kv could not, and what clients are told of it.

use strongroom_proto::Reason;

use crate::{
    barrier::BarrierError,
    engines::EngineError,
    model::{Invalid, Timestamp, Verb},
};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The permit lacks a verb that turned out to be needed.
    #[error("the permit lacks the verb {0}")]
    Needs(Verb),
    #[error("there is nothing at this path")]
    NotFound,
    /// The version is hidden.
    #[error("version {version} was deleted at {at}; undelete it to read it")]
    Deleted { version: u64, at: Timestamp },
    /// The version's bytes are gone.
    #[error("version {version} was destroyed")]
    Destroyed { version: u64 },
    /// The version's time is over.
    #[error("version {version} expired at {at}")]
    Expired { version: u64, at: Timestamp },
    /// Check-and-set failed.
    #[error("expected version {expected}, but the current version is {current}")]
    VersionMismatch {
        expected: u64,
        /// In the store.
        current: u64,
    },
    /// The secret wants expected_version.
    #[error("this secret requires expected_version (cas_required is set); the current version is {current}")]
    CasRequired {
        /// In the store.
        current: u64,
    },
    /// [`Error::VersionMismatch`], for those who may not know the current version.
    #[error("the current version is not the expected one")]
    NotExpected,
    /// [`Error::CasRequired`], for those who may not know the current version.
    #[error("this secret requires expected_version (cas_required is set)")]
    ExpectationMissing,
    /// There is no room for it.
    #[error("the quota of {} MiB for {} is used up; destroy what is not needed, or ask whoever manages the mount for more", limit >> 20, place(folder))]
    QuotaExceeded {
        /// Within the mount; empty for all of it.
        folder: Box<str>,
        limit: u64,
    },
    /// Versions are named that are not kept.
    #[error(transparent)]
    UnknownVersions(Invalid),
    /// kv does not know this operation.
    #[error("this mount cannot do that")]
    WrongEngine,
    /// The store or the keys.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        let sentence = error.to_string();
        let millis = |at: Timestamp| at.as_millis().to_string();
        let (reason, details) = match error {
            Error::Invalid(invalid) | Error::UnknownVersions(invalid) => return Self::Invalid(invalid),
            Error::Needs(verb) => return Self::Needs(verb),
            Error::NotFound => return Self::NotFound,
            Error::WrongEngine => return Self::WrongEngine,
            Error::Barrier(error) => return Self::Barrier(error),
            Error::Deleted { version, at } => {
                let details = vec![("version", version.to_string()), ("deleted_at_ms", millis(at))];
                (Reason::VersionDeleted, details)
            }
            Error::Destroyed { version } => {
                (Reason::VersionDestroyed, vec![("version", version.to_string())])
            }
            Error::Expired { version, at } => {
                let details = vec![("version", version.to_string()), ("expired_at_ms", millis(at))];
                (Reason::VersionExpired, details)
            }
            Error::VersionMismatch { current, .. } => {
                (Reason::VersionMismatch, vec![("current_version", current.to_string())])
            }
            Error::QuotaExceeded { folder, limit } => {
                let details = vec![("folder", folder.into_string()), ("limit_bytes", limit.to_string())];
                (Reason::QuotaExceeded, details)
            }
            Error::NotExpected => (Reason::VersionMismatch, Vec::new()),
            Error::ExpectationMissing => (Reason::CasRequired, Vec::new()),
            Error::CasRequired { current } => {
                (Reason::CasRequired, vec![("current_version", current.to_string())])
            }
        };
        Self::Own { reason, sentence, details }
    }
}

/// Whose quota it is, for people.
fn place(folder: &str) -> String {
    if folder.is_empty() { "this mount".to_owned() } else { format!("the folder {folder}/ of this mount") }
}

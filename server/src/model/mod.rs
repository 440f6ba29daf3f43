//! Plain parsed types that everything speaks: paths, keys, verbs, principals, times. No IO, no clock, no crypto.

mod id;
mod log_point;
mod path;
mod principal;
mod quota;
mod source;
mod time;
mod verb;

pub use id::{DecisionId, RequestId, SessionId, StoreId};
pub use log_point::LogPoint;
pub use path::{InvalidPath, KeyName, Path};
pub use principal::{Group, Pod, Principal};
pub use quota::QuotaUse;
pub use source::Source;
pub use strongroom_proto::SecretBytes;
pub use time::Timestamp;
pub use verb::Verb;

/// A field of a request that is not what it should be. Never holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Which field, in the words of the API: `path`, `data["api.key"]`, `ttl_seconds`.
    pub field: String,
    /// What was given and what is expected, as a sentence without a full stop.
    pub problem: String,
}

impl Invalid {
    /// A field and what is wrong with it.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

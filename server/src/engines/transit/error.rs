//! Why transit could not, and what clients are told of it.

use strongroom_proto::Reason;

use crate::{barrier::BarrierError, crypto::CryptoError, engines::EngineError, model::Invalid};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("there is no key at this path")]
    NotFound,
    #[error("there is a key at this path already")]
    Exists,
    #[error("this key is not exportable; whoever manages it can make it so, for good")]
    NotExportable,
    #[error("version {version} is too old: {setting} is {oldest}")]
    VersionTooOld { version: u32, setting: &'static str, oldest: u32 },
    /// Which of them, nobody can tell.
    #[error("it does not open: it was changed, or made with another key, context or associated data")]
    DoesNotOpen,
    /// The store or the keys.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
}

impl Error {
    /// That of one of many: its fields are those of the item.
    pub(super) fn of_item(self, number: usize) -> Self {
        match self {
            Self::Invalid(Invalid { field, problem }) => {
                Self::Invalid(Invalid { field: format!("items[{number}].{field}"), problem })
            }
            other => other,
        }
    }
}

/// Of our own keys: only a lack of randomness is left.
impl From<CryptoError> for Error {
    fn from(error: CryptoError) -> Self {
        Self::Barrier(error.into())
    }
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        let sentence = error.to_string();
        let (reason, details) = match error {
            Error::Invalid(invalid) => return Self::Invalid(invalid),
            Error::NotFound => return Self::NotFound,
            Error::Barrier(error) => return Self::Barrier(error),
            Error::Exists => (Reason::AlreadyExists, Vec::new()),
            Error::NotExportable => (Reason::NotExportable, Vec::new()),
            Error::VersionTooOld { oldest, .. } => {
                (Reason::VersionTooOld, vec![("oldest_version", oldest.to_string())])
            }
            Error::DoesNotOpen => (Reason::DoesNotOpen, Vec::new()),
        };
        Self::Own { reason, sentence, details }
    }
}

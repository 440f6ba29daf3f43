//! Why the engine could not, and what clients are told of it.

use strongroom_proto::Reason;

use crate::{barrier::BarrierError, crypto::CryptoError, engines::EngineError, model::Invalid};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("there is no {0} at this path")]
    NotFound(&'static str),
    #[error("there is {0} at this path already")]
    Exists(&'static str),
    #[error("this mount has no issuer yet; run strongroom pki issuer create")]
    NoIssuer,
    #[error(
        "the issuer {0} has no certificate yet; have its request signed and run strongroom pki issuer set-signed"
    )]
    Unsigned(String),
    #[error("the issuer {0} has expired; make another one the default")]
    Expired(String),
    #[error(
        "{0} certificates of this issuer are revoked and not expired, which is all that a list has room for; make another issuer"
    )]
    Full(u64),
    /// The store or the keys.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
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
        let reason = match error {
            Error::Invalid(invalid) => return Self::Invalid(invalid),
            Error::NotFound(_) => return Self::NotFound,
            Error::Barrier(error) => return Self::Barrier(error),
            Error::Exists(_) => Reason::AlreadyExists,
            Error::NoIssuer | Error::Unsigned(_) | Error::Expired(_) => Reason::NotConfigured,
            Error::Full(_) => Reason::QuotaExceeded,
        };
        Self::Own { reason, sentence, details: Vec::new() }
    }
}

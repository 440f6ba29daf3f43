//! Why the engine could not, and what clients are told of it. A database may quote what it was sent, so not all that it
//! says is handed on.

use strongroom_proto::Reason;
use tokio_postgres::error::{DbError, SqlState};

use crate::{barrier::BarrierError, crypto::CryptoError, engines::EngineError, model::Invalid};

/// Most of what a database says that is handed on.
const MESSAGE_CHARS: usize = 200;
/// From here on a piece of what was sent is worth to be recognised.
const PIECE_BYTES: usize = 8;

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
    #[error("this mount does not know its database yet; run strongroom database configure")]
    NotConfigured,
    /// Nobody's fault, or that of the network.
    #[error("the database {place} {problem}")]
    Unavailable { place: String, problem: String },
    /// It is not who it should be, or said no. Trying again does not help.
    #[error("the database {place} {problem}")]
    Refused { place: String, problem: String, state: Option<String> },
    /// The store or the keys.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
}

impl Error {
    pub(super) fn unavailable(place: &str, problem: impl Into<String>) -> Self {
        Self::Unavailable { place: place.to_owned(), problem: problem.into() }
    }

    /// A refusal that is not the database's own.
    pub(super) fn refused(place: &str, problem: impl Into<String>) -> Self {
        Self::Refused { place: place.to_owned(), problem: problem.into(), state: None }
    }

    /// What went wrong while the database at `place` was asked for something; `sent` to it were things not to be repeated.
    pub(super) fn of_database(place: &str, error: &tokio_postgres::Error, sent: &[&str]) -> Self {
        let Some(said) = error.as_db_error() else {
            // Its sentence names no values, and its source is an error of the connection or of the protocol.
            let source = std::error::Error::source(error).map(|cause| format!(": {cause}"));
            return Self::unavailable(place, format!("broke off: {error}{}", source.unwrap_or_default()));
        };
        let state = said.code();
        let away = [
            &SqlState::ADMIN_SHUTDOWN,
            &SqlState::CRASH_SHUTDOWN,
            &SqlState::CANNOT_CONNECT_NOW,
            &SqlState::TOO_MANY_CONNECTIONS,
            &SqlState::QUERY_CANCELED,
            &SqlState::LOCK_NOT_AVAILABLE,
            &SqlState::T_R_DEADLOCK_DETECTED,
            &SqlState::T_R_SERIALIZATION_FAILURE,
        ];
        let problem = format!("says {} ({})", message(said, sent), state.code());
        match away.contains(&state) {
            true => Self::unavailable(place, problem),
            false => Self::Refused { place: place.to_owned(), problem, state: Some(state.code().to_owned()) },
        }
    }

    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// Whether it was the password.
    pub(super) fn is_password(&self) -> bool {
        let wrong = SqlState::INVALID_PASSWORD;
        matches!(self, Self::Refused { state: Some(state), .. } if state == wrong.code())
    }
}

/// What it says, in one line, unless it repeats what nobody may see.
fn message(said: &DbError, sent: &[&str]) -> String {
    let words = |text: &str| {
        let pieces =
            text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|piece| piece.len() >= PIECE_BYTES);
        pieces.map(str::to_owned).collect::<Vec<_>>()
    };
    let text = said.message();
    let repeats =
        sent.iter().any(|sent| text.contains(sent) || words(sent).iter().any(|piece| text.contains(piece)));
    if repeats {
        return "something that repeats the password it was sent".to_owned();
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MESSAGE_CHARS).map(plain).collect()
}

/// Only a lack of randomness is left.
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
            Error::NotFound(_) => return Self::NotFound,
            Error::Barrier(error) => return Self::Barrier(error),
            Error::Exists(_) => (Reason::AlreadyExists, Vec::new()),
            Error::NotConfigured => (Reason::NotConfigured, Vec::new()),
            Error::Unavailable { .. } => (Reason::DatabaseUnavailable, Vec::new()),
            Error::Refused { state, .. } => {
                (Reason::DatabaseRefused, state.into_iter().map(|state| ("sqlstate", state)).collect())
            }
        };
        Self::Own { reason, sentence, details }
    }
}

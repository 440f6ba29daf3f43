//! Errors, as a type to match on. They are made from a gRPC status and the `ErrorInfo` in its details. Only the [`Reason`]
//! decides what kind an error is, never the message beside it. This file knows nothing of retries.

use std::{collections::HashMap, error::Error as StdError, fmt, time::Duration};

use jiff::Timestamp;
use strongroom_proto::{DOMAIN, Reason};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The header under which the server names a request in its log.
const REQUEST_ID: &str = "x-request-id";

/// Why a call failed; [`kind`](Self::kind) is the part to match on.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    /// What happened on this side of the connection.
    cause: Option<Box<dyn StdError + Send + Sync>>,
    kind: ErrorKind,
    reason: Option<Reason>,
    message: String,
    request_id: Option<String>,
    retry_after: Option<Duration>,
}

/// The kinds of failure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The builder was given something that cannot work: no CA, an address without TLS, a malformed token.
    Config,
    /// The server was not reached, or the connection broke before the answer arrived.
    Connection,
    /// The answer did not arrive in time. A write may have happened.
    DeadlineExceeded,
    /// The server's store has not been initialised.
    NotInitialized,
    /// The server's store is already initialised.
    AlreadyInitialized,
    /// The server takes an init only from its own machine or pod.
    InitElsewhere,
    /// The server is sealed: it has no keys until it is given `threshold` shares.
    Sealed {
        /// Shares given so far.
        progress: u32,
        /// Shares needed; 0 if the server did not say.
        threshold: u32,
    },
    /// The server is not sealed.
    NotSealed,
    /// A share is mistyped, foreign, repeated or wrong.
    ShareRejected,
    /// The token or the credential is missing, wrong, expired or revoked.
    Unauthenticated(Reason),
    /// Policy does not allow it.
    Denied {
        /// The id of the decision in the audit log.
        decision_id: String,
        /// The verb that is missing.
        verb: String,
        /// The path on which it is missing.
        path: String,
    },
    /// There is nothing at the path.
    NotFound,
    /// The version was deleted; an undelete brings it back.
    VersionDeleted {
        /// The number of the version.
        version: u64,
        /// When it was deleted, if the server said so.
        deleted_at: Option<Timestamp>,
    },
    /// The version's bytes are gone for good.
    VersionDestroyed {
        /// The number of the version.
        version: u64,
    },
    /// The version's time to live is over.
    VersionExpired {
        /// The number of the version.
        version: u64,
    },
    /// The expected version is not the latest.
    VersionMismatch {
        /// The latest version; 0 means that the secret does not exist.
        current: u64,
    },
    /// The secret requires an expected version with each write.
    CasRequired,
    /// There is something at the path already.
    AlreadyExists,
    /// The key may not leave the server.
    NotExportable,
    /// The version of the key is below the oldest one that may be used.
    VersionTooOld,
    /// A ciphertext was changed, or was made with another key, context or associated data.
    DoesNotOpen,
    /// The mount has to be told first where its database is.
    NotConfigured,
    /// The database does not want it, or is not trusted.
    DatabaseRefused,
    /// The quota of the mount, or of a folder, has no room for it.
    QuotaExceeded,
    /// There are as many leases as there may be, in all or of one principal.
    TooManyLeases,
    /// The lease is being ended: it cannot be renewed.
    LeaseEnding,
    /// As many wrapped answers wait to be opened as there may be, in all or of one principal.
    TooManyWrapped,
    /// What was wrapped was opened before: if not by the caller, then by somebody else.
    AlreadyOpened,
    /// A field of the request is wrong.
    InvalidArgument {
        /// The name of the field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It was done, and only its outcome could not be written to the audit log. Do not repeat it: look at what is there.
    Unrecorded,
    /// The server has too much work at the moment.
    Overloaded,
    /// Somebody changed the same thing at the same moment.
    Conflict,
    /// A watch or another stream ended because what permitted it has changed; it may be opened again.
    WatchEnded,
    /// The server cannot serve for now: it is stopping, read-only, or its audit log cannot be written; or a database that it
    /// works in does not answer.
    Unavailable,
    /// A record in the store could not be opened.
    Corrupt,
    /// The data is an old copy, according to the audit log.
    RolledBack,
    /// The audit log belongs to another store.
    ForeignAuditLog,
    /// The server is at fault.
    Internal,
    /// The server sent a reason or a code that this library does not know.
    Other(i32),
}

impl Error {
    /// The kind of failure, which is the part to match on.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The machine-readable reason, if the server gave one.
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason
    }

    /// The id of the request in the server's log and audit log.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// The message of the server.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// How long the server asks to wait before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether nothing readable is there: never written, deleted, destroyed or expired.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::NotFound
                | ErrorKind::VersionDeleted { .. }
                | ErrorKind::VersionDestroyed { .. }
                | ErrorKind::VersionExpired { .. }
        )
    }

    /// Whether the call may succeed later: the server cannot be reached, or it is starting, sealed, stopping or busy.
    pub fn is_transient(&self) -> bool {
        self.0.reason.is_some_and(Reason::is_retryable)
            || matches!(
                self.0.kind,
                ErrorKind::Connection | ErrorKind::DeadlineExceeded | ErrorKind::Sealed { .. }
            )
    }

    /// Makes an error as a server would answer it, for tests of what follows from one. The details are those that [`Reason`]
    /// names beside each, such as `verb` and `path`.
    pub fn answered(reason: Reason, message: impl Into<String>, details: &[(&str, &str)]) -> Self {
        let details = details.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self::told(reason, message.into(), Details(details))
    }

    /// Makes an error as of a server that cannot be reached, for tests of what follows from one.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::plain(ErrorKind::Connection, message.into())
    }

    /// What a call came back with instead of an answer.
    pub(crate) fn of(status: Status) -> Self {
        let request_id = status.metadata().get(REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
        let told = info.and_then(|info| Some((Reason::parse(&info.reason)?, Details(info.metadata))));
        let Self(mut inner) = match told {
            Some((reason, details)) => Self::told(reason, status.message().to_owned(), details),
            None => without_reason(&status),
        };
        inner.request_id = request_id;
        if status.source().is_some() {
            inner.cause = Some(Box::new(status));
        }
        Self(inner)
    }

    fn told(reason: Reason, message: String, details: Details) -> Self {
        let Self(mut inner) = Self::plain(kind(reason, &details, &message), message);
        inner.reason = Some(reason);
        inner.retry_after = details.number("retry_after_ms").map(Duration::from_millis);
        Self(inner)
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::plain(ErrorKind::Config, message.into())
    }

    pub(crate) fn connection(cause: impl StdError + Send + Sync + 'static) -> Self {
        let Self(mut inner) = Self::plain(ErrorKind::Connection, root_cause(&cause));
        inner.cause = Some(Box::new(cause));
        Self(inner)
    }

    pub(crate) fn deadline() -> Self {
        Self::plain(ErrorKind::DeadlineExceeded, String::new())
    }

    /// Whether nothing was heard of the server within the time of the call.
    pub(crate) fn is_too_late(&self) -> bool {
        self.0.kind == ErrorKind::DeadlineExceeded && self.0.reason.is_none()
    }

    /// For an answer that lacks what the contract promises.
    pub(crate) fn incomplete(what: &str) -> Self {
        Self::plain(ErrorKind::Other(Code::Internal as i32), format!("the server's answer has no {what}"))
    }

    /// What is wrong with one of many; the others were answered.
    pub(crate) fn of_item(reason: &str, message: String) -> Self {
        let reason = Reason::parse(reason);
        let kind = reason.map_or(ErrorKind::Other(Code::Unknown as i32), |reason| {
            kind(reason, &Details(HashMap::new()), &message)
        });
        let Self(inner) = Self::plain(kind, message);
        Self(Box::new(Inner { reason, ..*inner }))
    }

    fn plain(kind: ErrorKind, message: String) -> Self {
        Self(Box::new(Inner {
            cause: None,
            kind,
            reason: None,
            message,
            request_id: None,
            retry_after: None,
        }))
    }
}

/// Metadata of an `ErrorInfo`: everything is text there.
struct Details(HashMap<String, String>);

impl Details {
    fn text(&self, key: &str) -> String {
        self.0.get(key).cloned().unwrap_or_default()
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.0.get(key)?.parse().ok()
    }

    fn version(&self) -> u64 {
        self.number("version").unwrap_or_default()
    }
}

fn kind(reason: Reason, details: &Details, message: &str) -> ErrorKind {
    match reason {
        Reason::NotInitialized => ErrorKind::NotInitialized,
        Reason::AlreadyInitialized => ErrorKind::AlreadyInitialized,
        Reason::InitElsewhere => ErrorKind::InitElsewhere,
        Reason::Sealed => ErrorKind::Sealed {
            progress: details.number("progress").unwrap_or_default(),
            threshold: details.number("threshold").unwrap_or_default(),
        },
        Reason::NotSealed => ErrorKind::NotSealed,
        Reason::ShareRejected => ErrorKind::ShareRejected,
        Reason::TokenMissing
        | Reason::TokenInvalid
        | Reason::TokenExpired
        | Reason::TokenRevoked
        | Reason::NotRenewable
        | Reason::PodGone
        | Reason::LoginRejected => ErrorKind::Unauthenticated(reason),
        Reason::PermissionDenied => ErrorKind::Denied {
            decision_id: details.text("decision_id"),
            verb: details.text("verb"),
            path: details.text("path"),
        },
        Reason::NotFound => ErrorKind::NotFound,
        Reason::VersionDeleted => ErrorKind::VersionDeleted {
            version: details.version(),
            deleted_at: details.number("deleted_at_ms").and_then(|ms| Timestamp::from_millisecond(ms).ok()),
        },
        Reason::VersionDestroyed => ErrorKind::VersionDestroyed { version: details.version() },
        Reason::VersionExpired => ErrorKind::VersionExpired { version: details.version() },
        Reason::VersionMismatch => {
            ErrorKind::VersionMismatch { current: details.number("current_version").unwrap_or_default() }
        }
        Reason::CasRequired => ErrorKind::CasRequired,
        Reason::AlreadyExists => ErrorKind::AlreadyExists,
        Reason::NotExportable => ErrorKind::NotExportable,
        Reason::VersionTooOld => ErrorKind::VersionTooOld,
        Reason::DoesNotOpen => ErrorKind::DoesNotOpen,
        Reason::NotConfigured => ErrorKind::NotConfigured,
        Reason::DatabaseRefused => ErrorKind::DatabaseRefused,
        Reason::QuotaExceeded => ErrorKind::QuotaExceeded,
        Reason::TooManyLeases => ErrorKind::TooManyLeases,
        Reason::LeaseEnding => ErrorKind::LeaseEnding,
        Reason::TooManyWrapped => ErrorKind::TooManyWrapped,
        Reason::AlreadyOpened => ErrorKind::AlreadyOpened,
        Reason::InvalidArgument => {
            ErrorKind::InvalidArgument { field: details.text("field"), problem: message.to_owned() }
        }
        Reason::Overloaded => ErrorKind::Overloaded,
        Reason::Conflict => ErrorKind::Conflict,
        Reason::WatchEnded => ErrorKind::WatchEnded,
        Reason::AuditUnavailable
        | Reason::ClusterUnavailable
        | Reason::DatabaseUnavailable
        | Reason::ShuttingDown
        | Reason::ReadOnly => ErrorKind::Unavailable,
        Reason::Corrupt => ErrorKind::Corrupt,
        Reason::RolledBack => ErrorKind::RolledBack,
        Reason::ForeignAuditLog => ErrorKind::ForeignAuditLog,
        Reason::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Reason::Unrecorded => ErrorKind::Unrecorded,
        Reason::Internal => ErrorKind::Internal,
        other => ErrorKind::Other(other.code()),
    }
}

/// A status that is not the server's own: from the connection, a proxy, or a later server.
fn without_reason(status: &Status) -> Error {
    let kind = match status.code() {
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        // This is how tonic says that the time given with the request is over.
        Code::Cancelled if status.message() == "Timeout expired" => ErrorKind::DeadlineExceeded,
        Code::Unavailable => ErrorKind::Connection,
        // A status with a cause was made on this side, from a broken connection.
        _ if status.source().is_some() => ErrorKind::Connection,
        code => ErrorKind::Other(code as i32),
    };
    let message = match status.source() {
        Some(cause) => root_cause(cause),
        None => status.message().to_owned(),
    };
    Error::plain(kind, message)
}

/// The innermost cause: "connection refused" rather than "transport error".
fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message();
        match self.kind() {
            ErrorKind::Config => f.write_str(message),
            ErrorKind::Connection => write!(f, "cannot reach the server: {message}"),
            ErrorKind::DeadlineExceeded => {
                f.write_str("the server did not answer in time; a write may have happened")
            }
            ErrorKind::NotInitialized => f.write_str("the server is not initialised"),
            ErrorKind::AlreadyInitialized => f.write_str("the server is already initialised"),
            ErrorKind::Sealed { threshold: 0, .. } => f.write_str("the server is sealed"),
            ErrorKind::Sealed { progress, threshold } => {
                write!(f, "the server is sealed: {progress} of {threshold} shares given")
            }
            ErrorKind::NotSealed => f.write_str("the server is not sealed"),
            ErrorKind::ShareRejected => write!(f, "the share was rejected: {message}"),
            ErrorKind::Unauthenticated(reason) => match reason {
                Reason::TokenMissing => f.write_str("not logged in"),
                Reason::TokenExpired => f.write_str("the session has expired"),
                Reason::TokenRevoked => f.write_str("the session was revoked"),
                Reason::PodGone | Reason::NotRenewable => f.write_str(message),
                Reason::LoginRejected => write!(f, "the login was rejected: {message}"),
                _ => f.write_str("the token was not issued by this server"),
            },
            // The server may say more than that.
            ErrorKind::Denied { .. } if !message.is_empty() => f.write_str(message),
            ErrorKind::Denied { decision_id, verb, path } => {
                write!(f, "denied: needs {verb} on {path} (decision {decision_id})")
            }
            ErrorKind::NotFound => f.write_str("not found"),
            ErrorKind::VersionDeleted { version, deleted_at: Some(time) } => {
                write!(f, "version {version} was deleted at {time:.0}")
            }
            ErrorKind::VersionDeleted { version, .. } => write!(f, "version {version} is deleted"),
            ErrorKind::VersionDestroyed { version } => write!(f, "version {version} is destroyed"),
            ErrorKind::VersionExpired { version } => write!(f, "version {version} has expired"),
            ErrorKind::VersionMismatch { current: 0 } => {
                f.write_str("version mismatch: the secret does not exist")
            }
            ErrorKind::VersionMismatch { current } => {
                write!(f, "version mismatch: the latest version is {current}")
            }
            ErrorKind::CasRequired => f.write_str("this secret requires an expected version with each write"),
            ErrorKind::InvalidArgument { field, problem } if problem.contains(field.as_str()) => {
                write!(f, "invalid argument: {problem}")
            }
            ErrorKind::InvalidArgument { field, problem } => write!(f, "invalid {field}: {problem}"),
            ErrorKind::Unrecorded => {
                write!(f, "{message} (request {})", self.request_id().unwrap_or("unknown"))
            }
            ErrorKind::Internal => {
                // The server has a message where only an operator can help (data older than the audit log).
                let sentence = if message.is_empty() { "the server had an internal error" } else { message };
                write!(f, "{sentence} (request {})", self.request_id().unwrap_or("unknown"))
            }
            ErrorKind::AlreadyExists
            | ErrorKind::NotExportable
            | ErrorKind::VersionTooOld
            | ErrorKind::DoesNotOpen
            | ErrorKind::NotConfigured
            | ErrorKind::DatabaseRefused
            | ErrorKind::QuotaExceeded
            | ErrorKind::TooManyLeases
            | ErrorKind::LeaseEnding
            | ErrorKind::TooManyWrapped
            | ErrorKind::AlreadyOpened
            | ErrorKind::InitElsewhere
            | ErrorKind::Overloaded
            | ErrorKind::Conflict
            | ErrorKind::WatchEnded
            | ErrorKind::Unavailable
            | ErrorKind::Corrupt
            | ErrorKind::RolledBack
            | ErrorKind::ForeignAuditLog
            | ErrorKind::Other(_) => f.write_str(message),
        }
    }
}

impl StdError for Error {
    /// What broke, where that was on this side of the connection: the whole chain, of which the message has the last.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    /// A status as the server makes it.
    pub(crate) fn status(reason: Reason, message: &str, metadata: &[(&str, &str)]) -> Status {
        let metadata =
            metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<HashMap<_, _>>();
        let mut status = Status::with_error_details(
            Code::from_i32(reason.code()),
            message,
            ErrorDetails::with_error_info(reason.as_str(), DOMAIN, metadata),
        );
        status.metadata_mut().insert(REQUEST_ID, "req-7".parse().unwrap());
        status
    }

    fn sentence(reason: Reason, message: &str, metadata: &[(&str, &str)]) -> String {
        Error::of(status(reason, message, metadata)).to_string()
    }

    #[test]
    fn sentences_help() {
        let sealed = sentence(Reason::Sealed, "", &[("progress", "1"), ("threshold", "3")]);
        assert_eq!(sealed, "the server is sealed: 1 of 3 shares given");
        let denied = [("decision_id", "01ab"), ("verb", "read"), ("path", "secret/x")];
        assert_eq!(
            sentence(Reason::PermissionDenied, "", &denied),
            "denied: needs read on secret/x (decision 01ab)"
        );
        let mismatch = sentence(Reason::VersionMismatch, "", &[("current_version", "4")]);
        assert_eq!(mismatch, "version mismatch: the latest version is 4");
        assert_eq!(
            sentence(Reason::InvalidArgument, "has an empty segment", &[("field", "path")]),
            "invalid path: has an empty segment"
        );
        let deleted = [("version", "2"), ("deleted_at_ms", "0")];
        assert_eq!(
            sentence(Reason::VersionDeleted, "", &deleted),
            "version 2 was deleted at 1970-01-01T00:00:00Z"
        );
        assert_eq!(sentence(Reason::Internal, "x", &[]), "x (request req-7)");
        let done = Error::of(status(Reason::Unrecorded, "it was done", &[]));
        assert_eq!((done.to_string().as_str(), done.is_transient()), ("it was done (request req-7)", false));
    }

    #[test]
    fn every_reason_has_a_kind() {
        for reason in Reason::ALL {
            let error = Error::of(status(*reason, "m", &[]));
            assert!(!matches!(error.kind(), ErrorKind::Other(_)), "{reason}");
            assert_eq!(error.reason(), Some(*reason));
            assert_eq!(error.request_id(), Some("req-7"));
        }
    }

    #[test]
    fn a_foreign_domain_is_not_believed() {
        let info = ErrorDetails::with_error_info("SEALED", "example.com", HashMap::<String, String>::new());
        let error = Error::of(Status::with_error_details(Code::FailedPrecondition, "no", info));
        assert_eq!(error.kind(), &ErrorKind::Other(Code::FailedPrecondition as i32));
        assert_eq!(error.reason(), None);
    }

    #[test]
    fn retry_after_is_read() {
        let error = Error::of(status(Reason::Overloaded, "busy", &[("retry_after_ms", "250")]));
        assert_eq!(error.retry_after(), Some(Duration::from_millis(250)));
        assert!(error.is_transient());
    }
}

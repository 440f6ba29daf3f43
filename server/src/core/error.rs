//! Why a request was not answered. One variant per failing step; one reason per variant; a sentence a person can act on.
//! Causes that are nobody's business outside go to the log under the request id.

use std::time::Duration;

use strongroom_proto::Reason;

use crate::{
    audit::{AuditError, QueryError},
    auth::{Gone, LoginError},
    barrier::BarrierError,
    crypto::CryptoError,
    engines::{EngineError, MountError},
    leases::LeaseError,
    model::{Invalid, Verb},
    policy::Refused,
    seal::{SealError, ShareRejected},
    storage::StoreError,
    tokens::{RevokeError, TokenError},
    wrapping::WrapError,
};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the server is not initialised: run `strongroom init`")]
    NotInitialized,
    /// Somebody asked for init over the network.
    #[error(
        "an init is taken only from the server's own machine or pod: run it there, or through `kubectl port-forward`; \
         listen.init_from = \"anywhere\" takes it from others, too"
    )]
    InitElsewhere,
    /// Somebody asked for init a second time.
    #[error("the server is already initialised")]
    AlreadyInitialized,
    #[error("the server is sealed: {given} of {threshold} shares were given")]
    Sealed { given: u8, threshold: u8 },
    /// Somebody asked to unseal an unsealed server.
    #[error("the server is not sealed")]
    NotSealed,
    /// A share that cannot be used.
    #[error(transparent)]
    Share(#[from] ShareRejected),
    /// The seal itself.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// No bearer token.
    #[error("no token: log in first and send `authorization: Bearer sr1_...`")]
    TokenMissing,
    /// The token is not valid.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The auth method refused it.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// What the session depended on is gone.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The policy refused it.
    #[error(
        "denied: needs {} on {}{} (decision {})", .0.verb, .0.path,
        if .0.if_wrapped { ", which is allowed only with a wrapped answer" } else { "" }, .0.decision_id
    )]
    Refused(Box<Refused>),
    /// A verb that turned out to be needed is not granted.
    #[error("denied: needs {0} on {1}")]
    Needs(Verb, String),
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Several fields are wrong.
    #[error("{}", sentences(.0))]
    InvalidMany(Vec<Invalid>),
    /// No such object.
    #[error("{0} does not exist")]
    NoSuch(String),
    /// The engine refused it.
    #[error(transparent)]
    Engine(EngineError),
    /// Below the engines.
    #[error(transparent)]
    Barrier(BarrierError),
    #[error(transparent)]
    Revoke(RevokeError),
    #[error(transparent)]
    Lease(LeaseError),
    /// Nothing was wrapped, or nothing opens.
    #[error(transparent)]
    Wrap(WrapError),
    /// The log could not be read.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The record could not be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Too much at once.
    #[error("too many requests at once; retry in {} ms", .0.as_millis())]
    Overloaded(Duration),
    /// One caller asked too much in a short time.
    #[error("too many {asks} of one caller; retry in {} ms", after.as_millis())]
    Quota { asks: &'static str, after: Duration },
    /// Its message took too long.
    #[error("the request's message did not come within {} s", .0.as_secs())]
    NotReceived(Duration),
    /// It took too long.
    #[error("the deadline passed; a write may have happened")]
    DeadlinePassed,
    /// The server is shutting down.
    #[error("the server is stopping")]
    Stopping,
    /// The data directory is older than the audit log says.
    #[error(
        "the data is older than the audit log: the log's last checkpoint is at batch {log}, the data at {data}. \
         Somebody restored an old copy; start with --accept-rollback if that was you"
    )]
    RolledBack {
        /// In the last checkpoint.
        log: u64,
        /// In the store.
        data: u64,
    },
    /// There are as many batches as the log says, but other ones.
    #[error(
        "the data is not what the audit log describes: both are at batch {0}, with different contents. \
         Somebody restored another copy; start with --accept-rollback if that was you"
    )]
    Forked(u64),
    /// A log that begins after the store did.
    #[error(
        "the audit log of this store is missing, or its beginning is: nothing shows how far the data should be. \
         Put the audit directory back, or start with --accept-rollback if it is lost"
    )]
    LogLost,
    /// The log ends before a record that is known of it.
    #[error(
        "the audit log is older than {known} knows it: it ends with record {found}, but it had record {seq}. Somebody put an \
         old copy in place; put the newer one back, or start with --accept-rollback if it is lost"
    )]
    LogOlder {
        /// Who knows: `the data`, `the anchor`.
        known: &'static str,
        /// What they know of.
        seq: u64,
        /// The log's last one.
        found: u64,
    },
    /// The log has another record there.
    #[error(
        "the audit log is not the one that {known} knows: record {seq} is another one or missing. Somebody put an old or a \
         foreign copy in place; put the right one back, or start with --accept-rollback if it is lost"
    )]
    LogForked { known: &'static str, seq: u64 },
    /// It was done, but the outcome could not be recorded.
    #[error("it was done, but its outcome could not be written to the audit log: do not repeat it")]
    Unrecorded,
    /// The audit log is not this store's.
    #[error(
        "the audit log belongs to another store (its last checkpoint is not signed by this one); \
         if the store was meant to be created again, move the audit directory away first"
    )]
    ForeignLog,
    /// A watch has to be begun again.
    #[error("the watch ended: {0}; watch again")]
    WatchEnded(&'static str),
    /// A fault of ours.
    #[error("internal error; the server's log has the cause")]
    Internal(String),
}

/// All of them in one line.
fn sentences(problems: &[Invalid]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl From<BarrierError> for Error {
    fn from(error: BarrierError) -> Self {
        Error::Barrier(error)
    }
}

impl From<RevokeError> for Error {
    fn from(error: RevokeError) -> Self {
        match error {
            RevokeError::Barrier(error) => Error::Barrier(error),
            other => Error::Revoke(other),
        }
    }
}

impl From<LeaseError> for Error {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Barrier(error) => Error::Barrier(error),
            other => Error::Lease(other),
        }
    }
}

impl From<WrapError> for Error {
    fn from(error: WrapError) -> Self {
        match error {
            WrapError::Barrier(error) => Error::Barrier(error),
            WrapError::TooLarge(_) => Invalid::new("answer", error.to_string()).into(),
            other => Error::Wrap(other),
        }
    }
}

impl From<MountError> for Error {
    fn from(error: MountError) -> Self {
        match error {
            MountError::Invalid(invalid) => Error::Invalid(invalid),
            MountError::NoSuch(name) => Error::NoSuch(format!("the mount {name}/")),
            MountError::Barrier(error) => Error::Barrier(error),
        }
    }
}

impl From<CryptoError> for Error {
    fn from(error: CryptoError) -> Self {
        Error::Internal(error.to_string())
    }
}

impl Error {
    /// What clients decide by.
    pub fn reason(&self) -> Reason {
        match self {
            Error::NotInitialized => Reason::NotInitialized,
            Error::AlreadyInitialized => Reason::AlreadyInitialized,
            Error::Sealed { .. } => Reason::Sealed,
            Error::NotSealed => Reason::NotSealed,
            Error::Share(_) => Reason::ShareRejected,
            Error::Seal(SealError::Invalid(_) | SealError::NoKeyFile)
            | Error::Invalid(_)
            | Error::InvalidMany(_) => Reason::InvalidArgument,
            Error::RolledBack { .. }
            | Error::Forked(_)
            | Error::LogLost
            | Error::LogOlder { .. }
            | Error::LogForked { .. } => Reason::RolledBack,
            Error::ForeignLog => Reason::ForeignAuditLog,
            Error::Seal(_) | Error::Internal(_) => Reason::Internal,
            Error::Unrecorded => Reason::Unrecorded,
            Error::InitElsewhere => Reason::InitElsewhere,
            Error::TokenMissing => Reason::TokenMissing,
            Error::Token(error) => token_reason(error),
            Error::Login(error) => login_reason(error),
            Error::Gone(_) => Reason::PodGone,
            Error::Refused(_) | Error::Needs(..) => Reason::PermissionDenied,
            Error::NoSuch(_) => Reason::NotFound,
            Error::Engine(error) => engine_reason(error),
            Error::Lease(error) => lease_reason(error),
            Error::Wrap(error) => wrap_reason(error),
            Error::Barrier(error) => barrier_reason(error),
            Error::Audit(AuditError::Overloaded) | Error::Overloaded(_) | Error::Quota { .. } => {
                Reason::Overloaded
            }
            Error::Audit(_) => Reason::AuditUnavailable,
            Error::DeadlinePassed | Error::NotReceived(_) => Reason::DeadlineExceeded,
            Error::Stopping => Reason::ShuttingDown,
            Error::WatchEnded(_) => Reason::WatchEnded,
            Error::Revoke(_) | Error::Query(QueryError::Busy) => Reason::Overloaded,
            Error::Query(QueryError::Hole { .. }) => Reason::Corrupt,
            Error::Query(QueryError::Io(_)) => Reason::Internal,
        }
    }

    /// The audit log's word: `denied` is a no to who or what, `error` everything else.
    pub fn is_denial(&self) -> bool {
        matches!(
            self.reason(),
            Reason::TokenMissing
                | Reason::TokenInvalid
                | Reason::TokenExpired
                | Reason::TokenRevoked
                | Reason::NotRenewable
                | Reason::LoginRejected
                | Reason::PodGone
                | Reason::PermissionDenied
                | Reason::InitElsewhere
                | Reason::AlreadyOpened
        )
    }

    /// What a program can use: the metadata that the table of reasons names.
    pub fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Error::Sealed { given, threshold } => {
                vec![("progress", given.to_string()), ("threshold", threshold.to_string())]
            }
            Error::Refused(refused) => vec![
                ("decision_id", refused.decision_id.to_string()),
                ("verb", refused.verb.to_string()),
                ("path", refused.path.to_string()),
            ],
            Error::Needs(verb, path) => vec![("verb", verb.to_string()), ("path", path.clone())],
            Error::Invalid(invalid) | Error::Engine(EngineError::Invalid(invalid)) => {
                vec![("field", invalid.field.clone()), ("problem", invalid.problem.clone())]
            }
            Error::Engine(EngineError::Own { details, .. }) => details.clone(),
            Error::Wrap(WrapError::Opened { opened, .. }) => {
                vec![("opened_at_ms", opened.as_millis().to_string())]
            }
            Error::Overloaded(after) | Error::Quota { after, .. } => {
                vec![("retry_after_ms", after.as_millis().to_string())]
            }
            Error::Login(
                LoginError::Unavailable { retry_after } | LoginError::Cluster { retry_after, .. },
            ) => {
                vec![("retry_after_ms", retry_after.as_millis().to_string())]
            }
            _ => Vec::new(),
        }
    }
}

fn token_reason(error: &TokenError) -> Reason {
    match error {
        TokenError::Expired { .. } => Reason::TokenExpired,
        TokenError::Revoked => Reason::TokenRevoked,
        TokenError::NotRenewable { .. } => Reason::NotRenewable,
        _ => Reason::TokenInvalid,
    }
}

fn login_reason(error: &LoginError) -> Reason {
    match error {
        LoginError::Rejected | LoginError::Refused { .. } => Reason::LoginRejected,
        LoginError::Cluster { .. } => Reason::ClusterUnavailable,
        LoginError::Invalid(_) => Reason::InvalidArgument,
        LoginError::Unavailable { .. } => Reason::Overloaded,
        LoginError::Barrier(error) => barrier_reason(error),
    }
}

fn lease_reason(error: &LeaseError) -> Reason {
    match error {
        LeaseError::Full | LeaseError::HolderFull { .. } => Reason::TooManyLeases,
        LeaseError::NoSuch(_) => Reason::NotFound,
        LeaseError::Ending(_) => Reason::LeaseEnding,
        LeaseError::Barrier(error) => barrier_reason(error),
    }
}

fn wrap_reason(error: &WrapError) -> Reason {
    match error {
        WrapError::TooLarge(_) => Reason::InvalidArgument,
        WrapError::Full => Reason::TooManyWrapped,
        WrapError::Nothing => Reason::NotFound,
        WrapError::Opened { .. } => Reason::AlreadyOpened,
        WrapError::Barrier(error) => barrier_reason(error),
    }
}

fn engine_reason(error: &EngineError) -> Reason {
    match error {
        EngineError::Invalid(_) | EngineError::WrongEngine => Reason::InvalidArgument,
        EngineError::Needs(_) => Reason::PermissionDenied,
        EngineError::NotFound => Reason::NotFound,
        EngineError::Own { reason, .. } => *reason,
        EngineError::Barrier(error) => barrier_reason(error),
    }
}

fn barrier_reason(error: &BarrierError) -> Reason {
    match error {
        BarrierError::Corrupt { .. } => Reason::Corrupt,
        BarrierError::Conflict => Reason::Conflict,
        BarrierError::TooLarge(_) => Reason::InvalidArgument,
        BarrierError::Stopped => Reason::ShuttingDown,
        BarrierError::Store(StoreError::ReadOnly(_)) => Reason::ReadOnly,
        BarrierError::Store(StoreError::Conflict(_)) => Reason::Conflict,
        _ => Reason::Internal,
    }
}

//! Machine-readable reasons of errors, carried as `google.rpc.ErrorInfo.reason` in the domain `strongroom.dev`.
//! Clients decide by the reason alone; the sentence beside it is for people and may change.

/// The domain of each of our `ErrorInfo`s.
pub const DOMAIN: &str = "strongroom.dev";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $code:ident, retry: $retry:literal;)*) => {
        /// Why a request failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All reasons, for documentation and tests.
            pub const ALL: &[Reason] = &[$(Reason::$name,)*];

            /// The wire form.
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            /// The number of the gRPC code of this reason; it is always the same.
            pub const fn code(self) -> i32 {
                match self { $(Reason::$name => tonic::Code::$code as i32,)* }
            }

            /// Whether the same request may succeed later without anybody's help, and is safe to send again.
            pub const fn is_retryable(self) -> bool {
                match self { $(Reason::$name => $retry,)* }
            }

            /// Parses the wire form; `None` for a reason of a later version.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Reason::$name),)* _ => None }
            }
        }
    };
}

reasons! {
    /// The store has not been initialised.
    NotInitialized = "NOT_INITIALIZED", FailedPrecondition, retry: false;
    /// The store is already initialised.
    AlreadyInitialized = "ALREADY_INITIALIZED", FailedPrecondition, retry: false;
    /// An init is not taken from where the caller is.
    InitElsewhere = "INIT_ELSEWHERE", PermissionDenied, retry: false;
    /// The server does not have its keys; metadata `progress`, `threshold`.
    Sealed = "SEALED", FailedPrecondition, retry: false;
    /// The server is already unsealed.
    NotSealed = "NOT_SEALED", FailedPrecondition, retry: false;
    /// The share is mistyped, foreign, repeated or wrong.
    ShareRejected = "SHARE_REJECTED", InvalidArgument, retry: false;
    /// The request has no bearer token.
    TokenMissing = "TOKEN_MISSING", Unauthenticated, retry: false;
    /// The token was not issued by this server.
    TokenInvalid = "TOKEN_INVALID", Unauthenticated, retry: false;
    /// The token has expired: log in again.
    TokenExpired = "TOKEN_EXPIRED", Unauthenticated, retry: false;
    /// The session is as long as it may be: log in again when it ends.
    NotRenewable = "NOT_RENEWABLE", Unauthenticated, retry: false;
    /// Somebody revoked the token.
    TokenRevoked = "TOKEN_REVOKED", Unauthenticated, retry: false;
    /// The name, the password or whatever else the method asks for is wrong.
    LoginRejected = "LOGIN_REJECTED", Unauthenticated, retry: false;
    /// The pod or the service account of the session is gone: log in again, if it still exists.
    PodGone = "POD_GONE", Unauthenticated, retry: false;
    /// No rule allows it, or one denies it; metadata `decision_id`, `verb`, `path`.
    PermissionDenied = "PERMISSION_DENIED", PermissionDenied, retry: false;
    /// There is nothing at the path; said only to those who may read it.
    NotFound = "NOT_FOUND", NotFound, retry: false;
    /// The version was deleted (metadata `version`, `deleted_at_ms`); an undelete brings it back.
    VersionDeleted = "VERSION_DELETED", NotFound, retry: false;
    /// The version's bytes are gone for good.
    VersionDestroyed = "VERSION_DESTROYED", NotFound, retry: false;
    /// The version has expired.
    VersionExpired = "VERSION_EXPIRED", NotFound, retry: false;
    /// Check-and-set failed; metadata `current_version`.
    VersionMismatch = "VERSION_MISMATCH", FailedPrecondition, retry: false;
    /// The secret requires `expected_version`.
    CasRequired = "CAS_REQUIRED", FailedPrecondition, retry: false;
    /// There is something at the path already.
    AlreadyExists = "ALREADY_EXISTS", AlreadyExists, retry: false;
    /// The key may not leave the server.
    NotExportable = "NOT_EXPORTABLE", FailedPrecondition, retry: false;
    /// The version of the key is below the oldest one that may be used (metadata `oldest_version`).
    VersionTooOld = "VERSION_TOO_OLD", FailedPrecondition, retry: false;
    /// A ciphertext was changed, or was made with another key, context or associated data.
    DoesNotOpen = "DOES_NOT_OPEN", InvalidArgument, retry: false;
    /// The mount has to be told first where its database is, or who its issuer is.
    NotConfigured = "NOT_CONFIGURED", FailedPrecondition, retry: false;
    /// The database does not want it, or is not trusted; metadata `sqlstate` if it said so itself.
    DatabaseRefused = "DATABASE_REFUSED", FailedPrecondition, retry: false;
    /// The quota of the mount or of a folder is used up; metadata `folder`, `limit_bytes`.
    QuotaExceeded = "QUOTA_EXCEEDED", ResourceExhausted, retry: false;
    /// There are as many leases as there may be, in all or of one principal.
    TooManyLeases = "TOO_MANY_LEASES", ResourceExhausted, retry: false;
    /// As many wrapped answers wait to be opened as there may be, in all or of one principal.
    TooManyWrapped = "TOO_MANY_WRAPPED", ResourceExhausted, retry: false;
    /// The wrapped answer was opened before (metadata `opened_at_ms`): if not by the caller, then by somebody else.
    AlreadyOpened = "ALREADY_OPENED", FailedPrecondition, retry: false;
    /// The lease is being ended: it cannot be renewed.
    LeaseEnding = "LEASE_ENDING", FailedPrecondition, retry: false;
    /// A field is wrong; metadata `field`.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument, retry: false;
    /// The server has too much work; retry after `retry_after_ms`.
    Overloaded = "OVERLOADED", ResourceExhausted, retry: true;
    /// Somebody changed the same thing at the same moment; nothing was written.
    Conflict = "CONFLICT", Aborted, retry: true;
    /// A watch or another stream ended before its caller ended it, because what permitted it has changed: open it again.
    WatchEnded = "WATCH_ENDED", Aborted, retry: true;
    /// The audit log cannot be written, so nothing is answered.
    AuditUnavailable = "AUDIT_UNAVAILABLE", Unavailable, retry: true;
    /// The cluster whose pod wants to log in does not answer; retry after `retry_after_ms`.
    ClusterUnavailable = "CLUSTER_UNAVAILABLE", Unavailable, retry: true;
    /// The database does not answer, or has no connection to spare.
    DatabaseUnavailable = "DATABASE_UNAVAILABLE", Unavailable, retry: true;
    /// The server is about to stop.
    ShuttingDown = "SHUTTING_DOWN", Unavailable, retry: true;
    /// The store is read-only (disk nearly full).
    ReadOnly = "READ_ONLY", Unavailable, retry: true;
    /// The data is older than the audit log or does not match it, or the log is missing: somebody restored an old copy or
    /// took the log away.
    RolledBack = "ROLLED_BACK", FailedPrecondition, retry: false;
    /// The audit log belongs to another store.
    ForeignAuditLog = "FOREIGN_AUDIT_LOG", FailedPrecondition, retry: false;
    /// A record could not be opened. This is an alarm: see the operator's guide.
    Corrupt = "CORRUPT", DataLoss, retry: false;
    /// The caller's deadline passed; a write may have happened.
    DeadlineExceeded = "DEADLINE_EXCEEDED", DeadlineExceeded, retry: false;
    /// It was done, and only its outcome could not be written to the audit log: do not repeat it.
    Unrecorded = "UNRECORDED", Internal, retry: false;
    /// The server is at fault; its log has the cause under the request id.
    Internal = "INTERNAL", Internal, retry: false;
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

//! Why a call of the kubelet fails. The sentence is what a person sees in `kubectl describe pod`: it says what is missing
//! and what to do about it, and never holds a token or a value.

use std::{io, path::PathBuf, time::Duration};

use strongroom_client::{Error, ErrorKind, volume::RenderError};
use tonic::{Code, Status};

use crate::{
    budget::OverBudget,
    volume::{Invalid, VolumeId},
    writer::WriteError,
};

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The request, or what the pod's volume attributes say.
    #[error("{0}")]
    Invalid(Invalid),
    /// The volume is mounted in another way.
    #[error("volume {id} is already mounted with a different {what}; unpublish it first")]
    Differs {
        id: VolumeId,
        /// What is not the same.
        what: &'static str,
    },
    /// Another call for the volume is in progress.
    #[error("another call for volume {0} is in progress")]
    Busy(VolumeId),
    /// No such volume is mounted.
    #[error("volume {id} is not mounted at {path}")]
    Unknown {
        id: String,
        /// Where it was looked for.
        path: String,
    },
    /// The node holds as many volumes as it may.
    #[error("this node already has {0} mounted volumes, which is the limit")]
    Full(usize),
    /// The kubelet gave no token for us.
    #[error(
        "the kubelet sent no token for the audience {0:?}: the CSIDriver object needs tokenRequests with \
         `audience: {0}`"
    )]
    NoToken(String),
    /// The server did not accept the pod's token.
    #[error(
        "the server refused the login of {principal}: {}. The server's configuration must name this \
         cluster, with the audience that this driver uses ({audience})",
        sentence(error)
    )]
    Login {
        /// Who the pod would be.
        principal: String,
        /// Which audience its token has.
        audience: String,
        /// What the server said.
        error: Error,
    },
    #[error(
        "{principal} may not {verb} {path}: ask for a role with {verb} on it; `strongroom can-i {verb} \
         {path} --as {principal}` explains why"
    )]
    Denied {
        /// Who the pod is.
        principal: String,
        /// What it wanted to do.
        verb: &'static str,
        /// What it asked for.
        path: String,
        /// Where that stands in the audit log.
        decision: String,
    },
    /// There is no such secret, or nothing readable in it.
    #[error(
        "{path}: {error}. Write it, or set `optional: true` in the volume's attributes if the pod can do without it"
    )]
    Missing { path: String, error: Error },
    /// Nothing is issued there.
    #[error(
        "{path}: {error}. Nothing can be issued for the pod there: `issue` in the volume's attributes takes the path of a role of an \
         engine that issues, such as database/NAME"
    )]
    NotIssued { path: String, error: Error },
    /// The secrets do not have what the description wants.
    #[error("{0}")]
    Render(#[from] RenderError),
    /// The server was not reached within the time of a call.
    #[error(
        "the server could not be reached for {} s: {why}. The pod waits, and the kubelet tries again", waited.as_secs()
    )]
    Unreachable {
        /// For how long it was tried.
        waited: Duration,
        /// What happened last.
        why: String,
    },
    /// Anything else that the server may answer.
    #[error("{path}: {error}")]
    Server {
        /// What was asked for.
        path: String,
        error: Error,
    },
    /// Something that this driver did not mount is at the target.
    #[error("something that this driver did not mount is at {0}; unmount it")]
    Foreign(PathBuf),
    /// What is there would be hidden by the mount, and could not be removed with it.
    #[error("{0} is not empty, and a volume is to be mounted over it: remove what is in it on the node")]
    Occupied(PathBuf),
    #[error("{0}")]
    Budget(#[from] OverBudget),
    #[error("cannot use the target {path} on this node: {cause}")]
    Target { path: PathBuf, cause: io::Error },
    #[error("cannot mount on this node: {0}")]
    Mount(#[source] io::Error),
    #[error("cannot write the files on this node: {0}")]
    Write(#[from] WriteError),
    /// What is to survive a restart.
    #[error("cannot use this driver's state folder on this node: {0}")]
    State(#[source] io::Error),
    /// A fault of ours.
    #[error("a task of this driver failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl Failure {
    /// From what the server answered to a question about `path`.
    pub fn reading(principal: &str, path: &str, error: Error) -> Self {
        match Self::answered(principal, "read", path, error) {
            Failure::Server { path, error } if error.is_not_found() => Failure::Missing { path, error },
            other => other,
        }
    }

    /// From what the server answered when something was to be issued or renewed.
    pub fn issuing(principal: &str, path: &str, error: Error) -> Self {
        match Self::answered(principal, "use", path, error) {
            Failure::Server { path, error }
                if error.is_not_found() || matches!(error.kind(), ErrorKind::InvalidArgument { .. }) =>
            {
                Failure::NotIssued { path, error }
            }
            other => other,
        }
    }

    fn answered(principal: &str, verb: &'static str, path: &str, error: Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            ErrorKind::Denied { decision_id, path: denied, .. } => Failure::Denied {
                principal: principal.to_owned(),
                verb,
                path: if denied.is_empty() { path } else { denied.clone() },
                decision: decision_id.clone(),
            },
            _ => Failure::Server { path, error },
        }
    }

    /// Whether it may pass by itself: the server cannot be reached, or it is starting, sealed or busy.
    pub fn is_transient(&self) -> bool {
        match self {
            Failure::Login { error, .. } | Failure::Server { error, .. } => {
                error.is_transient() || *error.kind() == ErrorKind::Internal
            }
            Failure::Unreachable { .. } => true,
            _ => false,
        }
    }

    /// What happened, without the advice for a refusal.
    pub fn cause(&self) -> String {
        match self {
            Failure::Login { error, .. } | Failure::Server { error, .. } => error.to_string(),
            Failure::Unreachable { why, .. } => why.clone(),
            other => other.to_string(),
        }
    }

    /// Whether the node has no room for the files, which may change when a pod closes old ones.
    pub fn is_of_this_node(&self) -> bool {
        matches!(self, Failure::Write(_))
    }

    /// Whether the session that was used is of no use any more.
    pub fn is_session_over(&self) -> bool {
        matches!(self, Failure::Server { error, .. } if matches!(error.kind(), ErrorKind::Unauthenticated(_)))
    }

    /// Where a refusal stands in the audit log: for our log, and not for those who read the same words again and again.
    pub fn decision(&self) -> Option<&str> {
        match self {
            Failure::Denied { decision, .. } => Some(decision),
            _ => None,
        }
    }

    /// A name for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Failure::Invalid(_) => "invalid",
            Failure::Differs { .. } => "differs",
            Failure::Busy(_) => "busy",
            Failure::Unknown { .. } => "unknown_volume",
            Failure::Full(_) => "full",
            Failure::NoToken(_) => "no_token",
            Failure::Login { .. } => "login",
            Failure::Denied { .. } => "denied",
            Failure::Missing { .. } => "missing",
            Failure::NotIssued { .. } => "not_issued",
            Failure::Render(_) => "render",
            Failure::Unreachable { .. } => "unreachable",
            Failure::Server { .. } => "server",
            Failure::Budget(_) | Failure::Write(WriteError::Budget(_)) => "budget",
            Failure::Foreign(_) | Failure::Occupied(_) | Failure::Target { .. } | Failure::Mount(_) => {
                "mount"
            }
            Failure::Write(_) => "write",
            Failure::State(_) => "state",
            Failure::Task(_) => "internal",
        }
    }

    fn code(&self) -> Code {
        match self {
            Failure::Invalid(_) => Code::InvalidArgument,
            Failure::Differs { .. } => Code::AlreadyExists,
            Failure::Busy(_) => Code::Aborted,
            Failure::Unknown { .. } | Failure::Missing { .. } | Failure::NotIssued { .. } => Code::NotFound,
            Failure::Full(_) | Failure::Budget(_) | Failure::Write(WriteError::Budget(_)) => {
                Code::ResourceExhausted
            }
            Failure::NoToken(_) | Failure::Render(_) | Failure::Foreign(_) | Failure::Occupied(_) => {
                Code::FailedPrecondition
            }
            Failure::Login { .. } => Code::Unauthenticated,
            Failure::Denied { .. } => Code::PermissionDenied,
            Failure::Unreachable { .. } => Code::Unavailable,
            Failure::Server { .. }
            | Failure::Target { .. }
            | Failure::Mount(_)
            | Failure::Write(_)
            | Failure::State(_)
            | Failure::Task(_) => Code::Internal,
        }
    }
}

/// The server's own words where it has some: it knows more of a pod's token than the kind of error tells.
fn sentence(error: &Error) -> String {
    match error.kind() {
        ErrorKind::Unauthenticated(_) if !error.message().is_empty() => error.message().to_owned(),
        _ => error.to_string(),
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        Status::new(failure.code(), failure.to_string())
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Failure::Invalid(invalid)
    }
}

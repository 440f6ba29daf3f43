//! Why a command failed: a sentence, a hint where one helps, and an exit code that scripts can tell apart.

use std::fmt;

use strongroom_client::{Error, ErrorKind, Reason};

#[derive(Debug)]
pub(crate) enum Failure {
    /// The command was used wrongly.
    Usage(String),
    /// The server, or the way to it.
    Client(Error),
    /// Something on this machine, with what was being done.
    Local(String),
    /// What was asked for is not there.
    NotThere(String),
    /// Nobody is logged in.
    NotLoggedIn,
    /// What was typed is not the password of who is logged in.
    WrongPassword,
    /// The token was got from another server than the one that is asked now.
    OtherServer { from: String, to: String },
    /// The server has no keys; that is printed already.
    NotServing,
    /// The engine that the command needs is not there.
    NotMounted { name: String, kind: &'static str },
    /// The answer is "no"; it is printed already.
    No,
    /// The reader of standard output has gone, as `head` does.
    ReaderGone,
}

impl Failure {
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::Usage(sentence.into())
    }

    pub(crate) fn local(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::Local(format!("{what}: {error}"))
    }

    /// Whether nothing is left to be said: the answer was printed, or nobody reads any more.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::No | Self::ReaderGone | Self::NotServing)
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Local(_) | Self::No => 1,
            Self::Usage(_) => 2,
            Self::NotLoggedIn | Self::WrongPassword | Self::OtherServer { .. } => 3,
            Self::NotMounted { .. } | Self::NotThere(_) => 4,
            Self::NotServing => 5,
            Self::Client(error) => match error.kind() {
                ErrorKind::Config | ErrorKind::InvalidArgument { .. } => 2,
                ErrorKind::Unauthenticated(_) | ErrorKind::Denied { .. } | ErrorKind::InitElsewhere => 3,
                _ if error.is_not_found() => 4,
                ErrorKind::Connection
                | ErrorKind::Sealed { .. }
                | ErrorKind::NotInitialized
                | ErrorKind::Unavailable
                | ErrorKind::Overloaded
                | ErrorKind::DeadlineExceeded => 5,
                _ => 1,
            },
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        let error = match self {
            Self::NotLoggedIn => return Some("log in with: strongroom login -u NAME".into()),
            Self::OtherServer { to, .. } => {
                return Some(format!(
                    "log in there: strongroom --address {to} login -u NAME; --profile keeps both"
                ));
            }
            Self::NotMounted { name, kind } => {
                return Some(format!(
                    "an administrator can mount it: strongroom mount add {name} --kind {kind}"
                ));
            }
            Self::Client(error) => error,
            _ => return None,
        };
        Some(match error.kind() {
            ErrorKind::Unauthenticated(Reason::LoginRejected) => {
                "a wrong name and a wrong password look the same; for a pod, check the audience and the cluster of its token"
                    .into()
            }
            ErrorKind::Unauthenticated(_) => "log in again: strongroom login -u NAME".into(),
            ErrorKind::Denied { verb, path, .. } => {
                format!("find out why: strongroom can-i {verb} {path}")
            }
            ErrorKind::Sealed { .. } => "give a share: strongroom unseal".into(),
            ErrorKind::NotInitialized => "initialise it once: strongroom init".into(),
            ErrorKind::VersionDeleted { version, .. } => {
                format!("bring it back: strongroom undelete PATH --versions {version}")
            }
            ErrorKind::VersionMismatch { .. } => {
                "see strongroom history PATH, where deleted versions count too, and repeat the change".into()
            }
            ErrorKind::CasRequired => "add --expected-version N (see strongroom history PATH)".into(),
            ErrorKind::Connection => "check --address and --ca".into(),
            ErrorKind::Config if error.message().contains("no CA") => {
                "give the CA certificate of the server with --ca FILE or STRONGROOM_CACERT".into()
            }
            ErrorKind::Unrecorded => {
                "look at what is there before you write again; the server's audit log needs an operator".into()
            }
            ErrorKind::Internal | ErrorKind::Corrupt => {
                format!("the server's log has the cause under request {}", error.request_id()?)
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(sentence) | Self::Local(sentence) | Self::NotThere(sentence) => f.write_str(sentence),
            Self::OtherServer { from, to } => {
                write!(f, "not logged in at {to}: the token is from {from}, and is not sent elsewhere")
            }
            Self::NotServing => f.write_str("the server has no keys"),
            Self::Client(error) => error.fmt(f),
            Self::NotLoggedIn => f.write_str("not logged in"),
            Self::WrongPassword => f.write_str("that is not your current password"),
            Self::NotMounted { name, kind } => write!(f, "the engine {kind} is not mounted at {name}/"),
            Self::No => f.write_str("no"),
            Self::ReaderGone => f.write_str("nobody reads the output"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Local(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_failures_apart() {
        assert_eq!(Failure::usage("x").code(), 2);
        assert_eq!(Failure::NotLoggedIn.code(), 3);
        assert_eq!(Failure::No.code(), 1);
        let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(Failure::from(pipe).code(), 0);
    }

    #[test]
    fn a_sentence_names_what_was_done() {
        let failure = Failure::local("/tmp/x", "permission denied");
        assert_eq!(failure.to_string(), "/tmp/x: permission denied");
    }
}

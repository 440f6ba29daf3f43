//! What somebody asks, parsed, and what is answered: the words between the wire and the pipeline. No tonic here.

use std::{net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;

use super::{context::Origin, error::Error};
use crate::{
    audit,
    auth::users::{self, UserInfo},
    engines, leases,
    model::{Group, Invalid, Path, Principal, RequestId, SecretBytes, Timestamp, Verb},
    policy,
    tokens::{self, Session},
    wrapping,
};

/// A place among the requests in progress; free again when the last clone is dropped. A write holds one until it is done,
/// whatever became of its caller; a stream until it ends; and whoever answers, until the answer is sent.
pub type Slot = Arc<dyn Place>;

/// See [`Slot`].
pub trait Place: Send + Sync {
    /// Asked when it is known who the caller is, and before anything is done for them.
    ///
    /// # Errors
    /// They have their share already, or have used up what they may ask for in this time.
    fn claim(&self, who: &Principal, is_write: bool) -> Result<(), Error>;

    /// Room for what is in memory of an answer that cannot leave yet, until what is returned is dropped.
    ///
    /// # Errors
    /// They have too much of it, or all together.
    fn room(&self, bytes: usize) -> Result<Box<dyn Send>, Error>;

    /// The same of a stranger who wants to init or unseal, and might have what it takes.
    ///
    /// # Errors
    /// Too many are at it from there.
    fn attempt(&self) -> Result<(), Error>;
}

/// One request, from whatever wire.
pub struct Request {
    pub origin: Origin,
    /// Held until it is done.
    pub slot: Slot,
    /// The bearer token as it was sent.
    pub bearer: Option<SecretBytes>,
    /// What is asked. What could not be parsed runs through the pipeline too, so that it is authenticated and recorded.
    pub action: Result<Action, Invalid>,
}

/// Everything an authenticated caller can ask for.
pub enum Action {
    /// Something of an engine, at one or more paths of one mount.
    Engine {
        /// Where. Never empty.
        paths: Vec<Path>,
        operation: Box<dyn engines::Operation>,
    },
    /// The same, with one answer, which is kept for whoever shows a token.
    Wrap {
        /// Where. Never empty.
        paths: Vec<Path>,
        operation: Box<dyn engines::Operation>,
        wrap: Wrap,
    },
    /// About one's own session.
    Session(SessionAction),
    /// Ends other sessions.
    Revoke(tokens::Which),
    /// People who are kept here.
    User(UserAction),
    /// Roles and bindings.
    Policy(PolicyAction),
    /// The server itself.
    Sys(SysAction),
    Audit(AuditAction),
    /// What was issued and has to end.
    Lease(LeaseAction),
}

/// What is to become of an answer.
pub struct Wrap {
    /// `Secrets.Get`
    pub operation: &'static str,
    pub ttl: Duration,
}

/// See [`Action::Session`].
pub enum SessionAction {
    /// A later expiry.
    Renew,
    Whoami,
    Logout,
    /// Of the user whose session it is.
    ChangePassword {
        current: SecretBytes,
        new: SecretBytes,
    },
    CanI(CanI),
}

/// A question about rights.
pub struct CanI {
    pub verb: Verb,
    pub path: Path,
    pub who: Option<Principal>,
    /// Where they come from, if that is known of somebody else.
    pub peer: Option<IpAddr>,
}

impl CanI {
    /// For the audit log.
    pub(super) fn describe(&self) -> String {
        let who = self.who.as_ref().map(|who| format!(" as {who}")).unwrap_or_default();
        format!("{} on {}{who}", self.verb, self.path)
    }
}

/// See [`Action::User`].
pub enum UserAction {
    /// Create or change.
    Put {
        name: Box<str>,
        /// `None` = unchanged.
        password: Option<SecretBytes>,
        /// `None` = unchanged.
        groups: Option<Vec<Group>>,
    },
    /// Delete and revoke.
    Delete {
        name: Box<str>,
    },
    List,
}

/// See [`Action::Policy`].
pub enum PolicyAction {
    /// Create, change, remove.
    Apply {
        yaml: String,
        /// Objects to remove.
        remove: Vec<(policy::ObjectKind, String)>,
        dry_run: bool,
        /// Even if nobody can change it back.
        force: bool,
    },
    Export,
    /// About somebody else.
    CanI(CanI),
    WhoCan {
        verb: Verb,
        path: Path,
    },
}

/// See [`Action::Sys`].
pub enum SysAction {
    /// Forget the keys.
    Seal,
    Rotate,
    /// New shares or another seal, to be confirmed.
    Rekey {
        /// The seal to move to.
        seal: crate::seal::SealConfig,
        /// Shares of the current seal.
        current_shares: Vec<SecretBytes>,
    },
    /// The new shares have arrived: switch.
    ConfirmRekey(Vec<SecretBytes>),
    /// Read everything.
    Scrub,
    /// Put an engine somewhere.
    Mount {
        name: String,
        kind: String,
        description: String,
        /// For the engine.
        settings: engines::Settings,
    },
    Unmount {
        name: String,
        destroy_data: bool,
    },
    /// Change a mount.
    Tune {
        name: String,
        /// `None` = unchanged.
        description: Option<String>,
        /// Replaces all; `None` = unchanged.
        settings: Option<engines::Settings>,
    },
    ListMounts,
}

/// See [`Action::Audit`].
pub enum AuditAction {
    /// The newest lines.
    Tail {
        /// How many old ones.
        last: u32,
        /// And those to come.
        follow: bool,
    },
    /// Lines that match.
    Query { filter: audit::Filter, limit: u32 },
    /// The keyed hash of a value, as it is where it was written.
    Hash { path: Path, field: String, value: SecretBytes },
}

/// See [`Action::Lease`]. What is about one by its id is the business of whoever it was issued to, too: what that needs turns
/// out with the lease.
pub enum LeaseAction {
    /// Has the engine at the path issue something, whatever it issues.
    Issue {
        path: Path,
        /// In seconds. `None` = as the engine says.
        ttl: Option<u64>,
    },
    List(leases::Page),
    Renew {
        id: RequestId,
        /// `None` = what it was issued for.
        increment: Option<Duration>,
    },
    Revoke(leases::Selector),
    /// Without its being unmade.
    Forget(RequestId),
}

/// A stream of answers.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>;

/// What is answered.
pub enum Answer {
    Reply(Box<dyn engines::Reply>),
    /// An engine's, about something that has a lease now; and what that is.
    Issued {
        reply: Box<dyn engines::Reply>,
        granted: engines::Granted,
        what: Box<str>,
    },
    /// What was issued, by names; its lease and what that is, if it has one; and how long it is good.
    Given {
        values: Vec<(&'static str, SecretBytes)>,
        lease: Option<(engines::Granted, Box<str>)>,
        lifetime: Duration,
    },
    /// What was answered is kept. `what` has a lease now, if anything has.
    Wrapped {
        token: SecretBytes,
        about: wrapping::About,
        what: Option<Box<str>>,
        /// As that of a reply.
        version: Option<u64>,
    },
    /// An engine's answers, one after the other.
    Replies(Answers<Box<dyn engines::Reply>>),
    Token(SecretBytes, Session),
    /// Who one is, and with what roles.
    Whoami(Session, Vec<String>),
    /// Nothing but success.
    Done,
    Users(Vec<UserInfo>),
    /// What an apply did, or would do.
    Applied(Vec<policy::Change>),
    Policy(String),
    /// Whether, and why.
    Decision(policy::Decision),
    WhoCan(Vec<policy::WhoCan>),
    Term(u32),
    Shares(Vec<SecretBytes>),
    Mounts(Vec<engines::MountInfo>),
    /// What a scrub found.
    Scrub(crate::barrier::ScrubReport),
    /// Lines of the audit log.
    Lines(Answers<Vec<String>>),
    Hash(String),
    /// One page, whether there are more, and when that was known.
    Leases(Vec<leases::Info>, bool, Timestamp),
    Renewed(engines::Granted),
    /// How many leases have ended and how many have not yet, with what the last attempt said.
    Ended {
        ended: usize,
        pending: usize,
        last_error: Option<Box<str>>,
    },
    /// A lease is gone, and this is what it stood for.
    Forgotten(Box<str>),
}

impl Answer {
    /// How much of it is in memory, about, where it can be much.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Reply(reply) | Self::Issued { reply, .. } => reply.bytes(),
            _ => 0,
        }
    }
}

/// What has to be granted before an action is done.
pub(super) struct Needs {
    /// At least one of these.
    pub(super) verbs: &'static [Verb],
    /// On each of these; never empty.
    pub(super) paths: Vec<Path>,
}

/// Where mounts are, for policies.
const MOUNTS: &str = "sys/mounts";

pub(super) fn sys_path(path: &str) -> Result<Path, Invalid> {
    Path::parse_field("path", path)
}

impl Action {
    /// What has to be granted. `None`: it is about the caller's own session, for which any session will do.
    ///
    /// # Errors
    /// What is named cannot be a path.
    pub(super) fn needs(&self) -> Result<Option<Needs>, Invalid> {
        use Verb::{Create, Delete, Destroy, List, Manage, Read, Update, Use};
        let (verbs, path): (&'static [Verb], String) = match self {
            Action::Engine { paths, operation } | Action::Wrap { paths, operation, .. } => {
                return Ok(Some(Needs { verbs: operation.verbs(), paths: paths.clone() }));
            }
            Action::Session(_) => return Ok(None),
            Action::Revoke(_) => (&[Update], "sys/tokens".into()),
            // Who sets passwords and groups can be anybody, so it takes the right to change the policy as well.
            Action::User(UserAction::Put { name, .. }) => {
                let paths = [format!("{}/{name}", users::PATH), "sys/policy".into()];
                let paths = paths.iter().map(|path| sys_path(path)).collect::<Result<_, _>>()?;
                return Ok(Some(Needs { verbs: &[Manage], paths }));
            }
            Action::User(UserAction::Delete { name }) => (&[Delete], format!("{}/{name}", users::PATH)),
            Action::User(UserAction::List) => (&[List], users::PATH.into()),
            Action::Policy(PolicyAction::Apply { .. }) => (&[Manage], "sys/policy".into()),
            Action::Policy(PolicyAction::Export | PolicyAction::CanI(_) | PolicyAction::WhoCan { .. }) => {
                (&[Read], "sys/policy".into())
            }
            Action::Sys(SysAction::Seal) => (&[Update], "sys/seal".into()),
            Action::Sys(SysAction::Rotate) => (&[Update], "sys/rotate".into()),
            Action::Sys(SysAction::Rekey { .. } | SysAction::ConfirmRekey(_)) => {
                (&[Manage], "sys/rekey".into())
            }
            Action::Sys(SysAction::Scrub) => (&[Update], "sys/scrub".into()),
            Action::Sys(SysAction::Mount { name, .. }) => (&[Create], format!("{MOUNTS}/{name}")),
            Action::Sys(SysAction::Unmount { name, destroy_data: false }) => {
                (&[Delete], format!("{MOUNTS}/{name}"))
            }
            Action::Sys(SysAction::Unmount { name, destroy_data: true }) => {
                (&[Destroy], format!("{MOUNTS}/{name}"))
            }
            Action::Sys(SysAction::Tune { name, .. }) => (&[Manage], format!("{MOUNTS}/{name}")),
            Action::Sys(SysAction::ListMounts) => (&[List], MOUNTS.into()),
            // Guessing at a value is close to reading it: it takes a right on that path too.
            Action::Audit(AuditAction::Hash { path, .. }) => {
                let paths = vec![sys_path("sys/audit/hash")?, path.clone()];
                return Ok(Some(Needs { verbs: &[Use], paths }));
            }
            Action::Audit(AuditAction::Tail { .. } | AuditAction::Query { .. }) => {
                (&[Read], "sys/audit".into())
            }
            Action::Lease(LeaseAction::Issue { path, .. }) => {
                return Ok(Some(Needs { verbs: &[Use], paths: vec![path.clone()] }));
            }
            Action::Lease(LeaseAction::List(page)) => match page.which.place() {
                Some(place) => (&[List], place),
                None => return Ok(None),
            },
            Action::Lease(LeaseAction::Revoke(which)) => match which.place() {
                Some(place) => (&[Update], place),
                None => return Ok(None),
            },
            Action::Lease(LeaseAction::Renew { .. } | LeaseAction::Forget(_)) => return Ok(None),
        };
        Ok(Some(Needs { verbs, paths: vec![sys_path(&path)?] }))
    }

    /// Whether it changes something: then the intent is recorded before and the outcome after, and a caller who goes
    /// away does not stop it half-way.
    pub(super) fn is_write(&self) -> bool {
        match self {
            Action::Engine { operation, .. } => operation.is_write(),
            // Whatever it is: an answer is written.
            Action::Wrap { .. } => true,
            Action::Session(action) => match action {
                SessionAction::Logout | SessionAction::ChangePassword { .. } => true,
                SessionAction::Renew | SessionAction::Whoami | SessionAction::CanI(_) => false,
            },
            Action::User(action) => match action {
                UserAction::Put { .. } | UserAction::Delete { .. } => true,
                UserAction::List => false,
            },
            Action::Policy(action) => match action {
                PolicyAction::Apply { dry_run, .. } => !dry_run,
                PolicyAction::Export | PolicyAction::CanI(_) | PolicyAction::WhoCan { .. } => false,
            },
            Action::Revoke(_) => true,
            Action::Sys(action) => !matches!(action, SysAction::ListMounts),
            Action::Audit(_) => false,
            Action::Lease(action) => match action {
                LeaseAction::Issue { .. }
                | LeaseAction::Renew { .. }
                | LeaseAction::Revoke(_)
                | LeaseAction::Forget(_) => true,
                LeaseAction::List(_) => false,
            },
        }
    }
}

//! What is known of a request while it is handled: at first where it comes from, and once its caller is known, whose it
//! is, by which policy it is judged and what it is about. Whoever handles it has it from here.

use std::{net::IpAddr, sync::Arc};

use super::request::{
    Action, AuditAction, LeaseAction, Needs, PolicyAction, SessionAction, SysAction, UserAction,
};
use crate::{
    crypto::{Digest, sha256},
    model::{Group, Path, RequestId, Timestamp},
    policy::{Documents, PolicySet},
    tokens::Session,
};

/// All that the log has of one.
const NEW_PASSWORD: &str = "a new password";

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Made by us, told to the caller and written to the audit log.
    pub id: RequestId,
    /// `Secrets.Get`; what the audit log calls it.
    pub name: &'static str,
    /// The other end of the connection.
    pub peer: Option<IpAddr>,
}

/// A request whose caller is known.
pub(super) struct RequestContext {
    pub(super) origin: Origin,
    pub(super) session: Arc<Session>,
    pub(super) at: Timestamp,
    /// What it is judged by.
    pub(super) policy: Arc<PolicySet>,
    /// What it is about; nothing while it could not be parsed.
    pub(super) place: ActedOn,
}

/// What an action is about, made once for all of its records. Names and hashes, never a value.
#[derive(Default)]
pub(super) struct ActedOn {
    paths: Vec<Path>,
    pub(super) target: Option<String>,
    pub(super) objects: Vec<String>,
    pub(super) sha256: Option<Digest>,
    pub(super) versions: Vec<u64>,
    /// Only the answer can say which version it is.
    pub(super) latest: bool,
}

impl RequestContext {
    pub(super) fn id(&self) -> RequestId {
        self.origin.id
    }
}

impl ActedOn {
    pub(super) fn of(action: &Action, needs: Option<&Needs>) -> Self {
        let place =
            Self { paths: needs.map(|needs| needs.paths.clone()).unwrap_or_default(), ..Self::default() };
        match action {
            Action::Engine { operation, .. } => Self {
                objects: operation.changes(),
                versions: operation.versions(),
                latest: operation.is_about_the_latest(),
                ..place
            },
            Action::Wrap { operation, wrap, .. } => Self {
                target: Some(format!("{} for {} s", wrap.operation, wrap.ttl.as_secs())),
                objects: operation.changes(),
                versions: operation.versions(),
                latest: operation.is_about_the_latest(),
                ..place
            },
            Action::Session(action) => Self { target: about_session(action), ..place },
            Action::Revoke(which) => Self { target: Some(which.describe()), ..place },
            Action::User(action) => Self { target: about_user(action), ..place },
            Action::Policy(action) => place.about_policy(action),
            Action::Sys(action) => place.about_sys(action),
            Action::Audit(action) => Self { target: about_audit(action), ..place },
            Action::Lease(action) => Self { target: Some(about_leases(action)), ..place },
        }
    }

    /// Where.
    pub(super) fn paths(&self) -> Vec<&str> {
        self.paths.iter().map(Path::as_str).collect()
    }

    fn about_policy(self, action: &PolicyAction) -> Self {
        let target = match action {
            PolicyAction::Apply { yaml, remove, dry_run, .. } => {
                let documents = Documents::parse(yaml).unwrap_or_default();
                let applied = documents.names().map(|(kind, name)| format!("apply {kind} {name}"));
                let removed = remove.iter().map(|(kind, name)| format!("remove {kind} {name}"));
                return Self {
                    objects: applied.chain(removed).collect(),
                    sha256: Some(sha256(yaml.as_bytes())),
                    target: dry_run.then(|| "dry run".to_owned()),
                    ..self
                };
            }
            PolicyAction::Export => None,
            PolicyAction::CanI(question) => Some(question.describe()),
            PolicyAction::WhoCan { verb, path } => Some(format!("{verb} on {path}")),
        };
        Self { target, ..self }
    }

    fn about_sys(self, action: &SysAction) -> Self {
        let target = match action {
            SysAction::Mount { kind, .. } => Some(kind.clone()),
            SysAction::Unmount { destroy_data: true, .. } => Some("with its data".to_owned()),
            SysAction::Rekey { seal, .. } => Some(seal.describe()),
            SysAction::ConfirmRekey(shares) => {
                Some(format!("the prepared seal, with {} shares", shares.len()))
            }
            SysAction::Tune { description, settings, .. } => {
                let named = description.iter().map(|_| "description".to_owned());
                let settings = settings.iter().flat_map(|settings| settings.keys());
                let objects = named.chain(settings.map(|key| format!("setting {key}"))).collect();
                return Self { objects, ..self };
            }
            SysAction::Unmount { destroy_data: false, .. }
            | SysAction::Seal
            | SysAction::Rotate
            | SysAction::Scrub
            | SysAction::ListMounts => None,
        };
        Self { target, ..self }
    }
}

fn about_session(action: &SessionAction) -> Option<String> {
    match action {
        SessionAction::CanI(question) => Some(question.describe()),
        SessionAction::ChangePassword { .. } => Some(NEW_PASSWORD.to_owned()),
        SessionAction::Renew | SessionAction::Whoami | SessionAction::Logout => None,
    }
}

fn about_user(action: &UserAction) -> Option<String> {
    let UserAction::Put { password, groups, .. } = action else { return None };
    let names = |groups: &Vec<Group>| groups.iter().map(|group| &*group.name).collect::<Vec<_>>().join(" ");
    let groups = groups.as_ref().map(|groups| format!("groups [{}]", names(groups)));
    let password = password.as_ref().map(|_| NEW_PASSWORD.to_owned());
    let changed: Vec<String> = groups.into_iter().chain(password).collect();
    (!changed.is_empty()).then(|| changed.join(", "))
}

fn about_audit(action: &AuditAction) -> Option<String> {
    match action {
        AuditAction::Tail { last, follow: true } => Some(format!("the last {last} lines and those to come")),
        AuditAction::Tail { last, follow: false } => Some(format!("the last {last} lines")),
        AuditAction::Query { filter, .. } => Some(filter.describe()),
        AuditAction::Hash { field, .. } => Some(format!("the field {}", field.escape_debug())),
    }
}

fn about_leases(action: &LeaseAction) -> String {
    match action {
        LeaseAction::Issue { path, .. } => format!("whatever {}/ issues", path.mount()),
        LeaseAction::List(page) => page.which.describe(),
        LeaseAction::Renew { id, .. } | LeaseAction::Forget(id) => format!("lease {id}"),
        LeaseAction::Revoke(which) => which.describe(),
    }
}

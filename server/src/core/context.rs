//! What is known of a request while it is on its way: at first where it comes from, and once its caller is known, whose it
//! is, by which policy it is judged and what it is about. Whoever handles it has it from here.

use std::{net::IpAddr, sync::Arc};

use super::request::{Action, Needs, SysAction, UserAction};
use crate::{
    model::{Path, RequestId, Timestamp},
    policy::PolicySet,
    tokens::Session,
};

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
    /// What it is judged by; long streams notice when there is another one.
    pub(super) policy: Arc<PolicySet>,
    /// What it is about; nothing while it could not be parsed.
    pub(super) place: Place,
}

/// What an action is about, made once for all of its records.
#[derive(Default)]
pub(super) struct Place {
    pub(super) path: Option<String>,
    pub(super) target: Option<String>,
    pub(super) version: Option<u64>,
}

impl RequestContext {
    pub(super) fn id(&self) -> RequestId {
        self.origin.id
    }
}

impl Place {
    pub(super) fn of(action: &Action, needs: Option<&Needs>) -> Self {
        let path = needs.map(|needs| needs.paths.iter().map(Path::as_str).collect::<Vec<_>>().join(" "));
        let version = match action {
            Action::Engine { operation, .. } => operation.version(),
            _ => None,
        };
        let target = match action {
            Action::Revoke(which) => Some(which.describe()),
            Action::Sys(SysAction::Mount { kind, .. }) => Some(kind.clone()),
            Action::Sys(SysAction::Unmount { destroy_data: true, .. }) => Some("with its data".to_owned()),
            Action::User(UserAction::Put { password, groups, .. }) => {
                let groups = groups.iter().map(|group| &*group.name).collect::<Vec<_>>().join(" ");
                let password = if password.is_some() { ", a new password" } else { "" };
                Some(format!("groups [{groups}]{password}"))
            }
            _ => None,
        };
        Self { path, target, version }
    }
}

//! Between our words and the wire's. No decisions; what cannot be parsed names its field.

use strongroom_proto::v1;

use crate::{
    audit::Filter,
    auth::users::UserInfo,
    core::Status,
    engines::{MountInfo, MountState},
    model::{Invalid, SecretBytes, Timestamp},
    policy::{self, Decision, ObjectKind, Rule},
    tokens::Session,
};

/// A role or binding by name.
pub(super) fn object_name(object: &v1::ObjectName) -> Result<(ObjectKind, String), Invalid> {
    let kind = match object.kind.as_str() {
        "Role" => ObjectKind::Role,
        "Binding" => ObjectKind::Binding,
        _ => return Err(Invalid::new("remove.kind", "is neither Role nor Binding")),
    };
    Ok((kind, object.name.clone()))
}

/// A minted token.
pub(super) fn token(token: SecretBytes, session: &Session) -> v1::TokenResponse {
    v1::TokenResponse { token: Some(token.into()), session: Some(self::session(session)) }
}

/// A session, without anything secret.
pub(super) fn session(session: &Session) -> v1::Session {
    let pod = session.principal.pod().map(|pod| v1::Pod {
        name: pod.name.to_string(),
        uid: pod.uid.to_string(),
        node: pod.node.as_deref().unwrap_or_default().to_owned(),
    });
    v1::Session {
        pod,
        id: session.id.to_string(),
        principal: session.principal.to_string(),
        method: session.method().to_owned(),
        issued_at_ms: session.issued.as_millis(),
        expires_at_ms: session.expires.as_millis(),
        max_expires_at_ms: session.max_expires.as_millis(),
        groups: session.principal.groups().iter().map(ToString::to_string).collect(),
    }
}

/// A user, without the password.
pub(super) fn user(user: UserInfo) -> v1::list_users_response::User {
    v1::list_users_response::User {
        name: user.name.into(),
        groups: user.groups.iter().map(|group| group.name.to_string()).collect(),
        created_at_ms: user.created.as_millis(),
    }
}

/// What anybody may know.
pub(super) fn core_status(status: &Status) -> v1::StatusResponse {
    v1::StatusResponse {
        initialized: status.initialized,
        sealed: status.sealed,
        seal: status.seal.as_ref().map(|seal| seal.kind.to_owned()).unwrap_or_default(),
        shares: status.seal.as_ref().map_or(0, |seal| seal.shares.into()),
        threshold: status.seal.as_ref().map_or(0, |seal| seal.threshold.into()),
        progress: status.progress.into(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        key_term: status.key_term.unwrap_or(0),
        store_id: status.store_id.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// What an apply does to one object.
pub(super) fn policy_change(change: policy::Change) -> v1::apply_response::Change {
    use v1::apply_response::change::Action;
    let action = match change.action {
        policy::Action::Created => Action::Created,
        policy::Action::Changed => Action::Changed,
        policy::Action::Unchanged => Action::Unchanged,
        policy::Action::Removed => Action::Removed,
    };
    let object = v1::ObjectName { kind: change.kind.as_str().to_owned(), name: change.name.clone() };
    v1::apply_response::Change { object: Some(object), action: action.into(), diff: change.diff }
}

/// Whether, and by which rule.
pub(super) fn decision(decision: &Decision) -> v1::CanIResponse {
    let (allowed, rule) = match decision {
        Decision::Allow(rule) => (true, Some(rule)),
        Decision::Deny(rule) => (false, rule.as_ref()),
    };
    v1::CanIResponse {
        allowed,
        reason: rule.map_or_else(|| "no rule allows it".to_owned(), Rule::to_string),
        role: rule.map(|rule| rule.role.to_string()).unwrap_or_default(),
        binding: rule.map(|rule| rule.binding.to_string()).unwrap_or_default(),
        rule: rule.map_or(0, |rule| rule.index),
    }
}

/// Somebody who may.
pub(super) fn who_can(entry: policy::WhoCan) -> v1::who_can_response::Entry {
    v1::who_can_response::Entry {
        subject: entry.subject,
        binding: entry.binding,
        role: entry.role,
        conditions: entry.conditions,
    }
}

/// Reads which lines of the audit log are asked for.
pub(super) fn filter(message: v1::QueryRequest) -> Result<(Filter, u32), Invalid> {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let at = |millis: i64| (millis > 0).then(|| Timestamp::from_millis(millis));
    if !matches!(message.status.as_str(), "" | "ok" | "denied" | "error" | "pending") {
        return Err(Invalid::new("status", "is none of ok, denied, error, pending"));
    }
    let filter = Filter {
        principal: given(message.principal),
        path: given(message.path),
        operation: given(message.operation),
        request_id: given(message.request_id),
        status: given(message.status),
        from: at(message.from_ms),
        until: at(message.until_ms),
    };
    Ok((filter, if message.limit == 0 { DEFAULT_LINES } else { message.limit }))
}

/// Lines of a query that says nothing else.
const DEFAULT_LINES: u32 = 1000;

/// A mount; `None` for one that is not there any more.
pub(super) fn mount(mount: MountInfo) -> Option<v1::list_mounts_response::Mount> {
    use v1::list_mounts_response::mount::State;
    let record = mount.record;
    let state = match record.state {
        MountState::Mounted => State::Mounted,
        MountState::Away => State::Away,
        MountState::Destroying => State::Destroying,
        MountState::Gone => return None,
    };
    Some(v1::list_mounts_response::Mount {
        name: mount.name.into(),
        kind: record.kind.into(),
        description: record.description.into(),
        settings: record.settings,
        state: state.into(),
        created_at_ms: record.created.as_millis(),
    })
}

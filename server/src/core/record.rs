//! Steps 4 and 8: what the pipeline writes down. Values come as keyed hashes or not at all.

use std::borrow::Cow;

use super::{
    context::{Origin, RequestContext},
    error::Error,
    request::{Action, Answer},
    state::{Core, Unsealed},
};
use crate::{
    audit::{
        AuditError, Decision, Effect, Event, EventKind, Hashed, OpenIntent, Recorded, Recovery, Redactor,
        Status,
    },
    auth::LoginError,
    model::Timestamp,
    permit::Errand,
    policy::Allowed,
    tokens::Session,
};

/// How an action ended, as far as the log is told.
pub(super) struct Ended {
    version: Option<u64>,
    status: Status,
    reason: &'static str,
}

impl Ended {
    pub(super) fn of(result: &Result<Answer, Error>) -> Self {
        let version = match result {
            Ok(Answer::Reply(reply)) => reply.version(),
            _ => None,
        };
        Self { version, ..Self::with(result.as_ref().err()) }
    }

    pub(super) fn with(error: Option<&Error>) -> Self {
        let (status, reason) =
            error.map_or((Status::Ok, ""), |error| (status(error), error.reason().as_str()));
        Self { version: None, status, reason }
    }
}

impl RequestContext {
    fn event<'a>(&'a self, kind: EventKind, status: Status) -> Event<'a> {
        Event {
            principal: Some(&self.session.principal),
            session: Some(self.session.id),
            ..self.origin.event(kind, status)
        }
    }

    /// The decision, before anything is done: of a read the only record, of a write the intent.
    pub(super) async fn intent(
        &self,
        core: &Core,
        unsealed: &Unsealed,
        allowed: Option<&Allowed>,
        action: &Action,
    ) -> Result<Recorded, AuditError> {
        let fields = hashed_fields(&unsealed.redactor, action);
        let fields: Vec<(&str, Hashed)> =
            fields.iter().map(|(name, hash)| (name.as_str(), hash.clone())).collect();
        let decision = allowed.map(|allowed| Decision {
            id: allowed.decision_id(),
            effect: Effect::Allow,
            role: Some(&allowed.rule().role),
            rule: Some(allowed.rule().index),
        });
        let status = if action.is_write() { Status::Pending } else { Status::Ok };
        let event = Event {
            path: self.place.path.as_deref(),
            target: self.place.target.as_deref(),
            version: self.place.version,
            decision,
            fields: &fields,
            ..self.event(EventKind::Request, status)
        };
        core.audit.record(&event).await
    }

    /// A no, recorded before it is told.
    pub(super) async fn refuse(&self, core: &Core, error: Error) -> Result<Answer, Error> {
        let decision = match &error {
            Error::Refused(refused) => Some(Decision {
                id: refused.decision_id,
                effect: Effect::Deny,
                role: refused.rule.as_ref().map(|rule| &*rule.role),
                rule: refused.rule.as_ref().map(|rule| rule.index),
            }),
            _ => None,
        };
        let event = Event {
            path: self.place.path.as_deref(),
            target: self.place.target.as_deref(),
            decision,
            reason: error.reason().as_str(),
            ..self.event(EventKind::Request, status(&error))
        };
        core.audit.record(&event).await?;
        Err(error)
    }

    pub(super) async fn outcome(&self, core: &Core, ended: Ended) -> Result<(), AuditError> {
        let event = Event {
            path: self.place.path.as_deref(),
            version: ended.version.or(self.place.version),
            reason: ended.reason,
            duration: Some(core.clock.now().since(self.at)),
            ..self.event(EventKind::Outcome, ended.status)
        };
        core.audit.record(&event).await.map(drop)
    }
}

impl Origin {
    fn event<'a>(&self, kind: EventKind, status: Status) -> Event<'a> {
        Event { peer: self.peer, ..Event::new(kind, self.id, self.name, status) }
    }
}

/// A caller who never proved who they are.
pub(super) async fn refused_stranger(core: &Core, from: Origin, error: &Error) -> Result<(), AuditError> {
    let event = Event { reason: error.reason().as_str(), ..from.event(EventKind::Request, status(error)) };
    core.audit.refuse(&event).await
}

/// A caller who is known and has had their share. There may be very many of these, so they are sampled like strangers'.
pub(super) async fn shed(
    core: &Core,
    from: Origin,
    session: &Session,
    error: &Error,
) -> Result<(), AuditError> {
    let event = Event {
        principal: Some(&session.principal),
        session: Some(session.id),
        reason: error.reason().as_str(),
        ..from.event(EventKind::Request, status(error))
    };
    core.audit.refuse(&event).await
}

/// Before init and unseal.
pub(super) async fn stranger_intent(core: &Core, from: Origin) -> Result<(), AuditError> {
    core.audit.record(&from.event(EventKind::Request, Status::Pending)).await.map(drop)
}

/// After init and unseal.
pub(super) async fn stranger_outcome(core: &Core, from: Origin, ended: Ended) -> Result<(), AuditError> {
    let event = Event { reason: ended.reason, ..from.event(EventKind::Outcome, ended.status) };
    core.audit.record(&event).await.map(drop)
}

/// Before something that no caller asked for. It has no principal and no peer: it is the server's own.
pub(super) async fn errand_intent(core: &Core, errand: &Errand) -> Result<Recorded, AuditError> {
    core.audit.record(&Event::new(EventKind::Request, errand.id(), errand.name(), Status::Pending)).await
}

/// After it.
pub(super) async fn errand_outcome(
    core: &Core,
    errand: &Errand,
    began: Timestamp,
    ended: Ended,
) -> Result<(), AuditError> {
    let event = Event {
        reason: ended.reason,
        duration: Some(core.clock.now().since(began)),
        ..Event::new(EventKind::Outcome, errand.id(), errand.name(), ended.status)
    };
    core.audit.record(&event).await.map(drop)
}

/// What became of a write of the last run.
pub(super) async fn recovered(
    core: &Core,
    intent: &OpenIntent,
    recovery: Recovery,
) -> Result<(), AuditError> {
    let status = match recovery {
        Recovery::Applied => Status::Ok,
        Recovery::NotApplied => Status::Error,
    };
    let event = Event {
        path: intent.path.as_deref(),
        reason: "the server ended before it recorded the outcome",
        ..Event::new(EventKind::Recovered(recovery), intent.request_id, &intent.operation, status)
    };
    core.audit.record(&event).await.map(drop)
}

/// A login is one record, after the proof and before the token leaves. The name given stands in it only once it is
/// proved: people type passwords into the wrong field. `place` is the method, where it is one of several of a kind.
pub(super) async fn login(
    core: &Core,
    from: Origin,
    place: Option<&str>,
    session: Option<&Session>,
    error: Option<&Error>,
) -> Result<(), AuditError> {
    let reason = error.map(login_reason).unwrap_or_default();
    let event = Event {
        principal: session.map(|session| &*session.principal),
        session: session.map(|session| session.id),
        path: place,
        reason: &reason,
        ..from.event(EventKind::Request, error.map_or(Status::Ok, status))
    };
    match error {
        None => core.audit.record(&event).await.map(drop),
        Some(_) => core.audit.refuse(&event).await,
    }
}

/// The reason, and which of a token's faults it was.
fn login_reason(error: &Error) -> Cow<'static, str> {
    let reason = error.reason().as_str();
    match error {
        Error::Login(LoginError::Refused { word, .. }) => format!("{reason}: {word}").into(),
        _ => reason.into(),
    }
}

fn status(error: &Error) -> Status {
    if error.is_denial() { Status::Denied } else { Status::Error }
}

/// What a write brings along, to be found again with `strongroom audit hash`.
fn hashed_fields(redactor: &Redactor, action: &Action) -> Vec<(String, Hashed)> {
    let Action::Engine { operation, .. } = action else { return Vec::new() };
    operation.values().into_iter().map(|(name, value)| (name, redactor.hash(value))).collect()
}

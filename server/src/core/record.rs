//! Steps 4 and 8: what the pipeline writes down. Values come as keyed hashes or not at all.

use std::{borrow::Cow, sync::Arc, time::Duration};

use super::{
    context::{Origin, RequestContext},
    error::Error,
    request::{Action, Answer, AuditAction},
    state::{Core, Unsealed},
};
use crate::{
    audit::{
        AuditError, Decision, Effect, Event, EventKind, Hashed, OpenIntent, Recorded, Recovery, Redactor,
        Status,
    },
    auth::{Credential, LoginError},
    model::{DecisionId, Path, Timestamp},
    permit::Errand,
    policy::{self, Allowed, Change},
    tokens::Session,
    wrapping::About,
};

/// The field of a login that holds who somebody says they are.
const NAME_FIELD: &str = "name";

/// How an action ended, as far as the log is told.
pub(super) struct Ended {
    /// The version that was written or read, where the question did not say.
    version: Option<u64>,
    /// What became of the objects.
    objects: Vec<String>,
    status: Status,
    reason: &'static str,
    /// Nobody is answered before it is durable, although the store says the same.
    awaited: bool,
}

/// Why it was allowed.
pub(super) struct Decided {
    id: DecisionId,
    role: Arc<str>,
    rule: u32,
}

impl Decided {
    pub(super) fn by(allowed: &Allowed) -> Self {
        let rule = allowed.rule();
        Self { id: allowed.decision_id(), role: Arc::clone(&rule.role), rule: rule.index }
    }

    fn tell(&self) -> Decision<'_> {
        Decision { id: self.id, effect: Effect::Allow, role: Some(&self.role), rule: Some(self.rule) }
    }
}

impl Ended {
    pub(super) fn of(result: Result<&Answer, &Error>) -> Self {
        let ended = Self::with(result.err());
        match result {
            Ok(Answer::Reply(reply)) => {
                Self { version: reply.version(), objects: reply.made().into_iter().collect(), ..ended }
            }
            Ok(Answer::Applied(changes)) => Self { objects: changes.iter().map(changed).collect(), ..ended },
            // A write that has a session as its answer began it.
            Ok(Answer::Token(_, session)) => {
                Self { objects: vec![format!("session {}", session.id)], ..ended }
            }
            // Without its outcome a lease is taken for one that nobody got.
            Ok(Answer::Issued { what, .. } | Answer::Given { lease: Some((_, what)), .. }) => {
                Self { objects: vec![what.to_string()], awaited: true, ..ended }
            }
            // The same holds of what is wrapped.
            Ok(Answer::Wrapped { what, version, .. }) => Self {
                objects: what.iter().map(ToString::to_string).collect(),
                version: *version,
                awaited: what.is_some(),
                ..ended
            },
            Ok(Answer::Forgotten(what)) => Self { objects: vec![what.to_string()], ..ended },
            Ok(Answer::Term(term)) => Self { objects: vec![format!("key term {term}")], ..ended },
            _ => ended,
        }
    }

    pub(super) fn with(error: Option<&Error>) -> Self {
        let (status, reason) =
            error.map_or((Status::Ok, ""), |error| (status(error), error.reason().as_str()));
        Self { version: None, objects: Vec::new(), status, reason, awaited: false }
    }
}

fn changed(change: &Change) -> String {
    let action = match change.action {
        policy::Action::Created => "created",
        policy::Action::Changed => "changed",
        policy::Action::Unchanged => "unchanged",
        policy::Action::Removed => "removed",
    };
    format!("{action} {} {}", change.kind, change.name)
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
        let decided = allowed.map(Decided::by);
        let decision = decided.as_ref().map(Decided::tell);
        let status = if action.is_write() { Status::Pending } else { Status::Ok };
        let paths = self.place.paths();
        let event = Event { decision, fields: &fields, ..self.question(&paths, EventKind::Request, status) };
        core.audit.record(&event).await
    }

    /// A read that was done ahead of this, its only record: with what it found, or why it did not.
    pub(super) async fn found(
        &self,
        core: &Core,
        decided: &Decided,
        ended: &Ended,
    ) -> Result<Recorded, AuditError> {
        let (paths, versions) = (self.place.paths(), self.versions(ended));
        let event = Event {
            decision: Some(decided.tell()),
            versions: &versions,
            reason: ended.reason,
            ..self.question(&paths, EventKind::Request, ended.status)
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
        let paths = self.place.paths();
        let event = Event {
            decision,
            reason: error.reason().as_str(),
            ..self.question(&paths, EventKind::Request, status(&error))
        };
        core.audit.record(&event).await?;
        Err(error)
    }

    /// What is asked, as far as it was understood.
    fn question<'a>(&'a self, paths: &'a [&'a str], kind: EventKind, status: Status) -> Event<'a> {
        Event {
            paths,
            target: self.place.target.as_deref(),
            objects: &self.place.objects,
            sha256: self.place.sha256,
            versions: &self.place.versions,
            ..self.event(kind, status)
        }
    }

    /// How it ended. Who has changed the store does not wait for the disk once more: should this line be lost, the store says
    /// the same of the intent. It cannot say why something failed, or that something was done elsewhere: that is waited for.
    pub(super) async fn outcome(&self, core: &Core, ended: Ended) -> Result<(), AuditError> {
        let (paths, versions) = (self.place.paths(), self.versions(&ended));
        let duration = Some(core.clock.now().since(self.at));
        let event = self.ended(&paths, &versions, &ended, duration);
        if ended.status == Status::Ok && !ended.awaited && core.applied.vouches_for(self.origin.id) {
            return core.audit.hand_over(&event);
        }
        core.audit.record(&event).await.map(drop)
    }

    fn versions(&self, ended: &Ended) -> Vec<u64> {
        if self.place.latest { ended.version.into_iter().collect() } else { self.place.versions.clone() }
    }

    fn ended<'a>(
        &'a self,
        paths: &'a [&'a str],
        versions: &'a [u64],
        ended: &'a Ended,
        duration: Option<Duration>,
    ) -> Event<'a> {
        Event {
            paths,
            objects: &ended.objects,
            versions,
            reason: ended.reason,
            duration,
            ..self.event(EventKind::Outcome, ended.status)
        }
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

/// Before a wrapped answer is opened.
pub(super) async fn unwrap_intent(core: &Core, from: Origin, about: &About) -> Result<(), AuditError> {
    let (paths, objects) = ([about.path.as_str()], [wrapped(about)]);
    let event = Event { paths: &paths, objects: &objects, ..from.event(EventKind::Request, Status::Pending) };
    core.audit.record(&event).await.map(drop)
}

/// After it.
pub(super) async fn unwrap_outcome(
    core: &Core,
    from: Origin,
    about: &About,
    error: Option<&Error>,
) -> Result<(), AuditError> {
    let (paths, ended) = ([about.path.as_str()], Ended::with(error));
    let event = Event { paths: &paths, reason: ended.reason, ..from.event(EventKind::Outcome, ended.status) };
    core.audit.record(&event).await.map(drop)
}

/// Somebody comes with a token that was used.
pub(super) async fn unwrapped_again(
    core: &Core,
    from: Origin,
    about: &About,
    error: &Error,
) -> Result<(), AuditError> {
    let (paths, objects) = ([about.path.as_str()], [wrapped(about)]);
    let event = Event {
        paths: &paths,
        objects: &objects,
        reason: error.reason().as_str(),
        ..from.event(EventKind::Request, status(error))
    };
    core.audit.record(&event).await.map(drop)
}

fn wrapped(about: &About) -> String {
    format!("answer {} of {}", about.id, about.operation)
}

/// Before something that no caller asked for. It has no principal and no peer: it is the server's own.
pub(super) async fn errand_intent(core: &Core, errand: &Errand) -> Result<Recorded, AuditError> {
    let path = errand.chore().path().map(Path::as_str);
    let event = Event {
        paths: path.as_slice(),
        objects: errand.chore().objects(),
        ..Event::new(EventKind::Request, errand.id(), errand.name(), Status::Pending)
    };
    core.audit.record(&event).await
}

/// After it.
pub(super) async fn errand_outcome(
    core: &Core,
    errand: &Errand,
    began: Timestamp,
    ended: Ended,
) -> Result<(), AuditError> {
    let path = errand.chore().path().map(Path::as_str);
    let event = Event {
        paths: path.as_slice(),
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
    let paths: Vec<&str> = intent.paths.iter().map(String::as_str).collect();
    let event = Event {
        paths: &paths,
        reason: "the server ended before it recorded the outcome",
        ..Event::new(EventKind::Recovered(recovery), intent.request_id, &intent.operation, status)
    };
    core.audit.record(&event).await.map(drop)
}

/// What is known of a login.
pub(super) struct Told<'a> {
    /// The method, where it is one of several of a kind.
    pub(super) place: Option<&'a str>,
    pub(super) claimed: Option<Hashed>,
    /// Once it is proved.
    pub(super) session: Option<&'a Session>,
}

/// What stands in the log for the name that somebody gives, to be found again with `strongroom audit hash
/// sys/auth/METHOD name`.
pub(super) fn claimed(core: &Core, credential: &Credential) -> Option<Hashed> {
    let unsealed = core.unsealed().ok()?;
    let name = unsealed.methods.claimed(credential)?;
    Some(unsealed.redactor.hash(&format!("sys/auth/{}", credential.method()), NAME_FIELD, name.as_bytes()))
}

/// A login is one record, after the proof and before the token leaves. The name given stands in it only once it is
/// proved, and until then as a keyed hash: people type passwords into the wrong field.
pub(super) async fn login(
    core: &Core,
    from: Origin,
    told: Told<'_>,
    error: Option<&Error>,
) -> Result<(), AuditError> {
    let reason = error.map(login_reason).unwrap_or_default();
    let fields: Vec<(&str, Hashed)> = told.claimed.into_iter().map(|name| (NAME_FIELD, name)).collect();
    let event = Event {
        principal: told.session.map(|session| &*session.principal),
        session: told.session.map(|session| session.id),
        paths: told.place.as_slice(),
        fields: &fields,
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
    match action {
        Action::Engine { paths, operation } | Action::Wrap { paths, operation, .. } => {
            let path = paths.first().map_or("", Path::as_str);
            let values = operation.values().into_iter();
            values.map(|(field, value)| (field.clone(), redactor.hash(path, &field, value))).collect()
        }
        // Whoever asks for one hash after the other is guessing.
        Action::Audit(AuditAction::Hash { path, field, value }) => {
            vec![("value".to_owned(), redactor.hash(path.as_str(), field, value.expose()))]
        }
        _ => Vec::new(),
    }
}

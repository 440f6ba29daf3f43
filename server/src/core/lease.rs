//! What the core does with leases: it issues for engines, has them renewed and ended, and decides who may.

use std::{sync::Arc, time::Duration};

use super::{
    context::RequestContext,
    error::Error,
    request::{Answer, LeaseAction, sys_path},
    run::engine_error,
    state::{Core, Unsealed},
};
use crate::{
    engines::{Fields, Granted, Make, Terms},
    leases::{Cause, Lease, LeaseError, PLACE, Selector},
    model::{Invalid, Path, Principal, RequestId, Verb},
    permit::{Chore, LeaseEnd},
    policy::{Context, Question, Verdict},
    tokens::Session,
};

/// How long whoever revokes leases waits for them to end, before they are told that the server goes on trying.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an engine may take to unmake one thing. It has time-outs of its own; this one is for when they fail.
const ATTEMPT: Duration = Duration::from_secs(60);

/// Writes a lease, then has the engine make what it is for: at a path, where one of the verbs was granted.
pub(super) async fn issue(
    core: &Core,
    unsealed: &Unsealed,
    request: &RequestContext,
    (path, verbs): (&Path, &'static [Verb]),
    terms: Terms,
    make: Box<dyn Make>,
) -> Result<Answer, Error> {
    let (issued, session) = (core.clock.now(), &*request.session);
    let last = issued.plus(terms.max.max(terms.ttl));
    // What a pod has ends with the pod, which may log in again and again. What a person has ends with the session at the latest.
    let max_expires = if session.principal.pod().is_some() { last } else { last.min(session.max_expires) };
    let lease = Lease {
        id: request.id(),
        path: path.clone(),
        verbs: verbs.to_vec(),
        what: terms.what,
        session: Session::clone(session),
        issued,
        expires: issued.plus(terms.ttl).min(max_expires),
        max_expires,
        ttl: terms.ttl,
        ending: None,
    };
    let (granted, what) = (lease.granted(issued), lease.what.clone());
    let held = unsealed.leases.begin(lease, terms.data).await?;
    match make.make(&granted).await {
        Ok(reply) => {
            held.made();
            core.metrics.lease_issued(path.mount());
            let granted = Granted { lifetime: granted.expires.since(core.clock.now()), ..granted };
            Ok(Answer::Issued { reply, granted, what })
        }
        Err(error) => {
            if let Err(error) = held.failed().await {
                tracing::warn!(lease = %granted.id, %error, "a lease of nothing could not be marked as such");
            }
            Err(engine_error(error, path.as_str()))
        }
    }
}

/// What was issued, by names instead of in the engine's own words.
pub(super) fn by_names(core: &Core, answer: Answer) -> Result<Answer, Error> {
    let (reply, lease) = match answer {
        Answer::Issued { reply, granted, what } => (reply, Some((granted, what))),
        Answer::Reply(reply) => (reply, None),
        _ => return Err(nameless()),
    };
    let Fields { values, ends } = reply.fields().ok_or_else(nameless)?;
    let lifetime = match (&lease, ends) {
        (Some((granted, _)), _) => granted.lifetime,
        (None, Some(ends)) => ends.since(core.clock.now()),
        (None, None) => return Err(nameless()),
    };
    Ok(Answer::Given { values, lease, lifetime })
}

fn nameless() -> Error {
    Error::Internal("an engine issued something without names or an end".to_owned())
}

/// `permitted`: what it is about was judged before, as far as that was known.
pub(super) async fn run(
    core: &Core,
    unsealed: &Unsealed,
    request: &RequestContext,
    action: LeaseAction,
    permitted: bool,
) -> Result<Answer, Error> {
    let caller = &*request.session.principal;
    match action {
        LeaseAction::List(page) => {
            judge(unsealed, request, &page.which, Verb::List, permitted)?;
            let (page, more) = unsealed.leases.page(&page, caller);
            Ok(Answer::Leases(page, more, core.clock.now()))
        }
        LeaseAction::Issue { .. } => Err(Error::Internal("something is issued on a permit only".to_owned())),
        LeaseAction::Renew { id, increment } => renew(core, unsealed, request, id, increment).await,
        LeaseAction::Revoke(which) => {
            judge(unsealed, request, &which, Verb::Update, permitted)?;
            let selected = unsealed.leases.select(&which, caller);
            let ids: Vec<RequestId> = selected.iter().map(|lease| lease.id).collect();
            unsealed.leases.end(&ids, Cause::Revoked, Some(request.id())).await?;
            let (pending, last_error) = unsealed.leases.settled(&ids, PATIENCE).await;
            Ok(Answer::Ended { ended: ids.len() - pending, pending, last_error })
        }
        LeaseAction::Forget(id) => {
            let lease = unsealed.leases.find(id)?;
            may(request, Verb::Destroy, &lease)?;
            unsealed.leases.remove(id, request.id()).await?;
            tracing::warn!(lease = %id, path = %lease.path, what = %lease.what, "a lease was given up: what it stands for may still be there");
            Ok(Answer::Forgotten(lease.what.clone()))
        }
    }
}

/// Whether the caller may do that with all of these; their own they may.
fn judge(
    unsealed: &Unsealed,
    request: &RequestContext,
    which: &Selector,
    verb: Verb,
    permitted: bool,
) -> Result<(), Error> {
    match which {
        Selector::Own => Ok(()),
        Selector::Id(id) => own_or(request, verb, &*unsealed.leases.find(*id)?),
        _ if permitted => Ok(()),
        _ => Err(Error::Internal("leases came without their permit".to_owned())),
    }
}

fn own_or(request: &RequestContext, verb: Verb, lease: &Lease) -> Result<(), Error> {
    match lease.session.principal.is_same(&request.session.principal) {
        true => Ok(()),
        false => may(request, verb, lease),
    }
}

fn may(request: &RequestContext, verb: Verb, lease: &Lease) -> Result<(), Error> {
    let path = sys_path(&format!("{PLACE}/{}", lease.path))?;
    match is_granted(request, &request.session, &[verb], &path, false) {
        true => Ok(()),
        false => Err(Error::Needs(verb, path.to_string())),
    }
}

/// `wrapped`: also where only a wrapped answer is allowed.
fn is_granted(
    request: &RequestContext,
    session: &Session,
    verbs: &[Verb],
    path: &Path,
    wrapped: bool,
) -> bool {
    let context = Context { peer: request.origin.peer, now: request.at, wrapped };
    verbs.iter().any(|verb| {
        let question = Question { principal: &session.principal, verb: *verb, path, context: &context };
        !matches!(request.policy.judge(&question), Verdict::Deny(_))
    })
}

/// Later, if what it was issued for is still permitted. Never earlier: what somebody was promised holds.
async fn renew(
    core: &Core,
    unsealed: &Unsealed,
    request: &RequestContext,
    id: RequestId,
    increment: Option<Duration>,
) -> Result<Answer, Error> {
    let lease = unsealed.leases.find(id)?;
    own_or(request, Verb::Update, &lease)?;
    if !is_granted(request, &lease.session, &lease.verbs, &lease.path, true) {
        let verb = lease.verbs.first().copied().unwrap_or(Verb::Use);
        return Err(Error::Needs(verb, lease.path.to_string()));
    }
    let entered = unsealed.enter(&lease.path)?;
    let held = unsealed.leases.hold(id).await?;
    let lease = held.lease();
    let until = core.clock.now().plus(increment.unwrap_or(lease.ttl));
    let until = until.min(lease.max_expires).max(lease.expires);
    if until == lease.expires {
        return Ok(Answer::Renewed(lease.granted(core.clock.now())));
    }
    // First the thing, then the promise: a crash between the two leaves one that ends too early and not one that stays.
    let renewed = entered.engine().renew(held.data(), until).await;
    renewed.map_err(|error| engine_error(error, lease.path.as_str()))?;
    let lease = held.renewed(until, request.id()).await?;
    Ok(Answer::Renewed(lease.granted(core.clock.now())))
}

/// A mount cannot go while something is left that only its engine can unmake.
pub(super) fn check_none_left(unsealed: &Unsealed, mount: &str) -> Result<(), Error> {
    let path = Path::parse_field("name", mount)?;
    match unsealed.leases.select(&Selector::Prefix(path), &Principal::Root).len() {
        0 => Ok(()),
        left => {
            let problem =
                format!("has {left} leases; end them first: strongroom lease revoke --prefix {mount}");
            Err(Invalid::new("name", problem).into())
        }
    }
}

impl Core {
    /// Has the engine unmake what the lease stands for, and removes the lease. `by`: the act of the server's own.
    pub(super) async fn end_lease(&self, id: RequestId, by: RequestId) -> Result<(), Error> {
        let unsealed = self.unsealed()?;
        let Some(stored) = unsealed.leases.read(id).await? else {
            unsealed.leases.gone(id);
            return Ok(());
        };
        let known = unsealed.leases.find(id)?;
        if known.ending.is_none() && stored.lease.expires > self.clock.now() {
            unsealed.leases.spare(stored.lease);
            return Ok(());
        }
        let entered = unsealed.enter(&stored.lease.path)?;
        let attempt = tokio::time::timeout(ATTEMPT, entered.engine().revoke(&stored.data)).await;
        let unmade = attempt.map_err(|_| Error::Internal("the engine did not answer in time".to_owned()))?;
        unmade.map_err(|error| engine_error(error, stored.lease.path.as_str()))?;
        self.metrics.lease_ended(known.cause().as_str());
        Ok(unsealed.leases.remove(id, by).await?)
    }

    /// One attempt, with its records. Whatever comes of it, the queue hears of it.
    pub(super) async fn attempt(self: Arc<Self>, unsealed: Arc<Unsealed>, lease: Arc<Lease>) {
        let end = LeaseEnd {
            id: lease.id,
            path: lease.path.clone(),
            objects: vec![
                format!("lease {}", lease.id),
                lease.what.to_string(),
                lease.cause().as_str().to_owned(),
            ],
        };
        if let Err(error) = self.act(Chore::EndLease(end)).await {
            let known = matches!(error, Error::Lease(LeaseError::NoSuch(_)));
            if !known {
                self.metrics.lease_end_failed();
                tracing::warn!(lease = %lease.id, path = %lease.path, %error, "a lease could not be ended; it is tried again");
            }
            unsealed.leases.failed(&lease, &error.to_string()).await;
        }
    }
}

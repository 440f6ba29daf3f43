//! The pipeline: every authenticated request takes this way, top to bottom, and there is no other.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;

use super::{
    context::{ActedOn, Origin, RequestContext},
    error::Error,
    record,
    remember::remember,
    request::{Action, Answer, Needs, Request, Slot},
    run,
    state::{Core, Unsealed},
};
use crate::{
    model::{DecisionId, Principal, SecretBytes, Timestamp},
    permit::Permit,
    policy::{self, Allowed},
    tokens::{Session, TokenError},
};

/// One request, from the moment it is parsed to its answer.
///
/// # Errors
/// Every failing step has its variant; what can be recorded is in the audit log before this returns.
pub async fn handle(core: &Arc<Core>, request: Request) -> Result<Answer, Error> {
    let now = core.clock.now();

    // 1. Sealed? Without the keys the request ends here.
    // 2. Who? A token is opened with the keys; it is never looked up.
    let (unsealed, session) = match identify(core, request.bearer.as_ref(), now) {
        Ok(known) => known,
        Err(error) => {
            record::refused_stranger(core, request.origin, &error).await?;
            return Err(error);
        }
    };
    // Whoever it is has a share of what there is, and what they had of it before is counted.
    let is_write = request.action.as_ref().is_ok_and(Action::is_write);
    if let Err(error) = request.slot.claim(&session.principal, is_write) {
        record::shed(core, request.origin, &session, &error).await?;
        return Err(error);
    }
    // What could not be parsed is refused only now: strangers learn nothing about it.
    let Request { origin, action, slot, .. } = request;
    let policy = unsealed.policy.current();
    let mut request = RequestContext { origin, session, at: now, policy, place: ActedOn::default() };
    let parsed = action.and_then(|action| action.needs().map(|needs| (action, needs)));
    let (action, needs) = match parsed {
        Ok(parsed) => parsed,
        Err(invalid) => return request.refuse(core, invalid.into()).await,
    };
    request.place = ActedOn::of(&action, needs.as_ref());

    // A session of a pod ends with the pod.
    if let Err(gone) = unsealed.methods.check(&request.session.principal) {
        return request.refuse(core, gone.into()).await;
    }

    // 3. May they? Deny by default.
    let wrapped = matches!(action, Action::Wrap { .. });
    let granted = match authorize(core, &request, needs, wrapped) {
        Ok(granted) => granted,
        Err(error) => return request.refuse(core, error).await,
    };

    let core = Arc::clone(core);
    let work = async move {
        let result = match granted {
            Some(granted) if !is_write && request.place.latest => {
                find_out(&core, &unsealed, &request, &slot, granted, action).await
            }
            granted => carry_out(&core, &unsealed, &request, granted, action).await,
        };
        drop(slot);
        result
    };
    if is_write {
        // A caller who goes away stops a write neither between intent and outcome nor half-way through.
        return tokio::spawn(work).await.unwrap_or_else(|failure| Err(Error::Internal(failure.to_string())));
    }
    work.await
}

/// Who a caller is: asked before a long message of theirs is taken in. A no is recorded like any other.
///
/// # Errors
/// They are not.
pub async fn vouch(core: &Core, from: Origin, bearer: Option<&SecretBytes>) -> Result<Arc<Principal>, Error> {
    match identify(core, bearer, core.clock.now()) {
        Ok((_, session)) => Ok(Arc::clone(&session.principal)),
        Err(error) => {
            record::refused_stranger(core, from, &error).await?;
            Err(error)
        }
    }
}

/// 4 to 9, once it is allowed.
async fn carry_out(
    core: &Arc<Core>,
    unsealed: &Arc<Unsealed>,
    request: &RequestContext,
    granted: Option<(Allowed, Needs)>,
    action: Action,
) -> Result<Answer, Error> {
    // 4. Write it down: a read's only record, a write's intent. No record, no answer.
    let allowed = granted.as_ref().map(|(allowed, _)| allowed);
    let recorded = request.intent(core, unsealed, allowed, &action).await?;

    // 5. The permit joins the decision and the record.
    let join = |(allowed, needs)| Permit::join(allowed, &recorded, request.at).map(|permit| (permit, needs));
    let permitted =
        granted.map(join).transpose().map_err(|mismatch| Error::Internal(mismatch.to_string()))?;

    // 6. Do it, and 7. remember what follows from it.
    let is_write = action.is_write();
    let result = act(core, unsealed, request, permitted, action).await;

    // 8. Write the outcome down: of a write always, of a read when it did not give what the record promised.
    if is_write || result.is_err() {
        let told = request.outcome(core, record::Ended::of(result.as_ref())).await;
        if told.is_err() && result.is_ok() {
            return Err(Error::Unrecorded);
        }
    }

    // 9. Plaintext leaves only here.
    result
}

/// 4 to 9 of a read that only finds out itself which version it reads: it comes first, and what it found is withheld until
/// the record, which names the version, is durable. One record, as of every read. What waits takes of the same room as what
/// is to be sent: many large ones at once would be more than there is.
async fn find_out(
    core: &Arc<Core>,
    unsealed: &Arc<Unsealed>,
    request: &RequestContext,
    slot: &Slot,
    (allowed, needs): (Allowed, Needs),
    action: Action,
) -> Result<Answer, Error> {
    let decided = record::Decided::by(&allowed);
    let read = async |permit| {
        let answer = act(core, unsealed, request, Some((permit, needs)), action).await?;
        let room = slot.room(answer.bytes())?;
        Ok((answer, room))
    };
    let found = Permit::ahead(allowed, request.at, read).await;
    let ended = found.about(|found| record::Ended::of(found.as_ref().map(|(answer, _)| answer)));
    let recorded = request.found(core, &decided, &ended).await?;
    let found = found.release(&recorded).map_err(|mismatch| Error::Internal(mismatch.to_string()))?;
    found.map(|(answer, _room)| answer)
}

/// 6 and 7. A panic is an error like any other: it has an outcome too.
async fn act(
    core: &Arc<Core>,
    unsealed: &Arc<Unsealed>,
    request: &RequestContext,
    permitted: Option<(Permit, Needs)>,
    action: Action,
) -> Result<Answer, Error> {
    let doing = async {
        let done = run::run(core, unsealed, request, permitted, action).await?;
        remember(unsealed, done)
    };
    let doing = AssertUnwindSafe(doing).catch_unwind();
    doing.await.unwrap_or_else(|_| Err(Error::Internal("a handler panicked".to_owned())))
}

/// The keys and the caller's session.
fn identify(
    core: &Core,
    bearer: Option<&SecretBytes>,
    now: Timestamp,
) -> Result<(Arc<Unsealed>, Arc<Session>), Error> {
    let unsealed = core.unsealed()?;
    let bearer = bearer.ok_or(Error::TokenMissing)?;
    let bearer = bearer.expose_str().map_err(|_| TokenError::Invalid)?;
    let session = unsealed.tokens.open(bearer, now)?;
    Ok((unsealed, session))
}

/// `None`: the action is about the caller's own session, for which the session is right enough.
fn authorize(
    core: &Core,
    request: &RequestContext,
    needs: Option<Needs>,
    wrapped: bool,
) -> Result<Option<(Allowed, Needs)>, Error> {
    let Some(needs) = needs else { return Ok(None) };
    let context = policy::Context { peer: request.origin.peer, now: request.at, wrapped };
    let principal = Arc::clone(&request.session.principal);
    let (id, decision, paths) = (request.id(), DecisionId(core.decisions.make()), needs.paths.clone());
    match policy::authorize(&request.policy, id, decision, principal, needs.verbs, paths, context) {
        Ok(allowed) => Ok(Some((allowed, needs))),
        Err(refused) => Err(Error::Refused(Box::new(refused))),
    }
}

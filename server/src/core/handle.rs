//! The pipeline: every authenticated request takes this way, top to bottom, and there is no other.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;

use super::{Action, Answer, Core, Error, Request, Unsealed, record, request::Needs, run};
use crate::{
    model::{DecisionId, Timestamp},
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

    // 1. Sealed? Without the keys there is no way on.
    // 2. Who? A token is opened with the keys; it is never looked up.
    let (unsealed, session) = match identify(core, &request, now) {
        Ok(known) => known,
        Err(error) => {
            record::refused_stranger(core, request.id, request.name, request.peer, &error).await?;
            return Err(error);
        }
    };
    // What could not be parsed is refused only now: strangers learn nothing about it.
    let Request { id, name, peer, action, .. } = request;
    let asked = record::Asked { id, name, peer, session: Arc::clone(&session), at: now };
    let action = match action {
        Ok(action) => action,
        Err(invalid) => return asked.refuse(core, None, invalid.into()).await,
    };

    // 3. May they? Deny by default.
    let allowed = match authorize(core, &unsealed, &asked, &action) {
        Ok(allowed) => allowed,
        Err(error) => return asked.refuse(core, Some(&action), error).await,
    };

    // 4. Write it down: a read's only record, a write's intent. No record, no answer.
    let recorded = asked.intent(core, &unsealed, allowed.as_ref(), &action).await?;

    // 5. The permit joins the decision and the record.
    let permit = allowed.map(|allowed| Permit::join(allowed, &recorded, now)).transpose();
    let permit = permit.map_err(|mismatch| Error::Internal(mismatch.to_string()))?;

    if action.is_write() {
        // A caller who goes away does not stop a write half-way: it runs, and its outcome is recorded, without them.
        let core = Arc::clone(core);
        let task = tokio::spawn(async move { perform(&core, &unsealed, &asked, permit, action).await });
        return task.await.unwrap_or_else(|failure| Err(Error::Internal(failure.to_string())));
    }
    perform(core, &unsealed, &asked, permit, action).await
}

/// 6 to 9: do it, write the outcome down, answer.
async fn perform(
    core: &Arc<Core>,
    unsealed: &Arc<Unsealed>,
    asked: &record::Asked,
    permit: Option<Permit>,
    action: Action,
) -> Result<Answer, Error> {
    let outcome_due = action.is_write();
    let place = record::Place::of(&action);

    // 6. Do it. A panic is an error like any other: it has an outcome too.
    let doing = AssertUnwindSafe(run::run(core, unsealed, asked, permit, action)).catch_unwind();
    let result = doing.await.unwrap_or_else(|_| Err(Error::Internal("a handler panicked".to_owned())));
    if let Some(cause) = result.as_ref().err().and_then(Error::cause) {
        tracing::error!(request_id = %asked.id, rpc = asked.name, cause, "a request failed");
    }

    // 7. Remember what has to be undone one day: kv leases nothing.

    // 8. Write the outcome down: of a write always, of a read when it did not give what the record promised.
    if outcome_due || result.is_err() {
        asked.outcome(core, place, record::Ended::of(&result)).await?;
    }

    // 9. Plaintext leaves only here.
    result
}

/// The keys and the caller's session.
fn identify(core: &Core, request: &Request, now: Timestamp) -> Result<(Arc<Unsealed>, Arc<Session>), Error> {
    let unsealed = core.unsealed()?;
    let bearer = request.bearer.as_ref().ok_or(Error::TokenMissing)?;
    let bearer = bearer.expose_str().map_err(|_| TokenError::Invalid)?;
    let session = unsealed.tokens.open(bearer, now)?;
    Ok((unsealed, session))
}

/// `None`: the action is about the caller's own session, for which the session is right enough.
fn authorize(
    core: &Core,
    unsealed: &Unsealed,
    asked: &record::Asked,
    action: &Action,
) -> Result<Option<Allowed>, Error> {
    let Some(Needs { verbs, paths }) = action.needs()? else { return Ok(None) };
    let mut decision = [0; 16];
    core.entropy.fill(&mut decision).map_err(|error| Error::Internal(error.to_string()))?;
    let context = policy::Context { peer: asked.peer, now: asked.at };
    let principal = Arc::clone(&asked.session.principal);
    policy::authorize(
        &unsealed.policy.current(),
        asked.id,
        DecisionId(decision),
        principal,
        verbs,
        paths,
        context,
    )
    .map(Some)
    .map_err(|refused| Error::Refused(Box::new(refused)))
}

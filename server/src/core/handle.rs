//! The pipeline: every authenticated request takes this way, top to bottom, and there is no other.

use std::{net::IpAddr, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;

use super::{Action, Answer, Core, Error, Request, Unsealed, record, request::Needs, run};
use crate::{
    model::{DecisionId, RequestId, SecretBytes, Timestamp},
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
    let (unsealed, session) = match identify(core, request.bearer.as_ref(), now) {
        Ok(known) => known,
        Err(error) => {
            record::refused_stranger(core, request.id, request.name, request.peer, &error).await?;
            return Err(error);
        }
    };
    // What could not be parsed is refused only now: strangers learn nothing about it.
    let Request { id, name, peer, action, slot, .. } = request;
    let policy = unsealed.policy.current();
    let place = record::Place::default();
    let mut asked = record::Asked { id, name, peer, session, at: now, policy, place };
    let parsed = action.and_then(|action| action.needs().map(|needs| (action, needs)));
    let (action, needs) = match parsed {
        Ok(parsed) => parsed,
        Err(invalid) => return asked.refuse(core, invalid.into()).await,
    };
    asked.place = record::Place::of(&action, needs.as_ref());

    // A session of a pod ends with the pod.
    if let Err(gone) = unsealed.methods.check(&asked.session.principal) {
        return asked.refuse(core, gone.into()).await;
    }

    // 3. May they? Deny by default.
    let granted = match authorize(core, &asked, needs) {
        Ok(granted) => granted,
        Err(error) => return asked.refuse(core, error).await,
    };

    let core = Arc::clone(core);
    let is_write = action.is_write();
    let work = async move {
        let result = carry_out(&core, &unsealed, &asked, granted, action).await;
        drop(slot);
        result
    };
    if is_write {
        // A caller who goes away stops a write neither between intent and outcome nor half-way through.
        return tokio::spawn(work).await.unwrap_or_else(|failure| Err(Error::Internal(failure.to_string())));
    }
    work.await
}

/// Whether a caller is known: asked before a long message of theirs is taken in. A no is recorded like any other.
///
/// # Errors
/// They are not.
pub async fn vouch(
    core: &Core,
    id: RequestId,
    name: &'static str,
    peer: Option<IpAddr>,
    bearer: Option<&SecretBytes>,
) -> Result<(), Error> {
    if let Err(error) = identify(core, bearer, core.clock.now()) {
        record::refused_stranger(core, id, name, peer, &error).await?;
        return Err(error);
    }
    Ok(())
}

/// 4 to 9, once it is allowed.
async fn carry_out(
    core: &Arc<Core>,
    unsealed: &Arc<Unsealed>,
    asked: &record::Asked,
    granted: Option<(Allowed, Needs)>,
    action: Action,
) -> Result<Answer, Error> {
    // 4. Write it down: a read's only record, a write's intent. No record, no answer.
    let allowed = granted.as_ref().map(|(allowed, _)| allowed);
    let recorded = asked.intent(core, unsealed, allowed, &action).await?;

    // 5. The permit joins the decision and the record.
    let join = |(allowed, needs)| Permit::join(allowed, &recorded, asked.at).map(|permit| (permit, needs));
    let permitted =
        granted.map(join).transpose().map_err(|mismatch| Error::Internal(mismatch.to_string()))?;

    // 6. Do it. A panic is an error like any other: it has an outcome too.
    let is_write = action.is_write();
    let doing = AssertUnwindSafe(run::run(core, unsealed, asked, permitted, action)).catch_unwind();
    let result = doing.await.unwrap_or_else(|_| Err(Error::Internal("a handler panicked".to_owned())));

    // 7. Remember what has to be undone one day: kv leases nothing.

    // 8. Write the outcome down: of a write always, of a read when it did not give what the record promised.
    if is_write || result.is_err() {
        let told = asked.outcome(core, record::Ended::of(&result)).await;
        if told.is_err() && result.is_ok() {
            return Err(Error::Unrecorded);
        }
    }

    // 9. Plaintext leaves only here.
    result
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
    asked: &record::Asked,
    needs: Option<Needs>,
) -> Result<Option<(Allowed, Needs)>, Error> {
    let Some(needs) = needs else { return Ok(None) };
    let mut decision = [0; 16];
    core.entropy.fill(&mut decision).map_err(|error| Error::Internal(error.to_string()))?;
    let context = policy::Context { peer: asked.peer, now: asked.at };
    let principal = Arc::clone(&asked.session.principal);
    let (id, decision, paths) = (asked.id, DecisionId(decision), needs.paths.clone());
    match policy::authorize(&asked.policy, id, decision, principal, needs.verbs, paths, context) {
        Ok(allowed) => Ok(Some((allowed, needs))),
        Err(refused) => Err(Error::Refused(Box::new(refused))),
    }
}

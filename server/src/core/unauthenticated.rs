//! What anybody may do: status (in `state.rs`), init, unseal, a new root token, login, and opening what was wrapped (in
//! `wrap.rs`). Each is recorded like everything else.

use std::sync::Arc;

use super::{
    context::Origin,
    error::Error,
    lifecycle::Initialized,
    record,
    request::Slot,
    state::{Core, Status},
};
use crate::{
    auth::{Credential, LoginContext},
    limits,
    model::{Invalid, SecretBytes},
    seal::SealConfig,
    tokens::Session,
};

/// A login, parsed.
pub struct Login {
    pub origin: Origin,
    /// Held until it is judged.
    pub slot: Slot,
    /// What proves it.
    pub credential: Result<Credential, Invalid>,
}

/// For what cannot be done without keys. A no is recorded like any stranger's refusal.
///
/// # Errors
/// There are none.
pub async fn refuse_sealed(core: &Core, from: Origin) -> Result<(), Error> {
    if let Err(error) = core.unsealed() {
        record::refused_stranger(core, from, &error).await?;
        return Err(error);
    }
    Ok(())
}

/// Makes a store out of an empty one: root key, keyring, seal, root token.
///
/// # Errors
/// It is not empty, the caller is not where an init may come from, the seal is not possible, or the store failed; then it is as empty as before.
pub async fn init(
    core: &Arc<Core>,
    from: Origin,
    slot: Slot,
    seal: Result<SealConfig, Invalid>,
) -> Result<Initialized, Error> {
    let here = core.options.init_from.takes(from.peer);
    let judged = core.phase.load().may_init();
    let judged =
        judged.and_then(|()| if here { seal.map_err(Error::from) } else { Err(Error::InitElsewhere) });
    attempt(core, from, slot, judged, move |core, seal| async move { core.initialize(seal, from.id).await })
        .await
}

/// One share towards the root key.
///
/// # Errors
/// The share is no good, or the keys are but the data is not.
pub async fn unseal(core: &Arc<Core>, from: Origin, slot: Slot, share: SecretBytes) -> Result<Status, Error> {
    let judged = core.judge_share(&share).map(|()| share);
    attempt(core, from, slot, judged, |core, share| async move { core.submit_share(&share).await }).await?;
    Ok(core.status())
}

/// A root token, for whoever proves to hold what opens the seal. It is how rights are given back when nobody has them.
///
/// # Errors
/// The proof is no good, or there are no keys.
pub async fn generate_root(
    core: &Arc<Core>,
    from: Origin,
    slot: Slot,
    proof: Vec<SecretBytes>,
) -> Result<SecretBytes, Error> {
    let judged = core.unsealed().and_then(|unsealed| {
        core.options.seals.prove_right(&unsealed.seal.load(), &proof)?;
        Ok(unsealed)
    });
    attempt(core, from, slot, judged, move |core, unsealed| async move {
        let (token, session) = unsealed.tokens.mint_root(core.clock.now())?;
        tracing::warn!(request_id = %from.id, session = %session.id, "a root token was generated; it is valid for an hour");
        Ok(token)
    })
    .await
}

/// Anybody can call these, so what is refused at a glance is recorded like any stranger's refusal (sampled beyond a
/// rate), few attempts run at once, and only those leave an intent and an outcome (CVE-2025-4656, CVE-2025-52894). What
/// began runs to its outcome even if the caller goes away.
async fn attempt<A, T, F>(
    core: &Arc<Core>,
    from: Origin,
    slot: Slot,
    judged: Result<A, Error>,
    work: impl FnOnce(Arc<Core>, A) -> F + Send + 'static,
) -> Result<T, Error>
where
    A: Send + 'static,
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    // Places are only for who may have what it takes: nobody is kept out by those who do not.
    let admitted = judged.and_then(|given| {
        slot.attempt()?;
        let place = Arc::clone(&core.attempts).try_acquire_owned();
        place.map(|place| (given, place)).map_err(|_| Error::Overloaded(limits::QUEUE_WAIT))
    });
    let (given, place) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => {
            record::refused_stranger(core, from, &error).await?;
            return Err(error);
        }
    };
    let core = Arc::clone(core);
    let task = tokio::spawn(async move {
        record::stranger_intent(&core, from).await?;
        let result = work(Arc::clone(&core), given).await;
        let ended = record::Ended::with(result.as_ref().err());
        let told = record::stranger_outcome(&core, from, ended).await;
        drop((place, slot));
        // What init gives out exists only here: better unrecorded than lost.
        if let Err(error) = told {
            tracing::error!(request_id = %from.id, %error, "the outcome could not be recorded");
        }
        result
    });
    task.await.unwrap_or_else(|failure| Err(Error::Internal(failure.to_string())))
}

/// A credential for a token.
///
/// # Errors
/// [`Error::Login`] tells nobody whether the name exists.
pub async fn login(core: &Arc<Core>, login: Login) -> Result<(SecretBytes, Session), Error> {
    let from = login.origin;
    let core = Arc::clone(core);
    // A caller who goes away during the slow hash leaves its record all the same.
    let task = tokio::spawn(async move {
        let method = login.credential.as_ref().map_or("unknown", Credential::method);
        let shown = login.credential.as_ref().ok();
        let place = shown.and_then(|credential| core.methods.place(credential));
        let claimed = shown.and_then(|credential| record::claimed(&core, credential));
        let result = prove(&core, login).await;
        core.metrics.login_judged(method, judged(&result));
        let known = result.as_ref().ok().map(|(_, session)| session);
        let told = record::Told { place: place.as_deref(), claimed, session: known };
        record::login(&core, from, told, result.as_ref().err()).await?;
        result
    });
    task.await.unwrap_or_else(|failure| Err(Error::Internal(failure.to_string())))
}

/// For the metric.
fn judged<T>(result: &Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "accepted",
        Err(error) if error.is_denial() => "refused",
        Err(_) => "failed",
    }
}

async fn prove(core: &Core, login: Login) -> Result<(SecretBytes, Session), Error> {
    let unsealed = core.unsealed()?;
    let now = core.clock.now();
    let context = LoginContext { peer: login.origin.peer, now };
    let proved = unsealed.methods.login(login.credential?, &context).await?;
    // Issued at the time the login came in, not when the slow hash was done: a revocation in between covers it.
    Ok(unsealed.tokens.mint(&proved, now)?)
}

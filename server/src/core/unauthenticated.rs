//! The four things anybody may do: status (in `mod.rs`), init, unseal and login. Each is recorded like everything else.

use std::{net::IpAddr, sync::Arc};

use super::{Core, Error, Initialized, Status, record};
use crate::{
    auth::{AuthMethod, Credential, LoginContext},
    model::{Invalid, RequestId, SecretBytes},
    seal::SealConfig,
    tokens::Session,
};

/// Where an unauthenticated request comes from.
#[derive(Clone, Copy)]
pub struct Unauthenticated {
    /// Made by us.
    pub id: RequestId,
    /// `Sys.Init`
    pub name: &'static str,
    /// The other end.
    pub peer: Option<IpAddr>,
}

/// A login, parsed.
pub struct Login {
    /// Made by us.
    pub id: RequestId,
    /// `Auth.Login`
    pub name: &'static str,
    /// The other end.
    pub peer: Option<IpAddr>,
    /// What proves it.
    pub credential: Result<Credential, Invalid>,
}

/// Makes a store out of an empty one: root key, keyring, seal, root token.
///
/// # Errors
/// It is not empty, the seal is not possible, or the store failed; then it is as empty as before.
pub async fn init(
    core: &Arc<Core>,
    from: Unauthenticated,
    seal: Result<SealConfig, Invalid>,
) -> Result<Initialized, Error> {
    record::stranger_intent(core, from).await?;
    let result = match seal {
        Ok(seal) => detached(core, move |core| async move { core.initialize(seal).await }).await,
        Err(invalid) => Err(invalid.into()),
    };
    tell(from, &result);
    record::stranger_outcome(core, from, &result).await?;
    result
}

/// One share towards the root key.
///
/// # Errors
/// The share is no good, or the keys are but the data is not.
pub async fn unseal(core: &Arc<Core>, from: Unauthenticated, share: SecretBytes) -> Result<Status, Error> {
    record::stranger_intent(core, from).await?;
    let result = detached(core, move |core| async move { core.submit_share(&share).await }).await;
    tell(from, &result);
    record::stranger_outcome(core, from, &result).await?;
    result.map(|()| core.status())
}

/// The log has the cause: whoever is asked why the server does not open looks there first.
fn tell<T>(from: Unauthenticated, result: &Result<T, Error>) {
    if let Some(cause) = result.as_ref().err().and_then(Error::cause) {
        tracing::error!(request_id = %from.id, rpc = from.name, cause, "a request failed");
    }
}

/// A credential for a token.
///
/// # Errors
/// [`Error::Login`] tells nobody whether the name exists.
pub async fn login(core: &Arc<Core>, login: Login) -> Result<(SecretBytes, Session), Error> {
    let from = Unauthenticated { id: login.id, name: login.name, peer: login.peer };
    let result = prove(core, login).await;
    let known = result.as_ref().ok().map(|(_, session)| session);
    record::login(core, from, known, result.as_ref().err()).await?;
    result
}

async fn prove(core: &Core, login: Login) -> Result<(SecretBytes, Session), Error> {
    let unsealed = core.unsealed()?;
    let now = core.clock.now();
    let context = LoginContext { peer: login.peer, now };
    let proved = match login.credential? {
        credential @ Credential::Userpass { .. } => unsealed.userpass.login(credential, &context).await?,
    };
    // Issued at the time the login came in, not when the slow hash was done: a revocation in between covers it.
    Ok(unsealed.tokens.mint(&proved, now)?)
}

/// Runs to its end even if the caller goes away.
async fn detached<T, F>(core: &Arc<Core>, work: impl FnOnce(Arc<Core>) -> F) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let task = tokio::spawn(work(Arc::clone(core)));
    task.await.unwrap_or_else(|failure| Err(Error::Internal(failure.to_string())))
}

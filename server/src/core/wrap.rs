//! Wrapping: an engine's answer is kept instead of told, and told once to whoever shows its token. Who opens it has no session,
//! and may be anybody; so the log has, of each opening and of each second one, what was opened and from where.

use std::sync::Arc;

use super::{
    context::{Origin, RequestContext},
    error::Error,
    record,
    request::{Answer, Slot, Wrap},
    state::{Core, Unsealed},
};
use crate::{
    leases::Cause,
    model::{Invalid, Path, SecretBytes},
    wrapping::{About, Found, Token, WrapError},
};

/// What somebody opened.
pub struct Unwrapped {
    pub about: About,
    pub answer: SecretBytes,
}

/// Keeps what an engine answered.
pub(super) async fn keep(
    core: &Core,
    unsealed: &Unsealed,
    request: &RequestContext,
    (wrap, path): (Wrap, Path),
    answer: Answer,
) -> Result<Answer, Error> {
    let (reply, what) = match answer {
        Answer::Reply(reply) => (reply, None),
        Answer::Issued { reply, what, .. } => (reply, Some(what)),
        _ => return Err(Invalid::new("operation", "has more than one answer").into()),
    };
    let about = About {
        id: request.id(),
        operation: wrap.operation.into(),
        path,
        by: request.session.principal.to_string().into(),
        at: request.at,
        expires: core.clock.now().plus(wrap.ttl),
    };
    let version = reply.version();
    match unsealed.wrapping.keep(&about, reply).await {
        Ok(token) => Ok(Answer::Wrapped { token: token.into_text(), about, what, version }),
        Err(error) => {
            // What nobody can open nobody has.
            if what.is_some() {
                unsealed.leases.end(&[about.id], Cause::Undelivered, None).await?;
            }
            Err(error.into())
        }
    }
}

/// The answer that a token opens.
///
/// # Errors
/// It opens nothing, or nothing any more.
pub async fn unwrap(
    core: &Arc<Core>,
    from: Origin,
    slot: Slot,
    token: SecretBytes,
) -> Result<Unwrapped, Error> {
    let found = async {
        let unsealed = core.unsealed()?;
        let token = Token::parse(&token).ok_or(WrapError::Nothing)?;
        let found = unsealed.wrapping.find(&token, core.clock.now()).await?;
        Ok((unsealed, found))
    };
    let (unsealed, found) = match found.await {
        Ok(found) => found,
        Err(error) => {
            not_unwrapped(core, from, &error).await?;
            return Err(error);
        }
    };
    let core = Arc::clone(core);
    // A caller who goes away stops it neither between intent and outcome nor half-way through.
    let task = tokio::spawn(async move {
        let result = open(&core, &unsealed, from, found).await;
        drop(slot);
        result
    });
    task.await.unwrap_or_else(|failure| Err(Error::Internal(failure.to_string())))
}

async fn open(core: &Core, unsealed: &Unsealed, from: Origin, found: Found) -> Result<Unwrapped, Error> {
    let about = found.about.clone();
    record::unwrap_intent(core, from, &about).await?;
    let opened = unsealed.wrapping.open(found, from.id, core.clock.now()).await.map_err(Error::from);
    if let Err(Error::Wrap(WrapError::Opened { .. })) = &opened {
        core.metrics.unwrapped_again();
    }
    let told = record::unwrap_outcome(core, from, &about, opened.as_ref().err()).await;
    let answer = opened?;
    // It is gone from the store: who is not told now never will be.
    if let Err(error) = told {
        tracing::error!(request_id = %from.id, %error, "the outcome could not be recorded");
    }
    Ok(Unwrapped { about, answer })
}

/// A no. That somebody comes second is never left out of the log, and is an alarm.
async fn not_unwrapped(core: &Core, from: Origin, error: &Error) -> Result<(), Error> {
    if let Error::Wrap(WrapError::Opened { about, .. }) = error {
        core.metrics.unwrapped_again();
        tracing::warn!(request_id = %from.id, wrapped = %about.id, path = %about.path, "a wrapped answer was to be opened a second time");
        return Ok(record::unwrapped_again(core, from, about, error).await?);
    }
    Ok(record::refused_stranger(core, from, error).await?)
}

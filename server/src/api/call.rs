//! How a handler gets from a message to an answer: parse, run the pipeline, convert. Every authenticated RPC takes this way.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    access::Class,
    layers::{Context, Slot},
    status::status,
};
use crate::{
    core::{self, Action, Answer, Core, Error},
    model::{Invalid, RequestId, SecretBytes},
};

/// The context the layers left.
pub(super) fn context<M>(request: &Request<M>) -> Result<Context, Status> {
    request.extensions().get::<Context>().cloned().ok_or_else(|| Status::internal("no request context"))
}

/// Runs one request through the pipeline.
pub(super) async fn call<M, R>(
    core: &Arc<Core>,
    request: Request<M>,
    parse: impl FnOnce(M) -> Result<Action, Invalid>,
    convert: impl FnOnce(Answer, RequestId) -> Option<R>,
) -> Result<Response<R>, Status> {
    let context = context(&request)?;
    let slot = context.slot().await.map_err(|error| status(&error, context.id))?;
    let request = core::Request {
        slot: slot.clone(),
        id: context.id,
        name: context.access.name,
        peer: context.peer,
        bearer: bearer(&request),
        action: parse(request.into_inner()),
    };
    let answer = core::handle(core, request).await.map_err(|error| status(&error, context.id))?;
    match convert(answer, context.id) {
        Some(reply) => {
            let mut reply = Response::new(reply);
            if let (Class::Stream, Some(slot)) = (context.access.class, slot) {
                reply.extensions_mut().insert::<Slot>(slot);
            }
            Ok(reply)
        }
        None => Err(status(&Error::Internal("an answer of the wrong kind".to_owned()), context.id)),
    }
}

fn bearer<M>(request: &Request<M>) -> Option<SecretBytes> {
    token(request.metadata().get("authorization")?.to_str().ok()?)
}

/// Of `Bearer ...`.
pub(super) fn token(authorization: &str) -> Option<SecretBytes> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| SecretBytes::from(token.as_bytes()))
}

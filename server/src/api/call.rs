//! How a handler gets from a message to an answer: parse, hand it to admission, convert. Every RPC with a session takes
//! this way.

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use tonic::{Request, Response, Status};

use super::status::status;
use crate::{
    admission::Visit,
    core::{Action, Answer, Error},
    model::{Invalid, RequestId, SecretBytes},
};

/// A server-streaming answer.
pub(super) type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The visit that the layers left.
pub(super) fn visit<M>(request: &Request<M>) -> Result<Arc<Visit>, Status> {
    request.extensions().get::<Arc<Visit>>().cloned().ok_or_else(|| Status::internal("no request context"))
}

/// Runs one request through the pipeline.
pub(super) async fn call<M, R>(
    request: Request<M>,
    parse: impl FnOnce(M) -> Result<Action, Invalid>,
    convert: impl FnOnce(Answer, RequestId) -> Option<R>,
) -> Result<Response<R>, Status> {
    let visit = visit(&request)?;
    let (id, bearer) = (visit.id(), bearer(&request));
    let answer =
        visit.handle(bearer, parse(request.into_inner())).await.map_err(|error| status(&error, id))?;
    match convert(answer, id) {
        Some(reply) => Ok(Response::new(reply)),
        None => Err(status(&Error::Internal("an answer of the wrong kind".to_owned()), id)),
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

//! What gRPC wants around every RPC, before and after its handler: what admission says of it, its code and its headers.
//! Nothing here looks into a message or decides anything.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Request, Response};
use strongroom_proto::grpc_timeout;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{connection::Peer, intake::guard, outgoing::outgoing, path, status::status};
use crate::{admission::Admission, model::RequestId};

/// Puts [`PerRequest`] around a service.
#[derive(Clone)]
pub(super) struct PerRequestLayer(pub(super) Arc<Admission>);

impl<S> Layer<S> for PerRequestLayer {
    type Service = PerRequest<S>;

    fn layer(&self, inner: S) -> PerRequest<S> {
        PerRequest { inner, admission: Arc::clone(&self.0) }
    }
}

/// See the module.
#[derive(Clone)]
pub(super) struct PerRequest<S> {
    inner: S,
    admission: Arc<Admission>,
}

type Answering<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Service<Request<Body>> for PerRequest<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering<Infallible>;

    fn poll_ready(&mut self, task: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned();
        let name = path::name(request.uri().path()).unwrap_or_default();
        let visit = match self.admission.arrive(name, peer.as_ref().map(|peer| peer.address.ip())) {
            Ok(visit) => visit,
            Err(id) => {
                let answer = Status::unimplemented("no such RPC").into_http();
                return Box::pin(std::future::ready(Ok(with_id(answer, id))));
            }
        };
        let asked = timeout(request.headers());
        let (mut parts, body) = request.into_parts();
        let body = guard(body, &parts.headers, &visit);
        parts.extensions.insert(Arc::clone(&visit));
        let answer = self.inner.call(Request::from_parts(parts, body));

        Box::pin(async move {
            let at_work = visit.begin();
            let is_answer = |answer: &Result<Response<Body>, Infallible>| match answer {
                Ok(answer) => grpc_code(answer.headers()) == OK,
                Err(never) => match *never {},
            };
            let answer = match visit.attend(asked, answer, is_answer).await {
                Ok(Ok(answer)) => answer.map(|body| outgoing(body, &visit, peer)),
                Ok(Err(never)) => match never {},
                Err(error) => status(&error, visit.id()).into_http(),
            };
            at_work.end(grpc_code(answer.headers()));
            Ok(with_id(answer, visit.id()))
        })
    }
}

fn with_id(mut answer: Response<Body>, id: RequestId) -> Response<Body> {
    if let Ok(value) = HeaderValue::try_from(id.to_string()) {
        answer.headers_mut().insert("x-request-id", value);
    }
    answer
}

const OK: &str = "OK";

/// "0" and absent are success; a status of a stream comes later and is counted as begun.
fn grpc_code(headers: &HeaderMap) -> &'static str {
    const CODES: [&str; 17] = [
        OK,
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let code =
        headers.get("grpc-status").and_then(|value| value.to_str().ok()?.parse::<usize>().ok()).unwrap_or(0);
    CODES.get(code).copied().unwrap_or("UNKNOWN")
}

/// The caller's deadline.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(grpc_timeout)
}

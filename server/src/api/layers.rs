//! What happens around every RPC before and after its handler: a request id, the row of the access table, a slot, a
//! deadline, room for its message, a net under panics, and the figures. Nothing here looks into a message.

use std::{
    convert::Infallible,
    future::Future,
    net::IpAddr,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use strongroom_proto::Reason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{
    access::{self, Access, Class},
    connection::Peer,
    intake::Intake,
    status::{refusal, status},
};
use crate::{
    core::{Core, Error},
    crypto::{CryptoError, Entropy},
    limits,
    model::RequestId,
    telemetry::Metrics,
};

/// What the layers know of a request; handlers find it in the extensions.
#[derive(Clone)]
pub(super) struct Context {
    pub id: RequestId,
    pub access: &'static Access,
    /// The other end of the connection.
    pub peer: Option<IpAddr>,
    shared: Arc<Shared>,
}

/// A place among the requests at work; free again when the last clone is dropped. A write holds one until it is done,
/// whatever became of its caller; a stream until it ends.
pub(super) type Slot = Arc<OwnedSemaphorePermit>;

impl Context {
    /// A slot of the RPC's class. Taken when the message is there and decoded: who sends headers and then nothing waits
    /// in nobody's way.
    pub(super) async fn slot(&self) -> Result<Option<Slot>, Error> {
        let slots = match self.access.class {
            Class::Vital | Class::Public => return Ok(None),
            Class::Unary => &self.shared.unary_slots,
            Class::Stream => &self.shared.stream_slots,
        };
        if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
            return Ok(Some(Arc::new(slot)));
        }
        let waited = tokio::time::timeout(limits::QUEUE_WAIT, Arc::clone(slots).acquire_owned()).await;
        match waited {
            Ok(Ok(slot)) => Ok(Some(Arc::new(slot))),
            _ => Err(Error::Overloaded(limits::QUEUE_WAIT)),
        }
    }
}

/// Shared by all connections.
pub(super) struct Shared {
    longest: Duration,
    unary_slots: Arc<Semaphore>,
    stream_slots: Arc<Semaphore>,
    public_slots: Arc<Semaphore>,
    intake: Arc<Intake>,
    ids: RequestIds,
    metrics: Arc<Metrics>,
}

impl Shared {
    /// # Errors
    /// No randomness for the request ids.
    pub(super) fn new(
        core: Arc<Core>,
        in_flight: usize,
        longest: Duration,
        entropy: &dyn Entropy,
        metrics: Arc<Metrics>,
    ) -> Result<Self, CryptoError> {
        Ok(Self {
            longest,
            unary_slots: Arc::new(Semaphore::new(in_flight)),
            stream_slots: Arc::new(Semaphore::new(limits::STREAMS)),
            public_slots: Arc::new(Semaphore::new(limits::PUBLIC_STREAMS)),
            intake: Arc::new(Intake::new(core)),
            ids: RequestIds::new(entropy)?,
            metrics,
        })
    }
}

/// Unique without a system call each: eight random bytes of this process and a counter.
struct RequestIds {
    process: [u8; 8],
    next: AtomicU64,
}

impl RequestIds {
    fn new(entropy: &dyn Entropy) -> Result<Self, CryptoError> {
        let mut process = [0; 8];
        entropy.fill(&mut process)?;
        Ok(Self { process, next: AtomicU64::new(1) })
    }

    fn make(&self) -> RequestId {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        RequestId((u128::from(u64::from_be_bytes(self.process)) << 64 | u128::from(count)).to_be_bytes())
    }
}

/// Puts [`PerRequest`] around a service.
#[derive(Clone)]
pub(super) struct PerRequestLayer(pub(super) Arc<Shared>);

impl<S> Layer<S> for PerRequestLayer {
    type Service = PerRequest<S>;

    fn layer(&self, inner: S) -> PerRequest<S> {
        PerRequest { inner, shared: Arc::clone(&self.0) }
    }
}

/// See the module.
#[derive(Clone)]
pub(super) struct PerRequest<S> {
    inner: S,
    shared: Arc<Shared>,
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
        let shared = Arc::clone(&self.shared);
        let id = shared.ids.make();
        let Some(access) = access::row(request.uri().path()) else {
            let answer = Status::unimplemented("no such RPC").into_http();
            return Box::pin(std::future::ready(Ok(with_id(answer, id))));
        };
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
        let deadline = deadline(request.headers(), shared.longest);
        let context = Context { id, access, peer, shared: Arc::clone(&shared) };
        let (mut parts, body) = request.into_parts();
        let body = shared.intake.guard(body, &parts.headers, &context);
        parts.extensions.insert(context);
        let request = Request::from_parts(parts, body);
        let answer = AssertUnwindSafe(self.inner.call(request)).catch_unwind();

        Box::pin(async move {
            let started = Instant::now();
            let at_work = AtWork::begin(&shared.metrics);
            let public = match access.class {
                Class::Public => match Arc::clone(&shared.public_slots).try_acquire_owned() {
                    Ok(slot) => Some(Arc::new(slot)),
                    Err(_) => {
                        at_work.end(access.name, "RESOURCE_EXHAUSTED", started.elapsed());
                        return Ok(with_id(
                            status(&Error::Overloaded(limits::QUEUE_WAIT), id).into_http(),
                            id,
                        ));
                    }
                },
                _ => None,
            };
            let outcome = match access.class {
                Class::Stream | Class::Public => Ok(answer.await),
                Class::Unary | Class::Vital => tokio::time::timeout(deadline, answer).await,
            };
            let answer = match outcome {
                Ok(Ok(Ok(answer))) => answer,
                Ok(Ok(Err(never))) => match never {},
                Ok(Err(_panic)) => {
                    tracing::error!(request_id = %id, rpc = access.name, "a handler panicked");
                    refusal(Reason::Internal, "internal error; the server's log has the cause", id)
                        .into_http()
                }
                Err(_elapsed) => {
                    refusal(Reason::DeadlineExceeded, "the deadline passed; a write may have happened", id)
                        .into_http()
                }
            };
            at_work.end(access.name, grpc_code(answer.headers()), started.elapsed());
            Ok(with_id(hold(answer, public), id))
        })
    }
}

/// Counts a request as at work until it is answered, or dropped because the caller went away.
struct AtWork<'a>(&'a Metrics);

impl<'a> AtWork<'a> {
    fn begin(metrics: &'a Metrics) -> Self {
        metrics.request_started();
        Self(metrics)
    }

    fn end(self, rpc: &'static str, code: &'static str, took: Duration) {
        self.0.request_answered(rpc, code, took);
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// A stream keeps its slot until its body ends: the one of the layer, or the one its handler left in the extensions.
fn hold(mut answer: Response<Body>, public: Option<Slot>) -> Response<Body> {
    match public.or_else(|| answer.extensions_mut().remove::<Slot>()) {
        Some(slot) => answer.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _held = &slot;
                frame
            }))
        }),
        None => answer,
    }
}

fn with_id(mut answer: Response<Body>, id: RequestId) -> Response<Body> {
    if let Ok(value) = HeaderValue::try_from(id.to_string()) {
        answer.headers_mut().insert("x-request-id", value);
    }
    answer
}

/// "0" and absent are success; a status of a stream comes later and is counted as begun.
fn grpc_code(headers: &HeaderMap) -> &'static str {
    const CODES: [&str; 17] = [
        "OK",
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

/// The caller's deadline (`grpc-timeout`: digits and a unit, gRPC over HTTP/2), never above ours.
fn deadline(headers: &HeaderMap, longest: Duration) -> Duration {
    let given = headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_timeout);
    given.unwrap_or(longest).min(longest)
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_as_grpc_writes_them() {
        assert_eq!(parse_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse_timeout("2S"), Some(Duration::from_secs(2)));
        for bad in ["", "S", "5", "5x", "123456789S", "-1S", "ä"] {
            assert_eq!(parse_timeout(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn nobody_gets_more_time_than_we_give() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_static("99H"));
        assert_eq!(deadline(&headers, limits::REQUEST_DEADLINE), limits::REQUEST_DEADLINE);
    }
}

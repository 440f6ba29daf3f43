//! The services of the engines, all of them by one way: an RPC's row says what reads its message, the pipeline does it,
//! and the answer writes itself. Here is what gRPC wants around that; the wire does not know which engines there are.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::LazyLock,
    task::{Context as TaskContext, Poll},
};

use futures_util::StreamExt;
use http::{Request as HttpRequest, Response as HttpResponse};
use strongroom_proto::limits as wire;
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, ServerStreamingService, UnaryService},
};
use tower::{Layer, Service as TowerService};

use super::{
    call::{Streaming, call},
    path,
    status::status,
};
use crate::{
    core::{Action, Answer},
    engines::{Answers, Asked, KINDS, Reply, Rpc},
};

/// The RPC of a path.
fn find(path: &str) -> Option<&'static Rpc> {
    static BY_PATH: LazyLock<HashMap<String, &Rpc>> = LazyLock::new(|| {
        let rpcs = KINDS.iter().flat_map(|kind| kind.service.rpcs);
        rpcs.map(|rpc| (path::path(rpc.name), rpc)).collect()
    });
    BY_PATH.get(path).copied()
}

/// Answers the RPCs of engines, and leaves all others to the services below.
#[derive(Clone)]
pub(super) struct EnginesLayer;

impl<S> Layer<S> for EnginesLayer {
    type Service = Engines<S>;

    fn layer(&self, others: S) -> Engines<S> {
        Engines { others }
    }
}

/// See [`EnginesLayer`].
#[derive(Clone)]
pub(super) struct Engines<S> {
    others: S,
}

type Answering<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S> TowerService<HttpRequest<Body>> for Engines<S>
where
    S: TowerService<HttpRequest<Body>, Response = HttpResponse<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = Answering<HttpResponse<Body>, Infallible>;

    fn poll_ready(&mut self, task: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        self.others.poll_ready(task)
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let Some(rpc) = find(request.uri().path()) else {
            return Box::pin(self.others.call(request));
        };
        let mut grpc = Grpc::new(Words(rpc))
            .max_decoding_message_size(rpc.request_bytes)
            .max_encoding_message_size(wire::RESPONSE_BYTES);
        Box::pin(async move {
            Ok(match rpc.answers {
                Answers::One => grpc.unary(Forward, request).await,
                Answers::Many => grpc.server_streaming(Forward, request).await,
            })
        })
    }
}

/// Through the pipeline.
struct Forward;

impl UnaryService<Asked> for Forward {
    type Response = Box<dyn Reply>;
    type Future = Answering<Response<Self::Response>, Status>;

    fn call(&mut self, request: Request<Asked>) -> Self::Future {
        Box::pin(call(request, action, |answer, _| match answer {
            Answer::Reply(reply) | Answer::Issued { reply, .. } => Some(reply),
            _ => None,
        }))
    }
}

impl ServerStreamingService<Asked> for Forward {
    type Response = Box<dyn Reply>;
    type ResponseStream = Streaming<Box<dyn Reply>>;
    type Future = Answering<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Asked>) -> Self::Future {
        Box::pin(call(request, action, |answer, id| match answer {
            Answer::Replies(replies) => {
                let told = replies.map(move |next| next.map_err(|error| status(&error, id)));
                Some(Box::pin(told) as Streaming<Box<dyn Reply>>)
            }
            _ => None,
        }))
    }
}

fn action(asked: Asked) -> Result<Action, crate::model::Invalid> {
    asked.map(|(paths, operation)| Action::Engine { paths, operation })
}

/// Reads the messages of one RPC and writes its answers.
struct Words(&'static Rpc);

impl Codec for Words {
    type Encode = Box<dyn Reply>;
    type Decode = Asked;
    type Encoder = Writer;
    type Decoder = Reader;

    fn encoder(&mut self) -> Writer {
        Writer
    }

    fn decoder(&mut self) -> Reader {
        Reader(self.0)
    }
}

struct Writer;

impl Encoder for Writer {
    type Item = Box<dyn Reply>;
    type Error = Status;

    fn encode(&mut self, reply: Box<dyn Reply>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        reply.write(into).map_err(|error| Status::internal(error.to_string()))
    }
}

struct Reader(&'static Rpc);

impl Decoder for Reader {
    type Item = Asked;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Asked>, Status> {
        // A decoding error names fields and never quotes what they held.
        (self.0.read)(from).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

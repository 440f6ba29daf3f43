//! The Wrapping service: thin. What is wrapped is a request of an engine, read as if it had come by itself.

use strongroom_proto::v1::{self, wrapping_server::Wrapping};
use tonic::{Request, Response, Status};

use super::{
    call::{call, visit},
    status::status,
};
use crate::{
    core::{Action, Answer, Unwrapped, Wrap},
    engines::{Answers, KINDS, Rpc},
    model::{Invalid, SecretBytes},
    wrapping::ttl,
};

/// See the module.
pub(super) struct WrappingService;

#[tonic::async_trait]
impl Wrapping for WrappingService {
    async fn wrap(&self, request: Request<v1::WrapRequest>) -> Result<Response<v1::WrapResponse>, Status> {
        call(request, action, |answer, _| match answer {
            Answer::Wrapped { token, about, .. } => Some(v1::WrapResponse {
                token: Some(token.into()),
                id: about.id.to_string(),
                expires_at_ms: about.expires.as_millis(),
            }),
            _ => None,
        })
        .await
    }

    async fn unwrap(
        &self,
        request: Request<v1::UnwrapRequest>,
    ) -> Result<Response<v1::UnwrapResponse>, Status> {
        let visit = visit(&request)?;
        let token = SecretBytes::from(request.into_inner().token.unwrap_or_default());
        let unwrapped = visit.unwrap(token).await.map_err(|error| status(&error, visit.id()))?;
        let Unwrapped { about, answer } = unwrapped;
        Ok(Response::new(v1::UnwrapResponse {
            operation: about.operation.into(),
            answer: Some(answer.into()),
            path: about.path.to_string(),
            wrapped_by: about.by.into(),
            wrapped_at_ms: about.at.as_millis(),
            id: about.id.to_string(),
        }))
    }
}

fn action(message: v1::WrapRequest) -> Result<Action, Invalid> {
    let rpc = rpc(&message.operation)?;
    let request = SecretBytes::from(message.request.unwrap_or_default());
    // A decoding error names fields and never quotes what they held.
    let read = (rpc.read)(&mut request.expose());
    let (paths, operation) =
        read.map_err(|error| Invalid::new("request", format!("is none of {}: {error}", rpc.name)))??;
    let wrap = Wrap { operation: rpc.name, ttl: ttl(message.ttl_seconds)? };
    Ok(Action::Wrap { paths, operation, wrap })
}

fn rpc(name: &str) -> Result<&'static Rpc, Invalid> {
    let rpcs = KINDS.iter().flat_map(|kind| kind.service.rpcs);
    let mut wrappable = rpcs.filter(|rpc| rpc.answers == Answers::One);
    wrappable.find(|rpc| rpc.name == name).ok_or_else(|| {
        let problem = "is no RPC of an engine with one answer; expected one such as Secrets.Get";
        Invalid::new("operation", problem)
    })
}

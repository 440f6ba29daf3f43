//! The Audit service: thin.

use futures_util::StreamExt;
use strongroom_proto::{
    limits::AUDIT_LINES,
    v1::{self, audit_server::Audit},
};
use tonic::{Request, Response, Status};

use super::{
    call::{Streaming, call},
    convert,
    status::status,
};
use crate::{
    core::{Action, Answer, AuditAction},
    model::{Invalid, Path, RequestId},
};

/// See the module.
pub(super) struct AuditService;

/// Most old lines a tail begins with.
const TAIL_LINES: u32 = 10_000;

#[tonic::async_trait]
impl Audit for AuditService {
    type TailStream = Streaming<v1::AuditLines>;
    type QueryStream = Streaming<v1::AuditLines>;

    async fn tail(&self, request: Request<v1::TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        call(
            request,
            |message| {
                if message.last > TAIL_LINES {
                    let problem = format!("is {}; expected 0 to {TAIL_LINES}", message.last);
                    return Err(Invalid::new("last", problem));
                }
                Ok(Action::Audit(AuditAction::Tail { last: message.last, follow: message.follow }))
            },
            lines,
        )
        .await
    }

    async fn query(&self, request: Request<v1::QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        call(
            request,
            |message| {
                if message.limit > AUDIT_LINES {
                    let problem = format!("is {}; expected 1 to {AUDIT_LINES}", message.limit);
                    return Err(Invalid::new("limit", problem));
                }
                let (filter, limit) = convert::filter(message)?;
                Ok(Action::Audit(AuditAction::Query { filter, limit }))
            },
            lines,
        )
        .await
    }

    async fn hash(&self, request: Request<v1::HashRequest>) -> Result<Response<v1::HashResponse>, Status> {
        call(
            request,
            |message| {
                let value = message.value.ok_or_else(|| Invalid::new("value", "is missing"))?.into();
                let path = Path::parse_field("path", &message.path)?;
                Ok(Action::Audit(AuditAction::Hash { path, field: message.field, value }))
            },
            |answer, _| match answer {
                Answer::Hash(hash) => Some(v1::HashResponse { hash }),
                _ => None,
            },
        )
        .await
    }
}

fn lines(answer: Answer, id: RequestId) -> Option<Streaming<v1::AuditLines>> {
    match answer {
        Answer::Lines(stream) => Some(Box::pin(stream.map(move |next| match next {
            Ok(lines) => Ok(v1::AuditLines { lines }),
            Err(error) => Err(status(&error, id)),
        }))),
        _ => None,
    }
}

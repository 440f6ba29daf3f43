//! The Policy service: thin.

use strongroom_proto::{
    limits::POLICY_BYTES,
    v1::{self, policy_server::Policy},
};
use tonic::{Request, Response, Status};

use super::{call::call, convert};
use crate::{
    core::{Action, Answer, CanI, PolicyAction, SessionAction},
    model::{Invalid, Path, Principal, Verb},
};

/// See the module.
pub(super) struct PolicyService;

#[tonic::async_trait]
impl Policy for PolicyService {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        call(request, parse_apply, |answer, _| match answer {
            Answer::Applied(changes) => {
                Some(v1::ApplyResponse { changes: changes.into_iter().map(convert::policy_change).collect() })
            }
            _ => None,
        })
        .await
    }

    async fn export(
        &self,
        request: Request<v1::ExportRequest>,
    ) -> Result<Response<v1::ExportResponse>, Status> {
        call(
            request,
            |_| Ok(Action::Policy(PolicyAction::Export)),
            |answer, _| match answer {
                Answer::Policy(yaml) => Some(v1::ExportResponse { yaml }),
                _ => None,
            },
        )
        .await
    }

    async fn can_i(&self, request: Request<v1::CanIRequest>) -> Result<Response<v1::CanIResponse>, Status> {
        call(request, parse_can_i, |answer, _| match answer {
            Answer::Decision(decision) => Some(convert::decision(&decision)),
            _ => None,
        })
        .await
    }

    async fn who_can(
        &self,
        request: Request<v1::WhoCanRequest>,
    ) -> Result<Response<v1::WhoCanResponse>, Status> {
        call(
            request,
            |message| {
                let (verb, path) = (verb(&message.verb)?, Path::parse_field("path", &message.path)?);
                Ok(Action::Policy(PolicyAction::WhoCan { verb, path }))
            },
            |answer, _| match answer {
                Answer::WhoCan(entries) => {
                    Some(v1::WhoCanResponse { entries: entries.into_iter().map(convert::who_can).collect() })
                }
                _ => None,
            },
        )
        .await
    }
}

fn parse_apply(message: v1::ApplyRequest) -> Result<Action, Invalid> {
    if message.yaml.len() > POLICY_BYTES {
        let problem = format!("has {} bytes; at most {POLICY_BYTES} are allowed", message.yaml.len());
        return Err(Invalid::new("yaml", problem));
    }
    let remove = message.remove.iter().map(convert::object_name).collect::<Result<_, _>>()?;
    let v1::ApplyRequest { yaml, dry_run, force, .. } = message;
    Ok(Action::Policy(PolicyAction::Apply { yaml, remove, dry_run, force }))
}

/// A question about oneself needs no right, one about somebody else does.
fn parse_can_i(message: v1::CanIRequest) -> Result<Action, Invalid> {
    let (verb, path): (Verb, Path) = (verb(&message.verb)?, Path::parse_field("path", &message.path)?);
    if message.principal.is_empty() {
        return Ok(Action::Session(SessionAction::CanI(CanI { verb, path, who: None, peer: None })));
    }
    let who = Some(Principal::named(&message.principal, &message.groups)?);
    let peer = match message.peer.as_str() {
        "" => None,
        peer => Some(peer.parse().map_err(|_| Invalid::new("peer", "is not an IP address"))?),
    };
    Ok(Action::Policy(PolicyAction::CanI(CanI { verb, path, who, peer })))
}

fn verb(text: &str) -> Result<Verb, Invalid> {
    Verb::parse(text).ok_or_else(|| {
        let (all, shown) =
            (Verb::ALL.map(Verb::as_str).join(", "), text.chars().take(32).collect::<String>());
        Invalid::new("verb", format!("is {shown:?}; expected one of {all}"))
    })
}

//! The Leases service: thin.

use std::time::Duration;

use strongroom_proto::{
    limits::PAGE_SIZE,
    v1::{self, lease_selector::Which, leases_server::Leases},
};
use tonic::{Request, Response, Status};

use super::call::call;
use crate::{
    core::{Action, Answer, LeaseAction},
    leases::{Info, Page, Selector},
    model::{Invalid, Path, RequestId, SessionId, Timestamp},
};

/// See the module.
pub(super) struct LeasesService;

#[tonic::async_trait]
impl Leases for LeasesService {
    async fn issue(&self, request: Request<v1::IssueRequest>) -> Result<Response<v1::IssueResponse>, Status> {
        call(
            request,
            |message| {
                let path = Path::parse_field("path", &message.path)?;
                let ttl = Some(message.ttl_seconds).filter(|ttl| *ttl > 0);
                Ok(Action::Lease(LeaseAction::Issue { path, ttl }))
            },
            |answer, _| match answer {
                Answer::Given { values, lease, lifetime } => Some(v1::IssueResponse {
                    fields: values.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect(),
                    lease: lease.map(|(granted, _)| v1::Lease::from(&granted)),
                    lifetime_ms: lifetime.as_millis().try_into().unwrap_or(u64::MAX),
                }),
                _ => None,
            },
        )
        .await
    }

    async fn list(
        &self,
        request: Request<v1::ListLeasesRequest>,
    ) -> Result<Response<v1::ListLeasesResponse>, Status> {
        call(
            request,
            |message| Ok(Action::Lease(LeaseAction::List(page(message)?))),
            |answer, _| match answer {
                Answer::Leases(leases, more, now) => Some(v1::ListLeasesResponse {
                    leases: leases.into_iter().map(|lease| info(lease, now)).collect(),
                    more,
                }),
                _ => None,
            },
        )
        .await
    }

    async fn renew(
        &self,
        request: Request<v1::RenewLeaseRequest>,
    ) -> Result<Response<v1::RenewLeaseResponse>, Status> {
        call(
            request,
            |message| {
                let seconds = message.increment_seconds;
                let increment = (seconds > 0).then(|| Duration::from_secs(seconds));
                Ok(Action::Lease(LeaseAction::Renew { id: id("id", &message.id)?, increment }))
            },
            |answer, _| match answer {
                Answer::Renewed(granted) => {
                    Some(v1::RenewLeaseResponse { lease: Some(v1::Lease::from(&granted)) })
                }
                _ => None,
            },
        )
        .await
    }

    async fn revoke(
        &self,
        request: Request<v1::RevokeLeasesRequest>,
    ) -> Result<Response<v1::RevokeLeasesResponse>, Status> {
        call(
            request,
            |message| {
                let which = message.which.and_then(|which| which.which);
                let which = which.ok_or_else(|| Invalid::new("which", "is missing; say which leases"))?;
                Ok(Action::Lease(LeaseAction::Revoke(selector(which)?)))
            },
            |answer, _| match answer {
                Answer::Ended { ended, pending, last_error } => Some(v1::RevokeLeasesResponse {
                    ended: count(ended),
                    pending: count(pending),
                    last_error: last_error.map(String::from).unwrap_or_default(),
                }),
                _ => None,
            },
        )
        .await
    }

    async fn forget(
        &self,
        request: Request<v1::ForgetLeaseRequest>,
    ) -> Result<Response<v1::ForgetLeaseResponse>, Status> {
        call(
            request,
            |message| Ok(Action::Lease(LeaseAction::Forget(id("id", &message.id)?))),
            |answer, _| match answer {
                Answer::Forgotten(_) => Some(v1::ForgetLeaseResponse {}),
                _ => None,
            },
        )
        .await
    }
}

fn page(message: v1::ListLeasesRequest) -> Result<Page, Invalid> {
    let limit = match message.limit {
        0 => PAGE_SIZE,
        limit @ 1..=PAGE_SIZE => limit,
        limit => return Err(Invalid::new("limit", format!("is {limit}; expected 1 to {PAGE_SIZE}"))),
    };
    let which = message.which.and_then(|which| which.which);
    let after = (!message.after.is_empty()).then(|| id("after", &message.after)).transpose()?;
    Ok(Page {
        which: which.map_or(Ok(Selector::All), selector)?,
        stuck: message.stuck,
        after,
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
    })
}

fn selector(which: Which) -> Result<Selector, Invalid> {
    Ok(match which {
        Which::Id(text) => Selector::Id(id("which.id", &text)?),
        Which::Prefix(text) => Selector::Prefix(Path::parse_field("which.prefix", &text)?),
        Which::Principal(text) => Selector::Principal(text.into()),
        Which::Session(text) => {
            let id = SessionId::parse(&text);
            Selector::Session(
                id.ok_or_else(|| Invalid::new("which.session", "is not 32 lower-case hex digits"))?,
            )
        }
        Which::Pod(uid) => Selector::Pod(uid.into()),
        Which::Own(_) => Selector::Own,
    })
}

fn id(field: &str, text: &str) -> Result<RequestId, Invalid> {
    RequestId::parse(text).ok_or_else(|| Invalid::new(field, "is not 32 lower-case hex digits"))
}

fn info(info: Info, now: Timestamp) -> v1::LeaseInfo {
    let Info { lease, failures, last_error, next_attempt, .. } = info;
    let session = &lease.session;
    v1::LeaseInfo {
        lease: Some(v1::Lease::from(&lease.granted(now))),
        path: lease.path.to_string(),
        what: lease.what.to_string(),
        principal: session.principal.to_string(),
        session: session.id.to_string(),
        pod: session.principal.pod().map(|pod| pod.uid.to_string()).unwrap_or_default(),
        issued_at_ms: lease.issued.as_millis(),
        ending: lease.ending.map(|cause| cause.as_str().to_owned()).unwrap_or_default(),
        failures,
        last_error: last_error.map(String::from).unwrap_or_default(),
        next_attempt_at_ms: next_attempt.map_or(0, |at| at.as_millis()),
    }
}

fn count(number: usize) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

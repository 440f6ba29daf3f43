//! The Sys service: thin. Status, init, unseal and a new root token need no token; the pipeline does not know them,
//! admission has a door for them.

use strongroom_proto::v1::{self, seal_config, sys_server::Sys};
use tonic::{Request, Response, Status};

use super::{
    call::{call, visit},
    convert,
    status::status,
};
use crate::{
    core::{Action, Answer, SysAction},
    model::{Invalid, SecretBytes},
    seal::SealConfig,
};

/// See the module.
pub(super) struct SysService;

#[tonic::async_trait]
impl Sys for SysService {
    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let visit = visit(&request)?;
        let now = visit.status().await.map_err(|error| status(&error, visit.id()))?;
        Ok(Response::new(convert::core_status(&now)))
    }

    async fn init(&self, request: Request<v1::InitRequest>) -> Result<Response<v1::InitResponse>, Status> {
        let visit = visit(&request)?;
        let seal = seal_config(request.into_inner().seal);
        let made = visit.init(seal).await.map_err(|error| status(&error, visit.id()))?;
        Ok(Response::new(v1::InitResponse {
            shares: made.shares.into_iter().map(Into::into).collect(),
            root_token: Some(made.root_token.into()),
            audit_public_key: data_encoding::HEXLOWER.encode(&made.audit_public_key.0),
            store_id: made.store_id.to_string(),
        }))
    }

    async fn unseal(
        &self,
        request: Request<v1::UnsealRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let visit = visit(&request)?;
        let share: SecretBytes = request.into_inner().share.unwrap_or_default().into();
        let now = visit.unseal(share).await.map_err(|error| status(&error, visit.id()))?;
        Ok(Response::new(convert::core_status(&now)))
    }

    async fn generate_root(
        &self,
        request: Request<v1::GenerateRootRequest>,
    ) -> Result<Response<v1::GenerateRootResponse>, Status> {
        let visit = visit(&request)?;
        let proof = request.into_inner().proof.into_iter().map(SecretBytes::from).collect();
        let token = visit.generate_root(proof).await.map_err(|error| status(&error, visit.id()))?;
        Ok(Response::new(v1::GenerateRootResponse { root_token: Some(token.into()) }))
    }

    async fn seal(&self, request: Request<v1::SealRequest>) -> Result<Response<v1::SealResponse>, Status> {
        call(request, |_| Ok(Action::Sys(SysAction::Seal)), |_, _| Some(v1::SealResponse {})).await
    }

    async fn rotate(
        &self,
        request: Request<v1::RotateRequest>,
    ) -> Result<Response<v1::RotateResponse>, Status> {
        call(
            request,
            |_| Ok(Action::Sys(SysAction::Rotate)),
            |answer, _| match answer {
                Answer::Term(term) => Some(v1::RotateResponse { term }),
                _ => None,
            },
        )
        .await
    }

    async fn rekey(&self, request: Request<v1::RekeyRequest>) -> Result<Response<v1::RekeyResponse>, Status> {
        call(
            request,
            |message| {
                let seal = seal_config(message.seal)?;
                let current_shares = message.current_shares.into_iter().map(Into::into).collect();
                Ok(Action::Sys(SysAction::Rekey { seal, current_shares }))
            },
            |answer, _| match answer {
                Answer::Shares(shares) => {
                    Some(v1::RekeyResponse { shares: shares.into_iter().map(Into::into).collect() })
                }
                _ => None,
            },
        )
        .await
    }

    async fn confirm_rekey(
        &self,
        request: Request<v1::ConfirmRekeyRequest>,
    ) -> Result<Response<v1::ConfirmRekeyResponse>, Status> {
        call(
            request,
            |message| {
                let shares = message.new_shares.into_iter().map(Into::into).collect();
                Ok(Action::Sys(SysAction::ConfirmRekey(shares)))
            },
            |_, _| Some(v1::ConfirmRekeyResponse {}),
        )
        .await
    }

    async fn scrub(&self, request: Request<v1::ScrubRequest>) -> Result<Response<v1::ScrubResponse>, Status> {
        call(
            request,
            |_| Ok(Action::Sys(SysAction::Scrub)),
            |answer, _| match answer {
                Answer::Scrub(report) => Some(v1::ScrubResponse {
                    records: report.records,
                    batch_seq: report.batch_seq,
                    problems: report.problems,
                }),
                _ => None,
            },
        )
        .await
    }

    async fn mount(&self, request: Request<v1::MountRequest>) -> Result<Response<v1::MountResponse>, Status> {
        call(
            request,
            |v1::MountRequest { name, kind, description, settings }| {
                Ok(Action::Sys(SysAction::Mount { name, kind, description, settings }))
            },
            |_, _| Some(v1::MountResponse {}),
        )
        .await
    }

    async fn unmount(
        &self,
        request: Request<v1::UnmountRequest>,
    ) -> Result<Response<v1::UnmountResponse>, Status> {
        call(request, parse_unmount, |_, _| Some(v1::UnmountResponse {})).await
    }

    async fn tune(&self, request: Request<v1::TuneRequest>) -> Result<Response<v1::TuneResponse>, Status> {
        call(
            request,
            |v1::TuneRequest { name, description, settings }| {
                let settings = settings.map(|settings| settings.values);
                Ok(Action::Sys(SysAction::Tune { name, description, settings }))
            },
            |_, _| Some(v1::TuneResponse {}),
        )
        .await
    }

    async fn list_mounts(
        &self,
        request: Request<v1::ListMountsRequest>,
    ) -> Result<Response<v1::ListMountsResponse>, Status> {
        call(
            request,
            |_| Ok(Action::Sys(SysAction::ListMounts)),
            |answer, _| match answer {
                Answer::Mounts(mounts) => Some(v1::ListMountsResponse {
                    mounts: mounts.into_iter().filter_map(convert::mount).collect(),
                }),
                _ => None,
            },
        )
        .await
    }
}

fn parse_unmount(message: v1::UnmountRequest) -> Result<Action, Invalid> {
    let (name, again) = (message.name, message.destroy_data);
    if !again.is_empty() && again != name {
        let problem = "is not the name of the mount; repeat it to destroy the data, or leave it empty";
        return Err(Invalid::new("destroy_data", problem));
    }
    Ok(Action::Sys(SysAction::Unmount { name, destroy_data: !again.is_empty() }))
}

fn seal_config(config: Option<v1::SealConfig>) -> Result<SealConfig, Invalid> {
    match config.and_then(|config| config.kind) {
        Some(seal_config::Kind::Shamir(given)) => {
            let shares = u8::try_from(given.shares).map_err(|_| {
                Invalid::new("seal.shamir.shares", format!("is {}; expected 1 to 255", given.shares))
            })?;
            let threshold = u8::try_from(given.threshold).map_err(|_| {
                Invalid::new("seal.shamir.threshold", format!("is {}; expected 1 to 10", given.threshold))
            })?;
            Ok(SealConfig::Shamir { shares, threshold })
        }
        Some(seal_config::Kind::File(_)) => Ok(SealConfig::File),
        None => Err(Invalid::new("seal", "is missing; expected shamir or file")),
    }
}

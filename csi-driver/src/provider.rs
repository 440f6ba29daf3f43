//! For clusters that have the Secrets Store CSI driver: the same description of files, the same reading as the pod. That
//! driver mounts and writes; it polls for new versions, where ours is told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use strongroom_client::volume::Volume;
use tonic::{Request, Response, Status};

use crate::{
    call::{Call, patience},
    failure::Failure,
    limits,
    publish::Driver,
    telemetry::Doing,
    volume::{self, Invalid, Pod, Wishes},
    wire::provider::{
        File, MountRequest, MountResponse, ObjectVersion, VersionRequest, VersionResponse,
        csi_driver_provider_server::CsiDriverProvider,
    },
};

/// The contract's version.
const VERSION: &str = "v1alpha1";
/// What the other driver adds to the pod's attributes for itself.
const FOREIGN: &str = "secretProviderClass";
/// Our attribute for files that say no mode of their own.
const MODE: &str = "mode";

pub struct ProviderService {
    pub driver: Arc<Driver>,
}

#[tonic::async_trait]
impl CsiDriverProvider for ProviderService {
    async fn version(&self, _: Request<VersionRequest>) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            version: VERSION.to_owned(),
            runtime_name: "strongroom".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn mount(&self, request: Request<MountRequest>) -> Result<Response<MountResponse>, Status> {
        let patience = patience(request.metadata());
        let call = Call::begin(self.driver.metrics(), Doing::Provide, "of the Secrets Store CSI driver");
        call.end(self.provide(request.into_inner(), patience).await).map(Response::new)
    }
}

impl ProviderService {
    async fn provide(
        &self,
        message: MountRequest,
        patience: Option<Duration>,
    ) -> Result<MountResponse, Failure> {
        let (pod, Wishes { volume, token }) = parse(self.driver.audience(), message)?;
        let token = token.ok_or_else(|| Failure::NoToken(self.driver.audience().to_owned()))?;
        let answer = self.driver.fetch_once(&pod, &volume, &token, patience).await?;
        let files = volume.render(&answer.fetched)?;
        self.driver.metrics().provided();
        tracing::info!(%pod, files = files.len(), "provided the files of a volume");
        Ok(MountResponse {
            object_version: answer
                .versions
                .into_iter()
                .map(|read| ObjectVersion { id: read.path, version: read.version.to_string() })
                .collect(),
            error: None,
            files: files
                .iter()
                .map(|file| File {
                    path: file.name.as_str().to_owned(),
                    mode: i32::try_from(file.mode.bits()).unwrap_or_default(),
                    contents: file.content.expose().to_vec(),
                })
                .collect(),
        })
    }
}

fn parse(audience: &str, message: MountRequest) -> Result<(Pod, Wishes), Invalid> {
    let MountRequest { attributes, secrets, permission, .. } = message;
    let mut attributes = object("attributes", attributes)?;
    let mut secrets = object("secrets", secrets)?;
    let token = volume::take_token(audience, &mut secrets, &mut attributes)?;
    attributes.remove(FOREIGN);
    let pod = volume::identity(&attributes)?;
    if let (false, Ok(mode)) = (attributes.contains_key(MODE), permission.trim().parse::<u32>()) {
        attributes.insert(MODE.to_owned(), format!("{mode:04o}"));
    }
    let volume: Volume = volume::describe(&attributes, &pod)?;
    if volume.uid.is_some() || volume.gid.is_some() {
        return Err(Invalid(vec![
            "uid and gid: the Secrets Store CSI driver cannot set the owner of files; leave them out and set mode".into(),
        ]));
    }
    if !volume.issues().is_empty() {
        return Err(Invalid(vec![
            "issue: the Secrets Store CSI driver does not say when a volume is gone, so what is issued could be neither renewed nor \
             revoked; mount it with the driver csi.strongroom.dev".into(),
        ]));
    }
    Ok((pod, Wishes { volume, token }))
}

/// A JSON object of strings; the other driver writes `null` for one that is empty, as Go does. It may hold tokens: what is wrong
/// with it is not repeated.
fn object(name: &str, text: String) -> Result<BTreeMap<String, String>, Invalid> {
    let text = zeroize::Zeroizing::new(text);
    if text.len() > limits::REQUEST_BYTES {
        return Err(Invalid(vec![format!("{name} is too long")]));
    }
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let object: Option<BTreeMap<String, String>> = serde_json::from_str(&text)
        .map_err(|_| Invalid(vec![format!("{name} is not a JSON object of strings")]))?;
    Ok(object.unwrap_or_default())
}

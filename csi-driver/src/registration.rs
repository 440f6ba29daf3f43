//! How the kubelet learns of the driver: it finds this socket in its folder and asks. No sidecar is needed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use strongroom_client::volume::DRIVER;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::{
    limits,
    telemetry::Metrics,
    wire::registration::{
        InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
        registration_server::Registration,
    },
};

/// The kubelet's word for a CSI driver.
const KIND: &str = "CSIPlugin";
/// Of CSI; the kubelet looks only at the first number.
const VERSION: &str = "1.0.0";

/// How far the kubelet is with the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not asked yet.
    Unasked,
    /// It has asked who the driver is, and not yet said that it takes it.
    Asked,
    /// It has taken the driver.
    Registered,
    /// It has not, for this reason.
    Refused(String),
}

impl Standing {
    /// What is wrong and where to look, if the driver is not registered. `socket` is where it waits to be asked.
    pub fn trouble(&self, socket: &Path) -> Option<String> {
        match self {
            Standing::Registered => None,
            Standing::Unasked => Some(format!(
                "the kubelet has not asked this driver to register. It looks for sockets in the folder plugins_registry of its \
                 root (--root-dir, mostly /var/lib/kubelet): is {} in there, on the node and in this container under the same \
                 path? The kubelet's log has lines with \"plugin\" for each socket that it finds",
                socket.display()
            )),
            Standing::Asked => Some(
                "the kubelet has asked this driver to register and has not taken it: its log says why in a line with \
                 \"RegisterPlugin\""
                    .to_owned(),
            ),
            Standing::Refused(why) => Some(format!("the kubelet refused to register this driver: {why}")),
        }
    }
}

/// One line in the log if the kubelet has not taken the driver when it should have.
pub async fn warn_when_late(mut standing: watch::Receiver<Standing>, socket: PathBuf) {
    let taken = standing.wait_for(|now| *now == Standing::Registered);
    if tokio::time::timeout(limits::REGISTRATION, taken).await.is_err()
        && let Some(trouble) = standing.borrow().trouble(&socket)
    {
        tracing::warn!(seconds = limits::REGISTRATION.as_secs(), "no pod gets its secrets yet: {trouble}");
    }
}

pub struct RegistrationService {
    endpoint: String,
    metrics: Arc<Metrics>,
    standing: watch::Sender<Standing>,
}

impl RegistrationService {
    /// `endpoint` is the CSI socket as the kubelet sees it; `standing` is kept up to date.
    pub fn new(endpoint: &Path, metrics: Arc<Metrics>, standing: watch::Sender<Standing>) -> Self {
        Self { endpoint: endpoint.display().to_string(), metrics, standing }
    }
}

#[tonic::async_trait]
impl Registration for RegistrationService {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        // A kubelet that was restarted asks again; until it says otherwise its earlier word holds.
        self.standing.send_if_modified(|standing| {
            let is_first = *standing == Standing::Unasked;
            if is_first {
                *standing = Standing::Asked;
            }
            is_first
        });
        Ok(Response::new(PluginInfo {
            r#type: KIND.to_owned(),
            name: DRIVER.to_owned(),
            endpoint: self.endpoint.clone(),
            supported_versions: vec![VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus { plugin_registered, error } = request.into_inner();
        self.metrics.set_registered(plugin_registered);
        if plugin_registered {
            tracing::info!("registered with the kubelet");
            self.standing.send_replace(Standing::Registered);
        } else {
            // The kubelet does not ask twice: the process ends and its next life is asked again.
            self.standing.send_replace(Standing::Refused(error));
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

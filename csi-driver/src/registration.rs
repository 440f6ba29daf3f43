//! How the kubelet learns of the driver: it finds this socket in its folder and asks. No sidecar is needed.

use std::{path::Path, sync::Arc};

use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::{
    DRIVER_NAME,
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

/// The service.
pub struct RegistrationService {
    endpoint: String,
    metrics: Arc<Metrics>,
    refused: watch::Sender<Option<String>>,
}

impl RegistrationService {
    /// `endpoint` is the CSI socket as the kubelet sees it; `refused` hears of a registration that failed.
    pub fn new(endpoint: &Path, metrics: Arc<Metrics>, refused: watch::Sender<Option<String>>) -> Self {
        Self { endpoint: endpoint.display().to_string(), metrics, refused }
    }
}

#[tonic::async_trait]
impl Registration for RegistrationService {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: KIND.to_owned(),
            name: DRIVER_NAME.to_owned(),
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
        } else {
            // The kubelet does not ask twice: the process ends and its next life is asked again.
            self.refused.send_replace(Some(error));
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

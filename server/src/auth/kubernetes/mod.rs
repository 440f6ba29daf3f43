//! The auth method kubernetes: pods prove who they are with their projected service-account token. Each configured cluster
//! is an [`AuthMethod`](super::AuthMethod) of its own. Knows nothing of session tokens; keeps nothing in the store.
//!
//! A token is judged by the cluster's API server (`review.rs`) or by the cluster's keys (`local.rs`). A session hangs on
//! the pod and the account it was made for: [`Clusters::check`] says at each request whether both are still there, as the
//! watch (`watch.rs`, `presence.rs`) has it. A pod that is being terminated is still there until it is really deleted.

mod api;
mod claims;
mod cluster;
mod flights;
mod identity;
mod keys;
mod local;
mod presence;
mod refusal;
mod review;
#[cfg(test)]
mod tests;
mod watch;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

pub use api::ConnectError;
pub use cluster::Cluster;
pub use refusal::Refusal;

use super::{Credential, Kind};
use crate::{
    clock::Clock,
    config,
    model::{Invalid, Principal},
    telemetry::Metrics,
};
use api::KubeApi;

/// The line of `KINDS`.
pub const KIND: Kind =
    Kind { name: NAME, description: "Pods with their service-account token, judged by their cluster" };
/// The cluster that is meant if none is named.
pub const DEFAULT_CLUSTER: &str = "main";

const NAME: &str = "kubernetes";

/// All configured clusters.
#[derive(Default)]
pub struct Clusters(BTreeMap<Box<str>, Arc<Cluster>>);

/// What keeps a token from being judged, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outage {
    problem: &'static str,
    retry_after: Duration,
}

/// What a session hung on is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// The pod was deleted.
    #[error("the pod of this session is gone")]
    Pod,
    /// The account was deleted, or made anew under the same name.
    #[error("the service account of this session was deleted, or made anew since; log in again")]
    Account,
    /// The cluster is not in the configuration any more.
    #[error("the cluster of this session is not configured any more")]
    Cluster,
}

impl Clusters {
    /// Those of the configuration. Nothing is asked of them yet.
    ///
    /// # Errors
    /// The first whose CA, token or address is not there, with its name.
    pub fn connect(
        configured: &BTreeMap<Box<str>, config::Cluster>,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Self, (Box<str>, ConnectError)> {
        let mut clusters = BTreeMap::new();
        for (name, settings) in configured {
            let api = Arc::new(KubeApi::connect(settings).map_err(|error| (name.clone(), error))?);
            let cluster = Cluster::new(name, settings, api, Arc::clone(clock), metrics.cluster(name));
            clusters.insert(name.clone(), Arc::new(cluster));
        }
        Ok(Self(clusters))
    }

    /// Watches all of them, until `stop`.
    pub fn start(&self, stop: &CancellationToken) {
        for cluster in self.0.values() {
            cluster.introduce();
            let (cluster, stop) = (Arc::clone(cluster), stop.clone());
            tokio::spawn(async move {
                tokio::select! { () = stop.cancelled() => {}, () = cluster.keep_up() => {} }
            });
        }
    }

    /// The cluster of that name; if none is named, [`DEFAULT_CLUSTER`].
    ///
    /// # Errors
    /// There is none. Which ones there are is for the operator, not for strangers.
    pub fn find(&self, name: &str) -> Result<&Cluster, Invalid> {
        let name = if name.is_empty() { DEFAULT_CLUSTER } else { name };
        let problem = match self.0.is_empty() {
            true => "names a cluster, but none is configured",
            false => "names no configured cluster; the server tells at its start which there are",
        };
        self.0
            .get(name)
            .map(|cluster| &**cluster)
            .ok_or_else(|| Invalid::new("credential.kubernetes.cluster", problem))
    }

    /// Where a login belongs in the audit log: `sys/auth/kubernetes/NAME`. Nothing for a name that is not configured: it
    /// could be anything.
    pub fn place(&self, credential: &Result<Credential, Invalid>) -> Option<String> {
        let Ok(Credential::Kubernetes { cluster, .. }) = credential else { return None };
        self.find(cluster).ok().map(|cluster| format!("sys/auth/{NAME}/{}", cluster.name()))
    }

    /// Whether what a session hangs on is still there. Only of service accounts there is something to say. While nothing
    /// is known yet, or may not be known, it is taken for there: such sessions end by their expiry.
    ///
    /// # Errors
    /// What is gone.
    pub fn check(&self, principal: &Principal) -> Result<(), Gone> {
        let Principal::ServiceAccount { cluster, uid, pod, .. } = principal else { return Ok(()) };
        let cluster = self.0.get(cluster).ok_or(Gone::Cluster)?;
        cluster.check(uid, pod.as_ref())
    }

    /// Whether a session may live longer than it was promised: only if its pod's end would be noticed.
    pub fn may_renew(&self, principal: &Principal) -> bool {
        match principal {
            Principal::ServiceAccount { cluster, .. } => {
                self.0.get(cluster).is_some_and(|cluster| cluster.is_watched_now())
            }
            Principal::Root | Principal::User { .. } => true,
        }
    }
}

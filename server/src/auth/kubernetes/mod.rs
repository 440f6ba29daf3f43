//! The auth method kubernetes: pods prove who they are with their projected service-account token. Each configured cluster
//! is an [`AuthMethod`] of its own, and all of them together are the one that the server knows. The method knows nothing of
//! session tokens and keeps nothing in the store.
//!
//! A token is judged by the cluster's API server (`review.rs`) or by the cluster's keys (`local.rs`). A session depends on
//! the pod and the account it was made for: `Clusters::check` says at each request whether both are still there, as the
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

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{
    AuthMethod, Build, ConnectError, Credential, Gone, Login, LoginContext, LoginError, MethodKind,
    Surroundings, WireCredential,
};
use crate::model::{Invalid, Principal, SecretBytes};
use api::KubeApi;
use cluster::Cluster;

/// The line of `KINDS`.
pub const KIND: MethodKind = MethodKind {
    name: NAME,
    description: "Pods with their service-account token, judged by their cluster",
    read: |shown| match shown {
        WireCredential::Kubernetes(given) => {
            let token = given.token.unwrap_or_default().into();
            Ok(Credential::new(NAME, PodToken { cluster: given.cluster, token }))
        }
        other => Err(other),
    },
    build: Build::FromConfig(|surroundings| Ok(Arc::new(Clusters::connect(surroundings)?))),
    inspect: |config| {
        let all = config.kubernetes.iter();
        let inspected =
            all.flat_map(|(name, cluster)| api::inspect(cluster).into_iter().map(|e| broken(name, e)));
        inspected.collect()
    },
};

/// What a pod shows.
struct PodToken {
    /// Empty for the default one.
    cluster: String,
    token: SecretBytes,
}

/// The cluster that is meant if none is named.
const DEFAULT_CLUSTER: &str = "main";

const NAME: &str = "kubernetes";

/// All configured clusters.
#[derive(Default)]
struct Clusters(BTreeMap<Box<str>, Arc<Cluster>>);

/// What keeps a token from being judged, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outage {
    problem: &'static str,
    retry_after: Duration,
}

/// The pod was deleted.
const POD_GONE: Gone = Gone("the pod of this session is gone");
/// The account was deleted, or deleted and created again under the same name.
const ACCOUNT_GONE: Gone =
    Gone("the service account of this session was deleted, or deleted and created again; log in again");
/// The cluster is not in the configuration any more.
const CLUSTER_GONE: Gone = Gone("the cluster of this session is no longer configured");

#[async_trait]
impl AuthMethod for Clusters {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn login(&self, credential: Credential, context: &LoginContext) -> Result<Login, LoginError> {
        let cluster = credential.seen::<PodToken>().map_or("", |shown| &shown.cluster);
        self.find(cluster)?.login(credential, context).await
    }

    /// `sys/auth/kubernetes/NAME`. Nothing for a name that is not configured: it could be anything.
    fn place(&self, credential: &Credential) -> Option<String> {
        let shown = credential.seen::<PodToken>()?;
        self.find(&shown.cluster).ok().map(|cluster| format!("sys/auth/{NAME}/{}", cluster.name()))
    }

    /// While nothing is known yet, or may not be known, it is taken to be there: such sessions end by their expiry.
    fn check(&self, principal: &Principal) -> Result<(), Gone> {
        let Principal::ServiceAccount { cluster, uid, pod, .. } = principal else { return Ok(()) };
        let cluster = self.0.get(cluster).ok_or(CLUSTER_GONE)?;
        cluster.check(uid, pod.as_ref())
    }

    /// A session is renewed only if its pod's end would be noticed.
    fn may_renew(&self, principal: &Principal) -> bool {
        match principal {
            Principal::ServiceAccount { cluster, .. } => {
                self.0.get(cluster).is_some_and(|cluster| cluster.is_watched_now())
            }
            Principal::Root | Principal::User { .. } => true,
        }
    }

    /// Watches all of them.
    fn start(&self, stop: &CancellationToken) {
        for cluster in self.0.values() {
            cluster.introduce();
            let (cluster, stop) = (Arc::clone(cluster), stop.clone());
            tokio::spawn(async move {
                tokio::select! { () = stop.cancelled() => {}, () = cluster.keep_up() => {} }
            });
        }
    }
}

fn broken(name: &str, cause: api::ConnectError) -> ConnectError {
    ConnectError { part: format!("{NAME}.{name}"), cause: cause.into() }
}

impl Clusters {
    /// Connects to the clusters of the configuration.
    fn connect(surroundings: &Surroundings<'_>) -> Result<Self, ConnectError> {
        let mut clusters = BTreeMap::new();
        for (name, settings) in &surroundings.config.kubernetes {
            let api = Arc::new(KubeApi::connect(settings).map_err(|cause| broken(name, cause))?);
            let (clock, metrics) = (Arc::clone(surroundings.clock), surroundings.metrics.cluster(name));
            let cluster = Cluster::new(name, settings, api, clock, metrics);
            clusters.insert(name.clone(), Arc::new(cluster));
        }
        Ok(Self(clusters))
    }

    /// The cluster of that name; if none is named, [`DEFAULT_CLUSTER`].
    ///
    /// # Errors
    /// There is none of that name. The known names are for the operator, not for strangers.
    fn find(&self, name: &str) -> Result<&Cluster, Invalid> {
        let name = if name.is_empty() { DEFAULT_CLUSTER } else { name };
        let problem = match self.0.is_empty() {
            true => "names a cluster, but none is configured",
            false => "does not name a configured cluster; the server logs the configured ones when it starts",
        };
        self.0
            .get(name)
            .map(|cluster| &**cluster)
            .ok_or_else(|| Invalid::new("credential.kubernetes.cluster", problem))
    }
}

//! The auth method kubernetes: pods prove who they are with their projected service-account token. Each configured cluster
//! is an [`AuthMethod`] of its own. Knows nothing of session tokens; keeps nothing in the store.
//!
//! A token is judged by the cluster's API server (`review.rs`) or by the cluster's keys (`local.rs`). A session hangs on
//! the pod and the account it was made for: [`Clusters::check`] says at each request whether both are still there, as the
//! watch (`watch.rs`, `presence.rs`) has it. A pod that is being terminated is still there until it is really deleted.

mod api;
mod claims;
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

pub use api::ConnectError;
pub use refusal::Refusal;

use super::{AuthMethod, Credential, Kind, Login, LoginContext, LoginError};
use crate::{
    clock::Clock,
    config::{self, Mode},
    crypto::Digest,
    model::{Invalid, Principal, SecretBytes, Timestamp},
    telemetry::{ClusterMetrics, Metrics},
};
use api::{Api, KubeApi, What};
use flights::Flights;
use identity::{Identity, Named, Uid};
use local::Verifier;
use presence::{Known, Presence};
use refusal::Expected;
use review::{Judged, Reviewer};
use watch::Watcher;

/// The line of `KINDS`.
pub const KIND: Kind =
    Kind { name: NAME, description: "Pods with their service-account token, judged by their cluster" };
/// The cluster that is meant if none is named.
pub const DEFAULT_CLUSTER: &str = "main";

const NAME: &str = "kubernetes";
/// Longest token: those of API servers have 1 to 2 KiB. Judged before anything else.
const TOKEN_BYTES: usize = 8 << 10;
/// Questions at once about pods that the watch does not know yet.
const QUESTIONS: usize = 16;
/// Longest wait for one of them.
const WAIT: Duration = Duration::from_millis(500);
/// A uid that is gone never comes back; it is only not asked for again and again.
const GONE: Duration = Duration::from_secs(10);
/// When to come again while the watch has not begun.
const SOON: Duration = Duration::from_secs(1);

/// All configured clusters.
#[derive(Default)]
pub struct Clusters(BTreeMap<Box<str>, Arc<Cluster>>);

/// One of them.
pub struct Cluster {
    name: Box<str>,
    judge: Judge,
    ttl: Duration,
    max_ttl: Duration,
    watch: bool,
    pods: Arc<Presence>,
    accounts: Arc<Presence>,
    questions: Flights<(bool, Digest), Found>,
    api: Arc<dyn Api>,
    clock: Arc<dyn Clock>,
    metrics: ClusterMetrics,
}

enum Judge {
    Review(Reviewer),
    Local(Verifier),
}

/// What the API server said about one that the watch does not know.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Here,
    Gone,
    Unanswered,
}

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
            tracing::info!(
                cluster = &*cluster.name,
                mode = cluster.judge.as_str(),
                watch = cluster.watch,
                "pods may log in"
            );
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
        self.find(cluster).ok().map(|cluster| format!("sys/auth/{NAME}/{}", cluster.name))
    }

    /// Whether what a session hangs on is still there. Only of service accounts there is something to say. While nothing
    /// is known yet, or may not be known, it is taken for there: such sessions end by their expiry.
    ///
    /// # Errors
    /// What is gone.
    pub fn check(&self, principal: &Principal) -> Result<(), Gone> {
        let Principal::ServiceAccount { cluster, uid, pod, .. } = principal else { return Ok(()) };
        let cluster = self.0.get(cluster).ok_or(Gone::Cluster)?;
        let gone = if pod.as_ref().is_some_and(|pod| cluster.pods.of(Uid::of(&pod.uid)) == Known::Gone) {
            Gone::Pod
        } else if cluster.accounts.of(Uid::of(uid)) == Known::Gone {
            Gone::Account
        } else {
            return Ok(());
        };
        cluster.metrics.gone_refused();
        Err(gone)
    }

    /// Whether a session may live longer than it was promised: only if its pod's end would be noticed.
    pub fn may_renew(&self, principal: &Principal) -> bool {
        match principal {
            Principal::ServiceAccount { cluster, .. } => {
                self.0.get(cluster).is_some_and(|cluster| cluster.is_watched(cluster.clock.now()))
            }
            Principal::Root | Principal::User { .. } => true,
        }
    }
}

#[async_trait]
impl AuthMethod for Cluster {
    fn name(&self) -> &str {
        NAME
    }

    async fn login(&self, credential: Credential, context: &LoginContext) -> Result<Login, LoginError> {
        let Credential::Kubernetes { token, .. } = credential else {
            return Err(Invalid::new("credential", "is not a service-account token").into());
        };
        let identity = self.judge(&token, context).await.map_err(|judged| self.error(judged))?;
        self.confirm(&identity, context.now).await.map_err(|judged| self.error(judged))?;
        // Without a watch nothing would end a session but its expiry, so it is a short one.
        let renewable = self.is_watched(context.now);
        let max_ttl = if renewable { self.max_ttl } else { self.ttl };
        Ok(Login { principal: identity.principal(&self.name), ttl: self.ttl, max_ttl, renewable })
    }
}

impl Cluster {
    fn new(
        name: &str,
        config: &config::Cluster,
        api: Arc<dyn Api>,
        clock: Arc<dyn Clock>,
        metrics: ClusterMetrics,
    ) -> Self {
        let issuer = config.issuer.as_deref().map(Into::into);
        let expected = Expected { audience: config.audience.as_str().into(), issuer };
        let judge = match config.mode {
            Mode::Review => {
                Judge::Review(Reviewer::new(Arc::clone(&api), expected, Arc::clone(&clock), metrics.clone()))
            }
            Mode::Local => Judge::Local(Verifier::new(Arc::clone(&api), expected, Arc::clone(&clock), name)),
        };
        Self {
            name: name.into(),
            judge,
            ttl: config.session,
            max_ttl: config.session_max,
            watch: config.watch,
            pods: Arc::default(),
            accounts: Arc::default(),
            questions: Flights::new(QUESTIONS, WAIT, Arc::clone(&clock)),
            api,
            clock,
            metrics,
        }
    }

    /// Whose token it is.
    async fn judge(&self, token: &SecretBytes, context: &LoginContext) -> Result<Arc<Identity>, Judged> {
        if token.len() > TOKEN_BYTES {
            return Err(Judged::Invalid(too_long()));
        }
        let token = token.expose_str().map_err(|_| Refusal::Token)?;
        match &self.judge {
            Judge::Review(reviewer) => reviewer.judge(token, context.peer, context.now).await,
            Judge::Local(verifier) => verifier.judge(token, context.now).await.map(Arc::new),
        }
    }

    /// Whether pod and account are there, as far as it can be known.
    async fn confirm(&self, identity: &Identity, now: Timestamp) -> Result<(), Judged> {
        let pod = identity.pod.as_ref().map(|pod| (What::Pods, &*self.pods, pod, Refusal::PodGone));
        let account = (What::Accounts, &*self.accounts, &identity.account, Refusal::AccountGone);
        for (what, presence, object, refusal) in pod.into_iter().chain([account]) {
            if !self.is_here(what, presence, &identity.namespace, object, now).await? {
                return Err(refusal.into());
            }
        }
        Ok(())
    }

    async fn is_here(
        &self,
        what: What,
        presence: &Presence,
        namespace: &str,
        object: &Named,
        now: Timestamp,
    ) -> Result<bool, Outage> {
        let uid = Uid::of(&object.uid);
        let known = presence.of(uid);
        if matches!(self.judge, Judge::Local(_)) && !presence.is_current(now) {
            let problem = "its pods and service accounts are not watched at the moment";
            return Err(Outage { problem, retry_after: SOON });
        }
        match known {
            Known::Here => Ok(true),
            // The API server has just said so, and knows better than we do.
            Known::Nothing => Ok(true),
            // Perhaps it is only newer than what the watch has told.
            Known::Gone => self.ask(what, presence, namespace, object).await,
        }
    }

    async fn ask(
        &self,
        what: What,
        presence: &Presence,
        namespace: &str,
        object: &Named,
    ) -> Result<bool, Outage> {
        let uid = Uid::of(&object.uid);
        let key = (what == What::Pods, crate::crypto::sha256(object.uid.as_bytes()));
        let asking = self.questions.get(key, |found| *found != Found::Here, || async {
            presence.ask(uid, self.clock.now());
            let found = self.api.uid_of(what, namespace, &object.name).await;
            match found.map(|found| found.is_some_and(|found| *found == *object.uid)) {
                Ok(exists) if presence.answer(uid, exists) => (Found::Here, Duration::ZERO),
                Ok(_) => (Found::Gone, GONE),
                Err(error) => {
                    presence.answer(uid, false);
                    tracing::warn!(cluster = &*self.name, what = what.as_str(), %error, "a question was not answered");
                    (Found::Unanswered, SOON)
                }
            }
        });
        match asking.await {
            Ok((Found::Here, _)) => Ok(true),
            Ok((Found::Gone, _)) => Ok(false),
            Ok((Found::Unanswered, _)) => {
                Err(Outage { problem: "its API server does not answer", retry_after: SOON })
            }
            Err(flights::Full) => Err(Outage { problem: "too many questions at once", retry_after: WAIT }),
        }
    }

    fn is_watched(&self, now: Timestamp) -> bool {
        self.watch && self.pods.is_current(now) && self.accounts.is_current(now)
    }

    /// Everything that has to be kept up to date, for as long as it is polled.
    async fn keep_up(&self) {
        let keys = async {
            if let Judge::Local(verifier) = &self.judge {
                verifier.keep_fresh().await;
            }
        };
        let watches = async {
            if self.watch {
                let pods = self.watcher(What::Pods, &self.pods);
                let accounts = self.watcher(What::Accounts, &self.accounts);
                tokio::join!(pods.run(), accounts.run());
            }
        };
        tokio::join!(keys, watches);
    }

    fn watcher(&self, what: What, presence: &Arc<Presence>) -> Watcher {
        Watcher {
            api: Arc::clone(&self.api),
            what,
            presence: Arc::clone(presence),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
        }
    }

    fn error(&self, judged: Judged) -> LoginError {
        match judged {
            Judged::Invalid(invalid) => invalid.into(),
            Judged::No(Refusal::Token) => LoginError::Rejected,
            Judged::No(refusal) => LoginError::Refused(refusal),
            Judged::Later(Outage { problem, retry_after }) => {
                LoginError::Cluster { cluster: self.name.clone(), problem, retry_after }
            }
        }
    }
}

impl Judge {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Review(_) => "review",
            Self::Local(_) => "local",
        }
    }
}

fn too_long() -> Invalid {
    Invalid::new("credential.kubernetes.token", format!("is longer than {TOKEN_BYTES} bytes"))
}

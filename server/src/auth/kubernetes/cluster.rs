//! One cluster as an auth method: a token is judged, and whose it is must still be there.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    ACCOUNT_GONE, NAME, Outage, POD_GONE, PodToken,
    api::{Api, Resource},
    flights::{self, Flights},
    identity::{Identity, Named, Uid},
    local::Verifier,
    presence::{Known, Presence},
    refusal::{Expected, Refusal},
    review::{Judged, Reviewer},
    watch::Watcher,
};
use crate::{
    auth::{AuthMethod, Credential, Gone, Login, LoginContext, LoginError},
    clock::Clock,
    config::{self, Mode},
    crypto::{Digest, sha256},
    model::{Invalid, Pod, SecretBytes},
    telemetry::ClusterMetrics,
};

/// Longest token: those of API servers have 1 to 2 KiB. Judged before anything else.
pub(super) const TOKEN_BYTES: usize = 8 << 10;
/// Questions at once about pods that the watch does not know yet.
const QUESTIONS: usize = 16;
/// Longest wait for one of them.
const WAIT: Duration = Duration::from_millis(500);
/// A uid that is gone never comes back; it is only not asked for again and again.
pub(super) const GONE: Duration = Duration::from_secs(10);
/// When to come again while the watch has not begun.
const SOON: Duration = Duration::from_secs(1);

/// A configured cluster.
pub(super) struct Cluster {
    name: Box<str>,
    judge: Judge,
    ttl: Duration,
    max_ttl: Duration,
    watch: bool,
    pub(super) pods: Arc<Presence>,
    pub(super) accounts: Arc<Presence>,
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

#[async_trait]
impl AuthMethod for Cluster {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn login(&self, credential: Credential, context: &LoginContext) -> Result<Login, LoginError> {
        let PodToken { token, .. } = credential.own()?;
        let identity = self.judge(&token, context).await.map_err(|judged| self.error(judged))?;
        self.confirm(&identity).await.map_err(|judged| self.error(judged))?;
        // Without a watch nothing would end a session but its expiry, so it is a short one.
        let renewable = self.is_watched_now();
        let max_ttl = if renewable { self.max_ttl } else { self.ttl };
        Ok(Login { principal: identity.principal(&self.name), ttl: self.ttl, max_ttl, renewable })
    }
}

impl Cluster {
    pub(super) fn new(
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

    /// Finds out whose token it is.
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
    async fn confirm(&self, identity: &Identity) -> Result<(), Judged> {
        let pod = identity.pod.as_ref().map(|pod| (Resource::Pods, &*self.pods, pod, Refusal::PodGone));
        let account = (Resource::Accounts, &*self.accounts, &identity.account, Refusal::AccountGone);
        for (what, presence, object, refusal) in pod.into_iter().chain([account]) {
            if !self.is_here(what, presence, &identity.namespace, object).await? {
                return Err(refusal.into());
            }
        }
        Ok(())
    }

    async fn is_here(
        &self,
        what: Resource,
        presence: &Presence,
        namespace: &str,
        object: &Named,
    ) -> Result<bool, Outage> {
        if matches!(self.judge, Judge::Local(_)) && !presence.is_current(self.clock.steady()) {
            let problem = "its pods and service accounts are not watched at the moment";
            return Err(Outage { problem, retry_after: SOON });
        }
        match presence.of(Uid::of(&object.uid)) {
            Known::Here => Ok(true),
            // The API server has just said so, and knows better than we do.
            Known::Nothing => Ok(true),
            // Perhaps it is only newer than what the watch has told.
            Known::Gone => self.ask(what, presence, namespace, object).await,
        }
    }

    async fn ask(
        &self,
        what: Resource,
        presence: &Presence,
        namespace: &str,
        object: &Named,
    ) -> Result<bool, Outage> {
        let uid = Uid::of(&object.uid);
        let key = (what == Resource::Pods, sha256(object.uid.as_bytes()));
        let asking = self.questions.get(key, None, |found| *found != Found::Here, || async {
            presence.ask(uid, self.clock.steady());
            let found = self.api.uid_of(what, namespace, &object.name).await;
            match found.map(|found| found.is_some_and(|found| *found == *object.uid)) {
                Ok(exists) if presence.answer(uid, exists) => (Found::Here, Duration::ZERO),
                Ok(_) => (Found::Gone, GONE),
                Err(error) => {
                    presence.answer(uid, false);
                    tracing::warn!(cluster = &*self.name, what = what.as_str(), %error, "the API server did not say whether this exists");
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
            Err(flights::Full) => {
                Err(Outage { problem: "too many questions to its API server at once", retry_after: WAIT })
            }
        }
    }

    /// For the log, at the start.
    pub(super) fn introduce(&self) {
        let (cluster, mode, watch) = (&*self.name, self.judge.as_str(), self.watch);
        tracing::info!(cluster, mode, watch, "pods may log in");
    }

    /// Its name in the configuration.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether what a session depends on is still there.
    pub(super) fn check(&self, account: &str, pod: Option<&Pod>) -> Result<(), Gone> {
        let gone = if pod.is_some_and(|pod| self.pods.of(Uid::of(&pod.uid)) == Known::Gone) {
            POD_GONE
        } else if self.accounts.of(Uid::of(account)) == Known::Gone {
            ACCOUNT_GONE
        } else {
            return Ok(());
        };
        self.metrics.gone_refused();
        Err(gone)
    }

    /// Whether the end of a pod would be noticed.
    pub(super) fn is_watched_now(&self) -> bool {
        let now = self.clock.steady();
        self.watch && self.pods.is_current(now) && self.accounts.is_current(now)
    }

    /// Everything that has to be kept up to date, for as long as it is polled.
    pub(super) async fn keep_up(&self) {
        let keys = async {
            if let Judge::Local(verifier) = &self.judge {
                verifier.keep_fresh().await;
            }
        };
        let watches = async {
            if self.watch {
                let pods = self.watcher(Resource::Pods, &self.pods);
                let accounts = self.watcher(Resource::Accounts, &self.accounts);
                tokio::join!(pods.run(), accounts.run());
            }
        };
        tokio::join!(keys, watches);
    }

    fn watcher(&self, what: Resource, presence: &Arc<Presence>) -> Watcher {
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
            Judged::No(refusal) => {
                LoginError::Refused { word: refusal.as_str(), sentence: refusal.to_string() }
            }
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

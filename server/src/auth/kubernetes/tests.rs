//! A cluster in memory, and what both modes have in common: the conformance suite, and what a session depends on.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::{
    api::{Api, ApiError, Events, Page, Resource, ReviewStatus, ReviewUser},
    cluster::{GONE, TOKEN_BYTES},
    identity::Uid,
    presence::Known,
    *,
};
use crate::{
    auth::conformance::{self, Fixture},
    clock::{Clock, ManualClock, Steady},
    config::{self, ApiServer, Mode},
    crypto::Signer,
    model::{SecretBytes, Timestamp},
    telemetry::Metrics,
};

#[derive(Default)]
pub(super) struct FakeApi {
    keys: Mutex<Vec<Value>>,
    /// Tokens it vouches for.
    good: Mutex<Vec<String>>,
    /// Uids by kind, namespace and name.
    objects: Mutex<BTreeMap<(&'static str, String), String>>,
    fetches: AtomicU64,
    questions: AtomicU64,
    reviews: AtomicU64,
    /// Asked too much.
    busy: AtomicBool,
    broken: AtomicBool,
}

impl FakeApi {
    pub(super) fn publish(&self, keys: &[Value]) {
        *self.keys.lock().unwrap() = keys.to_vec();
    }

    pub(super) fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::SeqCst)
    }

    pub(super) fn break_down(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    fn set(&self, what: Resource, name: &str, uid: &str) {
        self.objects.lock().unwrap().insert((what.as_str(), name.to_owned()), uid.to_owned());
    }

    fn answer<T>(&self, answer: T) -> Result<T, ApiError> {
        if self.broken.load(Ordering::SeqCst) { Err(ApiError::Unreachable) } else { Ok(answer) }
    }
}

#[async_trait]
impl Api for FakeApi {
    async fn review(&self, token: &str, audience: &str) -> Result<ReviewStatus, ApiError> {
        self.reviews.fetch_add(1, Ordering::SeqCst);
        self.answer(())?;
        if self.busy.load(Ordering::SeqCst) {
            return Err(ApiError::Status(429));
        }
        if !self.good.lock().unwrap().iter().any(|good| good == token) {
            return Ok(ReviewStatus { error: "no".to_owned(), ..ReviewStatus::default() });
        }
        let extra = [("pod-name", "web-0"), ("pod-uid", "p-1"), ("node-name", "node-1")];
        let extra =
            extra.map(|(key, value)| (format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]));
        Ok(ReviewStatus {
            authenticated: true,
            user: ReviewUser {
                username: "system:serviceaccount:shop:web".to_owned(),
                uid: "a-1".to_owned(),
                extra: extra.into(),
            },
            audiences: vec![audience.to_owned()],
            error: String::new(),
        })
    }

    async fn keys(&self) -> Result<Bytes, ApiError> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let keys = json!({ "keys": *self.keys.lock().unwrap() });
        self.answer(Bytes::from(keys.to_string()))
    }

    async fn uid_of(&self, what: Resource, _: &str, name: &str) -> Result<Option<String>, ApiError> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        let found = self.objects.lock().unwrap().get(&(what.as_str(), name.to_owned())).cloned();
        self.answer(found)
    }

    async fn list(&self, _: Resource, _: Option<&str>) -> Result<Page, ApiError> {
        self.answer(Page::default())
    }

    async fn watch(&self, _: Resource, _: &str) -> Result<Events, ApiError> {
        self.answer(Box::pin(futures_util::stream::pending()) as Events)
    }
}

/// A cluster with one key, one account and one pod, and its side of it.
struct Scene {
    clock: Arc<ManualClock>,
    api: Arc<FakeApi>,
    signer: Signer,
    cluster: Cluster,
}

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn scene(mode: Mode) -> Scene {
    let clock = Arc::new(ManualClock::at(NOW));
    let (api, signer) = (Arc::new(FakeApi::default()), Signer::new());
    let (x, y) = signer.point();
    let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    api.publish(&[json!({ "kty": "EC", "crv": "P-256", "kid": "one", "x": encode(&x), "y": encode(&y) })]);
    let config = config::Cluster {
        mode,
        audience: "strongroom".to_owned(),
        issuer: Some("https://issuer".to_owned()),
        api_server: ApiServer::Own,
        ca_file: "ca".into(),
        token_file: "token".into(),
        watch: true,
        session: Duration::from_secs(900),
        session_max: Duration::from_secs(3600),
    };
    let (shared, metrics) = (Arc::<ManualClock>::clone(&clock), Metrics::new().unwrap().cluster("main"));
    let cluster = Cluster::new("main", &config, Arc::<FakeApi>::clone(&api), shared, metrics);
    Scene { clock, api, signer, cluster }
}

impl Scene {
    /// The watch has seen a pod and its account.
    fn watched(self) -> Self {
        for (presence, uid) in [(&self.cluster.pods, "p-1"), (&self.cluster.accounts, "a-1")] {
            presence.appeared(Uid::of(uid), self.clock.steady()).unwrap();
            presence.listed(self.clock.steady(), self.clock.steady());
        }
        self
    }

    fn token(&self, kid: &str) -> String {
        self.token_that_says(kid, "https://issuer", "strongroom", 5000)
    }

    fn token_that_says(&self, kid: &str, issuer: &str, audience: &str, expires: i64) -> String {
        let header = json!({ "alg": "ES256", "kid": kid });
        let claims = json!({
            "iss": issuer, "aud": [audience], "sub": "system:serviceaccount:shop:web",
            "iat": 900, "nbf": 900, "exp": expires,
            "kubernetes.io": {
                "namespace": "shop",
                "serviceaccount": { "name": "web", "uid": "a-1" },
                "pod": { "name": "web-0", "uid": "p-1" },
                "node": { "name": "node-1" },
            },
        });
        let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let message = format!("{}.{}", encode(&header), encode(&claims));
        let signature = BASE64URL_NOPAD.encode(&self.signer.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// One that the API server vouches for, too.
    fn good(&self) -> String {
        let token = self.token("one");
        self.api.good.lock().unwrap().push(token.clone());
        token
    }

    async fn login(&self, token: &str) -> Result<Login, LoginError> {
        self.login_from(None, token).await
    }

    async fn login_from(&self, peer: Option<u8>, token: &str) -> Result<Login, LoginError> {
        let peer = peer.map(|host| std::net::IpAddr::from([192, 0, 2, host]));
        let context = LoginContext { peer, now: self.clock.now() };
        self.cluster.login(credential(token), &context).await
    }
}

fn credential(token: &str) -> Credential {
    let token = SecretBytes::from(token.as_bytes());
    Credential::new(NAME, PodToken { cluster: String::new(), token })
}

#[tokio::test]
async fn both_modes_are_auth_methods_like_any_other() {
    for mode in [Mode::Review, Mode::Local] {
        let scene = scene(mode).watched();
        let (good, unknown) = (scene.good(), scene.token("two"));
        // A signature by the same key over the same claims, and yet not the one that was made.
        let wrong =
            format!("{}{}", &good[..good.len() - 4], if good.ends_with("AAAA") { "BBBA" } else { "AAAA" });
        conformance::run(Fixture {
            method: &scene.cluster,
            good: &|| credential(&good),
            wrong: &|| credential(&wrong),
            unknown: &|| credential(&unknown),
            oversize: vec![credential(&"x".repeat(TOKEN_BYTES + 1))],
        })
        .await;
    }
}

#[tokio::test]
async fn both_modes_see_the_same_pod() {
    let mut seen = Vec::new();
    for mode in [Mode::Review, Mode::Local] {
        let scene = scene(mode).watched();
        seen.push(scene.login(&scene.good()).await.unwrap());
    }
    assert_eq!(seen[0], seen[1]);
    let pod = seen[0].principal.pod().unwrap();
    assert_eq!((&*pod.name, &*pod.uid, pod.node.as_deref()), ("web-0", "p-1", Some("node-1")));
}

#[tokio::test]
async fn a_session_is_renewable_only_while_the_watch_works() {
    let scene = scene(Mode::Review);
    let token = scene.good();
    let unwatched = scene.login(&token).await.unwrap();
    assert_eq!((unwatched.renewable, unwatched.max_ttl), (false, unwatched.ttl));
    let scene = scene.watched();
    let watched = scene.login(&token).await.unwrap();
    assert_eq!((watched.renewable, watched.max_ttl), (true, Duration::from_secs(3600)));
    scene.clock.advance(Duration::from_secs(600));
    let silent = scene.login(&token).await.unwrap();
    assert!(!silent.renewable, "nothing was heard for ten minutes");
}

#[tokio::test]
async fn local_mode_asks_the_watch_and_lets_nobody_in_without() {
    let scene = scene(Mode::Local);
    let token = scene.token("one");
    assert!(matches!(scene.login(&token).await, Err(LoginError::Cluster { .. })));
    let scene = scene.watched();
    scene.login(&token).await.unwrap();
    assert_eq!(scene.api.questions.load(Ordering::SeqCst), 0, "no login asks anybody");
    scene.clock.advance(Duration::from_secs(600));
    assert!(matches!(scene.login(&token).await, Err(LoginError::Cluster { .. })));
}

#[tokio::test]
async fn a_pod_that_the_watch_does_not_know_yet_is_asked_for() {
    let scene = scene(Mode::Local).watched();
    scene.cluster.pods.deleted(Uid::of("p-1"), scene.clock.steady());
    let token = scene.token("one");
    assert!(matches!(scene.login(&token).await, Err(LoginError::Refused { word: "pod_gone", .. })));
    assert!(matches!(scene.login(&token).await, Err(LoginError::Refused { word: "pod_gone", .. })));
    assert_eq!(scene.api.questions.load(Ordering::SeqCst), 1, "a no is remembered");
    scene.clock.advance(GONE);
    scene.api.set(Resource::Pods, "web-0", "p-2");
    assert!(
        matches!(scene.login(&token).await, Err(LoginError::Refused { word: "pod_gone", .. })),
        "another of its name"
    );
    scene.clock.advance(GONE);
    scene.api.set(Resource::Pods, "web-0", "p-1");
    scene.login(&token).await.unwrap();
    scene.login(&token).await.unwrap();
    assert_eq!(scene.api.questions.load(Ordering::SeqCst), 3, "from then on it is known");
    scene.cluster.pods.deleted(Uid::of("p-1"), scene.clock.steady());
    assert_eq!(scene.cluster.pods.of(Uid::of("p-1")), Known::Gone, "and its deletion is noticed");
}

#[tokio::test]
async fn sessions_hang_on_pod_account_and_cluster() {
    let scene = scene(Mode::Review).watched();
    let principal = scene.login(&scene.good()).await.unwrap().principal;
    let (pods, accounts) = (Arc::clone(&scene.cluster.pods), Arc::clone(&scene.cluster.accounts));
    let clusters = Clusters(BTreeMap::from([("main".into(), Arc::new(scene.cluster))]));
    assert_eq!(clusters.check(&principal), Ok(()));
    assert!(clusters.may_renew(&principal));
    accounts.deleted(Uid::of("a-1"), Steady::default());
    assert_eq!(clusters.check(&principal), Err(ACCOUNT_GONE));
    pods.deleted(Uid::of("p-1"), Steady::default());
    assert_eq!(clusters.check(&principal), Err(POD_GONE));
    pods.forget();
    accounts.forget();
    assert_eq!(clusters.check(&principal), Ok(()), "nothing is known, so nothing is gone");
    assert!(!clusters.may_renew(&principal));
    assert_eq!(Clusters::default().check(&principal), Err(CLUSTER_GONE));
    assert_eq!(Clusters::default().check(&Principal::Root), Ok(()));
}

#[tokio::test]
async fn an_api_server_that_fails_is_left_alone_for_a_second() {
    let scene = scene(Mode::Review).watched();
    let token = scene.good();
    scene.api.break_down();
    for _ in 0..3 {
        let refused = scene.login(&token).await.unwrap_err();
        assert!(
            matches!(refused, LoginError::Cluster { retry_after, .. } if retry_after == Duration::from_secs(1))
        );
    }
    scene.api.broken.store(false, Ordering::SeqCst);
    assert!(scene.login(&scene.token("one")).await.is_err(), "another one is not asked about either");
    scene.clock.advance(Duration::from_secs(1));
    scene.login(&token).await.unwrap();
}

#[tokio::test]
async fn nobody_is_asked_about_what_cannot_be_a_good_token() {
    let scene = scene(Mode::Review).watched();
    let junk = [
        "junk".to_owned(),
        "a.b.c".to_owned(),
        "x".repeat(TOKEN_BYTES),
        scene.token_that_says("one", "https://issuer.elsewhere", "strongroom", 5000),
        scene.token_that_says("one", "https://issuer", "strongroom2", 5000),
        scene.token_that_says("one", "https://issuer", "strongroom", 950),
    ];
    for token in &junk {
        let refused = scene.login(token).await.err();
        let no = matches!(refused, Some(LoginError::Rejected | LoginError::Refused { .. }));
        assert!(no, "{refused:?}: {token:.20}");
    }
    assert_eq!(scene.api.reviews.load(Ordering::SeqCst), 0);
    // It is a filter and no proof: what claims all the right things is asked about.
    assert!(scene.login(&scene.token("two")).await.is_err());
    assert_eq!(scene.api.reviews.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn who_makes_the_api_server_ask_for_less_is_asked_about_less_and_nobody_else() {
    let scene = scene(Mode::Review).watched();
    let good = scene.good();
    scene.api.busy.store(true, Ordering::SeqCst);
    assert!(matches!(scene.login_from(Some(1), &scene.token("two")).await, Err(LoginError::Cluster { .. })));
    scene.api.busy.store(false, Ordering::SeqCst);
    let asked = scene.api.reviews.load(Ordering::SeqCst);
    assert!(matches!(scene.login_from(Some(1), &scene.token("one")).await, Err(LoginError::Cluster { .. })));
    assert_eq!(scene.api.reviews.load(Ordering::SeqCst), asked, "for a second not from there");
    scene.login_from(Some(2), &good).await.unwrap();
    scene.clock.advance(Duration::from_secs(1));
    scene.login_from(Some(1), &good).await.unwrap();
}

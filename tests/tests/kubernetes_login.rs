//! Pods log in with their service-account tokens: the real server against a fake Kubernetes API, both over TLS.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

use std::{
    fs,
    time::{Duration, Instant},
};

use strongroom_client::{Client, Reason, SecretBytes};
use strongroom_proto::v1::{self, auth_client::AuthClient};
use strongroom_tests::{
    audit_log::{self, segments},
    bench::subject::channel,
    fake_kubernetes::{FakeKubernetes, Mood, Pod, SigningKey},
    http::http_get,
    pki::Pki,
    raw::reason,
    server::{Options, Server},
    shop::{DB, HOUR, trusting},
    wait::{DEADLINE, found_async, until_async},
    world::{World, builder, log_in_as_pod},
};
use tonic::{Code, Status};

async fn login(world: &World, cluster: &str, token: &str) -> Result<v1::TokenResponse, Status> {
    let channel = channel(&world.server.url, &world.server.ca()).await.unwrap();
    log_in_as_pod(&channel, cluster, token).await
}

async fn refusal(world: &World, cluster: &str, token: &str) -> Status {
    match login(world, cluster, token).await {
        Err(refused) => refused,
        Ok(_) => panic!("let in"),
    }
}

async fn client(world: &World, answer: &v1::TokenResponse) -> Client {
    let token = SecretBytes::from(answer.token.as_ref().unwrap().value.as_slice());
    builder(&world.server).token(token).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_reads_what_its_namespace_may() {
    let kubernetes = FakeKubernetes::start().await.unwrap();
    let world = trusting(&kubernetes, false).await.unwrap();
    watching(&world).await;
    let pod = kubernetes.create_pod("shop", "web", "web-0");
    let answer = login(&world, "", &kubernetes.token(&pod, "strongroom", HOUR)).await.unwrap();
    let session = answer.session.clone().unwrap();
    assert_eq!(session.principal, "kubernetes/main/shop/web");
    let told = session.pod.unwrap();
    assert_eq!((told.name, told.uid, told.node), (pod.name, pod.uid, pod.node));
    let client = client(&world, &answer).await;
    let secret = client.get(DB).await.unwrap();
    assert_eq!(secret.get("password").unwrap().expose(), b"one");
    assert!(client.get("secret/apps/other/db").await.is_err());
    client.auth().renew().await.unwrap();
}

/// A role that is being replaced is missing for a moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_moment_makes_nothing_forgotten() {
    let kubernetes = FakeKubernetes::start().await.unwrap();
    let world = trusting(&kubernetes, false).await.unwrap();
    watching(&world).await;
    let pod = kubernetes.create_pod("shop", "web", "web-0");
    let client = client(&world, &login_soon(&world, &kubernetes.token(&pod, "strongroom", HOUR)).await).await;
    kubernetes.delete_pod(&pod);
    until_async("the pod's session is refused", async || client.get(DB).await.is_err()).await.unwrap();

    // The connections are cut, and what is asked on the new ones is refused.
    let refused = async || {
        kubernetes.set_mood(Mood { down: true, ..Mood::default() });
        kubernetes.set_mood(Mood { forbid_watch: true, ..Mood::default() });
        world.server.log().contains("does not allow it (403)")
    };
    until_async("it is told", refused).await.unwrap();
    assert!(client.get(DB).await.is_err(), "who was gone is not back");
    kubernetes.set_mood(Mood::default());
    watching(&world).await;
    assert!(client.get(DB).await.is_err());
}

/// What the operator has to mend is told in the log: the network, the CA, or the server's own credential.
#[tokio::test(flavor = "multi_thread")]
async fn why_an_api_server_cannot_be_asked_is_told() {
    let kubernetes = FakeKubernetes::start().await.unwrap();
    let world = trusting(&kubernetes, false).await.unwrap();
    let pod = kubernetes.create_pod("shop", "web", "web-0");
    let token = || kubernetes.token(&pod, "strongroom", HOUR);
    login_soon(&world, &token()).await;
    let told = async |what: &str| {
        let says = async || {
            let _ = login(&world, "", &token()).await;
            world.server.log().contains(what)
        };
        until_async(what, says).await.unwrap();
    };
    fs::write(kubernetes.token_file(), "\n").unwrap();
    told("own credential cannot be used: token_file is empty").await;
    fs::write(kubernetes.token_file(), "another").unwrap();
    told("refuses this server's own credential (401)").await;

    // The CA file is read at the start: a server that has another one.
    Pki::create(kubernetes.token_file().parent().unwrap()).unwrap();
    let world = trusting(&kubernetes, false).await.unwrap();
    let says = async || {
        let _ = login(&world, "", &token()).await;
        world.server.log().contains("not one that ca_file vouches for")
    };
    until_async("the certificate is told", says).await.unwrap();
    assert!(!world.server.log().contains("cannot be reached"), "{}", world.server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_of_a_deleted_pod_is_refused() {
    for local in [false, true] {
        let kubernetes = FakeKubernetes::start().await.unwrap();
        let pod = kubernetes.create_pod("shop", "web", "web-0");
        let world = trusting(&kubernetes, local).await.unwrap();
        let token = kubernetes.token(&pod, "strongroom", HOUR);
        let answer = login_soon(&world, &token).await;
        let client = client(&world, &answer).await;
        client.get(DB).await.unwrap();

        kubernetes.delete_pod(&pod);
        let deleted = Instant::now();
        let refused = loop {
            match client.get(DB).await {
                Ok(_) if deleted.elapsed() < DEADLINE => {}
                Ok(_) => panic!("the session of a deleted pod lives on"),
                Err(refused) => break refused,
            }
        };
        println!("local {local}: the session of a deleted pod was refused after {:?}", deleted.elapsed());
        assert!(refused.to_string().contains("the pod of this session is gone"), "{refused}");
        // And a stolen token, which is still within its time, gets no new one.
        let again = refusal(&world, "main", &token).await;
        assert_eq!(again.code(), Code::Unauthenticated, "{again:?}");
        // The client asks of its own accord, too, who it is.
        let mut lines = lines(&world, "POD_GONE");
        lines.retain(|line| line["operation"] == "Secrets.Get");
        assert_eq!(lines.len(), 1, "one refusal, one record");
        let line = &lines[0];
        assert_eq!(line["pod"]["uid"], pod.uid.as_str());
        assert_eq!(line["principal"], "kubernetes/main/shop/web");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_made_anew_is_someone_else() {
    let kubernetes = FakeKubernetes::start().await.unwrap();
    let pod = kubernetes.create_pod("shop", "web", "web-0");
    let world = trusting(&kubernetes, true).await.unwrap();
    let token = kubernetes.token(&pod, "strongroom", HOUR);
    let client = client(&world, &login_soon(&world, &token).await).await;
    client.get(DB).await.unwrap();
    kubernetes.delete_account(&pod);
    let other = kubernetes.create_pod("shop", "web", "web-1");
    assert_ne!(pod.account_uid, other.account_uid);
    until_async("the old account's session is refused", async || client.get(DB).await.is_err())
        .await
        .unwrap();
    let refused = client.get(DB).await.unwrap_err();
    assert!(refused.to_string().contains("the service account of this session was deleted"), "{refused}");
    let refused = refusal(&world, "main", &token).await;
    assert!(refused.message().contains("the service account of this token was deleted"), "{refused:?}");
    login(&world, "main", &kubernetes.token(&other, "strongroom", HOUR)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_a_deleted_pod_ends() {
    let kubernetes = FakeKubernetes::start().await.unwrap();
    let pod = kubernetes.create_pod("shop", "web", "web-0");
    let world = trusting(&kubernetes, false).await.unwrap();
    let answer = login_soon(&world, &kubernetes.token(&pod, "strongroom", HOUR)).await;
    let channel = channel(&world.server.url, &world.server.ca()).await.unwrap();
    let mut secrets = v1::secrets_client::SecretsClient::new(channel);
    let token = strongroom_tests::bench::subject::bearer(answer.token.as_ref().unwrap()).unwrap();
    let watch = v1::WatchRequest { paths: vec![DB.to_owned()] };
    let request = strongroom_tests::bench::subject::with(&token, watch);
    let mut changes = secrets.watch(request).await.unwrap().into_inner();
    changes.message().await.unwrap().unwrap();
    watching(&world).await;
    kubernetes.delete_pod(&pod);
    let deleted = Instant::now();
    let ended = tokio::time::timeout(DEADLINE, changes.message()).await.unwrap().unwrap_err();
    println!("the watch of a deleted pod ended after {:?}", deleted.elapsed());
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert!(ended.message().contains("the pod of this session is gone"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_token_is_told_to_its_owner_and_to_the_log() {
    let (kubernetes, elsewhere) =
        (FakeKubernetes::start().await.unwrap(), FakeKubernetes::start().await.unwrap());
    let pod = kubernetes.create_pod("shop", "web", "web-0");
    let stranger = elsewhere.create_pod("shop", "web", "web-0");
    elsewhere.rotate_key(SigningKey::es256("elsewhere").unwrap(), true);
    for local in [false, true] {
        let world = trusting(&kubernetes, local).await.unwrap();
        login_soon(&world, &kubernetes.token(&pod, "strongroom", HOUR)).await;
        let refused = refusal(&world, "main", &kubernetes.token(&pod, "vault", HOUR)).await;
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert!(refused.message().contains("request one for the audience \"strongroom\""), "{refused:?}");
        let expired = kubernetes.token_text(&pod, "strongroom", HOUR).with(&["exp"], 1_700_000_000.into());
        let refused = refusal(&world, "main", &expired.sign(&kubernetes.signing_key())).await;
        assert!(refused.message().contains("it has expired"), "{refused:?}");
        // Another cluster's token fits in all its claims; nobody is told what is wrong with it.
        let foreign = elsewhere.token(&stranger, "strongroom", HOUR);
        let refused = refusal(&world, "main", &foreign).await;
        assert_eq!(refused.message(), "the credential was not accepted");
        let unknown = refusal(&world, "edge", &foreign).await;
        assert_eq!(unknown.code(), Code::InvalidArgument);
        assert!(unknown.message().contains("does not name a configured cluster"), "{unknown:?}");
        let large = refusal(&world, "main", &"x".repeat(9000)).await;
        assert_eq!(large.code(), Code::InvalidArgument);

        for reason in ["LOGIN_REJECTED: audience", "LOGIN_REJECTED: expired", "LOGIN_REJECTED"] {
            let found = lines(&world, reason);
            assert_eq!(found.len(), 1, "{reason}");
            assert_eq!(found[0]["path"], "sys/auth/kubernetes/main");
            assert_eq!(found[0]["status"], "denied");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_down_or_slow_gives_unavailable_and_no_pile_up() {
    let kubernetes = FakeKubernetes::start().await.unwrap();
    let pods: Vec<Pod> = (0..50).map(|n| kubernetes.create_pod("shop", "web", &format!("web-{n}"))).collect();
    let world = trusting(&kubernetes, false).await.unwrap();
    let token = |pod| kubernetes.token(pod, "strongroom", HOUR);
    login_soon(&world, &token(&pods[0])).await;

    kubernetes.set_mood(Mood { down: true, ..Mood::default() });
    let refused = refusal(&world, "main", &token(&pods[1])).await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(refused.message().contains("its API server does not answer"), "{refused:?}");
    assert_eq!(reason(&refused), (Some(Reason::ClusterUnavailable), Some(1000)));

    kubernetes.set_mood(Mood { slow: Duration::from_secs(60), ..Mood::default() });
    until_async("it is asked again", async || {
        kubernetes.counts().reviews > 0 && {
            let began = Instant::now();
            let _ = refusal(&world, "main", &token(&pods[1])).await;
            began.elapsed() > Duration::from_secs(4)
        }
    })
    .await
    .unwrap();
    let began = Instant::now();
    let all = pods.iter().map(|pod| {
        let token = token(pod);
        async { refusal(&world, "main", &{ token }).await.code() }
    });
    let codes = futures_util::future::join_all(all).await;
    assert!(codes.iter().all(|code| *code == Code::Unavailable), "{codes:?}");
    println!("50 logins while the API server hangs: all told within {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(10));

    kubernetes.set_mood(Mood::default());
    login_soon(&world, &token(&pods[2])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_one_pod_costs_one_review() {
    let kubernetes = FakeKubernetes::start().await.unwrap();
    let pod = kubernetes.create_pod("shop", "web", "web-0");
    let world = trusting(&kubernetes, false).await.unwrap();
    let token = kubernetes.token(&pod, "strongroom", HOUR);
    let before = kubernetes.counts().reviews;
    let all = (0..20).map(|_| login(&world, "main", &token));
    for answer in futures_util::future::join_all(all).await {
        answer.unwrap();
    }
    assert_eq!(kubernetes.counts().reviews - before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_under_the_pods() {
    let kubernetes = FakeKubernetes::start().await.unwrap();
    let pod = kubernetes.create_pod("shop", "web", "web-0");
    let world = trusting(&kubernetes, true).await.unwrap();
    let old = kubernetes.token(&pod, "strongroom", HOUR);
    login_soon(&world, &old).await;
    let reviews = kubernetes.counts().reviews;
    kubernetes.rotate_key(SigningKey::es256("second").unwrap(), false);
    login(&world, "main", &kubernetes.token(&pod, "strongroom", HOUR)).await.unwrap();
    login(&world, "main", &old).await.unwrap();
    assert_eq!(kubernetes.counts().reviews, reviews, "local mode asks nobody");
    // A third one within 30 s: nobody makes the server fetch keys at will.
    let keys = kubernetes.counts().keys;
    kubernetes.rotate_key(SigningKey::another_rs256().unwrap(), false);
    for _ in 0..5 {
        let refused = refusal(&world, "main", &kubernetes.token(&pod, "strongroom", HOUR)).await;
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    assert_eq!(kubernetes.counts().keys, keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_watch_sessions_end_by_their_expiry() {
    let kubernetes = FakeKubernetes::start().await.unwrap();
    kubernetes.set_mood(Mood { forbid_watch: true, ..Mood::default() });
    let pod = kubernetes.create_pod("shop", "web", "web-0");
    let world = trusting(&kubernetes, false).await.unwrap();
    let answer = login_soon(&world, &kubernetes.token(&pod, "strongroom", HOUR)).await;
    let session = answer.session.clone().unwrap();
    assert_eq!(session.max_expires_at_ms - session.issued_at_ms, 15 * 60 * 1000);
    until_async("it is told", async || world.server.log().contains("the watch failed")).await.unwrap();
    kubernetes.delete_pod(&pod);
    let client = client(&world, &answer).await;
    client.get(DB).await.unwrap();
    assert!(client.auth().renew().await.is_err(), "nobody would notice that it is gone");
    let warned = world.server.log().matches("the watch failed").count();
    assert_eq!(warned, 2, "once for pods, once for accounts");
    let (_, metrics) = http_get(world.server.ops, "/metrics").unwrap();
    assert!(
        metrics.contains("strongroom_kubernetes_watching{cluster=\"main\",what=\"pods\"} 0"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn local_mode_lets_nobody_in_while_it_cannot_watch() {
    let kubernetes = FakeKubernetes::start().await.unwrap();
    kubernetes.set_mood(Mood { forbid_watch: true, ..Mood::default() });
    let pod = kubernetes.create_pod("shop", "web", "web-0");
    let world = trusting(&kubernetes, true).await.unwrap();
    let refused = refusal(&world, "main", &kubernetes.token(&pod, "strongroom", HOUR)).await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(refused.message().contains("are not watched at the moment"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_after_the_api_server_forgot_and_after_it_was_away() {
    let kubernetes = FakeKubernetes::start().await.unwrap();
    let (one, two) =
        (kubernetes.create_pod("shop", "web", "one"), kubernetes.create_pod("shop", "web", "two"));
    let world = trusting(&kubernetes, false).await.unwrap();
    let token = |pod| kubernetes.token(pod, "strongroom", HOUR);
    let one_client = client(&world, &login_soon(&world, &token(&one)).await).await;
    let two_client = client(&world, &login_soon(&world, &token(&two)).await).await;
    watching(&world).await;
    // Deleted and forgotten: only a new list can tell.
    kubernetes.set_mood(Mood { down: true, ..Mood::default() });
    kubernetes.delete_pod(&one);
    kubernetes.compact();
    kubernetes.set_mood(Mood::default());
    until_async("the first is refused", async || one_client.get(DB).await.is_err()).await.unwrap();
    two_client.get(DB).await.unwrap();
    kubernetes.delete_pod(&two);
    until_async("the second is refused", async || two_client.get(DB).await.is_err()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_sessions_are_accepted_until_the_first_list() {
    let kubernetes = FakeKubernetes::start().await.unwrap();
    let (stays, goes) =
        (kubernetes.create_pod("shop", "web", "stays"), kubernetes.create_pod("shop", "web", "goes"));
    let world = trusting(&kubernetes, false).await.unwrap();
    let token = |pod| kubernetes.token(pod, "strongroom", HOUR);
    let (stays, goes) =
        (login_soon(&world, &token(&stays)).await, (login_soon(&world, &token(&goes)).await, goes));
    let World { server, keys, home } = world;
    server.stop().unwrap();

    kubernetes.delete_pod(&goes.1);
    kubernetes.set_mood(Mood { down: true, ..Mood::default() });
    let options = Options { config: kubernetes.config_toml("main"), ..Options::default() };
    let world = World { server: Server::start(home.path(), &options).unwrap(), keys, home };
    let (stays, goes) = (client(&world, &stays).await, client(&world, &goes.0).await);
    stays.get(DB).await.unwrap();
    goes.get(DB).await.unwrap();
    kubernetes.set_mood(Mood::default());
    until_async("the list", async || goes.get(DB).await.is_err()).await.unwrap();
    stays.get(DB).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_sessions_of_a_pod_are_revoked_by_its_uid() {
    let kubernetes = FakeKubernetes::start().await.unwrap();
    let (one, two) =
        (kubernetes.create_pod("shop", "web", "one"), kubernetes.create_pod("shop", "web", "two"));
    let world = trusting(&kubernetes, false).await.unwrap();
    let token = |pod| kubernetes.token(pod, "strongroom", HOUR);
    let first = client(&world, &login_soon(&world, &token(&one)).await).await;
    let other = client(&world, &login_soon(&world, &token(&two)).await).await;
    let channel = channel(&world.server.url, &world.server.ca()).await.unwrap();
    let root = v1::Sensitive { value: world.keys.root_token.expose().to_vec() };
    let root = strongroom_tests::bench::subject::bearer(&root).unwrap();
    let which = Some(v1::revoke_sessions_request::Which::Pod(one.uid.clone()));
    let revoke = strongroom_tests::bench::subject::with(&root, v1::RevokeSessionsRequest { which });
    AuthClient::new(channel).revoke_sessions(revoke).await.unwrap();
    let refused = first.get(DB).await.unwrap_err();
    assert!(refused.to_string().contains("revoked"), "{refused}");
    other.get(DB).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pod_may_is_told_before_there_is_one() {
    let kubernetes = FakeKubernetes::start().await.unwrap();
    let world = trusting(&kubernetes, false).await.unwrap();
    let root = world.root().await.unwrap();
    let ask = async |who: &str, path: &str| {
        root.policy().can_i("read", path, Some(who), Vec::new(), None).await.unwrap().allowed
    };
    assert!(ask("kubernetes/main/shop/web", DB).await);
    assert!(!ask("kubernetes/main/other/web", DB).await);
    assert!(!ask("kubernetes/edge/shop/web", DB).await);
}

/// Logs in, as soon as the server has seen its cluster.
async fn login_soon(world: &World, token: &str) -> v1::TokenResponse {
    let attempt = async || match login(world, "main", token).await {
        Ok(answer) => Some(answer),
        Err(status) if status.code() == Code::Unavailable => None,
        Err(status) => panic!("{status:?}"),
    };
    found_async("the login", DEADLINE, attempt).await.unwrap()
}

/// Waits until pods and accounts are watched.
async fn watching(world: &World) {
    let line = |what| format!("strongroom_kubernetes_watching{{cluster=\"main\",what=\"{what}\"}} 1");
    until_async("the watch", async || {
        let (_, metrics) = http_get(world.server.ops, "/metrics").unwrap();
        metrics.contains(&line("pods")) && metrics.contains(&line("serviceaccounts"))
    })
    .await
    .unwrap();
}

/// Lines of the audit log with that reason.
fn lines(world: &World, reason: &str) -> Vec<serde_json::Value> {
    let segments = segments(&world.server.directory.join("audit")).unwrap();
    let text: String = segments.iter().map(|path| audit_log::text(path).unwrap()).collect();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["reason"] == reason).collect()
}

//! What a stream outlives, and what it does not: tokens and policies that change come and go; a revocation, the end of a
//! session and a right that is taken away end it.

use std::time::Duration;

use futures_util::StreamExt;
use prost::Message;
use strongroom_proto::{
    Reason,
    v1::{
        WatchResponse,
        login_request::{Credential as Shown, Userpass},
        watch_response::Kind,
    },
};
use tokio::time::timeout;

use super::{
    context::Origin,
    error::Error,
    handle,
    request::{Action, Answer, Answers, PolicyAction, Request, UserAction},
    tests::{House, anywhere},
    unauthenticated::{Login, login},
};
use crate::{
    auth::Credential,
    engines::{Reply, kv},
    model::{KeyName, Path, RequestId, SecretBytes},
    tokens::Which,
};

const PASSWORD: &str = "correct horse battery";
const HOUR: Duration = Duration::from_secs(3600);
const DEADLINE: Duration = Duration::from_secs(30);

type Watch = Answers<Box<dyn Reply>>;

struct Scene {
    house: House,
    root: SecretBytes,
    watch: Watch,
}

fn origin() -> Origin {
    Origin { id: RequestId([7; 16]), name: "Test.Request", peer: None }
}

async fn ask(house: &House, bearer: &SecretBytes, action: Action) -> Answer {
    let bearer = Some(SecretBytes::from(bearer.expose()));
    handle(&house.core, Request { origin: origin(), slot: anywhere(), bearer, action: Ok(action) })
        .await
        .unwrap()
}

fn on(path: &str, operation: kv::Operation) -> Action {
    Action::Engine { paths: vec![Path::parse(path).unwrap()], operation: Box::new(operation) }
}

fn put() -> kv::Operation {
    let data = [(KeyName::parse("key").unwrap(), SecretBytes::new(vec![7; 3]))].into();
    kv::Operation::Put { data, expected_version: None, ttl: None, operation_id: None }
}

impl Scene {
    /// Alice may read below secret/team, and watches it. Her sessions last eight hours, and a day with all renewals.
    async fn set() -> Self {
        let (house, root) = House::open().await;
        let password = || Some(SecretBytes::from(PASSWORD.as_bytes()));
        let put_alice = UserAction::Put { name: "alice".into(), password: password(), groups: None };
        ask(&house, &root, Action::User(put_alice)).await;
        ask(&house, &root, on("secret/team/db", put())).await;
        let mut scene = Self { house, root, watch: Box::pin(futures_util::stream::empty()) };
        scene.apply(&binding("team", "alice", "secret/team/**")).await;
        scene.house.later();
        let shown = Userpass { name: "alice".into(), password: password().map(Into::into) };
        let credential = Credential::read(Some(Shown::Userpass(shown)));
        let request = Login { origin: origin(), slot: anywhere(), credential };
        let (token, _) = login(&scene.house.core, request).await.unwrap();
        let paths = ["secret/team", "secret/team/db"].map(|path| Path::parse(path).unwrap()).into();
        let action = Action::Engine { paths, operation: Box::new(kv::Operation::Watch) };
        let Answer::Replies(watch) = ask(&scene.house, &token, action).await else { panic!() };
        scene.watch = watch;
        scene
    }

    async fn apply(&self, yaml: &str) {
        let (yaml, remove) = (yaml.to_owned(), Vec::new());
        let apply = PolicyAction::Apply { yaml, remove, dry_run: false, force: false };
        ask(&self.house, &self.root, Action::Policy(apply)).await;
    }

    async fn next(&mut self) -> Result<WatchResponse, Error> {
        let reply = timeout(DEADLINE, self.watch.next()).await.unwrap().unwrap()?;
        let mut bytes = Vec::new();
        reply.write(&mut bytes).unwrap();
        Ok(WatchResponse::decode(bytes.as_slice()).unwrap())
    }

    /// Somebody else writes, and the watch tells it.
    async fn tells_of_a_write(&mut self) {
        let unsealed = self.house.core.unsealed().unwrap();
        let (root, _) = unsealed.tokens.mint_root(self.house.core.clock.now()).unwrap();
        ask(&self.house, &root, on("secret/team/db", put())).await;
        assert_eq!(self.next().await.unwrap().kind(), Kind::Written);
    }

    async fn ends_with(&mut self, reason: Reason, told: &str) {
        let error = self.next().await.unwrap_err();
        assert!(error.reason() == reason && error.to_string().contains(told), "{error}");
        assert!(self.watch.next().await.is_none());
    }
}

/// A role of its own that reads there, bound to a user.
fn binding(name: &str, user: &str, path: &str) -> String {
    format!(
        "{{kind: Role, name: {name}, rules: [{{paths: [\"{path}\"], verbs: [read]}}]}}\n---\n\
         {{kind: Binding, name: {name}, role: {name}, subjects: [user: {{method: userpass, name: {user}}}]}}\n"
    )
}

#[tokio::test]
async fn a_watch_says_which_versions_there_are() {
    let mut scene = Scene::set().await;
    let started = scene.next().await.unwrap();
    assert_eq!(started.kind(), Kind::Started);
    let [current] = &started.current[..] else { panic!("{started:?}") };
    assert_eq!((current.path.as_str(), current.version), ("secret/team/db", 1));
    assert!(current.created_at_ms > 0);
}

/// Its holder could renew the session, or log in once more; the watch is as good as that, and no better.
#[tokio::test]
async fn a_watch_outlives_its_token_and_ends_with_the_session() {
    let mut scene = Scene::set().await;
    assert_eq!(scene.next().await.unwrap().kind(), Kind::Started);
    for _ in 0..4 {
        scene.house.clock.advance(5 * HOUR);
        scene.tells_of_a_write().await;
    }
    scene.house.clock.advance(5 * HOUR);
    scene.ends_with(Reason::TokenExpired, "expired").await;
}

#[tokio::test]
async fn a_watch_whose_session_could_not_be_renewed_any_more_ends() {
    let mut scene = Scene::set().await;
    assert_eq!(scene.next().await.unwrap().kind(), Kind::Started);
    // As after a standstill: nobody could have renewed it in time.
    scene.house.clock.advance(9 * HOUR);
    scene.ends_with(Reason::TokenExpired, "expired").await;
}

#[tokio::test]
async fn a_prolonged_watch_ends_with_a_revocation() {
    let mut scene = Scene::set().await;
    assert_eq!(scene.next().await.unwrap().kind(), Kind::Started);
    for _ in 0..2 {
        scene.house.clock.advance(5 * HOUR);
        scene.tells_of_a_write().await;
    }
    let unsealed = scene.house.core.unsealed().unwrap();
    let which = Which::principal("userpass/alice").unwrap();
    unsealed.tokens.revoke(which, scene.house.core.clock.now(), None).await.unwrap();
    drop(unsealed);
    scene.ends_with(Reason::TokenRevoked, "revoked").await;
}

#[tokio::test]
async fn only_a_change_of_what_it_may_tell_ends_a_watch() {
    let mut scene = Scene::set().await;
    assert_eq!(scene.next().await.unwrap().kind(), Kind::Started);
    // Somebody else's, and more of her own elsewhere.
    scene.apply(&binding("other", "bob", "secret/team/**")).await;
    scene.tells_of_a_write().await;
    scene.apply(&binding("more", "alice", "secret/elsewhere/**")).await;
    scene.tells_of_a_write().await;
    // The same rules by another name.
    scene.apply(&binding("again", "alice", "secret/team/**")).await;
    scene.tells_of_a_write().await;
    let deny = "{kind: Role, name: no, rules: [{paths: [\"secret/team/db/below\"], verbs: [read], effect: deny}]}\n\
        ---\n{kind: Binding, name: no, role: no, subjects: [user: {method: userpass, name: alice}]}\n";
    scene.apply(deny).await;
    scene.ends_with(Reason::WatchEnded, "the policy changed").await;
}

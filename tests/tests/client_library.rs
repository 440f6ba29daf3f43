//! The library as an application uses it: typed errors, a rotation that is seen, sessions, and servers that go away.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use strongroom_client::{
    Client, ErrorKind, Gone, Reason, ResultStream, SealKind, SecretBytes, SecretState, Sessions, StreamExt,
};
use strongroom_tests::{
    server::{Options, Server, binary},
    wait::DEADLINE,
    world::{PASSWORD, World, builder},
};

const ADMIN: &str =
    "{kind: Binding, name: a, role: admin, subjects: [{group: {method: userpass, name: admins}}]}";
const PATH: &str = "secret/app/db";

fn value(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes())
}

async fn open() -> (World, Client) {
    let world = World::open(SealKind::File).await.unwrap();
    world.apply(ADMIN).await.unwrap();
    let alice = world.user("alice", &["admins"]).await.unwrap();
    (world, alice)
}

/// Killed, and up again on the same port.
fn crash(world: World) -> World {
    let World { server, keys, home } = world;
    let address = server.url.trim_start_matches("https://").to_owned();
    server.kill().unwrap();
    let options = Options { arguments: vec!["--listen-address".into(), address], ..Options::default() };
    World { server: Server::start(home.path(), &options).unwrap(), keys, home }
}

async fn state(states: &mut ResultStream<SecretState>) -> Result<(u64, String), Gone> {
    match tokio::time::timeout(DEADLINE, states.next()).await.unwrap().unwrap().unwrap() {
        SecretState::Value(secret) => Ok((secret.version, secret.text("k").unwrap().to_owned())),
        SecretState::Gone(why) => Err(why),
    }
}

async fn next(states: &mut ResultStream<SecretState>) -> (u64, String) {
    state(states).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_types() {
    let (_world, alice) = open().await;
    let kind = |error: Option<strongroom_client::Error>| error.unwrap().kind().clone();
    assert_eq!(kind(alice.get(PATH).await.err()), ErrorKind::NotFound);
    alice.put(PATH).value("k", value("1")).expected_version(0).send().await.unwrap();
    let again = alice.put(PATH).value("k", value("2")).expected_version(0).send().await.err();
    assert_eq!(kind(again), ErrorKind::VersionMismatch { current: 1 });
    alice.delete(PATH, Vec::new()).await.unwrap();
    let gone = alice.get(PATH).await.err();
    assert!(gone.as_ref().unwrap().is_not_found());
    assert!(matches!(kind(gone), ErrorKind::VersionDeleted { version: 1, deleted_at: Some(_) }));
    alice.destroy(PATH, vec![1]).await.unwrap();
    assert_eq!(kind(alice.get(PATH).await.err()), ErrorKind::VersionDestroyed { version: 1 });
    alice.update_metadata(PATH).cas_required(true).send().await.unwrap();
    assert_eq!(kind(alice.put(PATH).value("k", value("2")).send().await.err()), ErrorKind::CasRequired);
    let wrong = alice.get("secret/with space").await.err().unwrap();
    assert!(matches!(wrong.kind(), ErrorKind::InvalidArgument { field, .. } if field == "path"), "{wrong}");
    assert!(wrong.request_id().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_short_lives() {
    let (_world, alice) = open().await;
    for number in 0..5 {
        alice.put(format!("secret/many/{number}")).value("k", value("v")).send().await.unwrap();
    }
    let page = alice.list_page("secret/many", Some(2), None).await.unwrap();
    assert_eq!(page.names, ["0", "1"]);
    let page = alice.list_page("secret/many", Some(2), page.next).await.unwrap();
    assert_eq!(page.names, ["2", "3"]);
    let page = alice.list_page("secret/many", Some(2), page.next).await.unwrap();
    assert_eq!((page.names, page.next), (vec!["4".to_owned()], None));

    alice.put(PATH).value("k", value("v")).ttl(Duration::from_secs(1)).send().await.unwrap();
    let expired = tokio::time::timeout(DEADLINE, async {
        loop {
            match alice.get(PATH).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    });
    assert_eq!(expired.await.unwrap().kind(), &ErrorKind::VersionExpired { version: 1 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_by_another_is_seen_even_after_a_crash() {
    let (world, alice) = open().await;
    alice.put(PATH).value("k", value("first")).send().await.unwrap();
    let reader = alice.clone();
    let mut versions = reader.watch_secret(PATH);
    assert_eq!(next(&mut versions).await, (1, "first".into()));
    let other = world.root().await.unwrap();
    other.put(PATH).value("k", value("second")).send().await.unwrap();
    assert_eq!(next(&mut versions).await, (2, "second".into()));

    let world = tokio::task::block_in_place(|| crash(world));
    let other = world.root().await.unwrap();
    other.put(PATH).value("k", value("third")).send().await.unwrap();
    assert_eq!(next(&mut versions).await, (3, "third".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_secret_learns_that_it_is_gone_and_that_it_is_back() {
    let (world, alice) = open().await;
    let (reader, first) = (alice.clone(), Ok((1, "first".to_owned())));
    let mut states = reader.watch_secret(PATH);
    assert_eq!(state(&mut states).await, Err(Gone::NothingThere));
    alice.put(PATH).value("k", value("first")).send().await.unwrap();
    assert_eq!(state(&mut states).await, first);
    alice.delete(PATH, Vec::new()).await.unwrap();
    assert_eq!(state(&mut states).await, Err(Gone::Deleted { version: 1 }));
    alice.undelete(PATH, vec![1]).await.unwrap();
    assert_eq!(state(&mut states).await, first);
    alice.destroy(PATH, vec![1]).await.unwrap();
    assert_eq!(state(&mut states).await, Err(Gone::Destroyed { version: 1 }));
    alice.put(PATH).value("k", value("second")).send().await.unwrap();
    assert_eq!(state(&mut states).await, Ok((2, "second".to_owned())));
    // An older version that goes is nothing to those who follow the latest.
    alice.destroy(PATH, vec![1]).await.unwrap();
    alice.destroy_all(PATH).await.unwrap();
    assert_eq!(state(&mut states).await, Err(Gone::NothingThere));
    // What was destroyed begins again with version 1.
    alice.put(PATH).value("k", value("first")).send().await.unwrap();
    assert_eq!(state(&mut states).await, first);

    // What happens while the connection is away is told afterwards.
    let world = tokio::task::block_in_place(|| crash(world));
    world.root().await.unwrap().delete(PATH, Vec::new()).await.unwrap();
    assert_eq!(state(&mut states).await, Err(Gone::Deleted { version: 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_renewed_and_end() {
    let (world, alice) = open().await;
    let before = alice.auth().whoami().await.unwrap();
    assert_eq!((&*before.session.principal, before.roles), ("userpass/alice", vec!["admin".to_owned()]));
    let renewed = alice.auth().renew().await.unwrap();
    assert_eq!(renewed.session.id, before.session.id);
    assert!(renewed.session.expires_at >= before.session.expires_at);

    // A revocation is somebody's will: the library does not log in behind it. A new connection does.
    let root = world.root().await.unwrap();
    root.auth().revoke_sessions(Sessions::Id(before.session.id.clone())).await.unwrap();
    let revoked = alice.get(PATH).await.err().unwrap();
    assert_eq!(revoked.kind(), &ErrorKind::Unauthenticated(Reason::TokenRevoked));
    let again = builder(&world.server).userpass("alice", value(PASSWORD)).connect().await.unwrap();
    assert_ne!(again.auth().whoami().await.unwrap().session.id, before.session.id);
    let wrong =
        builder(&world.server).userpass("alice", value("not the password")).connect().await.err().unwrap();
    let nobody =
        builder(&world.server).userpass("nobody", value("not the password")).connect().await.err().unwrap();
    assert_eq!(wrong.kind(), &ErrorKind::Unauthenticated(Reason::LoginRejected));
    assert_eq!(wrong.to_string(), nobody.to_string(), "nobody learns which names exist");

    // A logout holds, although there are credentials: only the application logs in again.
    again.auth().logout().await.unwrap();
    let out = again.auth().whoami().await.err().unwrap();
    assert_eq!(out.kind(), &ErrorKind::Unauthenticated(Reason::TokenMissing));
    again.auth().login("alice", &value(PASSWORD)).await.unwrap();
    again.auth().whoami().await.unwrap();
}

/// More than the server takes on one connection, and calls besides.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_watch_as_much_as_it_likes() {
    let (_world, alice) = open().await;
    alice.put(PATH).value("k", value("first")).send().await.unwrap();
    let mut watches: Vec<_> = (0..150).map(|_| alice.watch_secret(PATH)).collect();
    for watch in &mut watches {
        assert_eq!(next(watch).await, (1, "first".into()));
    }
    alice.put(PATH).value("k", value("second")).send().await.unwrap();
    for watch in &mut watches {
        assert_eq!(next(watch).await, (2, "second".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_put_writes_once() {
    let (world, alice) = open().await;
    let put = async || alice.put(PATH).value("k", value("v")).operation_id("job-1").send().await.unwrap();
    assert_eq!(put().await.current_version, 1);
    let world = tokio::task::block_in_place(|| crash(world));
    // The connection is broken now; the call heals it, and its id makes the repetition harmless.
    assert_eq!(put().await.current_version, 1);
    assert_eq!(world.root().await.unwrap().metadata(PATH).await.unwrap().versions.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_works() {
    let (world, alice) = open().await;
    alice.put(PATH).value("k", value("first")).send().await.unwrap();
    let password = world.home.path().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let mut child = Command::new(
        binary("examples/read_and_watch").expect("built by `cargo build --workspace --examples`"),
    )
    .arg(PATH)
    .env("STRONGROOM_ADDR", &world.server.url)
    .env("STRONGROOM_CACERT", world.server.ca())
    .env("STRONGROOM_USER", "alice")
    .env("PASSWORD_FILE", &password)
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "k: 5 bytes");
    assert_eq!(lines.next().unwrap(), "version 1");
    alice.put(PATH).value("k", value("second")).send().await.unwrap();
    assert_eq!(lines.next().unwrap(), "version 2");
    child.kill().unwrap();
    child.wait().unwrap();
}

//! Bad weather between clients and the server: peers that go silent at any stage, lose what is sent, or reset. Nothing hangs,
//! and all of it passes by itself.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

use std::time::{Duration, Instant};

use rustix::process::Signal;
use strongroom_client::{Builder, ChangeKind, Client, ErrorKind, SealKind, SecretBytes, StreamExt};
use strongroom_tests::{
    cli::Cli,
    http::http_get,
    node::{Kubelet, Node},
    one_node::{SECRETS, may_mount},
    shop::Shop,
    wait::{DEADLINE, found_async, until, until_async},
    weather::{Sky, Weather},
    world::{World, builder},
};
use tonic::Code;

/// Short, because each silence is waited out; long for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(2);
const PATH: &str = "secret/app/db";

const SILENCES: [(Sky, &str); 3] = [
    (Sky::Silent, "the TLS handshake in time"),
    (Sky::SilentInTls, "the TLS handshake in time"),
    (Sky::SilentAfterTls, "did not begin to speak HTTP/2 in time"),
];

async fn open() -> (World, Weather) {
    let world = World::open(SealKind::File).await.unwrap();
    let weather = Weather::before(&world.server.url).await.unwrap();
    (world, weather)
}

fn through(weather: &Weather, world: &World) -> Builder {
    let builder = Client::builder(weather.url()).ca_file(world.server.ca());
    builder.connect_timeout(PATIENCE).timeout(3 * PATIENCE)
}

fn root(world: &World) -> SecretBytes {
    SecretBytes::from(world.keys.root_token.expose())
}

/// Well before anybody would call it a hang.
fn soon(began: Instant) {
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_silent_while_connecting_is_given_up() {
    let (world, weather) = open().await;
    let lazy = through(&weather, &world).token(root(&world)).connect_lazily().await.unwrap();
    for (sky, says) in SILENCES {
        weather.becomes(sky);
        let began = Instant::now();
        // A connection that was never heard of is not taken for one.
        let asked = match through(&weather, &world).connect().await {
            Ok(client) => client.without_retries().sys().status().await.err().unwrap(),
            Err(error) => error,
        };
        assert_eq!(asked.kind(), &ErrorKind::Connection, "{sky:?}: {asked}");
        assert!(asked.to_string().contains(says), "{sky:?}: {asked}");
        soon(began);

        // The one that exists is as good as new once the sky is fair.
        let error = lazy.with_timeout(PATIENCE / 2).get(PATH).await.err().unwrap();
        assert!(error.is_transient(), "{sky:?}: {error}");
        weather.becomes(Sky::Fair);
        until_async("the client recovers", async || lazy.sys().status().await.is_ok()).await.unwrap();
        // Its connection is closed for the next round.
        weather.becomes(Sky::Resetting);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_does_not_hang() {
    let (world, weather) = open().await;
    let person = Cli::new(&world.home.path().join("person"), &world.server).unwrap();
    let status = ["--address", &weather.url(), "--timeout", "1", "status"].map(str::to_owned);
    for (sky, _) in SILENCES {
        weather.becomes(sky);
        let arguments: Vec<&str> = status.iter().map(String::as_str).collect();
        let began = Instant::now();
        let ran = tokio::task::block_in_place(|| person.run(&arguments, b"")).unwrap();
        soon(began);
        assert!(!ran.status.success(), "{sky:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_through_a_silence_goes_on_after_it() {
    let (world, weather) = open().await;
    let writer = world.root().await.unwrap();
    let put = async |value: &str| {
        let put = writer.put(PATH).value("k", SecretBytes::from(value.as_bytes()));
        put.send().await.unwrap();
    };
    put("one").await;
    let client = through(&weather, &world).token(root(&world)).keep_alive(PATIENCE / 2, PATIENCE / 2);
    let client = client.connect().await.unwrap();
    for sky in [Sky::Dropping, Sky::Silent, Sky::Resetting] {
        weather.becomes(Sky::Fair);
        let mut changes = client.watch([PATH]);
        let mut next = async || found(&mut changes).await;
        assert_eq!(next().await, ChangeKind::Started, "{sky:?}");
        weather.becomes(sky);
        let began = Instant::now();
        let error = client.get(PATH).await.err().unwrap();
        assert!(error.is_transient(), "{sky:?}: {error}");
        soon(began);
        assert_eq!(next().await, ChangeKind::Interrupted, "{sky:?}");
        put("another").await;
        weather.becomes(Sky::Fair);
        assert_eq!(next().await, ChangeKind::Resync, "{sky:?}");
        client.get(PATH).await.unwrap();
    }
}

/// The server itself is stopped as it stands, as on a machine that is frozen: what an application with one client sees. Calls end
/// in their time, the watch says that it hears nothing, and the same client goes on when the server does. With the library's own
/// pings, every 20 seconds, the same takes half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_as_an_application_sees_it() {
    let world = World::open(SealKind::File).await.unwrap();
    let client = builder(&world.server).token(root(&world)).timeout(PATIENCE).connect_timeout(PATIENCE);
    let client = client.keep_alive(PATIENCE / 2, PATIENCE / 2).connect().await.unwrap();
    let put =
        async |value: &str| client.put(PATH).value("k", SecretBytes::from(value.as_bytes())).send().await;
    put("one").await.unwrap();
    let person = Cli::new(&world.home.path().join("person"), &world.server).unwrap();
    let status = || tokio::task::block_in_place(|| person.run(&["--timeout", "2", "status"], b"")).unwrap();
    assert!(status().status.success());
    let mut changes = client.watch([PATH]);
    assert_eq!(found(&mut changes).await, ChangeKind::Started);

    world.server.signal(Signal::STOP).unwrap();
    let silent = Instant::now();
    for _ in 0..2 {
        let began = Instant::now();
        let error = client.get(PATH).await.err().unwrap();
        assert!(error.is_transient(), "{error}");
        soon(began);
    }
    assert_eq!(found(&mut changes).await, ChangeKind::Interrupted);
    soon(silent);
    let began = Instant::now();
    let refused = status();
    assert!(!refused.status.success() && !refused.stderr.is_empty());
    soon(began);
    // It says so once, however long the silence is.
    let more = tokio::time::timeout(3 * PATIENCE, changes.next()).await;
    assert!(more.is_err(), "{more:?}");

    world.server.signal(Signal::CONT).unwrap();
    let back = Instant::now();
    assert_eq!(found(&mut changes).await, ChangeKind::Resync);
    let before = client.get(PATH).await.unwrap().version;
    let after = put("two").await.unwrap().current_version;
    assert!(before < after, "{before} {after}");
    assert_eq!(found(&mut changes).await, ChangeKind::Written);
    soon(back);
    assert!(status().status.success());
}

async fn found(changes: &mut strongroom_client::ResultStream<strongroom_client::Change>) -> ChangeKind {
    tokio::time::timeout(DEADLINE, changes.next()).await.unwrap().unwrap().unwrap().kind
}

/// A connection on which nothing is heard is not given to the next call, long before TCP gives it up.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_after_one_without_an_answer_takes_another_connection() {
    let (world, weather) = open().await;
    let client = through(&weather, &world).token(root(&world)).connect().await.unwrap();
    let asked = async || client.with_timeout(PATIENCE / 2).auth().whoami().await;
    asked().await.unwrap();
    weather.becomes(Sky::Dropping);
    assert_eq!(asked().await.err().unwrap().kind(), &ErrorKind::DeadlineExceeded);
    weather.becomes(Sky::Fair);
    let answer = found_async("an answer", DEADLINE, async || asked().await.ok()).await.unwrap();
    assert_eq!(answer.session.principal, "root");
    assert!(weather.opened() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_found_at_any_of_its_addresses() {
    let (world, weather) = open().await;
    weather.becomes(Sky::Silent);
    let client = through(&weather, &world).also_at(&world.server.url).connect().await.unwrap();
    client.sys().status().await.unwrap();
    // Nobody listens at the first one.
    let client = Client::builder("https://127.0.0.1:1").ca_file(world.server.ca()).also_at(&world.server.url);
    client.connect().await.unwrap().sys().status().await.unwrap();
    let nowhere = builder(&world.server).server_name("elsewhere").connect().await.err().unwrap();
    assert_eq!(nowhere.kind(), &ErrorKind::Connection, "{nowhere}");
}

/// As many pods as a node may start at once, before servers that are silent, unreachable and resetting: each is told in time and
/// in words, none waits for another, and all have their files soon after.
#[tokio::test(flavor = "multi_thread")]
async fn forty_pods_in_any_weather_are_told_and_mount_when_it_is_over() {
    if !may_mount() {
        return;
    }
    let shop = Shop::open(true).await.unwrap();
    let weather = Weather::before(&shop.world.server.url).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let patience = "--patience-seconds=4";
    let node = Node::start_before(&weather.url(), home.path(), &shop.world.server, &[patience]).unwrap();
    let kubelet = Kubelet::new(node.channel().await.unwrap());
    for sky in [Sky::Silent, Sky::Dropping, Sky::Resetting] {
        weather.becomes(sky);
        let pods = (0..40).map(|n| {
            let pod = shop.pod(&format!("web-{sky:?}-{n}").to_lowercase());
            (shop.token(&pod), node.volume(&pod, "secrets", SECRETS).unwrap())
        });
        let pods: Vec<_> = pods.collect();
        let publish_all = async || {
            let calls = pods.iter().map(|(token, volume)| kubelet.publish(volume.publish(token)));
            futures_util::future::join_all(calls).await
        };
        let began = Instant::now();
        for told in publish_all().await {
            let told = told.unwrap_err();
            assert_eq!(told.code(), Code::Unavailable, "{sky:?}: {told}");
            assert!(told.message().contains("the server could not be reached for"), "{sky:?}: {told}");
        }
        soon(began);
        weather.becomes(Sky::Fair);
        let all = async || publish_all().await.iter().all(Result::is_ok);
        until_async("all pods have their files", all).await.unwrap();
        assert!(pods.iter().all(|(_, volume)| volume.read("password") == "one"), "{sky:?}");
    }
    // A kubelet that hangs up is no reason for silence either.
    weather.becomes(Sky::Silent);
    let pod = shop.pod("web-cancelled");
    let volume = node.volume(&pod, "secrets", SECRETS).unwrap();
    let call = kubelet.publish(volume.publish(&shop.token(&pod)));
    assert!(tokio::time::timeout(Duration::from_secs(1), call).await.is_err());
    let counted = "strongroom_csi_failures_total{doing=\"publish\",reason=\"cancelled\"} 1";
    until("it is counted", || http_get(node.ops(), "/metrics").unwrap().1.contains(counted)).unwrap();
    assert!(node.log().contains("publish given up by the caller before it was done"), "{}", node.log());
}

/// A second driver in the place of the first: that one ends without taking the sockets away, and says so before.
#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_ends_leaves_its_successors_sockets() {
    if !may_mount() {
        return;
    }
    let shop = Shop::open(true).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut old = Node::start(home.path(), &shop.world.server, &[]).unwrap();
    assert_eq!(http_get(old.ops(), "/healthz").unwrap().0, 200);
    let new = Node::start(home.path(), &shop.world.server, &[]).unwrap();
    let (code, why) = http_get(old.ops(), "/healthz").unwrap();
    assert!(code == 503 && why.contains("csi.sock is gone or another process's"), "{code}: {why}");
    old.stop().unwrap();
    assert_eq!(http_get(new.ops(), "/healthz").unwrap().0, 200);
    new.register(None).await.unwrap();
    new.channel().await.unwrap();
}

//! What one caller may have of what there is for all, over real sockets: whoever takes all they can get is bounded in memory
//! and time, and everybody else is served meanwhile.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends at the first surprise")]

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use strongroom_client::{Client, SealKind, SecretBytes};
use strongroom_proto::v1;
use strongroom_server::limits;
use strongroom_tests::{
    server::{Memory, Options},
    wire::{End, Target, Wire, call_as, request},
    world::World,
};
use tokio::time::timeout;

const GET: &str = "/strongroom.v1.Secrets/Get";
/// How late a server on a busy machine may be.
const LATE: Duration = Duration::from_secs(10);
/// What everybody of these tests may do.
const POLICY: &str = "
kind: Role
name: all
rules:
- paths: [\"secret/**\"]
  verbs: [\"*\"]
---
kind: Binding
name: all
role: all
subjects:
- user: {method: userpass, name: good}
";

/// A server, somebody who behaves, and the way to it for somebody who has the root token and does not.
async fn world() -> (World, Client, Target, String) {
    let world = World::open_with(SealKind::File, &Options::default()).await.unwrap();
    world.apply(POLICY).await.unwrap();
    let good = world.user("good", &[]).await.unwrap();
    let target = Target::of(&world.server).unwrap();
    let authorization = format!("Bearer {}", world.keys.root_token.expose_str().unwrap());
    (world, good, target, authorization)
}

async fn works(client: &Client) {
    client.put("secret/good").value("k", SecretBytes::from(&b"v"[..])).send().await.unwrap();
    assert_eq!(client.get("secret/good").await.unwrap().text("k").unwrap(), "v");
}

/// The first streams of a connection.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

/// Asks for the same secret on streams of a connection that takes `window` bytes of each answer.
async fn ask_without_reading(target: &Target, authorization: &str, window: u32, count: u32) -> Wire {
    let mut wire = target.http2_with_window(Ipv4Addr::LOCALHOST, window).await.unwrap();
    let headers = call_as(authorization, GET);
    let asked = v1::GetRequest { path: "secret/large".to_owned(), version: None };
    for stream in streams(count) {
        wire.send(&request(stream, &headers, &asked)).await.unwrap();
    }
    wire
}

/// With no window nothing is sent; with one of a byte, HTTP/2 takes over the whole answer and keeps all of it but that.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_costs_little_memory_and_is_given_up() {
    let (world, good, target, authorization) = world().await;
    let root = world.root().await.unwrap();
    let large = || SecretBytes::from(vec![7; 1_000_000].as_slice());
    root.put("secret/large").value("k", large()).send().await.unwrap();
    root.get("secret/large").await.unwrap();
    let before = world.server.memory_mib(Memory::Now).unwrap();

    let (began, mut silent) = (Instant::now(), Vec::new());
    let few = limits::OUTBOUND_SHARE / 1_000_000 / 3;
    let (few, all) = (u32::try_from(few).unwrap(), limits::STREAMS_PER_CONNECTION);
    for (window, count) in [(0, few), (1, few), (0, all), (1, all), (0, all), (1, all)] {
        silent.push(ask_without_reading(&target, &authorization, window, count).await);
        works(&good).await;
    }
    // The first two have answers that wait; of the others most were told that there is no room.
    for wire in silent.iter_mut().take(2) {
        let left = (limits::SEND + LATE).saturating_sub(began.elapsed());
        assert_eq!(timeout(left, wire.end()).await.unwrap(), End::Closed);
        works(&good).await;
    }
    let grown = world.server.memory_mib(Memory::Peak).unwrap() - before;
    assert!(grown < 128.0, "{grown} MiB for 420 answers of 1 MB");
    drop(silent);
    // All of their room is there again.
    let mut wire = target.http2_with_window(Ipv4Addr::LOCALHOST, 1 << 30).await.unwrap();
    let asked = v1::GetRequest { path: "secret/large".to_owned(), version: None };
    wire.send(&request(1, &call_as(&authorization, GET), &asked)).await.unwrap();
    root.get("secret/large").await.unwrap();
}

//! What one caller may have of what there is for all, over real sockets: whoever takes all they can get is bounded in memory
//! and time, and everybody else is served meanwhile.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends at the first surprise")]

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use strongroom_client::{Client, Reason, SealKind, SecretBytes};
use strongroom_proto::v1::{self, auth_client::AuthClient, sys_client::SysClient};
use strongroom_server::limits;
use strongroom_tests::{
    bench::subject::{bearer, channel, with},
    raw::reason,
    server::{Memory, Options, Server},
    wait::until,
    wire::{END_HEADERS, End, Target, Wire, call_as, frame, kind, request},
    world::{World, anonymous},
};
use tokio::time::timeout;

const PUT: &str = "/strongroom.v1.Secrets/Put";
const WATCH: &str = "/strongroom.v1.Secrets/Watch";
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
    world_with(&Options::default()).await
}

async fn world_with(options: &Options) -> (World, Client, Target, String) {
    let world = World::open_with(SealKind::File, options).await.unwrap();
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

/// How many calls of that RPC were answered with that code.
fn answered(server: &Server, rpc: &str, code: &str) -> u64 {
    server.metric(&format!("strongroom_requests_total{{code=\"{code}\",rpc=\"{rpc}\"}}")).unwrap()
}

/// Headers on each of these streams, and the beginning of a message that says it has so many bytes.
async fn begin(wire: &mut Wire, headers: &[u8], count: u32, length: u32) {
    let beginning = [&[0], length.to_be_bytes().as_slice(), &[1]].concat();
    for stream in streams(count) {
        wire.send(&frame(kind::HEADERS, END_HEADERS, stream, headers)).await.unwrap();
        wire.send(&frame(kind::DATA, 0, stream, &beginning)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_announces_and_does_not_send_leaves_room_and_is_given_up() {
    let (world, good, target, authorization) = world().await;
    let server = &world.server;
    // A watch of which nothing more comes, and one of which nothing comes at all.
    let mut watches = target.http2(Ipv4Addr::LOCALHOST).await.unwrap();
    begin(&mut watches, &call_as(&authorization, WATCH), 1, 1000).await;
    let open = frame(kind::HEADERS, END_HEADERS, 3, &call_as(&authorization, WATCH));
    watches.send(&open).await.unwrap();
    // A watch names paths: what is longer than all of them is not waited for.
    let mut long = target.http2(Ipv4Addr::LOCALHOST).await.unwrap();
    begin(&mut long, &call_as(&authorization, WATCH), 1, 1 << 20).await;
    until("it is too long", || answered(server, "Secrets.Watch", "OUT_OF_RANGE") == 1).unwrap();

    let mut wire = target.http2(Ipv4Addr::LOCALHOST).await.unwrap();
    begin(&mut wire, &call_as(&authorization, PUT), 64, 1 << 20).await;
    until("the greedy one is told to wait", || answered(server, "Secrets.Put", "RESOURCE_EXHAUSTED") > 0)
        .unwrap();
    let large = SecretBytes::from(vec![7; 300_000].as_slice());
    good.put("secret/large").value("k", large).send().await.unwrap();

    until("the watches are given up", || answered(server, "Secrets.Watch", "DEADLINE_EXCEEDED") == 2)
        .unwrap();
    until("so are the puts", || answered(server, "Secrets.Put", "DEADLINE_EXCEEDED") > 0).unwrap();
    works(&good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_leaves_streams_to_others() {
    let (world, good, target, authorization) = world().await;
    let asked = v1::WatchRequest { paths: vec!["secret/good".to_owned()] };
    let headers = call_as(&authorization, WATCH);
    let each = limits::STREAMS_PER_CONNECTION;
    let (server, share) = (&world.server, u64::try_from(limits::STREAMS_SHARE).unwrap());
    let begun = || answered(server, "Secrets.Watch", "OK");
    let mut held = Vec::new();
    while begun() < share {
        let before = begun();
        let mut wire = target.http2(Ipv4Addr::LOCALHOST).await.unwrap();
        for stream in streams(each) {
            wire.send(&request(stream, &headers, &asked)).await.unwrap();
        }
        held.push(wire);
        until("they begin", || begun() == (before + u64::from(each)).min(share)).unwrap();
    }
    let mut more = target.http2(Ipv4Addr::LOCALHOST).await.unwrap();
    more.send(&request(1, &headers, &asked)).await.unwrap();
    until("no more", || answered(server, "Secrets.Watch", "RESOURCE_EXHAUSTED") == 1).unwrap();
    let mut watch = good.watch(["secret/good"]);
    let watching = tokio::spawn(async move { watch.next().await });
    until("somebody else watches", || begun() == share + 1).unwrap();
    works(&good).await;
    watching.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_stops_asking_has_a_quota_and_others_have_theirs() {
    let options = Options { limits: "reads_per_second = 5", ..Options::default() };
    let (world, good, ..) = world_with(&options).await;
    let token = v1::Sensitive { value: world.keys.root_token.expose().to_vec() };
    let token = bearer(&token).unwrap();
    let mut bare = AuthClient::new(channel(&world.server.url, &world.server.ca()).await.unwrap());
    let (burst, mut answered, mut last) = (5 * limits::QUOTA_BURST.as_secs(), 0, None);
    for _ in 0..2 * burst {
        match bare.whoami(with(&token, v1::WhoamiRequest {})).await {
            Ok(_) => answered += 1,
            Err(status) => last = Some(status),
        }
    }
    let (why, retry_after) = reason(&last.unwrap());
    assert_eq!(why, Some(Reason::Overloaded));
    assert!(Duration::from_millis(retry_after.unwrap()) >= limits::QUEUE_WAIT, "{retry_after:?}");
    assert!(answered >= burst && answered < 2 * burst, "{answered}");
    assert!(world.server.metric("strongroom_requests_shed_total{why=\"reads\"}").unwrap() > 0);
    assert!(world.server.metric("strongroom_disk_free_bytes{of=\"audit\"}").unwrap() > 0);
    works(&good).await;
}

/// A share has a checksum but no secret in it, so anybody can make one that looks right.
#[tokio::test(flavor = "multi_thread")]
async fn shares_of_no_seal_take_no_place_from_those_who_unseal() {
    let one = World::open(SealKind::Shamir { shares: 5, threshold: 3 }).await.unwrap();
    let foreign = World::open(SealKind::Shamir { shares: 5, threshold: 3 }).await.unwrap();
    one.root().await.unwrap().sys().seal().await.unwrap();
    let channel = channel(&one.server.url, &one.server.ca()).await.unwrap();
    let share = || Some(v1::Sensitive { value: foreign.keys.shares.first().unwrap().expose().to_vec() });
    let mut stranger = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (mut sys, share) = (SysClient::new(channel.clone()), share());
        stranger.spawn(async move {
            for _ in 0..50 {
                let refused = sys.unseal(v1::UnsealRequest { share: share.clone() }).await.unwrap_err();
                let (why, _) = reason(&refused);
                assert!(matches!(why, Some(Reason::ShareRejected | Reason::NotSealed)), "{why:?}");
            }
        });
    }
    let operator = anonymous(&one.server).await.unwrap();
    for share in one.keys.shares.iter().take(3) {
        operator.sys().unseal(share).await.unwrap();
    }
    while let Some(ended) = stranger.join_next().await {
        ended.unwrap();
    }
    // What was refused left no intent: init and two times three shares did.
    let log = std::fs::read_dir(one.server.directory.join("audit")).unwrap();
    let log = log.filter_map(|file| std::fs::read_to_string(file.unwrap().path()).ok()).collect::<String>();
    let is_intent = |line: &&str| line.contains("\"Sys.Unseal\"") && line.contains("\"pending\"");
    assert_eq!(log.lines().filter(is_intent).count(), 6);
}

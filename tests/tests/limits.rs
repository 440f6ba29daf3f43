//! The limits of `server/src/limits.rs` over real sockets: who is slow, greedy or malformed loses a stream or a
//! connection, and nobody else notices.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use strongroom_client::{Client, Reason, SealKind, SecretBytes};
use strongroom_proto::{
    limits as wire_limits,
    v1::{self, secrets_client::SecretsClient},
};
use strongroom_server::limits;
use strongroom_tests::{
    bench::subject::{bearer, channel, put, with},
    raw,
    server::{Memory, Options, Server},
    wait::until,
    wire::{END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, End, Target, call, call_as, frame, header, kind},
    world::{World, builder},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::timeout,
};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const PUT: &str = "/strongroom.v1.Secrets/Put";
/// How late a server on a busy machine may be.
const LATE: Duration = Duration::from_secs(5);

fn secret(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes())
}

/// Another address of the loopback network: another place among the limits per address.
fn stranger(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 7, number)
}

/// A call of somebody who is known.
fn known_call(world: &World) -> Vec<u8> {
    call_as(&authorization(world), PUT)
}

fn authorization(world: &World) -> String {
    format!("Bearer {}", world.keys.root_token.expose_str().unwrap())
}

async fn works(client: &Client) {
    client.put("secret/a").value("k", secret("v")).send().await.unwrap();
    assert_eq!(client.get("secret/a").await.unwrap().text("k").unwrap(), "v");
}

fn metric(server: &Server, name: &str) -> u64 {
    server.metric(name).unwrap()
}

fn refused(server: &Server, why: &str) -> u64 {
    metric(server, &format!("strongroom_connections_refused_total{{why=\"{why}\"}}"))
}

/// How many puts were answered with that code.
fn puts(server: &Server, code: &str) -> u64 {
    metric(server, &format!("strongroom_requests_total{{code=\"{code}\",rpc=\"Secrets.Put\"}}"))
}

/// Seconds until the other end hangs up.
async fn hangs_up(mut io: impl AsyncReadExt + Unpin) -> Duration {
    let began = Instant::now();
    let mut bytes = Vec::new();
    // However it ends, it ends.
    let _ = io.read_to_end(&mut bytes).await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_let_go_and_holds_up_nobody() {
    let options = Options { limits: "request_seconds = 3", ..Options::default() };
    let world = World::open_with(SealKind::File, &options).await.unwrap();
    let (root, target) = (world.root().await.unwrap(), Target::of(&world.server).unwrap());

    let silent = hangs_up(target.tcp(HERE).await.unwrap());
    // A record of TLS that never gets to its end.
    let mut half = target.tcp(HERE).await.unwrap();
    half.write_all(&[0x16, 3, 1, 2, 0, 1, 0]).await.unwrap();
    let half = hangs_up(half);
    let after_tls = hangs_up(target.tls(HERE).await.unwrap());
    // A message of 1 MiB of which one byte is sent.
    let mut slow = target.http2(HERE).await.unwrap();
    slow.send(&frame(kind::HEADERS, END_HEADERS, 1, &known_call(&world))).await.unwrap();
    slow.send(&frame(kind::DATA, 0, 1, &[0, 0, 0x10, 0, 0, 1])).await.unwrap();
    let slow = async {
        let began = Instant::now();
        slow.answer(1).await.unwrap();
        began.elapsed()
    };
    let good = async {
        let until = Instant::now() + limits::FIRST_BYTES;
        let mut slowest = Duration::ZERO;
        while Instant::now() < until {
            let began = Instant::now();
            works(&root).await;
            slowest = slowest.max(began.elapsed());
        }
        slowest
    };
    let (silent, half, after_tls, slow, slowest) = tokio::join!(silent, half, after_tls, slow, good);
    let about =
        |took: Duration, limit: Duration| took + Duration::from_millis(500) >= limit && took < limit + LATE;
    assert!(about(silent, limits::HANDSHAKE), "without a byte: {silent:?}");
    assert!(about(half, limits::HANDSHAKE), "half a handshake: {half:?}");
    assert!(about(after_tls, limits::FIRST_BYTES), "without HTTP/2: {after_tls:?}");
    assert!(about(slow, Duration::from_secs(3)), "a slow body: {slow:?}");
    assert!(slowest < Duration::from_secs(2), "a good client waited {slowest:?}");
    assert_eq!(refused(&world.server, "handshake_timeout"), 2);
    assert_eq!(puts(&world.server, "DEADLINE_EXCEEDED"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_its_places_and_all_together_have_theirs() {
    let world = World::open(SealKind::File).await.unwrap();
    let (root, target) = (world.root().await.unwrap(), Target::of(&world.server).unwrap());

    let mut held = Vec::new();
    for _ in 0..limits::CONNECTIONS_PER_IP {
        held.push(target.tcp(stranger(1)).await.unwrap());
    }
    let one_more = hangs_up(target.tcp(stranger(1)).await.unwrap()).await;
    assert!(one_more < limits::HANDSHAKE, "at once: {one_more:?}");
    assert_eq!(refused(&world.server, "too_many_of_address"), 1);
    works(&builder(&world.server).token(secret_of(&world)).connect().await.unwrap()).await;

    let addresses = u8::try_from(limits::CONNECTIONS / limits::CONNECTIONS_PER_IP).unwrap();
    'all: for number in 2..=addresses {
        for _ in 0..limits::CONNECTIONS_PER_IP {
            held.push(target.tcp(stranger(number)).await.unwrap());
            if refused(&world.server, "too_many") > 0 {
                break 'all;
            }
        }
    }
    let full = hangs_up(target.tcp(stranger(200)).await.unwrap()).await;
    assert!(full < limits::HANDSHAKE, "at once: {full:?}");
    assert!(refused(&world.server, "too_many") > 0);
    works(&root).await;
    // Nobody has to go for the places to come back: those who say nothing lose them.
    let server = &world.server;
    until("places come back", || refused(server, "handshake_timeout") as usize >= limits::CONNECTIONS_PER_IP)
        .unwrap();
    works(&builder(&world.server).token(secret_of(&world)).connect().await.unwrap()).await;
}

fn secret_of(world: &World) -> SecretBytes {
    SecretBytes::from(world.keys.root_token.expose())
}

#[tokio::test(flavor = "multi_thread")]
async fn greedy_and_malformed_peers_lose_their_connection_and_cost_no_memory() {
    let world = World::open(SealKind::File).await.unwrap();
    let (root, target) = (world.root().await.unwrap(), Target::of(&world.server).unwrap());
    let before = world.server.memory_mib(Memory::Now).unwrap();
    let patience = Duration::from_secs(20);

    // Rapid reset (CVE-2023-44487): open and reset, for ever.
    let mut reset = target.http2(HERE).await.unwrap();
    let mut ended = End::Closed;
    for round in 0..1000_u32 {
        let stream = 2 * round + 1;
        let open = frame(kind::HEADERS, END_HEADERS, stream, &call(PUT));
        let sent = reset.send(&[open, frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()).await;
        if sent.is_err() || round == 999 {
            ended = timeout(patience, reset.end()).await.unwrap();
            break;
        }
    }
    assert!(matches!(ended, End::GoAway(ENHANCE_YOUR_CALM) | End::Closed), "{ended:?}");

    // Headers without an end (CVE-2024-27316): CONTINUATION frames, for ever.
    let mut endless = target.http2(HERE).await.unwrap();
    endless.send(&frame(kind::HEADERS, 0, 1, &call(PUT))).await.unwrap();
    let field = header("x-filler", &"x".repeat(15_000));
    let mut sent = 0;
    while endless.send(&frame(kind::CONTINUATION, 0, 1, &field)).await.is_ok() {
        sent += field.len();
        assert!(sent < 64 << 20, "it takes headers without an end");
    }

    // More headers than one request may have: that request alone is refused.
    let mut many = target.http2(HERE).await.unwrap();
    let large =
        [call(PUT), header("x-filler", &"x".repeat(15_000)), header("x-more", &"x".repeat(9_000))].concat();
    let (first, rest) = large.split_at(16_000);
    many.send(&frame(kind::HEADERS, END_STREAM, 1, first)).await.unwrap();
    many.send(&frame(kind::CONTINUATION, END_HEADERS, 1, rest)).await.unwrap();
    // 431, without a call: nobody who is at work counts it.
    timeout(patience, many.answer(1)).await.unwrap().unwrap();
    assert_eq!(puts(&world.server, "UNAUTHENTICATED") + puts(&world.server, "INVALID_ARGUMENT"), 0);

    // A frame that says it has 16 MiB.
    let mut giant = target.http2(HERE).await.unwrap();
    giant.send(&[0xff, 0xff, 0xff, kind::DATA, 0, 0, 0, 0, 1]).await.unwrap();
    assert!(matches!(timeout(patience, giant.end()).await.unwrap(), End::GoAway(_) | End::Closed));

    // A message that says it has 4 GiB, and one that really is too large: of strangers nothing long is taken in at all.
    let channel = channel(&world.server.url, &world.server.ca()).await.unwrap();
    let token = bearer(&v1::Sensitive { value: world.keys.root_token.expose().to_vec() }).unwrap();
    let large = vec![0; wire_limits::REQUEST_BYTES + 1];
    for (open, token, code) in [
        (call(PUT), None, tonic::Code::Unauthenticated),
        (known_call(&world), Some(&token), tonic::Code::OutOfRange),
    ] {
        let mut liar = target.http2(HERE).await.unwrap();
        liar.send(&frame(kind::HEADERS, END_HEADERS, 1, &open)).await.unwrap();
        liar.send(&frame(kind::DATA, END_STREAM, 1, &[0, 0xff, 0xff, 0xff, 0xff])).await.unwrap();
        timeout(patience, liar.answer(1)).await.unwrap().unwrap();
        let refused = raw::call(&channel, PUT, token, large.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
    }
    assert_eq!((puts(&world.server, "UNAUTHENTICATED"), puts(&world.server, "OUT_OF_RANGE")), (2, 2));

    works(&root).await;
    let grown = world.server.memory_mib(Memory::Peak).unwrap() - before;
    assert!(grown < 64.0, "{grown} MiB for eight malformed requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_there_are_places_for_is_shed_with_a_time_to_come_back() {
    let options = Options { limits: "in_flight = 1", ..Options::default() };
    let world = World::open_with(SealKind::File, &options).await.unwrap();
    // Bare channels: the client library would try again by itself.
    let token = v1::Sensitive { value: world.keys.root_token.expose().to_vec() };
    let (token, mut clients) = (bearer(&token).unwrap(), Vec::new());
    for _ in 0..16 {
        let channel = channel(&world.server.url, &world.server.ca()).await.unwrap();
        clients.push(SecretsClient::new(channel));
    }
    let mut writes = JoinSet::new();
    for number in 0..1600 {
        let (mut client, token) = (clients[number % clients.len()].clone(), token.clone());
        writes.spawn(async move {
            let path = format!("secret/shed/{number}");
            let written = client.put(with(&token, put(&path))).await;
            (path, written.map_err(|refused| raw::reason(&refused)))
        });
    }
    let (mut written, mut shed) = (Vec::new(), 0);
    while let Some(ended) = writes.join_next().await {
        match ended.unwrap() {
            (path, Ok(_)) => written.push(path),
            (_, Err((why, retry_after))) => {
                assert_eq!(why, Some(Reason::Overloaded));
                assert_eq!(retry_after.map(Duration::from_millis), Some(limits::QUEUE_WAIT));
                shed += 1;
            }
        }
    }
    assert!(shed > 0 && !written.is_empty(), "{shed} of 1600 shed");
    let root = world.root().await.unwrap();
    for path in written {
        root.get(&path).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_file_descriptors_comes_back() {
    let options = Options { open_files: Some(64), ..Options::default() };
    let world = World::open_with(SealKind::File, &options).await.unwrap();
    let (root, target) = (world.root().await.unwrap(), Target::of(&world.server).unwrap());
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(target.tcp(HERE).await.unwrap());
    }
    // The ops port cannot answer now either, so the log tells.
    until("it cannot accept", || world.server.log().contains("cannot accept a connection")).unwrap();
    works(&root).await;
    drop(held);
    works(&builder(&world.server).token(secret_of(&world)).connect().await.unwrap()).await;
    assert!(refused(&world.server, "accept") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_take_no_room_from_those_who_are_known() {
    let world = World::open(SealKind::File).await.unwrap();
    let (root, target) = (world.root().await.unwrap(), Target::of(&world.server).unwrap());
    // Logins of which only the beginning comes take all the room there is for strangers.
    let begin = [0, 0, 0, 0xff, 0];
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut wire = target.http2(HERE).await.unwrap();
        for stream in (1..200).step_by(2) {
            wire.send(&frame(kind::HEADERS, END_HEADERS, stream, &call("/strongroom.v1.Auth/Login")))
                .await
                .unwrap();
            wire.send(&frame(kind::DATA, 0, stream, &begin)).await.unwrap();
        }
        held.push(wire);
    }
    let server = &world.server;
    let shed = "strongroom_requests_total{code=\"RESOURCE_EXHAUSTED\",rpc=\"Auth.Login\"}";
    until("strangers are shed", || metric(server, shed) > 0).unwrap();
    let large = SecretBytes::from(vec![7; 900_000].as_slice());
    root.put("secret/large").value("k", large).send().await.unwrap();
    assert_eq!(root.get("secret/large").await.unwrap().get("k").unwrap().len(), 900_000);
    // A login that comes in one piece needs no room.
    world.user("alice", &[]).await.unwrap();
}

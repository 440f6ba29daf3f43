//! The audit log in the hands of an attacker, or of an operator without luck, against the real binary: nothing is answered that
//! is not on record where people look for the record.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use strongroom_client::{
    AuditQuery, Client, Error, ErrorKind, Reason, SealKind, SecretBytes, StreamExt, TryStreamExt,
};
use strongroom_tests::{
    audit_log::segments,
    bench::subject::channel,
    faults::{coverage, intents::Intents, log},
    http::http_get,
    raw,
    server::{Options, Server},
    wait::{until, until_async},
    world::{World, builder},
};
use tonic::Code;

async fn put(client: &Client, path: &str) -> Result<(), Error> {
    client.put(path).value("k", SecretBytes::from("v".as_bytes())).send().await.map(drop)
}

/// The newest file of the log below `home`.
fn live_segment(home: &Path) -> PathBuf {
    segments(&home.join("audit")).unwrap().pop().unwrap()
}

type Taken = fn(&Path);

const TAKEN: [(&str, Taken); 4] = [
    ("renamed", |path| fs::rename(path, path.with_extension("away")).unwrap()),
    ("deleted", |path| fs::remove_file(path).unwrap()),
    ("truncated", |path| fs::File::options().write(true).open(path).unwrap().set_len(0).unwrap()),
    ("its folder renamed", |path| {
        let folder = path.parent().unwrap();
        fs::rename(folder, folder.with_extension("away")).unwrap();
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_taken_away_is_noticed_and_nothing_is_answered_any_more() {
    for (way, take) in TAKEN {
        let world = World::open(SealKind::File).await.unwrap();
        let root = world.root().await.unwrap();
        put(&root, "secret/a").await.unwrap();
        let ops = world.server.ops;
        assert_eq!(http_get(ops, "/readyz").unwrap().0, 200);

        take(&live_segment(world.home.path()));
        until("not ready", || http_get(ops, "/readyz").unwrap().0 == 503).unwrap();
        let refused = [
            put(&root, "secret/a").await.err(),
            root.get("secret/a").await.err(),
            root.audit().query(AuditQuery::default()).await.err(),
        ];
        for error in refused {
            assert_eq!(error.unwrap().reason(), Some(Reason::AuditUnavailable), "{way}");
        }
        let metrics = http_get(ops, "/metrics").unwrap().1;
        assert!(metrics.contains("\nstrongroom_audit_writable 0"), "{way}: {metrics}");
        let log = world.server.log();
        let told = log.lines().any(|line| line.contains("ERROR") && line.contains("somebody took it away"));
        assert!(told, "{way}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_without_a_record_of_its_outcome_says_so_and_is_not_repeated() {
    const ROUNDS: usize = 20;
    for _ in 0..ROUNDS {
        if log_goes_while_many_write().await > 0 {
            return;
        }
    }
    panic!("in {ROUNDS} rounds nobody was caught between intent and outcome");
}

/// The log goes while many write: some intents are on record by then, and the outcomes never will be. How many were told so.
async fn log_goes_while_many_write() -> usize {
    const WRITERS: u64 = 48;
    let world = World::open(SealKind::File).await.unwrap();
    let segment = live_segment(world.home.path());
    let mut writers = tokio::task::JoinSet::new();
    let written = Arc::new(AtomicU64::new(0));
    for writer in 0..WRITERS {
        let (root, written) = (world.root().await.unwrap(), Arc::clone(&written));
        writers.spawn(async move {
            let path = format!("secret/w{writer}");
            let mut count = 0_u64;
            loop {
                match put(&root, &path).await {
                    Ok(()) => count += 1,
                    Err(error) => return (path, count, error),
                }
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    until("all of them write", || written.load(Ordering::Relaxed) > 4 * WRITERS).unwrap();
    fs::rename(&segment, segment.with_extension("away")).unwrap();
    let ends = writers.join_all().await;
    assert!(ends.iter().all(|(_, _, error)| {
        matches!(error.reason(), Some(Reason::AuditUnavailable | Reason::Unrecorded))
    }));
    let unrecorded: Vec<_> =
        ends.iter().filter(|(_, _, error)| error.reason() == Some(Reason::Unrecorded)).collect();

    // The log is put back: what was told to be done is there, once, and the log says of each write what became of it.
    let World { server, keys, home } = world;
    server.kill().unwrap();
    fs::rename(segment.with_extension("away"), &segment).unwrap();
    let world = World { server: Server::start(home.path(), &Options::default()).unwrap(), keys, home };
    let mut intents = Intents::default();
    intents.read_on(&world.home.path().join("audit")).unwrap();
    assert_eq!(intents.wrong, 0, "each intent has one end");
    let root = world.root().await.unwrap();
    for (path, count) in intents.applied("secret/w") {
        assert_eq!(root.get(path.as_str()).await.unwrap().version, count, "{path}");
    }
    for (path, count, error) in &unrecorded {
        assert_eq!(error.kind(), &ErrorKind::Unrecorded);
        assert!(error.to_string().contains("do not repeat it"), "{error}");
        assert_eq!(root.get(path.as_str()).await.unwrap().version, count + 1, "{path}");
    }
    unrecorded.len()
}

/// Somebody sends junk while somebody guesses the administrator's password.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_login_is_not_hidden_among_junk() {
    let world = World::open(SealKind::File).await.unwrap();
    let root = world.root().await.unwrap();
    world.user("admin", &[]).await.unwrap();
    let channel = channel(&world.server.url, &world.server.ca()).await.unwrap();
    let junk = "Bearer sr1_junk".parse().unwrap();
    let tokens = (0..300).map(|_| raw::call(&channel, "/strongroom.v1.Auth/Whoami", Some(&junk), Vec::new()));
    let told = futures_util::future::join_all(tokens).await;
    let refused =
        told.iter().filter(|told| matches!(told, Err(status) if status.code() == Code::Unauthenticated));
    let refused = refused.count() as u64;
    assert!(refused >= 100, "{refused}");

    let wrong = SecretBytes::from("wrong horse battery staple".as_bytes());
    assert!(builder(&world.server).userpass("admin", wrong).connect().await.is_err());
    let failed = AuditQuery {
        operation: "Auth.Login".to_owned(),
        status: "denied".to_owned(),
        ..AuditQuery::default()
    };
    assert_eq!(query(&root, failed).await.len(), 1);
    // Whom the junk came from is told, if not of each.
    let counted = AuditQuery {
        operation: "Auth.Whoami".to_owned(),
        status: "denied".to_owned(),
        ..AuditQuery::default()
    };
    until_async("all of it is written or counted", async || {
        let lines = query(&root, counted.clone()).await;
        assert!(lines.iter().all(|line| line["peer"] == "127.0.0.1"), "{lines:?}");
        let written = lines.iter().filter(|line| line["kind"] == "request").count() as u64;
        written + lines.iter().filter_map(|line| line["count"].as_u64()).sum::<u64>() == refused
    })
    .await
    .unwrap();
}

/// The log's file system is filled and freed under load; each write that was let in has its end, and the server goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_let_in_has_its_end_though_the_disk_fills_and_is_freed() {
    let work = tempfile::tempdir().unwrap();
    for figure in log::full_and_freed(work.path()).await.unwrap() {
        assert!(figure.reached, "{figure:?}");
    }
}

/// As docs/sinks/file.md says it.
#[tokio::test(flavor = "multi_thread")]
async fn what_never_becomes_a_request_has_no_line() {
    let world = World::open(SealKind::File).await.unwrap();
    let root = world.root().await.unwrap();
    let channel = channel(&world.server.url, &world.server.ca()).await.unwrap();
    let token = format!("Bearer {}", world.keys.root_token.expose_str().unwrap()).parse().unwrap();
    let unknown = raw::call(&channel, "/strongroom.v1.Secrets/Steal", Some(&token), Vec::new()).await;
    assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
    // Field 1 as a text that ends too early.
    let undecodable =
        raw::call(&channel, "/strongroom.v1.Secrets/Get", Some(&token), vec![0x0a, 0x7f, 0x61]).await;
    let code = undecodable.unwrap_err().code();
    assert!(matches!(code, Code::Internal | Code::InvalidArgument), "{code}");

    let lines = query(&root, AuditQuery::default()).await;
    let of_secrets = |line: &serde_json::Value| {
        line["operation"].as_str().is_some_and(|operation| operation.starts_with("Secrets."))
    };
    assert!(!lines.iter().any(of_secrets), "{lines:?}");
    let metrics = http_get(world.server.ops, "/metrics").unwrap().1;
    let counted =
        |line: &str| line.starts_with("strongroom_requests_total{") && line.contains("rpc=\"Secrets.Get\"");
    assert!(metrics.lines().any(counted), "{metrics}");
}

/// The lines that a query finds, parsed.
async fn query(client: &Client, query: AuditQuery) -> Vec<serde_json::Value> {
    let lines: Vec<String> = client.audit().query(query).await.unwrap().try_collect().await.unwrap();
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Each RPC of the access table: refused, recorded, and its record says to which object it was done.
#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_leaves_records_that_name_their_object() {
    let work = tempfile::tempdir().unwrap();
    for figure in coverage::run(work.path()).await.unwrap() {
        assert!(figure.reached, "{figure:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_finds_every_path_of_a_record_and_the_version_that_was_read() {
    let world = World::open(SealKind::File).await.unwrap();
    let root = world.root().await.unwrap();
    world.user("carol", &["staff"]).await.unwrap();
    put(&root, "secret/a").await.unwrap();
    put(&root, "secret/a").await.unwrap();
    root.get("secret/a").await.unwrap();
    let mut watch = root.watch(["secret/w/one", "secret/w/two"]);
    tokio::spawn(async move { while watch.next().await.is_some() {} });

    let of = |path: &str| AuditQuery { path: path.to_owned(), ..AuditQuery::default() };
    for (path, operation) in
        [("sys/auth", "Auth.PutUser"), ("sys/policy", "Auth.PutUser"), ("secret/w/two", "Secrets.Watch")]
    {
        until_async(operation, async || {
            query(&root, of(path)).await.iter().any(|line| line["operation"] == operation)
        })
        .await
        .unwrap();
    }
    let read = AuditQuery { operation: "Secrets.Get".to_owned(), ..of("secret/a") };
    until_async("which version was read", async || {
        let lines = query(&root, read.clone()).await;
        lines.iter().any(|line| line["kind"] == "request" && line["version"] == 2)
    })
    .await
    .unwrap();
}

//! Engines come and go: who may mount what, what becomes of data and watches when a mount is taken away, and that an engine
//! answers only where it is mounted.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

use std::collections::BTreeMap;

use strongroom_client::{
    AuditQuery, ChangeKind, Client, Error, ErrorKind, MountState as State, SealKind, SecretBytes, StreamExt,
};
use strongroom_tests::{cli::Cli, wait::DEADLINE, world::World};

async fn put(client: &Client, path: &str) -> Result<(), Error> {
    client.put(path).value("k", SecretBytes::from(path.as_bytes())).send().await.map(drop)
}

async fn value(client: &Client, path: &str) -> Result<String, Error> {
    client.get(path).await.map(|secret| secret.text("k").unwrap().to_owned())
}

async fn mount(client: &Client, name: &str, kind: &str) -> Result<(), Error> {
    client.sys().mount(name, kind, "", BTreeMap::new()).await
}

async fn states(client: &Client) -> Vec<(String, State)> {
    let mounts = client.sys().mounts().await.unwrap();
    mounts.into_iter().map(|mount| (mount.name.clone(), mount.state)).collect()
}

fn is_denied(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Denied { .. })
}

fn is_invalid(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidArgument { .. })
}

fn is_not_found(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mount_is_a_place_of_its_own() {
    let world = World::open(SealKind::File).await.unwrap();
    let root = world.root().await.unwrap();
    mount(&root, "team", "kv").await.unwrap();
    put(&root, "team/db").await.unwrap();
    put(&root, "secret/db").await.unwrap();
    assert_eq!(value(&root, "team/db").await.unwrap(), "team/db");
    assert_eq!(value(&root, "secret/db").await.unwrap(), "secret/db");
    assert!(is_not_found(&put(&root, "other/db").await.unwrap_err()));

    for (name, kind) in [("team", "kv"), ("sys", "kv"), ("a/b", "kv"), ("x", "no such kind")] {
        assert!(is_invalid(&mount(&root, name, kind).await.unwrap_err()), "{name} {kind}");
    }
    // Also after a restart, from the store alone.
    let settings = BTreeMap::from([("max_versions".to_owned(), "2".to_owned())]);
    root.sys().tune("team", Some("of the team".into()), Some(settings)).await.unwrap();
    let World { server, keys, home } = world;
    server.stop().unwrap();
    let server = strongroom_tests::server::Server::start(home.path(), &Default::default()).unwrap();
    let world = World { server, keys, home };
    let root = world.root().await.unwrap();
    assert_eq!(value(&root, "team/db").await.unwrap(), "team/db");
    let mounts = root.sys().mounts().await.unwrap();
    assert_eq!(mounts.iter().map(|mount| &*mount.name).collect::<Vec<_>>(), ["secret", "team"]);
    assert_eq!((&*mounts[1].kind, &*mounts[1].description), ("kv", "of the team"));
    put(&root, "team/new").await.unwrap();
    assert_eq!(root.metadata("team/new").await.unwrap().max_versions, 2);
}

/// Nobody mounts without the right to; and everything about mounts stands in the log, with what it was.
#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_judged_and_recorded_like_anything_else() {
    let world = World::open(SealKind::File).await.unwrap();
    let root = world.root().await.unwrap();
    let rules = "{paths: [\"sys/mounts/team\"], verbs: [create, delete]}";
    let binding =
        "{kind: Binding, name: some, role: some, subjects: [{user: {method: userpass, name: anna}}]}";
    world.apply(&format!("kind: Role\nname: some\nrules:\n- {rules}\n---\n{binding}\n")).await.unwrap();
    let anna = world.user("anna", &[]).await.unwrap();
    mount(&anna, "team", "kv").await.unwrap();
    assert!(is_denied(&mount(&anna, "other", "kv").await.unwrap_err()));
    assert!(is_denied(&anna.sys().tune("team", Some(String::new()), None).await.unwrap_err()));
    assert!(is_denied(&anna.sys().destroy_mount("team").await.unwrap_err()), "delete is not destroy");
    assert!(is_denied(&anna.sys().unmount("secret").await.unwrap_err()));
    assert!(is_denied(&anna.sys().mounts().await.unwrap_err()));
    assert!(is_denied(&put(&anna, "team/db").await.unwrap_err()), "who mounts has no right to what is there");
    anna.sys().unmount("team").await.unwrap();
    root.sys().destroy_mount("team").await.unwrap();

    let query = AuditQuery { path: "sys/mounts/team".into(), ..AuditQuery::default() };
    let lines: Vec<String> =
        root.audit().query(query).await.unwrap().map(|line| line.unwrap()).collect().await;
    let count =
        |parts: &[&str]| lines.iter().filter(|line| parts.iter().all(|part| line.contains(part))).count();
    assert_eq!(count(&["\"operation\":\"Sys.Mount\"", "\"status\":\"pending\"", "\"target\":\"kv\""]), 1);
    assert_eq!(count(&["\"operation\":\"Sys.Mount\"", "\"kind\":\"outcome\"", "\"status\":\"ok\""]), 1);
    assert_eq!(count(&["\"operation\":\"Sys.Unmount\"", "\"status\":\"denied\"", "with its data"]), 1);
    assert_eq!(count(&["\"operation\":\"Sys.Unmount\"", "\"status\":\"pending\"", "with its data"]), 1);
    assert_eq!(count(&["\"operation\":\"Sys.Unmount\"", "\"kind\":\"outcome\"", "\"status\":\"ok\""]), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_away_is_gone_at_once_and_its_data_stays_until_it_is_destroyed() {
    let world = World::open(SealKind::File).await.unwrap();
    let root = world.root().await.unwrap();
    mount(&root, "team", "kv").await.unwrap();
    put(&root, "team/apps/db").await.unwrap();
    let mut changes = root.watch(["team"]);
    let mut next = async || tokio::time::timeout(DEADLINE, changes.next()).await.expect("in time").unwrap();
    assert_eq!(next().await.unwrap().kind, ChangeKind::Started);

    root.sys().unmount("team").await.unwrap();
    assert!(is_not_found(&value(&root, "team/apps/db").await.unwrap_err()));
    assert!(is_not_found(&next().await.unwrap_err()), "the watch ends with its mount");
    assert_eq!(states(&root).await[1], ("team".to_owned(), State::Away));
    assert!(is_invalid(&mount(&root, "team", "random").await.unwrap_err()), "no other engine on its data");

    mount(&root, "team", "kv").await.unwrap();
    assert_eq!(value(&root, "team/apps/db").await.unwrap(), "team/apps/db");
    root.sys().destroy_mount("team").await.unwrap();
    assert_eq!(states(&root).await.len(), 1);
    mount(&root, "team", "kv").await.unwrap();
    assert!(is_not_found(&value(&root, "team/apps/db").await.unwrap_err()));
    assert!(root.sys().scrub().await.unwrap().problems.is_empty());
}

/// The second engine: whole, although nothing between the wire and its folder knows it.
#[tokio::test(flavor = "multi_thread")]
async fn random_makes_secrets_where_it_is_mounted_and_the_log_has_none_of_them() {
    let world = World::open(SealKind::File).await.unwrap();
    let root = world.root().await.unwrap();
    mount(&root, "random", "random").await.unwrap();
    let password = root.random().generate("random/password", Some(40)).await.unwrap();
    let text = password.expose_str().unwrap();
    assert!(text.len() == 40 && text.chars().all(|letter| letter.is_ascii_alphanumeric()));
    assert_eq!(root.random().generate("random/hex", None).await.unwrap().len(), 64);
    for (path, length) in [("random/password", Some(3)), ("random/none", None), ("secret/password", None)] {
        let refused = root.random().generate(path, length).await.err().unwrap();
        assert!(is_invalid(&refused), "{path} {refused:?}");
    }
    assert!(is_not_found(&root.random().generate("nowhere/password", None).await.err().unwrap()));
    assert!(is_invalid(&value(&root, "random/password").await.unwrap_err()), "random is no kv");

    let query = AuditQuery { operation: "Random.Generate".into(), ..AuditQuery::default() };
    let lines: Vec<String> =
        root.audit().query(query).await.unwrap().map(|line| line.unwrap()).collect().await;
    assert!(lines.iter().any(|line| line.contains("\"path\":\"random/password\"")), "{lines:?}");
    assert!(!lines.concat().contains(text) && !world.server.log().contains(text));
}

/// What a person can do with it: a pipe gets the bytes alone, a terminal nothing unless asked, and a secret can be made where
/// it is kept, so that nobody ever sees it.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_makes_secrets_and_shows_none_unasked() {
    let world = World::open(SealKind::File).await.unwrap();
    let home = world.home.path();
    std::fs::write(home.join("root-token"), world.keys.root_token.expose()).unwrap();
    let cli = Cli::new(&home.join("root"), &world.server).unwrap().with_token(&home.join("root-token"));
    let missing = cli.run(&["random", "password"], b"").unwrap();
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(4), "{said}");
    assert!(said.contains("strongroom mount add random --kind random"), "{said}");
    cli.ok(&["mount", "add", "random", "--kind", "random"], b"").unwrap();

    let piped = cli.ok(&["random", "password", "--length", "24"], b"").unwrap();
    assert!(piped.len() == 24 && piped.chars().all(|letter| letter.is_ascii_alphanumeric()), "{piped}");
    assert_eq!(cli.run(&["random", "bytes"], b"").unwrap().stdout.len(), 32);
    let json = cli.ok(&["random", "hex", "-o", "json"], b"").unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["path"].as_str(), json["value"].as_str().unwrap().len()), (Some("random/hex"), 64));
    let file = home.join("key");
    assert_eq!(cli.ok(&["random", "base64", "--out-file", file.to_str().unwrap()], b"").unwrap(), "");
    assert_eq!(std::fs::read(&file).unwrap().len(), 44);
    let wrong = cli.run(&["random", "hex", "--length", "3"], b"").unwrap();
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("length"));

    assert!(cli.on_terminal(&["random", "password"]).unwrap().contains("--show"));
    assert_eq!(cli.on_terminal(&["random", "password", "--show"]).unwrap().trim_end().len(), 32);
    assert!(cli.on_terminal(&["random", "bytes", "--show"]).unwrap().contains("hex"));

    let put = ["put", "secret/db", "user=-", "--generate", "password", "--generate", "key=random/hex"];
    let said = cli.ok(&put, b"shop").unwrap();
    let password = cli.ok(&["get", "secret/db", "--key", "password"], b"").unwrap();
    assert!(password.len() == 32 && !said.contains(&password), "{said}");
    assert_eq!(cli.ok(&["get", "secret/db", "--key", "key"], b"").unwrap().len(), 64);
    assert_eq!(cli.ok(&["get", "secret/db", "--key", "user"], b"").unwrap(), "shop");
    cli.ok(&["patch", "secret/db", "--generate", "password"], b"").unwrap();
    assert_ne!(cli.ok(&["get", "secret/db", "--key", "password"], b"").unwrap(), password);
    let twice = cli.run(&["put", "secret/db", "password=-", "--generate", "password"], b"x").unwrap();
    assert_eq!(twice.status.code(), Some(2), "{}", String::from_utf8_lossy(&twice.stderr));
    let log = cli.ok(&["audit", "query"], b"").unwrap() + &world.server.log();
    assert!(log.contains("Random.Generate") && !log.contains(&password) && !log.contains(&piped));
}

//! From an empty store to a restored copy: init, unseal, seal, rotate, rekey, restart, and what is refused on the way.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

use std::{fs, sync::Arc};

use futures_util::TryStreamExt;
use strongroom_client::{Client, ErrorKind, Reason, SealKind, SecretBytes};
use strongroom_server::{
    admission::access::{Credential, TABLE},
    api,
};
use strongroom_tests::{
    bench::subject::{bearer, channel},
    http::http_get,
    raw,
    server::{Options, Server},
    wait::until,
    world::{World, anonymous, builder, copy, unseal},
};

const TWO_OF_THREE: SealKind = SealKind::Shamir { shares: 3, threshold: 2 };

fn secret(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes())
}

async fn put(client: &Client, path: &str, value: &str) {
    client.put(path).value("k", secret(value)).send().await.unwrap();
}

async fn value(client: &Client, path: &str) -> String {
    client.get(path).await.unwrap().text("k").unwrap().to_owned()
}

/// Ends the process in good order and starts it again in the same directory.
fn restart(world: World, options: &Options) -> World {
    let World { server, keys, home } = world;
    server.stop().unwrap();
    World { server: Server::start(home.path(), options).unwrap(), keys, home }
}

async fn health(server: &Server) -> Vec<u8> {
    let channel = channel(&server.url, &server.ca()).await.unwrap();
    raw::call(&channel, "/grpc.health.v1.Health/Check", None, Vec::new()).await.unwrap().unwrap()
}

const SERVING: [u8; 2] = [8, 1];
const NOT_SERVING: [u8; 2] = [8, 2];

#[tokio::test(flavor = "multi_thread")]
async fn status_and_health_follow_the_seal() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Options::default()).unwrap();
    let nobody = anonymous(&server).await.unwrap();
    let status = nobody.sys().status().await.unwrap();
    assert!(!status.initialized && status.sealed && status.store_id.is_empty(), "{status:?}");
    assert_eq!(http_get(server.ops, "/readyz").unwrap().0, 503);
    assert_eq!(http_get(server.ops, "/healthz").unwrap().0, 200);
    assert_eq!(health(&server).await, NOT_SERVING);

    let keys = nobody.sys().init(TWO_OF_THREE).await.unwrap();
    assert_eq!(keys.shares.len(), 3);
    let again = nobody.sys().init(TWO_OF_THREE).await.err().unwrap();
    assert_eq!(again.kind(), &ErrorKind::AlreadyInitialized);
    let status = nobody.sys().unseal(&keys.shares[2]).await.unwrap();
    assert!(status.initialized && status.sealed, "{status:?}");
    assert_eq!((status.progress, status.threshold, status.shares), (1, 2, 3));
    let status = nobody.sys().unseal(&keys.shares[0]).await.unwrap();
    assert_eq!((status.sealed, status.key_term, status.store_id), (false, 1, keys.store_id.clone()));
    until("ready", || http_get(server.ops, "/readyz").unwrap().0 == 200).unwrap();
    let again = nobody.sys().init(TWO_OF_THREE).await.err().unwrap();
    assert_eq!(again.kind(), &ErrorKind::AlreadyInitialized);
    assert_eq!(nobody.sys().unseal(&keys.shares[1]).await.err().unwrap().kind(), &ErrorKind::NotSealed);

    let world = World { server, keys, home };
    until("serving", || tokio::task::block_in_place(|| futures(health(&world.server))) == SERVING).unwrap();
    world.root().await.unwrap().sys().seal().await.unwrap();
    assert_eq!(http_get(world.server.ops, "/readyz").unwrap().0, 503);
    until("not serving", || tokio::task::block_in_place(|| futures(health(&world.server))) == NOT_SERVING)
        .unwrap();
}

fn futures<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(future)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_server_does_nothing_else() {
    let world = World::open(TWO_OF_THREE).await.unwrap();
    let token = bearer(&strongroom_proto::v1::Sensitive::from(&world.keys.root_token)).unwrap();
    world.root().await.unwrap().sys().seal().await.unwrap();
    let channel = channel(&world.server.url, &world.server.ca()).await.unwrap();
    for access in TABLE.iter() {
        let refused = raw::call(&channel, &api::path(access.name), Some(&token), Vec::new()).await;
        let sealed = matches!(&refused, Err(status) if raw::reason(status).0 == Some(Reason::Sealed));
        assert_eq!(sealed, !access.while_sealed, "{}: {refused:?}", access.name);
        let proves = ["Auth.Login", "Sys.GenerateRoot", "Wrapping.Unwrap"].contains(&access.name);
        assert!(access.while_sealed || proves || access.credential == Credential::Token);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_shares_are_refused_by_name() {
    let world = World::open(SealKind::Shamir { shares: 5, threshold: 3 }).await.unwrap();
    let other = World::open(TWO_OF_THREE).await.unwrap();
    world.root().await.unwrap().sys().seal().await.unwrap();
    let nobody = anonymous(&world.server).await.unwrap();
    let refused = async |share: &SecretBytes| {
        let error = nobody.sys().unseal(share).await.err().unwrap();
        assert_eq!(error.kind(), &ErrorKind::ShareRejected, "{error}");
        error.message().to_owned()
    };
    let shares = &world.keys.shares;
    nobody.sys().unseal(&shares[0]).await.unwrap();
    assert!(refused(&shares[0]).await.contains("already given"));
    assert!(refused(&other.keys.shares[0]).await.contains("another store"));
    assert!(refused(&secret("hello")).await.contains("not a share"));
    let mut mistyped = shares[1].expose().to_vec();
    let place = mistyped.len() / 2;
    // Another letter and not the same one in the other case: a share is read in either.
    mistyped[place] = if mistyped[place].eq_ignore_ascii_case(&b'a') { b'b' } else { b'a' };
    let sentence = refused(&SecretBytes::new(mistyped)).await;
    assert!(sentence.contains("mistyped"), "{sentence}");
    assert_eq!(nobody.sys().status().await.unwrap().progress, 1, "the good one still counts");
    unseal(&world.server, &shares[1..3]).await.unwrap();
    assert!(!nobody.sys().status().await.unwrap().sealed);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_is_there_after_a_restart_and_an_unseal() {
    let world = World::open(TWO_OF_THREE).await.unwrap();
    put(&world.root().await.unwrap(), "secret/a", "before").await;
    let world = restart(world, &Options::default());
    let root = world.root().await.unwrap();
    let sealed = root.get("secret/a").await.err().unwrap();
    assert_eq!(sealed.kind(), &ErrorKind::Sealed { progress: 0, threshold: 2 });
    unseal(&world.server, &world.keys.shares[1..]).await.unwrap();
    assert_eq!(value(&root, "secret/a").await, "before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_seal_opens_by_itself_and_keys_rotate() {
    let world = World::open(SealKind::File).await.unwrap();
    assert!(world.keys.shares.is_empty());
    let root = world.root().await.unwrap();
    put(&root, "secret/a", "of term 1").await;
    assert_eq!(root.sys().rotate().await.unwrap(), 2);
    put(&root, "secret/b", "of term 2").await;
    let world = restart(world, &Options::default());
    let root = world.root().await.unwrap();
    let status = root.sys().status().await.unwrap();
    assert_eq!((status.sealed, status.key_term, &*status.seal), (false, 2, "file"));
    assert_eq!(value(&root, "secret/a").await, "of term 1");
    assert_eq!(value(&root, "secret/b").await, "of term 2");
    assert!(root.sys().scrub().await.unwrap().problems.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rekey_replaces_shares_and_moves_between_seals() {
    let world = World::open(TWO_OF_THREE).await.unwrap();
    let root = world.root().await.unwrap();
    put(&root, "secret/a", "kept").await;
    let old = &world.keys.shares;
    let refused = root.sys().rekey(TWO_OF_THREE, &old[..1]).await.err().unwrap();
    assert_eq!(refused.kind(), &ErrorKind::ShareRejected, "{refused}");
    let new = root.sys().rekey(SealKind::Shamir { shares: 2, threshold: 2 }, &old[..2]).await.unwrap();
    let refused = root.sys().confirm_rekey(&old[..2]).await.err().unwrap();
    assert_eq!(refused.kind(), &ErrorKind::ShareRejected, "the old shares confirm nothing: {refused}");
    root.sys().confirm_rekey(&new).await.unwrap();
    root.sys().seal().await.unwrap();
    let refused = root.sys().unseal(&old[2]).await.err().unwrap();
    assert!(refused.message().contains("replaced by a rekey"), "{refused}");
    unseal(&world.server, &new).await.unwrap();
    assert_eq!(value(&root, "secret/a").await, "kept");

    assert!(root.sys().rekey(SealKind::File, &new).await.unwrap().is_empty());
    let world = restart(world, &Options::default());
    let root = world.root().await.unwrap();
    assert_eq!(value(&root, "secret/a").await, "kept");

    // A session alone takes the store to no other seal, whatever its rights: it takes the file itself.
    for proof in
        [&[][..], &new, &[secret("strongroom-file-key-1 00\n")], &[key_file(&world), key_file(&world)]]
    {
        let refused = root.sys().rekey(TWO_OF_THREE, proof).await.err().unwrap();
        assert_eq!(refused.kind(), &ErrorKind::ShareRejected, "{refused}");
    }

    // Shares that never arrive change nothing: the key file still opens the store.
    let proof = [key_file(&world)];
    root.sys().rekey(TWO_OF_THREE, &proof).await.unwrap();
    let world = restart(world, &Options::default());
    let root = world.root().await.unwrap();
    assert!(!root.sys().status().await.unwrap().sealed);

    let newest = root.sys().rekey(TWO_OF_THREE, &proof).await.unwrap();
    root.sys().confirm_rekey(&newest[1..]).await.unwrap();
    let world = restart(world, &Options::default());
    let root = world.root().await.unwrap();
    assert!(root.sys().status().await.unwrap().sealed, "the key file opens nothing any more");
    unseal(&world.server, &newest[1..]).await.unwrap();
    assert_eq!(value(&root, "secret/a").await, "kept");
}

fn key_file(world: &World) -> SecretBytes {
    SecretBytes::new(fs::read(world.home.path().join("seal.key")).unwrap())
}

/// The last administrator is gone, with every session: what opens the seal gives the rights back, and nothing less does.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_token_is_for_whoever_holds_the_seal() {
    let world = World::open(TWO_OF_THREE).await.unwrap();
    put(&world.root().await.unwrap(), "secret/a", "kept").await;
    let nobody = anonymous(&world.server).await.unwrap();
    let shares = &world.keys.shares;
    let (one, twice) = (&shares[..1], [0, 0].map(|n| SecretBytes::from(shares[n].expose())));
    for proof in [&[][..], one, &twice, &[secret("srs1-nothing")]] {
        let refused = nobody.sys().generate_root(proof).await.err().unwrap();
        assert_eq!(refused.kind(), &ErrorKind::ShareRejected, "{refused}");
    }
    let token = nobody.sys().generate_root(&shares[1..]).await.unwrap();
    let client = builder(&world.server).token(token).connect().await.unwrap();
    assert_eq!(client.auth().whoami().await.unwrap().session.principal, "root");
    assert_eq!(value(&client, "secret/a").await, "kept");
    let answers = client.audit().tail(100, false).await.unwrap();
    let lines: Vec<String> = answers.try_collect().await.unwrap();
    let about: Vec<_> = lines.iter().filter(|line| line.contains("Sys.GenerateRoot")).collect();
    assert_eq!(about.len(), 6, "four refusals, an intent and an outcome: {about:?}");

    client.sys().seal().await.unwrap();
    let refused = nobody.sys().generate_root(&shares[1..]).await.err().unwrap();
    assert_eq!(refused.reason(), Some(Reason::Sealed), "{refused}");
    unseal(&world.server, &shares[1..]).await.unwrap();

    client.sys().rekey(SealKind::File, &shares[1..]).await.unwrap();
    assert!(nobody.sys().generate_root(&shares[1..]).await.is_err(), "the shares open nothing any more");
    nobody.sys().generate_root(&[key_file(&world)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_data_does_not_go_unnoticed() {
    let world = World::open(TWO_OF_THREE).await.unwrap();
    put(&world.root().await.unwrap(), "secret/a", "old").await;
    let World { server, keys, home } = world;
    server.stop().unwrap();
    let (data, aside) = (home.path().join("data"), home.path().join("copy"));
    copy(&data, &aside).unwrap();

    let server = Server::start(home.path(), &Options::default()).unwrap();
    unseal(&server, &keys.shares).await.unwrap();
    let world = World { server, keys, home };
    put(&world.root().await.unwrap(), "secret/a", "new").await;
    let World { server, keys, home } = world;
    server.stop().unwrap();
    fs::remove_dir_all(&data).unwrap();
    copy(&aside, &data).unwrap();

    let server = Server::start(home.path(), &Options::default()).unwrap();
    let refused = unseal(&server, &keys.shares).await.err().unwrap().to_string();
    assert!(
        refused.contains("older than the audit log") && refused.contains("--accept-rollback"),
        "{refused}"
    );
    assert!(anonymous(&server).await.unwrap().sys().status().await.unwrap().sealed);

    let world = World { server, keys, home };
    let options = Options { arguments: vec!["--accept-rollback".into()], ..Options::default() };
    let world = restart(world, &options);
    unseal(&world.server, &world.keys.shares).await.unwrap();
    assert_eq!(value(&world.root().await.unwrap(), "secret/a").await, "old");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_writes_loses_nothing() {
    let world = World::open(SealKind::File).await.unwrap();
    let token = Arc::new(world.keys.root_token.expose().to_vec());
    let mut writers = tokio::task::JoinSet::new();
    let (begun, mut seen) = tokio::sync::mpsc::unbounded_channel();
    for writer in 0..8 {
        let client = builder(&world.server).token(SecretBytes::from(&**token)).connect().await.unwrap();
        let begun = begun.clone();
        writers.spawn(async move {
            let mut done = Vec::new();
            for number in 0..u32::MAX {
                let path = format!("secret/w{writer}/{number}");
                match client.put(&path).value("k", secret("v")).send().await {
                    Ok(_) => done.push(path),
                    Err(_) => break,
                }
                let _ = begun.send(());
            }
            done
        });
    }
    for _ in 0..40 {
        seen.recv().await.unwrap();
    }
    let World { server, keys, home } = world;
    tokio::task::block_in_place(|| server.stop()).unwrap();
    let written: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    assert!(written.len() >= 40);
    let world = World { server: Server::start(home.path(), &Options::default()).unwrap(), keys, home };
    let root = world.root().await.unwrap();
    for path in &written {
        assert_eq!(value(&root, path).await, "v", "{path}");
    }
}

/// Its directory is gone, so nobody can tell how full its disk is: what is acknowledged from here on may be lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_ends_the_process() {
    let world = World::open(SealKind::File).await.unwrap();
    let root = world.root().await.unwrap();
    put(&root, "secret/a", "v").await;
    assert_eq!(http_get(world.server.ops, "/readyz").unwrap().0, 200);
    fs::rename(world.home.path().join("data"), world.home.path().join("away")).unwrap();
    root.put("secret/b").value("k", secret("v")).send().await.unwrap_err();
    let World { server, keys, home } = world;
    until("it says why", || server.log().contains("the store failed and nothing more can be promised"))
        .unwrap();
    let ended = tokio::task::block_in_place(|| server.wait()).unwrap();
    assert!(!ended.success(), "{ended}");

    fs::rename(home.path().join("away"), home.path().join("data")).unwrap();
    let world = World { server: Server::start(home.path(), &Options::default()).unwrap(), keys, home };
    assert_eq!(value(&world.root().await.unwrap(), "secret/a").await, "v");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_has_one_server() {
    let world = World::open(SealKind::File).await.unwrap();
    let refused = Server::start(world.home.path(), &Options::default()).err().unwrap().to_string();
    assert!(refused.contains("is in use by another server"), "{refused}");
    assert!(!world.root().await.unwrap().sys().status().await.unwrap().sealed);
}

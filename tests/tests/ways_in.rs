//! The ways to the server that an application may have to take: through a proxy, past somebody who wants a certificate, and
//! with the CAs that its system trusts. The real library against the real server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends at the first surprise")]

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use strongroom_client::{Client, ErrorKind, SealKind, SecretBytes};
use strongroom_tests::{
    between::{Proxy, doorman},
    pki::Pki,
    server::binary,
    world::{PASSWORD, World, builder},
};
use tempfile::TempDir;

const PATH: &str = "secret/app/db";
/// `me:hidden`, as a proxy gets it.
const AUTHORIZATION: &str = "Basic bWU6aGlkZGVu";
/// What the example says first.
const READ: &str = "k: 5 bytes\n";
const ADMIN: &str =
    "{kind: Binding, name: a, role: admin, subjects: [{group: {method: userpass, name: admins}}]}";

async fn open() -> World {
    let world = World::open(SealKind::File).await.unwrap();
    world.apply(ADMIN).await.unwrap();
    let alice = world.user("alice", &["admins"]).await.unwrap();
    alice.put(PATH).value("k", SecretBytes::from("value")).send().await.unwrap();
    world
}

fn root(world: &World) -> SecretBytes {
    SecretBytes::from(world.keys.root_token.expose())
}

/// The first line of the example, which takes everything from its environment, or why it ended without one.
async fn example(world: &World, environment: &[(&str, &str)]) -> Result<String, String> {
    let password = world.home.path().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let mut command = Command::new(binary("examples/read_and_watch").unwrap());
    command.arg(PATH).stdout(Stdio::piped()).stderr(Stdio::piped()).env_clear().envs([
        ("STRONGROOM_ADDR", world.server.url.as_str()),
        ("STRONGROOM_CACERT", world.server.ca().to_str().unwrap()),
        ("STRONGROOM_USER", "alice"),
        ("PASSWORD_FILE", password.to_str().unwrap()),
    ]);
    command.envs(environment.iter().copied());
    let run = move || {
        let (mut child, mut line) = (command.spawn().unwrap(), String::new());
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        let ended = child.wait_with_output().unwrap();
        if line.is_empty() { Err(String::from_utf8(ended.stderr).unwrap()) } else { Ok(line) }
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_asked_for_the_way() {
    let world = open().await;
    let server = world.server.url.trim_start_matches("https://").to_owned();
    let proxy = Proxy::start(AUTHORIZATION).await.unwrap();
    let address = format!("http://me:hidden@{}", proxy.address);
    let client = builder(&world.server).proxy(&address).token(root(&world)).connect().await.unwrap();
    assert_eq!(client.get(PATH).await.unwrap().text("k"), Some("value"));
    assert_eq!(proxy.asked(), [server.as_str()], "one connection, to the server");

    let stranger = format!("http://{}", proxy.address);
    let refused = builder(&world.server).proxy(stranger).connect().await.err().unwrap();
    assert_eq!(refused.kind(), &ErrorKind::Connection);
    assert!(refused.to_string().contains("the proxy refused with status 407"), "{refused}");

    // As an application has it from its environment.
    assert_eq!(example(&world, &[("HTTPS_PROXY", &address)]).await.unwrap(), READ);
    assert_eq!(proxy.asked(), [server.clone(), server.clone()]);
    let without = [("HTTPS_PROXY", address.as_str()), ("NO_PROXY", "localhost, 127.0.0.1")];
    assert_eq!(example(&world, &without).await.unwrap(), READ);
    assert_eq!(proxy.asked().len(), 2, "not asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_a_certificate_of_the_client_gets_one() {
    let world = open().await;
    let (own, guests, others) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let [own, guest, other] = [&own, &guests, &others].map(|folder| Pki::create(folder.path()).unwrap());
    let door = doorman(&own, &guest, &world.server.url, &world.server.ca()).await.unwrap();
    let to_the_door = || Client::builder(format!("https://{door}")).ca_file(&own.ca).token(root(&world));

    let read = async |client: Client| client.get(PATH).await.unwrap().version;
    let files = to_the_door().client_certificate_files(&guest.certificate, &guest.key);
    assert_eq!(read(files.connect().await.unwrap()).await, 1);
    let key = SecretBytes::new(std::fs::read(&guest.key).unwrap());
    let pem = to_the_door().client_certificate_pem(std::fs::read(&guest.certificate).unwrap(), key);
    assert_eq!(read(pem.connect().await.unwrap()).await, 1);

    let foreign = to_the_door().client_certificate_files(&other.certificate, &other.key);
    for refused in [to_the_door(), foreign] {
        // With TLS 1.3 a client is refused after its handshake.
        let error = match refused.connect().await {
            Ok(client) => client.without_retries().get(PATH).await.err().unwrap(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), &ErrorKind::Connection, "{error}");
    }
    let missing =
        to_the_door().client_certificate_files("/nowhere", &guest.key).connect().await.err().unwrap();
    assert_eq!(missing.kind(), &ErrorKind::Config, "{missing}");
}

/// What the system trusts is what `SSL_CERT_FILE` names, where it does.
#[tokio::test(flavor = "multi_thread")]
async fn the_systems_roots_are_trusted_by_those_who_ask_for_them() {
    let world = open().await;
    let ca = world.server.ca();
    let trusted = [("STRONGROOM_CACERT", "system"), ("SSL_CERT_FILE", ca.to_str().unwrap())];
    assert_eq!(example(&world, &trusted).await.unwrap(), READ);

    let (elsewhere, nothing) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let foreign = Pki::create(elsewhere.path()).unwrap();
    let others = [
        ("STRONGROOM_CACERT", "system"),
        ("SSL_CERT_FILE", foreign.ca.to_str().unwrap()),
        ("SSL_CERT_DIR", nothing.path().to_str().unwrap()),
    ];
    let refused = example(&world, &others).await.unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
}

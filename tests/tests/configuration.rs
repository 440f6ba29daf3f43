//! The configuration as an operator meets it: mistakes told before the start, who overrides whom, a renewed certificate.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use strongroom_tests::{
    pki::Pki,
    server::{Options, Server, binary},
    wait::until,
    world::anonymous,
};

fn server(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary("strongroom-server").unwrap());
    command.env_clear().args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn check(text: &str, directory: &Path, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let file = directory.join("server.toml");
    fs::write(&file, text).unwrap();
    let output = server(&["check-config", "--config", file.to_str().unwrap()], environment);
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn all_mistakes_are_told_at_once() {
    let home = tempfile::tempdir().unwrap();
    let text =
        "[listen]\naddress = \"here\"\nport = 1\n[tls]\nkey = \"k\"\n[storage]\nkind = \"slde\"\n[limit]\n";
    let (code, said) = check(text, home.path(), &[]);
    assert_eq!(code, Some(2));
    for part in [
        "5 mistake",
        "listen.address",
        "listen.port",
        "tls.certificate",
        "storage.kind",
        "did you mean limits?",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let (code, said) = check("[tls]\ncertificate = \"c\"\nkey = \"k\"\n", home.path(), &[]);
    assert_eq!(code, Some(0), "{said}");
    let absent = server(&["check-config", "--config", "/nowhere/server.toml"], &[]);
    assert_eq!(absent.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&absent.stderr).contains("/nowhere/server.toml"));
}

#[test]
fn a_missing_certificate_ends_the_start_with_its_name() {
    let home = tempfile::tempdir().unwrap();
    let options = Options {
        arguments: vec!["--tls-certificate".into(), "/nowhere/tls.crt".into()],
        ..Options::default()
    };
    let refused = Server::start(home.path(), &options).err().unwrap().to_string();
    assert!(refused.contains("cannot read /nowhere/tls.crt"), "{refused}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let home = tempfile::tempdir().unwrap();
    let file = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n[log]\nlevel = \"\"\n";
    assert_eq!(check(file, home.path(), &[]).0, Some(2), "the file's level is none");
    assert_eq!(check(file, home.path(), &[("STRONGROOM_LOG_LEVEL", "info")]).0, Some(0));
    let path = home.path().join("server.toml");
    let path = path.to_str().unwrap();
    let flag = |level| {
        server(&["check-config", "--config", path, "--log-level", level], &[("STRONGROOM_LOG_LEVEL", "")])
    };
    assert_eq!(flag("warn").status.code(), Some(0));
    let wrong = server(
        &["check-config", "--config", path, "--storage-kind", "x"],
        &[("STRONGROOM_STORAGE_KIND", "memory")],
    );
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("storage.kind: is \"x\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_served_without_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Options::default()).unwrap();
    let standing = anonymous(&server).await.unwrap();
    // Another CA: only who trusts it can connect from now on, so that the old certificate cannot be taken for it.
    Pki::create(home.path()).unwrap();
    assert!(anonymous(&server).await.is_err());
    let connects = || {
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(anonymous(&server)).is_ok())
    };
    until("the new certificate", connects).unwrap();
    standing.sys().status().await.unwrap();
}

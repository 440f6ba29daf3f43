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
    process::{Command, Output, Stdio},
};

use rustix::process::Signal;
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

/// The section of a certificate that is there.
fn tls(home: &Path) -> String {
    let pki = Pki::create(home).unwrap();
    format!("[tls]\ncertificate = {:?}\nkey = {:?}\n", pki.certificate, pki.key)
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
    let (code, said) = check(&tls(home.path()), home.path(), &[]);
    assert_eq!(code, Some(0), "{said}");
    let absent = server(&["check-config", "--config", "/nowhere/server.toml"], &[]);
    assert_eq!(absent.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&absent.stderr).contains("/nowhere/server.toml"));
}

#[test]
fn what_the_configuration_names_is_read() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let tls = tls(home.path());
    fs::write(at("empty"), "\n").unwrap();
    fs::write(at("two"), "one\ntwo\n").unwrap();
    fs::write(at("open.key"), "anything").unwrap();
    let cluster = |name: &str, ca: &str, token: &str| {
        let (ca, token) = (at(ca), at(token));
        format!(
            "[auth.kubernetes.{name}]\napi_server = \"https://127.0.0.1:1\"\nca_file = {ca:?}\ntoken_file = {token:?}\n"
        )
    };
    let text = format!(
        "[seal]\nkey_file = {:?}\n[storage]\ndirectory = {:?}\n[tls]\ncertificate = {:?}\nkey = \"gone.key\"\n{}{}",
        at("open.key"),
        at("empty"),
        at("gone.pem"),
        cluster("a", "empty", "empty"),
        cluster("b", "gone-ca.pem", "two"),
    );
    let (code, said) = check(&text, home.path(), &[]);
    assert_eq!(code, Some(2), "{said}");
    for part in [
        "gone.pem",
        "seal.key_file",
        "storage.directory",
        "empty holds no certificate",
        "empty is empty; expected a token",
        "gone-ca.pem",
        "two holds more than a token",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    // A line break is what every editor leaves at the end.
    fs::write(at("token"), "eyJhbGciOiJSUzI1NiJ9.e30.c2ln\n").unwrap();
    let (code, said) = check(&format!("{tls}{}", cluster("a", "ca.pem", "token")), home.path(), &[]);
    assert_eq!(code, Some(0), "{said}");

    let both = format!("{tls}[listen]\naddress = \"127.0.0.1:7420\"\nops_address = \"0.0.0.0:7420\"\n");
    let (code, said) = check(&both, home.path(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("listen.ops_address: is 0.0.0.0:7420, where listen.address"), "{said}");
}

#[test]
fn a_certificate_that_clients_refuse_is_a_warning() {
    let home = tempfile::tempdir().unwrap();
    let tls = tls(home.path());
    Pki::valid(home.path(), 2001..2002).unwrap();
    let (code, said) = check(&tls, home.path(), &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("warning: tls:") && said.contains("expired at 2002-01-01"), "{said}");
    let [own, ca] = ["server.pem", "ca.pem"].map(|name| fs::read_to_string(home.path().join(name)).unwrap());
    fs::write(home.path().join("server.pem"), format!("{ca}{own}")).unwrap();
    let (code, said) = check(&tls, home.path(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("wrong order: the key belongs to number 2"), "{said}");
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
    let file = &format!("{}[log]\nlevel = \"\"\n", tls(home.path()));
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

/// Without waiting for the next look at the files.
#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reads_certificate_and_level_again_and_other_signals_do_nothing() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Options::default()).unwrap();
    for signal in [Signal::USR1, Signal::USR2] {
        server.signal(signal).unwrap();
    }
    until("both are told", || server.log().matches("means nothing here").count() == 2).unwrap();

    let configuration = home.path().join("server.toml");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace("level = \"info\"", "level = \"loud=x\"")).unwrap();
    server.signal(Signal::HUP).unwrap();
    until("the mistake is told", || server.log().contains("the log level stays as it was")).unwrap();
    fs::write(&configuration, text.replace("level = \"info\"", "level = \"debug\"")).unwrap();
    assert!(!server.log().contains("\"level\":\"DEBUG\""));

    Pki::create(home.path()).unwrap();
    server.signal(Signal::HUP).unwrap();
    let connects = || {
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(anonymous(&server)).is_ok())
    };
    until("the new certificate", connects).unwrap();
    until("the new level", || {
        connects();
        server.log().contains("\"level\":\"DEBUG\"")
    })
    .unwrap();

    // One that clients refuse does not replace it.
    Pki::valid(home.path(), 2001..2002).unwrap();
    server.signal(Signal::HUP).unwrap();
    until("it is told", || server.log().contains("the old one stays in use")).unwrap();
    assert!(server.log().contains("expired at 2002-01-01"), "{}", server.log());
    server.stop().unwrap();
}

/// A journal and a file are no terminals; a person who sees one may refuse colours.
#[test]
fn a_log_of_text_has_colours_only_on_a_terminal() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("server.toml");
    // It starts its log and ends: where its data would be is a file.
    let text = format!(
        "{}[storage]\ndirectory = {file:?}\n[audit]\ndirectory = {:?}\n[log]\nformat = \"text\"\n",
        tls(home.path()),
        home.path().join("audit"),
    );
    fs::write(&file, text).unwrap();
    let arguments = ["--config", file.to_str().unwrap()];
    let piped = server(&arguments, &[]);
    let said = String::from_utf8(piped.stderr).unwrap();
    assert!(!piped.status.success() && said.contains("ERROR") && !said.contains('\x1b'), "{said:?}");
    let on_terminal = |environment: &[(&str, &str)]| {
        let line = format!("{} {}", binary("strongroom-server").unwrap().display(), arguments.join(" "));
        let mut command = Command::new("script");
        command.env_clear().env("PATH", "/usr/bin:/bin").envs(environment.iter().copied());
        let output = command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = on_terminal(&[]);
    assert!(said.contains("ERROR") && said.contains('\x1b'), "{said:?}");
    let said = on_terminal(&[("NO_COLOR", "1")]);
    assert!(said.contains("ERROR") && !said.contains('\x1b'), "{said:?}");
}

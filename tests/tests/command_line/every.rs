//! JSON and YAML of every command, and how it ends. A new command fails here until it is in the list.

use std::{collections::BTreeSet, fs, process::Output};

use serde_json::Value;
use strongroom_tests::cli::Cli;
use strongroom_yaml::{Limits, Node, read_all};

use super::{House, PASSWORD, POLICY, SECRET, json, refuse};

const POD: &str = "
kind: Pod
apiVersion: v1
metadata: {name: p, namespace: n}
spec:
  serviceAccountName: app
  containers: []
  volumes:
  - name: secrets
    csi: {driver: csi.strongroom.dev, readOnly: true, volumeAttributes: {secrets: \"- path: secret/apps/db\"}}
";
const CLASS: &str = "
kind: SecretProviderClass
metadata: {name: db}
spec:
  provider: vault
  parameters:
    objects: \"- {objectName: password, secretPath: secret/data/apps/db, secretKey: k}\"
";
/// A database where nobody is.
const AWAY: [&str; 9] =
    ["--host", "127.0.0.1", "--port", "9", "--user", "strongroom", "--plaintext", "--password-file", "-"];
const ROLE: [&str; 3] =
    ["database/reporting", "--creation", "CREATE ROLE {{name}} LOGIN PASSWORD {{password}}"];
/// For web.shop.example.
const REQUEST: &[u8] = include_bytes!("../../src/faults/request.pem");
const NO_LEASE: &str = "00112233445566778899aabbccddeeff";
/// Far more than any command prints here.
const DOCUMENTS: Limits = Limits { documents: 100, depth: 64 };
/// It has no end; the guides' tests run it.
const ENDLESS: &str = "watch";

/// Who, the command, its arguments, its input, and how it ends.
type Row<'a> = (&'a Cli, &'a str, &'a [&'a str], &'a [u8], i32);

#[test]
fn every_command_speaks_json_and_ends_as_the_help_says() {
    every_command("json", json);
}

#[test]
fn every_command_speaks_yaml() {
    every_command("yaml", yaml);
}

fn every_command(format: &str, read: fn(&Output) -> Vec<Value>) {
    let house = House::open();
    // An editor that changes nothing.
    let editing = house.root.with_variable("EDITOR", "true");
    let (policy, pod) = (house.file("policy.yaml", POLICY), house.file("pod.yaml", POD));
    let class = house.file("class.yaml", CLASS);
    let password = house.file("password", "correct horse battery staple");
    let passwd = ["--current-password-file", password.as_str(), "--new-password-file", "-"];
    let key_file = house.home.path().join("seal.key").display().to_string();
    let (generated, audit) = (house.home.path().join("generated"), house.home.path().join("audit"));
    let segment = fs::read_dir(audit).unwrap().next().unwrap().unwrap().path().display().to_string();
    let public_key = house.public_key.as_str();
    // What an earlier build encrypted with a key of 32 sevens.
    let vectors: Value = serde_json::from_str(include_str!("../../vectors/transit.json")).unwrap();
    let ciphertext = vectors[0]["made"].as_str().unwrap().as_bytes();
    let [exported, sealed] =
        ["exported", "sealed"].map(|name| house.home.path().join(name).display().to_string());

    let mut tried = BTreeSet::from(["init".to_owned(), ENDLESS.to_owned()]);
    let rows: &[Row<'_>] = &[
        (&house.root, "status", &[], b"", 0),
        (&house.root, "unseal", &[], b"", 0),
        (&house.alice, "login", &["-u", "alice", "--password-file", "-"], PASSWORD, 0),
        (&house.alice, "whoami", &[], b"", 0),
        (&house.alice, "profile list", &[], b"", 0),
        (&house.alice, "profile use", &["default"], b"", 0),
        (&house.alice, "completion", &["bash"], b"", 0),
        (&house.alice, "man", &[], b"", 0),
        (&house.alice, "token renew", &[], b"", 0),
        (&house.alice, "user passwd", &passwd, b"staple battery horse correct", 0),
        (&house.alice, "token show", &[], b"", 0),
        (&house.alice, "can-i", &["read", SECRET], b"", 1),
        (&house.root, "mount add", &["random", "--kind", "random"], b"", 0),
        (&house.root, "mount add", &["transit", "--kind", "transit"], b"", 0),
        (&house.root, "key create", &["transit/orders", "--exportable"], b"", 0),
        (&house.root, "key create", &["transit/release", "--algorithm", "ed25519"], b"", 0),
        (&house.root, "key create", &["transit/mac", "--algorithm", "hmac-sha256"], b"", 0),
        (&house.root, "key rotate", &["transit/orders"], b"", 0),
        (&house.root, "key update", &["transit/orders", "--min-decryption-version", "2"], b"", 0),
        (&house.root, "key show", &["transit/release"], b"", 0),
        (&house.root, "key list", &[], b"", 0),
        (&house.root, "key export", &["transit/orders", "--out-file", &exported], b"", 0),
        (&house.root, "key encrypt", &["transit/orders"], b"one", 0),
        (&house.root, "key create", &["transit/known", "--from", "-"], &[7; 32], 0),
        (&house.root, "key decrypt", &["transit/known", "--associated-data", "row 7"], ciphertext, 0),
        (&house.root, "key rewrap", &["transit/orders"], b"", 0),
        (&house.root, "key sign", &["transit/release"], b"one", 0),
        (&house.root, "key verify", &["transit/release", "--signature", "strongroom:v1:AAAA"], b"one", 1),
        (&house.root, "key mac", &["transit/mac"], b"one", 0),
        (&house.root, "key verify-mac", &["transit/mac", "--mac", "strongroom:v1:AAAA"], b"one", 1),
        (&house.root, "key destroy", &["transit/orders", "--before", "2", "--yes"], b"", 0),
        (&house.root, "encrypt", &["-", "--key", "transit/orders", "--out-file", &sealed], b"one", 0),
        (&house.root, "decrypt", &[&sealed, "--out-file", &exported], b"", 0),
        // Without a database and without leases; tests/tests/database.rs and leases.rs have both.
        (&house.root, "mount add", &["database", "--kind", "database"], b"", 0),
        (&house.root, "database configure", &AWAY, b"no", 5),
        (&house.root, "database show", &[], b"", 1),
        (&house.root, "database rotate-root", &[], b"", 1),
        (&house.root, "database role put", &ROLE, b"", 0),
        (&house.root, "database role show", &["database/reporting"], b"", 0),
        (&house.root, "database role list", &[], b"", 0),
        (&house.root, "database issue", &["database/reporting"], b"", 1),
        (&house.root, "database role delete", &["database/reporting", "--yes"], b"", 0),
        (&house.root, "database account put", &["database/app", "--user", "app"], b"", 1),
        (&house.root, "database account show", &["database/app"], b"", 4),
        (&house.root, "database account rotate", &["database/app"], b"", 4),
        (&house.root, "database account list", &[], b"", 0),
        (&house.root, "database account delete", &["database/app", "--yes"], b"", 4),
        (&house.root, "database password", &["database/app"], b"", 4),
        (&house.root, "mount add", &["pki", "--kind", "pki"], b"", 0),
        (&house.root, "pki issuer create", &["pki/root", "--subject", "CN=Root"], b"", 0),
        (&house.root, "pki issuer create", &["pki/next", "--subject", "CN=Next", "--intermediate"], b"", 0),
        (&house.root, "pki issuer csr", &["pki/next"], b"", 0),
        (&house.root, "pki issuer sign", &["pki/root", "-"], REQUEST, 0),
        (&house.root, "pki issuer set-signed", &["pki/next", "-"], b"none", 2),
        (
            &house.root,
            "pki issuer import",
            &["pki/old", "--key-file", "-", "--chain-file", &policy],
            b"no",
            2,
        ),
        (&house.root, "pki issuer show", &["pki/root"], b"", 0),
        (&house.root, "pki issuer default", &["pki/root"], b"", 0),
        (&house.root, "pki issuer list", &[], b"", 0),
        (&house.root, "pki role put", &["pki/web", "--dns", "*.shop.example"], b"", 0),
        (&house.root, "pki role show", &["pki/web"], b"", 0),
        (&house.root, "pki role list", &[], b"", 0),
        (&house.root, "pki issue", &["pki/web", "--dns", "a.shop.example"], b"", 0),
        (&house.root, "pki sign", &["pki/web", "-"], REQUEST, 0),
        (&house.root, "pki revoke", &["pki/root", "--serial", "0a"], b"", 0),
        (&house.root, "pki crl", &["pki/root"], b"", 0),
        (&house.root, "pki chain", &["pki/root"], b"", 0),
        (&house.root, "pki role delete", &["pki/web", "--yes"], b"", 0),
        (&house.root, "lease list", &["--all"], b"", 0),
        (&house.root, "lease show", &[NO_LEASE], b"", 4),
        (&house.root, "lease renew", &[NO_LEASE], b"", 4),
        (&house.root, "lease revoke", &["--own", "--yes"], b"", 0),
        (&house.root, "lease forget", &[NO_LEASE, "--yes"], b"", 4),
        (&house.root, "mount add", &["team", "--kind", "kv"], b"", 0),
        (&house.root, "mount tune", &["team", "--set", "quota_mib=5"], b"", 0),
        (&house.root, "mount list", &[], b"", 0),
        (&house.root, "mount remove", &["team"], b"", 0),
        (&house.root, "random", &["password"], b"", 0),
        (&house.root, "put", &[SECRET, "k=-"], b"one", 0),
        (&house.root, "patch", &[SECRET, "k=-"], b"two", 0),
        (&house.root, "get", &[SECRET], b"", 0),
        (&house.root, "get", &[SECRET, "--wrap", "1m"], b"", 0),
        (&house.root, "unwrap", &[], b"srw1_no", 4),
        (&house.root, "import", &["secret/apps/imported", "-", "--from", "env"], b"A=1\n", 0),
        (&house.root, "list", &["-r", "secret"], b"", 0),
        (&house.root, "list", &["-l", "secret/apps"], b"", 0),
        (&house.root, "kubernetes volume", &["-f", &class], b"", 0),
        (&house.root, "tree", &[], b"", 0),
        (&house.root, "tree", &["-l"], b"", 0),
        (&house.root, "diff", &[SECRET], b"", 0),
        // The shell gets what is added to the line as its own arguments.
        (&house.root, "run", &[SECRET, "--", "sh", "-c", "echo \"\\\"$k\\\"\""], b"", 0),
        (&editing, "edit", &[SECRET], b"", 0),
        (&house.root, "history", &[SECRET], b"", 0),
        (&house.root, "meta", &[SECRET], b"", 0),
        (&house.root, "rollback", &[SECRET, "--to", "1"], b"", 0),
        (&house.root, "rm", &[SECRET], b"", 0),
        (&house.root, "undelete", &[SECRET], b"", 0),
        (&house.root, "destroy", &[SECRET, "--versions", "1", "--yes"], b"", 0),
        (&house.root, "apply", &["-f", &policy, "--yes"], b"", 0),
        (&house.root, "can-i", &["read", SECRET, "--as", "userpass/alice", "--from", "10.0.0.1"], b"", 1),
        (&house.root, "who-can", &["read", SECRET], b"", 0),
        (&house.root, "roles", &[], b"", 0),
        (&house.root, "explain volume", &["-f", &pod], b"", 1),
        (&house.root, "kubernetes enable", &[], b"", 0),
        (&house.root, "user put", &["bob", "--password-file", "-"], PASSWORD, 0),
        (&house.root, "user list", &[], b"", 0),
        (&house.root, "user delete", &["bob", "--yes"], b"", 0),
        (&house.root, "audit tail", &["-n", "3"], b"", 0),
        (&house.root, "audit query", &["--operation", "Sys.Mount"], b"", 0),
        (&house.root, "audit hash", &[SECRET, "data.k", "-"], b"one", 0),
        (&house.root, "audit anchor", &[], b"", 0),
        (&house.root, "audit verify", &["--public-key", public_key, &segment], b"", 0),
        (&house.root, "operator rotate", &[], b"", 0),
        (&house.root, "operator scrub", &[], b"", 0),
        (&house.root, "operator generate-root", &["--key-file", &key_file], b"", 0),
        (
            &house.root,
            "operator generate-root",
            &["--key-file", &key_file, "--out-file", generated.to_str().unwrap()],
            b"",
            0,
        ),
        (&house.root, "token revoke", &["--principal", "userpass/alice", "--yes"], b"", 0),
        (
            &house.root,
            "operator rekey",
            &["--shares", "1", "--threshold", "1", "--key-file", &key_file],
            b"",
            0,
        ),
        (&house.root, "seal", &["--yes"], b"", 0),
        (&house.root, "status", &[], b"", 5),
    ];
    for (cli, command, arguments, input, code) in rows {
        tried.insert((*command).to_owned());
        let words: Vec<&str> =
            command.split(' ').chain(arguments.iter().copied()).chain(["-o", format]).collect();
        let output = cli.run(&words, input).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "strongroom {}: {said}", words.join(" "));
        let answered = !read(&output).is_empty();
        assert!(answered || said.starts_with("error: "), "strongroom {} prints nothing", words.join(" "));
    }
    let house = House::open();
    assert_eq!(read(&house.root.run(&["logout", "-o", format], b"").unwrap())[0]["logged_out"], true);
    tried.insert("logout".to_owned());
    assert_eq!(commands(&house.root, &[]), tried, "each command is tried here");
}

/// Every command that does something, as the help names them.
fn commands(cli: &Cli, words: &[&str]) -> BTreeSet<String> {
    let help = cli.ok(&[words, &["--help"]].concat(), b"").unwrap();
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return BTreeSet::from([words.join(" ")]) };
    let names = list
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split(' ').next());
    names.filter(|name| *name != "help").flat_map(|name| commands(cli, &[words, &[name]].concat())).collect()
}

/// All documents on standard output.
fn yaml(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let nodes = read_all(&text, DOCUMENTS).unwrap_or_else(|error| refuse(output, &error));
    // JSON is YAML, too, and is not what was asked for; an empty list is the same in both.
    assert!(text == "[]\n" || !text.starts_with(['{', '[']), "{text}");
    nodes.iter().map(Node::to_json).collect()
}

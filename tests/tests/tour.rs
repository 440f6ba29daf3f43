//! The command line as a person uses it, from an empty server to the proof of its audit log.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use strongroom_tests::{
    audit_log::segments,
    cli::Cli,
    server::{Options, Server},
};

const PASSWORD: &[u8] = b"correct horse battery staple\n";
const POLICY: &str = "
kind: Binding
name: admins
role: admin
subjects:
- user: {method: userpass, name: alice}
---
kind: Role
name: shop
rules:
- {paths: [\"secret/apps/shop/**\"], verbs: [read, list]}
---
kind: Binding
name: shop
role: shop
subjects:
- user: {method: userpass, name: bob}
";

/// Exit code and what is said on standard error.
fn fails(cli: &Cli, arguments: &[&str], input: &[u8]) -> (i32, String) {
    let output = cli.run(arguments, input).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "strongroom {} succeeded", arguments.join(" "));
    (output.status.code().unwrap(), said)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).mode() & 0o777
}

/// A store opened by three people, an admin and a reader.
struct Tour {
    alice: Cli,
    bob: Cli,
    home: tempfile::TempDir,
    server: Server,
}

impl Tour {
    fn begin() -> Tour {
        let home = tempfile::tempdir().unwrap();
        let server = Server::start(home.path(), &Options::default()).unwrap();
        let alice = Cli::new(&home.path().join("alice"), &server).unwrap();
        let bob = Cli::new(&home.path().join("bob"), &server).unwrap();
        let tour = Tour { alice, bob, home, server };
        tour.open();
        tour
    }

    fn at(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    fn ok(&self, arguments: &[&str], input: &[u8]) -> String {
        self.alice.ok(arguments, input).unwrap()
    }

    fn open(&self) {
        let status = self.alice.run(&["status"], b"").unwrap();
        assert_eq!(status.status.code(), Some(5), "one that does not serve");
        assert!(String::from_utf8_lossy(&status.stdout).contains("not initialised"));
        let (code, said) = fails(&self.alice.with_token(&self.fake_token()), &["list"], b"");
        assert_eq!(code, 5, "{said}");
        assert!(said.contains("not initialised") && said.contains("strongroom init"), "{said}");

        let keys = self.at("keys");
        self.ok(&["init", "--shares", "5", "--threshold", "3", "--out-dir", &keys], b"");
        for name in ["share-1", "share-5", "root-token", "audit-public-key"] {
            assert_eq!(mode(&Path::new(&keys).join(name)), 0o600, "{name}");
        }
        let root = self.alice.with_token(&Path::new(&keys).join("root-token"));
        let share = |n: u32| format!("{keys}/share-{n}");
        assert!(self.ok(&["unseal", "--share-file", &share(2)], b"").contains("1 of 3 shares given"));
        let (code, said) = fails(&root, &["get", "secret/a", "-k", "x"], b"");
        assert_eq!(code, 5);
        assert!(said.contains("sealed: 1 of 3 shares given") && said.contains("strongroom unseal"), "{said}");
        self.ok(&["unseal", "--share-file", &share(4)], b"");
        assert!(self.ok(&["unseal", "--share-file", &share(1)], b"").contains("unsealed"));
        assert!(self.ok(&["status"], b"").contains("key term"));

        let policy = self.at("policy.yaml");
        fs::write(&policy, POLICY).unwrap();
        for user in ["alice", "bob"] {
            root.ok(&["user", "put", user, "--password-file", "-"], PASSWORD).unwrap();
        }
        root.ok(&["apply", "-f", &policy, "--dry-run"], b"").unwrap();
        assert!(root.ok(&["apply", "-f", &policy, "--yes"], b"").unwrap().contains("3 objects changed"));
        assert!(root.ok(&["apply", "-f", &policy, "--yes"], b"").unwrap().contains("nothing changes"));
        root.ok(&["logout"], b"").unwrap();
        let (code, said) = fails(&root, &["whoami"], b"");
        assert_eq!(code, 3, "the root token is gone: {said}");

        self.ok(&["login", "--user", "alice", "--password-file", "-", "--save"], PASSWORD);
        self.bob.ok(&["login", "--user", "bob", "--password-file", "-"], PASSWORD).unwrap();
        let alice = self.home.path().join("alice");
        assert_eq!(mode(&alice.join("state/strongroom/default.token")), 0o600);
        assert_eq!(mode(&alice.join("config/strongroom/config.toml")), 0o600);
        assert!(self.ok(&["whoami"], b"").contains("admin"));
        self.tokens();
    }

    /// A token from elsewhere is what is renewed and revoked while it is there; that of the profile stays.
    fn tokens(&self) {
        let (profile, file) =
            (self.home.path().join("alice/state/strongroom/default.token"), self.at("other-token"));
        let own = fs::read(&profile).unwrap();
        let from_file = self.alice.with_token(Path::new(&file));
        // Its own session, made elsewhere.
        let elsewhere = Cli::new(&self.home.path().join("elsewhere"), &self.server).unwrap();
        elsewhere.ok(&["login", "--user", "alice", "--password-file", "-"], PASSWORD).unwrap();
        fs::copy(self.home.path().join("elsewhere/state/strongroom/default.token"), &file).unwrap();
        let before = fs::read(&file).unwrap();

        assert!(from_file.ok(&["whoami"], b"").unwrap().contains("STRONGROOM_TOKEN_FILE"));
        from_file.ok(&["token", "renew"], b"").unwrap();
        assert_ne!(fs::read(&file).unwrap(), before, "the renewed token is where the older one was");
        assert_eq!(fs::read(&profile).unwrap(), own);
        let again = from_file.run(&["login", "--user", "alice", "--password-file", "-"], PASSWORD).unwrap();
        assert!(again.status.success());
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(said.contains("go on with the token from STRONGROOM_TOKEN_FILE"), "{said}");
        from_file.ok(&["logout"], b"").unwrap();
        assert_eq!(fails(&from_file, &["whoami"], b"").0, 3, "the session of the file's token has ended");
        assert!(self.ok(&["whoami"], b"").contains("the login of profile default"));
    }

    fn fake_token(&self) -> PathBuf {
        let file = self.home.path().join("fake-token");
        fs::write(&file, "sr1_AAAA").unwrap();
        file
    }
}

const DB: &str = "secret/apps/shop/db";

#[test]
fn a_secret_and_its_versions() {
    let tour = Tour::begin();
    assert!(tour.ok(&["put", DB, "password=-"], b"one").contains("version 1"));
    tour.ok(&["put", DB, "password=-", "--insecure-literal", "user=shop"], b"two");
    tour.ok(&["patch", DB, "password=-"], b"three");
    assert_eq!(tour.ok(&["get", DB, "-k", "password"], b""), "three");
    assert_eq!(tour.ok(&["get", DB, "-k", "user"], b""), "shop", "a patch leaves the others");
    assert_eq!(tour.ok(&["get", DB, "-k", "password", "--version", "1"], b""), "one");
    tour.ok(&["rollback", DB, "--to", "1"], b"");
    assert_eq!(tour.ok(&["get", DB, "-k", "password"], b""), "one");
    assert_eq!(tour.ok(&["history", DB], b"").lines().count(), 5, "a header and four versions");

    tour.ok(&["put", "secret/apps/shop/mail/key", "k=-"], b"v");
    assert_eq!(tour.ok(&["list", "secret/apps/shop"], b""), "db\nmail/\n");
    assert_eq!(
        tour.ok(&["list", "-r", "secret/apps/"], b""),
        "secret/apps/shop/db\nsecret/apps/shop/mail/key\n"
    );

    tour.ok(&["rm", DB], b"");
    let (code, said) = fails(&tour.alice, &["get", DB, "-k", "password"], b"");
    assert_eq!(code, 4);
    assert!(said.contains("deleted") && said.contains("undelete"), "{said}");
    tour.ok(&["undelete", DB], b"");
    assert_eq!(tour.ok(&["get", DB, "-k", "password"], b""), "one");
    let (code, said) = fails(&tour.alice, &["destroy", DB, "--versions", "1,2"], b"");
    assert_eq!(code, 2, "nobody can be asked: {said}");
    tour.ok(&["destroy", DB, "--versions", "1,2", "--yes"], b"");
    let (code, said) = fails(&tour.alice, &["get", DB, "-k", "password", "--version", "1"], b"");
    assert!(code == 4 && said.contains("destroyed"), "{code} {said}");
    tour.ok(&["destroy", DB, "--all", "--yes"], b"");
    assert_eq!(fails(&tour.alice, &["history", DB], b"").0, 4);
}

#[test]
fn values_are_shown_only_where_they_should_be() {
    let tour = Tour::begin();
    let (code, said) = fails(&tour.alice, &["put", DB, "password=hunter2"], b"");
    assert_eq!(code, 2);
    assert!(said.contains("password=@FILE") && !said.contains("hunter2"), "{said}");
    tour.ok(&["put", DB, "password=-"], b"hunter2");
    let (code, said) = fails(&tour.alice, &["get", DB], b"");
    assert!(code == 2 && said.contains("--key"), "{code} {said}");

    let json: serde_json::Value = serde_json::from_str(&tour.ok(&["get", DB, "-o", "json"], b"")).unwrap();
    assert_eq!((json["values"]["password"].as_str(), json["version"].as_u64()), (Some("hunter2"), Some(1)));
    assert!(tour.ok(&["get", DB, "-o", "yaml"], b"").contains("password: hunter2"));

    let masked = tour.alice.on_terminal(&["get", DB]).unwrap();
    assert!(masked.contains("********") && !masked.contains("hunter2"), "{masked}");
    assert!(tour.alice.on_terminal(&["get", DB, "--show"]).unwrap().contains("hunter2"));

    let file = tour.home.path().join("value");
    tour.ok(&["get", DB, "-k", "password", "--out-file", file.to_str().unwrap()], b"");
    assert_eq!((mode(&file), fs::read(&file).unwrap()), (0o600, b"hunter2".to_vec()));
}

#[test]
fn a_no_says_what_is_missing() {
    let tour = Tour::begin();
    tour.ok(&["put", DB, "password=-"], b"one");
    tour.ok(&["put", "secret/apps/bank/db", "password=-"], b"one");
    tour.bob.ok(&["get", DB, "-k", "password"], b"").unwrap();
    let (code, said) = fails(&tour.bob, &["get", "secret/apps/bank/db", "-k", "password"], b"");
    assert_eq!(code, 3);
    assert!(
        said.contains("denied: needs read on secret/apps/bank/db") && said.contains("decision "),
        "{said}"
    );
    assert_eq!(fails(&tour.bob, &["put", DB, "password=-"], b"x").0, 3);
    assert_eq!(fails(&tour.alice, &["get", "secret/apps/none", "-k", "x"], b"").0, 4);

    assert!(tour.bob.ok(&["can-i", "read", DB], b"").unwrap().starts_with("yes: "));
    let no = tour.bob.run(&["can-i", "update", DB], b"").unwrap();
    assert!(no.status.code() == Some(1) && no.stdout.starts_with(b"no: "));
    let who = tour.ok(&["who-can", "read", DB], b"");
    assert!(who.contains("user userpass/alice") && who.contains("user userpass/bob"), "{who}");
    assert_eq!(fails(&tour.bob, &["who-can", "read", DB], b"").0, 3);

    tour.ok(&["token", "revoke", "--principal", "userpass/bob", "--yes"], b"");
    let told = tour.ok(&["audit", "query", "--operation", "Auth.RevokeSessions"], b"");
    assert!(told.contains("sys/tokens (principal userpass/bob)"), "{told}");
    let told = tour.ok(&["audit", "query", "--operation", "Auth.PutUser"], b"");
    assert!(told.contains("sys/auth/userpass/bob, sys/policy (a new password)"), "{told}");
    let (code, said) = fails(&tour.bob, &["get", DB, "-k", "password"], b"");
    assert!(code == 3 && said.contains("revoked") && said.contains("login"), "{code} {said}");
}

#[test]
fn the_audit_log_tells_and_proves() {
    let tour = Tour::begin();
    tour.ok(&["put", DB, "password=-"], b"hunter2");
    tour.bob.ok(&["get", DB, "-k", "password"], b"").unwrap();
    fails(&tour.bob, &["rm", DB], b"");
    let lines = tour
        .ok(&["audit", "query", "--path", "secret/apps", "--principal", "userpass/bob", "-o", "json"], b"");
    assert!(
        lines.contains("Secrets.Get") && lines.contains("denied") && !lines.contains("Secrets.Put"),
        "{lines}"
    );
    assert_eq!(tour.ok(&["audit", "tail", "-n", "2", "-o", "json"], b"").lines().count(), 2);
    assert!(tour.ok(&["audit", "hash", DB, "data.password", "-"], b"hunter2").starts_with("hmac:"));
    assert_eq!(fails(&tour.bob, &["audit", "tail"], b"").0, 3);

    let Tour { alice, home, server, .. } = tour;
    let directory = server.directory.clone();
    server.stop().unwrap();
    let mut files = segments(&directory.join("audit")).unwrap();
    files.retain(|file| fs::metadata(file).unwrap().len() > 0);
    assert!(!files.is_empty());
    let copies: Vec<String> = files
        .iter()
        .enumerate()
        .map(|(n, file)| {
            let copy = home.path().join(format!("copy-{n}"));
            fs::copy(file, &copy).unwrap();
            copy.display().to_string()
        })
        .collect();
    let key = format!("@{}", home.path().join("keys/audit-public-key").display());
    let mut arguments = vec!["audit", "verify", "--public-key", &key];
    arguments.extend(copies.iter().map(String::as_str));
    assert!(alice.ok(&arguments, b"").unwrap().contains("whole"));

    let mut bytes = fs::read(&copies[0]).unwrap();
    assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "a value stands in the log");
    let place = bytes.windows(11).position(|window| window == b"Secrets.Get").unwrap();
    bytes[place] ^= 1;
    fs::write(&copies[0], bytes).unwrap();
    let (code, said) = fails(&alice, &arguments, b"");
    assert!(code == 1 && said.contains("changed"), "{code} {said}");
}

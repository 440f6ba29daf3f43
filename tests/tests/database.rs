//! Users of a real PostgreSQL, as their users have them: over TLS with the client library and the command line, ended by their
//! leases, and no password in anybody's log.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{fs, time::Duration};

use strongroom_client::{AuditQuery, Client, DatabaseUser, ErrorKind, LeaseSelector, SealKind, TryStreamExt};
use strongroom_tests::{
    cli::Cli,
    database::{CREATE, Database, ROOT, ROOT_PASSWORD},
    server::{Options, Server},
    wait::until,
    world::World,
};

const POLICY: &str = "
kind: Role
name: reports
rules:
- {paths: [db/reporting], verbs: [use]}
---
kind: Binding
name: reports
role: reports
subjects: [{user: {method: userpass, name: alice}}]
";

struct House {
    world: World,
    root: Client,
    database: Database,
}

impl House {
    async fn open() -> Option<Self> {
        let database = Database::start().await.unwrap()?;
        // Whatever the level, no statement is in the log.
        let options = Options { level: "debug", ..Options::default() };
        let world = World::open_with(SealKind::File, &options).await.unwrap();
        let root = world.root().await.unwrap();
        database.mount(&root).await.unwrap();
        let role = root.database().put_role("db/reporting", vec![CREATE.to_owned()]);
        role.ttl(Duration::from_secs(600)).send().await.unwrap();
        Some(Self { world, root, database })
    }

    /// As the user says, it may read orders.
    fn reads(&self, user: &DatabaseUser) -> bool {
        self.database.reads(&user.user, user.password.expose_str().unwrap())
    }

    /// Revokes a lease as root, and says how many have ended and how many have not.
    async fn revoke(&self, id: &str) -> (u32, u32) {
        let revoked = self.root.leases().revoke(&LeaseSelector::Id(id.to_owned())).await.unwrap();
        (revoked.ended, revoked.pending)
    }

    async fn audit_log(&self) -> String {
        let lines = self.root.audit().query(AuditQuery::default()).await.unwrap();
        lines.try_collect::<Vec<String>>().await.unwrap().concat()
    }
}

/// From the role to a user that comes and goes with its lease; and no password is in any log, the database's own included.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_lives_as_long_as_its_lease() {
    let Some(house) = House::open().await else { return };
    house.world.apply(POLICY).await.unwrap();
    let alice = house.world.user("alice", &[]).await.unwrap();
    let user = alice.database().issue("db/reporting", None).await.unwrap();
    assert!(user.user.starts_with("sr_reporting_alice_"), "{}", user.user);
    assert_eq!(
        (user.host.as_str(), user.port, user.database.as_str()),
        ("127.0.0.1", house.database.postgres.port.into(), "postgres")
    );
    assert!(house.reads(&user));
    assert_eq!(house.revoke(&user.lease.id).await, (1, 0));
    assert!(!house.reads(&user));

    // The session's end is its users' end.
    let other = alice.database().issue("db/reporting", Some(Duration::from_secs(60))).await.unwrap();
    assert!(house.reads(&other));
    alice.auth().logout().await.unwrap();
    until("alice's user is gone", || house.database.users() == "0").unwrap();

    // Who may use a role may do nothing else.
    let alice = house.world.user("alice", &[]).await.unwrap();
    for refused in [
        alice.database().rotate_root("db").await.map(drop),
        alice.database().configuration("db").await.map(drop),
        alice.database().put_role("db/reporting", vec![CREATE.to_owned()]).send().await.map(drop),
        alice.database().issue("db/other", None).await.map(drop),
    ] {
        assert!(matches!(refused.unwrap_err().kind(), ErrorKind::Denied { .. }));
    }

    // Accounts and the server's own password change, and nobody sees how.
    let account = house.root.database().put_account("db/legacy", "legacy", None).await.unwrap();
    assert!(account.rotated_at.is_some());
    let first = house.root.database().password("db/legacy").await.unwrap();
    house.root.database().rotate_account("db/legacy").await.unwrap();
    let second = house.root.database().password("db/legacy").await.unwrap();
    let (first, second) = (first.password.expose_str().unwrap(), second.password.expose_str().unwrap());
    assert!(house.database.postgres.sql_as("legacy", first, "SELECT 1").is_err());
    assert!(house.database.postgres.sql_as("legacy", second, "SELECT 1").is_ok());
    assert!(house.database.postgres.sql_as(ROOT, ROOT_PASSWORD, "SELECT 1").is_ok());
    house.root.database().rotate_root("db").await.unwrap();
    assert!(house.database.postgres.sql_as(ROOT, ROOT_PASSWORD, "SELECT 1").is_err());
    let last = house.root.database().issue("db/reporting", None).await.unwrap();
    assert!(house.reads(&last));
    assert!(house.root.sys().scrub().await.unwrap().problems.is_empty());

    let told = house.audit_log().await;
    for known in ["Database.Issue", &user.user, "Database.RotateRoot", "another password", "user legacy"] {
        assert!(told.contains(known), "{known}");
    }
    let all = told + &house.world.server.log() + &house.database.postgres.log();
    assert!(all.contains("PASSWORD 'SCRAM-SHA-256$4096:"));
    for password in [&user, &other, &last].map(|user| user.password.expose_str().unwrap()) {
        assert!(!all.contains(password));
    }
    assert!(!house.world.server.log().contains("SCRAM-SHA-256$"));
    for password in [ROOT_PASSWORD, first, second] {
        assert!(!all.contains(password));
    }
}

/// What the database cannot do now is done when it is back, and is not forgotten if the server dies meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_away_loses_no_revocation() {
    let Some(house) = House::open().await else { return };
    let user = house.root.database().issue("db/reporting", None).await.unwrap();
    house.database.postgres.down().unwrap();
    let away = house.root.database().issue("db/reporting", None).await.unwrap_err();
    assert_eq!(away.kind(), &ErrorKind::Unavailable);
    assert!(away.to_string().contains("cannot be reached"), "{away}");
    assert_eq!(house.revoke(&user.lease.id).await, (0, 1));
    let World { server, home, .. } = house.world;
    server.kill().unwrap();
    house.database.postgres.up().unwrap();
    let server = Server::start(home.path(), &Options::default()).unwrap();
    until("the user is gone", || house.database.users() == "0").unwrap();
    server.stop().unwrap();
}

/// The same by the command line; and a terminal shows a password only to who asks.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_does_all_of_it() {
    let Some(house) = House::open().await else { return };
    let home = house.world.home.path();
    fs::write(home.join("root-token"), house.world.keys.root_token.expose()).unwrap();
    let cli = Cli::new(&home.join("root"), &house.world.server).unwrap().with_token(&home.join("root-token"));
    let (port, ca) =
        (house.database.postgres.port.to_string(), house.database.postgres.ca.display().to_string());
    let to =
        ["--host", "localhost", "--port", &port, "--user", ROOT, "--ca-file", &ca, "--password-file", "-"];
    let configured =
        cli.ok(&[&["database", "configure", "db"], &to[..]].concat(), ROOT_PASSWORD.as_bytes()).unwrap();
    assert!(configured.contains("TLS, with an authority of its own"), "{configured}");
    let wrong =
        cli.run(&[&["database", "configure", "db"], &to[..]].concat(), b"canary0wrong0password").unwrap();
    let told = String::from_utf8(wrong.stderr).unwrap();
    assert!(told.contains("password authentication failed for user \"strongroom\" (28P01)"), "{told}");
    assert!(!told.contains("canary"), "{told}");

    let role = ["database", "role", "put", "db/other", "--creation", CREATE, "--ttl", "15m"];
    assert!(cli.ok(&role, b"").unwrap().contains("900 s"));
    assert_eq!(
        cli.ok(&["database", "role", "list", "db", "-o", "json"], b"").unwrap().matches("db/").count(),
        2
    );
    let issued = cli.ok(&["database", "issue", "db/other", "-o", "json"], b"").unwrap();
    let issued: serde_json::Value = serde_json::from_str(&issued).unwrap();
    let text = |key: &str| issued.get(key).unwrap().as_str().unwrap().to_owned();
    let rows =
        house.database.postgres.sql_as(&text("user"), &text("password"), "SELECT id FROM orders").unwrap();
    assert_eq!(rows, "7");
    cli.ok(&["database", "account", "put", "db/legacy", "--user", "legacy"], b"").unwrap();
    cli.ok(&["database", "account", "rotate", "db/legacy"], b"").unwrap();
    let password = cli.ok(&["database", "password", "db/legacy"], b"").unwrap();
    assert!(house.database.postgres.sql_as("legacy", &password, "SELECT 1").is_ok());
    cli.ok(&["database", "rotate-root", "db"], b"").unwrap();
    assert!(cli.ok(&["database", "show", "db"], b"").unwrap().contains("made here"));
    cli.ok(&["database", "account", "delete", "db/legacy", "--yes"], b"").unwrap();
    cli.ok(&["database", "role", "delete", "db/other", "--yes"], b"").unwrap();
    assert!(cli.run(&["database", "issue", "db/other"], b"").unwrap().status.code() == Some(4));
}

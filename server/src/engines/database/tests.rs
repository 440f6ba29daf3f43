//! The engine over a real barrier and a store in memory, with a real PostgreSQL where one is installed.

#![allow(unreachable_pub, dead_code, reason = "the harness belongs to the whole-system tests")]

use std::{
    io,
    process::Child,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    users::{Made, User},
    *,
};
use crate::{
    barrier::View,
    crypto::SystemEntropy,
    engines::{Operation as _, conformance},
    model::Principal,
    storage::memory::MemoryStore,
};

#[path = "../../../../tests/stage/src/pki.rs"]
mod pki;
#[path = "../../../../tests/src/postgres.rs"]
mod postgres;

use postgres::Postgres;

/// Of the user that the engine works as. It is no superuser.
const ROOT: &str = "strongroom";
const ROOT_PASSWORD: &str = "canary0root0password";
const CREATE: &str = "CREATE ROLE {{name}} LOGIN PASSWORD {{password}} IN ROLE reader";
const BY: RequestId = RequestId([1; 16]);

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-26T21:19:03Z").unwrap()
}

fn later() -> Timestamp {
    Timestamp::parse_rfc3339("2099-01-02T03:04:05Z").unwrap()
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

async fn view() -> View {
    conformance::barrier(Arc::new(MemoryStore::new())).await.view("database")
}

fn on(view: View) -> Arc<Database> {
    Arc::new(Database::new(Records::new(view), Arc::new(SystemEntropy)))
}

fn role(creation: &[&str]) -> Role {
    let creation = creation.iter().map(|text| (*text).to_owned()).collect();
    Role::parse(Role { creation, ..Role::default() }).unwrap()
}

fn taking(user: &str) -> Operation {
    Operation::PutAccount { user: user.to_owned(), rotation_period: 0 }
}

#[derive(Clone)]
struct Subject(Arc<Database>);

impl conformance::Subject for Subject {
    const KIND: EngineKind = KIND;

    fn build(view: View) -> Self {
        Self(on(view))
    }

    async fn write(&self, path: &Path, value: &str) -> Result<(), EngineError> {
        let role = Role { creation: vec![value.to_owned()], ..Role::default() };
        // To the end, as the engine does.
        let (database, path) = (Arc::clone(&self.0), path.clone());
        let task =
            tokio::spawn(async move { database.write(path, BY, now(), Operation::PutRole(role)).await });
        task.await.unwrap().map(drop).map_err(EngineError::from)
    }

    async fn erase(&self) -> Result<(), BarrierError> {
        self.0.records.erase().await
    }

    async fn read(&self, path: &Path) -> Result<String, EngineError> {
        let (role, _) = self.0.records.get::<Role>(path).await.map_err(EngineError::from)?;
        Ok(role.creation.concat())
    }
}

#[tokio::test]
async fn database_keeps_what_every_engine_promises() {
    conformance::check::<Subject>().await;
}

#[test]
fn a_role_that_cannot_be_meant_is_refused() {
    let parse = |ttl, max_ttl| {
        Role::parse(Role { creation: vec![CREATE.to_owned()], ttl, max_ttl, ..Role::default() })
            .map(|role| (role.ttl, role.max_ttl))
            .map_err(|error| error.to_string())
    };
    assert_eq!(parse(0, 0), Ok((3600, 86400)));
    assert_eq!(parse(0, 600), Ok((600, 600)));
    assert_eq!(parse(172_800, 0), Ok((172_800, 172_800)));
    assert_eq!(role(&[CREATE]).ttl_of(None), Ok(3600));
    assert_eq!(role(&[CREATE]).ttl_of(Some(7200)), Ok(7200));
    assert_eq!(role(&[CREATE]).ttl_of(Some(86401)).unwrap_err().field, "ttl_seconds");
    assert_eq!(parse(3, 0).unwrap_err(), "ttl_seconds: is 3; expected 5 to 31622400");
    assert_eq!(parse(900, 600).unwrap_err(), "ttl_seconds: is 900, which is more than max_ttl_seconds, 600");
}

#[test]
fn only_what_does_not_leave_the_machine_may_be_plain() {
    let parse = |host: &str, plaintext, ca: &str| {
        let (host, user, ca_pem) = (host.to_owned(), ROOT.to_owned(), ca.to_owned());
        Configuration::parse(Configuration { host, user, plaintext, ca_pem, ..Configuration::default() })
            .map(drop)
            .map_err(|error| error.field)
    };
    for host in ["/var/run/postgresql", "127.0.0.1", "::1", "localhost"] {
        assert_eq!(parse(host, true, ""), Ok(()), "{host}");
    }
    assert_eq!(parse("db.example", true, ""), Err("plaintext".to_owned()));
    assert_eq!(parse("10.0.0.7", true, ""), Err("plaintext".to_owned()));
    assert_eq!(parse("/var/run/postgresql", false, ""), Err("host".to_owned()));
    assert_eq!(parse("db.example", false, "hunter2"), Err("ca_pem".to_owned()));
    assert_eq!(parse("", false, ""), Err("host".to_owned()));
}

/// A mount of a real database.
struct House {
    postgres: Postgres,
    database: Arc<Database>,
    view: View,
}

impl House {
    async fn open() -> Option<Self> {
        let postgres = tokio::task::spawn_blocking(Postgres::start).await.unwrap().unwrap()?;
        let root = format!(
            "CREATE ROLE {ROOT} LOGIN CREATEROLE PASSWORD '{ROOT_PASSWORD}' IN ROLE pg_signal_backend;
             CREATE TABLE orders (id int); INSERT INTO orders VALUES (7); CREATE ROLE reader;
             GRANT SELECT ON orders TO reader; GRANT CREATE ON SCHEMA public TO reader;
             GRANT USAGE, CREATE ON SCHEMA public TO {ROOT}"
        );
        postgres.sql(&root).unwrap();
        let view = view().await;
        let house = Self { database: on(view.clone()), view, postgres };
        house.configure(|_| (), Some(ROOT_PASSWORD)).await.unwrap();
        Some(house)
    }

    async fn configure(
        &self,
        change: impl FnOnce(&mut Configuration),
        password: Option<&str>,
    ) -> Result<Output, Error> {
        let mut configuration = Configuration {
            host: "127.0.0.1".to_owned(),
            port: u32::from(self.postgres.port),
            user: ROOT.to_owned(),
            ca_pem: std::fs::read_to_string(&self.postgres.ca).unwrap(),
            ..Configuration::default()
        };
        change(&mut configuration);
        let configuration = Configuration::parse(configuration)?;
        self.doing("db", Operation::Configure { configuration, password: password.map(SecretBytes::from) })
            .await
    }

    async fn doing(&self, at: &str, operation: Operation) -> Result<Output, Error> {
        if operation.is_write() || matches!(operation, Operation::Password) {
            return self.database.write(path(at), BY, now(), operation).await;
        }
        self.database.read(path(at), operation, |_| true).await
    }

    /// A user of the role at `at`.
    async fn user(&self, at: &str) -> Result<(User, Made), Error> {
        let planned = self.database.plan(&path(at), None, &Principal::Root, now()).await?;
        let made = self.database.make(&planned, later()).await?;
        assert_eq!(*planned.terms().what, *made.name);
        Ok((planned.user, made))
    }

    fn sees(&self, made: &Made) -> io::Result<String> {
        self.postgres.sql_as(&made.name, made.password.expose_str().unwrap(), "SELECT id FROM orders")
    }

    async fn password(&self, at: &str) -> String {
        let Output::Password(account) = self.doing(at, Operation::Password).await.unwrap() else { panic!() };
        String::from_utf8(account.secret.unwrap().current.unwrap().value.clone()).unwrap()
    }

    /// The sentence of what must fail.
    async fn wrong(&self, change: impl FnOnce(&mut Configuration), password: Option<&str>) -> String {
        match self.configure(change, password).await {
            Ok(_) => panic!("it worked"),
            Err(error) => error.to_string().replace(&self.postgres.port.to_string(), "PORT"),
        }
    }
}

/// Asks until it is so.
fn until(what: &str, so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < end, "{what}: not within 30 s");
    }
}

/// Kills what it holds.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_comes_and_goes_and_the_password_is_nowhere() {
    let Some(house) = House::open().await else { return };
    house.doing("db/reporting", Operation::PutRole(role(&[CREATE]))).await.unwrap();
    let (user, made) = house.user("db/reporting").await.unwrap();
    assert!(made.name.starts_with("sr_reporting_root_261126211903_"), "{}", made.name);
    assert_eq!(house.sees(&made).unwrap(), "7");
    let password = made.password.expose_str().unwrap();
    let denied = house.postgres.sql_as(&made.name, password, "INSERT INTO orders VALUES (8)").unwrap_err();
    assert!(denied.to_string().contains("permission denied"), "{denied}");

    // Both fences: it lives until then, and longer when it is renewed.
    let fence = || {
        house.postgres.sql(&format!(
            "SELECT extract(epoch FROM rolvaliduntil)::bigint FROM pg_roles WHERE rolname = '{}'",
            made.name
        ))
    };
    assert_eq!(fence().unwrap(), (later().as_millis() / 1000).to_string());
    let even_later = Timestamp::from_millis(later().as_millis() + 5000);
    house.database.renew(&user, even_later).await.unwrap();
    assert_eq!(fence().unwrap(), (even_later.as_millis() / 1000).to_string());

    // It ends with its session, and what it made is taken over.
    house.postgres.sql_as(&made.name, password, "CREATE TABLE kept (id int)").unwrap();
    let mut stays = Ended(house.postgres.stay_as(&made.name, password).unwrap());
    let sessions = || {
        house
            .postgres
            .sql(&format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", made.name))
            .unwrap()
    };
    until("the session is there", || sessions() == "1");
    house.database.revoke(&user).await.unwrap();
    stays.0.wait().unwrap();
    assert!(house.sees(&made).is_err());
    assert_eq!(house.postgres.sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'sr\\_%'").unwrap(), "0");
    assert_eq!(
        house.postgres.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'kept'").unwrap(),
        ROOT
    );
    // Again, and of one that was never made.
    house.database.revoke(&user).await.unwrap();
    let never = house.database.plan(&path("db/reporting"), None, &Principal::Root, now()).await.unwrap();
    house.database.revoke(&never.user).await.unwrap();
    assert!(house.database.renew(&user, later()).await.is_err());

    let log = house.postgres.log();
    assert!(log.contains("PASSWORD 'SCRAM-SHA-256$4096:") && !log.contains(password), "{log}");
}

/// What is kept of a user is enough, even if its role and the connection are others by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_ends_by_the_words_it_was_made_by() {
    let Some(house) = House::open().await else { return };
    let mut custom = role(&[CREATE]);
    custom.revocation = vec!["DROP ROLE {{name}}".to_owned()];
    house.doing("db/custom", Operation::PutRole(custom)).await.unwrap();
    let (user, made) = house.user("db/custom").await.unwrap();
    house.doing("db/custom", Operation::DeleteRole).await.unwrap();
    let kept = SecretBytes::from(prost::Message::encode_to_vec(&user));
    let user = User::kept(&kept).unwrap();
    house.database.revoke(&user).await.unwrap();
    assert!(house.sees(&made).is_err());

    // A mount that was configured anew does not take a user of elsewhere for one that is gone.
    let mut elsewhere = user;
    elsewhere.place = "elsewhere:5432".to_owned();
    let error = house.database.revoke(&elsewhere).await.unwrap_err();
    assert!(error.to_string().contains("which was made at elsewhere:5432; end it there"), "{error}");
    // A statement that the database refuses leaves nobody who can come in, and says why.
    let mut stuck = role(&[CREATE]);
    stuck.revocation = vec!["DROP TABLE nothing_of_that_name; DROP ROLE {{name}}".to_owned()];
    house.doing("db/stuck", Operation::PutRole(stuck)).await.unwrap();
    let (user, made) = house.user("db/stuck").await.unwrap();
    let error = house.database.revoke(&user).await.unwrap_err().to_string();
    assert!(error.ends_with("says table \"nothing_of_that_name\" does not exist (42P01)"), "{error}");
    assert!(house.sees(&made).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_configuration_has_its_sentence() {
    let Some(house) = House::open().await else { return };
    let right = Some(ROOT_PASSWORD);
    let elsewhere = tempfile::tempdir().unwrap();
    let other_ca = std::fs::read_to_string(pki::Pki::create(elsewhere.path()).unwrap().ca).unwrap();
    assert_eq!(
        house.wrong(|c| c.ca_pem = other_ca, right).await,
        "the database 127.0.0.1:PORT is not trusted: its certificate is not from an authority that is trusted"
    );
    assert_eq!(
        house.wrong(|c| c.host = "127.0.0.2".to_owned(), right).await,
        "the database 127.0.0.2:PORT cannot be reached: Connection refused (os error 111)"
    );
    assert_eq!(
        house.wrong(|_| (), Some("canary0wrong0password")).await,
        "the database 127.0.0.1:PORT says password authentication failed for user \"strongroom\" (28P01)"
    );
    assert_eq!(
        house.wrong(|c| c.database = "nothing".to_owned(), right).await,
        "the database 127.0.0.1:PORT says database \"nothing\" does not exist (3D000)"
    );
    let plain = |c: &mut Configuration| {
        c.plaintext = true;
        c.ca_pem.clear();
    };
    let refused = house.wrong(plain, right).await;
    assert!(refused.contains("no encryption"), "{refused}");
    let moved = house.wrong(|c| c.host = "localhost".to_owned(), None).await;
    assert_eq!(moved, "password: is missing; it has to be given again when host, port or user change");
    // What is kept still works: no wrong one was.
    house.doing("db/reporting", Operation::PutRole(role(&[CREATE]))).await.unwrap();
    house.user("db/reporting").await.unwrap();
    // And by the socket, which needs no TLS.
    let socket = |c: &mut Configuration| {
        plain(c);
        c.host = house.postgres.socket();
    };
    house.configure(socket, right).await.unwrap();
    house.user("db/reporting").await.unwrap();
}

/// Nothing that anybody says becomes SQL, and nothing that is secret becomes a sentence.
#[tokio::test(flavor = "multi_thread")]
async fn names_are_names_and_secrets_stay() {
    let Some(house) = House::open().await else { return };
    for name in ["o'brien\"; DROP TABLE orders; --", "größe\\'", &"x".repeat(63), "{{password}}", "a b"] {
        let quoted = sql::identifier(name);
        house.postgres.sql(&format!("CREATE ROLE {quoted} LOGIN")).unwrap();
        house.doing("db/app", taking(name)).await.unwrap();
        let first = house.password("db/app").await;
        assert_eq!(house.postgres.sql_as(name, &first, "SELECT 1").unwrap(), "1", "{name}");
        house.doing("db/app", Operation::RotateAccount).await.unwrap();
        let second = house.password("db/app").await;
        assert_eq!(house.postgres.sql_as(name, &second, "SELECT 1").unwrap(), "1", "{name}");
        assert!(house.postgres.sql_as(name, &first, "SELECT 1").is_err());
        assert!(!house.postgres.log().contains(&first) && !house.postgres.log().contains(&second));
        house.doing("db/app", Operation::DeleteAccount).await.unwrap();
    }
    assert_eq!(house.postgres.sql("SELECT count(*) FROM orders").unwrap(), "1");

    let nobody = house.doing("db/app", taking("nobody")).await.err().unwrap();
    assert!(nobody.to_string().ends_with("has no user nobody"), "{nobody}");
    assert!(matches!(house.doing("db/app", Operation::DescribeAccount).await, Err(Error::NotFound(_))));
    // A path is one thing.
    house.doing("db/reporting", Operation::PutRole(role(&[CREATE]))).await.unwrap();
    let taken = house.doing("db/reporting", taking("reader")).await;
    assert_eq!(taken.err().unwrap().to_string(), "there is a role at this path already");

    // The database quotes what it does not understand.
    house.doing("db/broken", Operation::PutRole(role(&["CREATE ROLE {{name}} {{password}}"]))).await.unwrap();
    let planned = house.database.plan(&path("db/broken"), None, &Principal::Root, now()).await.unwrap();
    let error = house.database.make(&planned, later()).await.err().unwrap();
    let told = format!("{error} {error:?}");
    assert!(told.contains("42601") && !told.contains("SCRAM"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_says_so_and_comes_back() {
    let Some(house) = House::open().await else { return };
    house.doing("db/reporting", Operation::PutRole(role(&[CREATE]))).await.unwrap();
    let (user, made) = house.user("db/reporting").await.unwrap();
    house.postgres.down().unwrap();
    let error = house.database.revoke(&user).await.unwrap_err();
    assert!(
        matches!(error, Error::Unavailable { .. }) && error.to_string().contains("cannot be reached"),
        "{error}"
    );
    house.postgres.up().unwrap();
    assert_eq!(house.sees(&made).unwrap(), "7");
    house.database.revoke(&user).await.unwrap();
    assert!(house.sees(&made).is_err());
}

/// A user that was being made when its maker gave up is not overlooked: its end waits for the end of its making.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_is_still_being_made_is_not_taken_for_one_that_never_was() {
    let Some(house) = House::open().await else { return };
    let slow = ["SELECT pg_sleep(8)", CREATE];
    house.doing("db/slow", Operation::PutRole(role(&slow))).await.unwrap();
    let planned = house.database.plan(&path("db/slow"), None, &Principal::Root, now()).await.unwrap();
    let (database, user) = (Arc::clone(&house.database), planned.user.clone());
    let making = tokio::spawn(async move { database.make(&planned, later()).await.map(drop) });
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(8)'";
    until("it is being made", || house.postgres.sql(sleeps).unwrap() == "1");
    // Nobody waits for a lock for as long as this takes; whoever is refused tries again, as leases do.
    let end = Instant::now() + Duration::from_secs(60);
    while let Err(error) = house.database.revoke(&user).await {
        assert!(matches!(error, Error::Unavailable { .. }) && Instant::now() < end, "{error}");
    }
    making.await.unwrap().unwrap();
    assert_eq!(house.postgres.sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'sr\\_%'").unwrap(), "0");
}

/// A password changes by itself when it is due, and once.
#[tokio::test(flavor = "multi_thread")]
async fn passwords_change_when_they_are_due() {
    let Some(house) = House::open().await else { return };
    let (at, database) = (path("db/app"), &house.database);
    house.postgres.sql("CREATE ROLE app LOGIN").unwrap();
    house.doing("db/app", taking("app")).await.unwrap();
    let far = now().plus(Duration::from_secs(366 * 86400));
    assert!(database.overdue(far).await.unwrap().is_empty());

    let first = house.password("db/app").await;
    let put = Operation::PutAccount { user: "app".to_owned(), rotation_period: 3600 };
    house.doing("db/app", put).await.unwrap();
    assert_eq!(house.password("db/app").await, first);
    let (early, due) = (now().plus(Duration::from_secs(3599)), now().plus(Duration::from_secs(3600)));
    assert!(database.overdue(early).await.unwrap().is_empty());
    database.rotate_if_due(&at, BY, early).await.unwrap();
    assert_eq!(house.password("db/app").await, first);

    let overdue = database.overdue(due).await.unwrap();
    let told: Vec<_> = overdue.iter().map(|due| (&*due.name, due.what.as_str())).collect();
    assert_eq!(told, [("app", "another password for app")]);
    house.postgres.down().unwrap();
    assert!(matches!(database.rotate_if_due(&at, BY, due).await, Err(Error::Unavailable { .. })));
    assert_eq!(database.overdue(due).await.unwrap().len(), 1);
    house.postgres.up().unwrap();
    database.rotate_if_due(&at, BY, due).await.unwrap();
    database.rotate_if_due(&at, BY, due).await.unwrap();
    let second = house.password("db/app").await;
    assert!(house.postgres.sql_as("app", &first, "SELECT 1").is_err());
    assert_eq!(house.postgres.sql_as("app", &second, "SELECT 1").unwrap(), "1");
    assert!(database.overdue(due).await.unwrap().is_empty());

    // Other users keep out, and so does what is gone.
    let other = house.doing("db/app", taking("reader")).await.err().unwrap();
    assert_eq!(other.to_string(), "there is an account of another user at this path already");
    house.doing("db/app", Operation::DeleteAccount).await.unwrap();
    database.rotate_if_due(&at, BY, far).await.unwrap();
}

/// Whatever was done when the server died, it gets in again, and one more change makes it whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_steps_of_a_rotation_locks_nobody_out() {
    let Some(mut house) = House::open().await else { return };
    let root = |postgres: &Postgres, password: &str| postgres.sql_as(ROOT, password, "SELECT 1").is_ok();
    assert!(root(&house.postgres, ROOT_PASSWORD));
    house.doing("db", Operation::RotateRoot).await.unwrap();
    assert!(!root(&house.postgres, ROOT_PASSWORD));
    let shown = house.doing("db", Operation::DescribeConfiguration).await.unwrap();
    let Output::Configuration { configuration, .. } = shown else { panic!() };
    assert_eq!(configuration.secret.unwrap().rotated_ms, now().as_millis());

    house.postgres.sql("CREATE ROLE app LOGIN").unwrap();
    house.doing("db/app", taking("app")).await.unwrap();
    house.doing("db/reporting", Operation::PutRole(role(&[CREATE]))).await.unwrap();
    for told in [false, true] {
        // Dies after the first step, or after the second.
        let (mut configuration, was) = house.database.records.configuration().await.unwrap();
        house.database.prepare(&path("db"), &mut configuration, was).await.unwrap();
        let (mut account, was) = house.database.records.get::<Account>(&path("db/app")).await.unwrap();
        house.database.prepare(&path("db/app"), &mut account, was).await.unwrap();
        if told {
            house.database.tell(&mut account).await.unwrap();
            house.database.tell(&mut configuration).await.unwrap();
        }
        house.database = on(house.view.clone());
        house.user("db/reporting").await.unwrap();
        assert!(house.postgres.sql_as("app", &house.password("db/app").await, "SELECT 1").is_ok());
        house.doing("db", Operation::RotateRoot).await.unwrap();
        let secret = house.database.records.configuration().await.unwrap().0.secret.unwrap();
        let password = String::from_utf8(secret.current.as_ref().unwrap().value.clone()).unwrap();
        assert!(secret.next.is_none() && root(&house.postgres, &password));
        assert!(!house.postgres.log().contains(&password));
    }
}

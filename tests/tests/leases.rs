//! Leases as those meet them who have them: users of a real PostgreSQL that end with the pod they were issued to, renewals in the
//! background, and the command line.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends at the first surprise")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use strongroom_client::{Client, ErrorKind, LeaseSelector, LeaseState, SecretBytes};
use strongroom_tests::{
    bench::subject::channel,
    cli::Cli,
    fake_kubernetes::FakeKubernetes,
    http::http_get,
    postgres::Postgres,
    shop::{HOUR, trusting},
    wait::{DEADLINE, until_async},
    world::{World, builder, log_in_as_pod},
};

const WORKER: &str = "strongroom";
const PASSWORD: &str = "a password of the tests";
const CREATE: &str = "CREATE ROLE {{name}} LOGIN PASSWORD {{password}} VALID UNTIL {{expires}}";
const POLICY: &str = "
kind: Role
name: users
rules:
- {paths: [db/**], verbs: [use]}
---
kind: Binding
name: users
role: users
subjects:
- serviceAccount: {cluster: main, namespace: shop, name: web}
- user: {method: userpass, name: alice}
";

/// A server with a database at `db/`, for pods and for alice.
struct House {
    kubernetes: FakeKubernetes,
    world: World,
    root: Client,
    postgres: Postgres,
}

impl House {
    async fn open() -> Option<Self> {
        let postgres = tokio::task::spawn_blocking(Postgres::start).await.unwrap().unwrap()?;
        let worker =
            format!("CREATE ROLE {WORKER} LOGIN CREATEROLE PASSWORD '{PASSWORD}' IN ROLE pg_signal_backend");
        postgres.sql(&worker).unwrap();
        let kubernetes = FakeKubernetes::start().await.unwrap();
        let world = trusting(&kubernetes, false).await.unwrap();
        let root = world.root().await.unwrap();
        root.sys().mount("db", "database", "", Default::default()).await.unwrap();
        let configure = root.database().configure("db", "127.0.0.1", WORKER).port(postgres.port);
        let ca = fs::read_to_string(&postgres.ca).unwrap();
        configure.ca_pem(ca).password(SecretBytes::from(PASSWORD)).send().await.unwrap();
        root.database().put_role("db/web", vec![CREATE.to_owned()]).send().await.unwrap();
        world.apply(POLICY).await.unwrap();
        Some(Self { kubernetes, world, root, postgres })
    }

    fn users(&self) -> Vec<String> {
        let names =
            self.postgres.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'sr\\_%' ORDER BY 1").unwrap();
        names.lines().filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    /// A lease goes after what it stands for.
    async fn until_none_is_left(&self) {
        let none = async || self.root.leases().list(None, false).await.unwrap().is_empty();
        until_async("no lease is left", none).await.unwrap();
    }

    async fn until_gone(&self, user: &str) {
        until_async(&format!("{user} is gone"), async || !self.users().iter().any(|name| name == user))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pod_was_issued_ends_with_the_pod() {
    let Some(house) = House::open().await else { return };
    let pod = house.kubernetes.create_pod("shop", "web", "web-0");
    let token = house.kubernetes.token(&pod, "strongroom", HOUR);
    let mut pods = Vec::new();
    let channel = channel(&house.world.server.url, &house.world.server.ca()).await.unwrap();
    // A pod is several sessions, one after the other; they share what it has.
    for _ in 0..2 {
        let answer = log_in_as_pod(&channel, "main", &token).await.unwrap();
        let token = SecretBytes::from(answer.token.as_ref().unwrap().value.as_slice());
        pods.push(builder(&house.world.server).token(token).connect().await.unwrap());
    }
    let user = pods[0].database().issue("db/web", None).await.unwrap();
    assert_eq!(house.users(), [user.user.as_str()]);
    let own = pods[1].leases().list(Some(&LeaseSelector::Own), false).await.unwrap();
    assert_eq!(own.len(), 1);
    assert_eq!((own[0].what.as_str(), own[0].pod.as_deref()), (user.user.as_str(), Some(pod.uid.as_str())));
    pods[1].leases().renew(&user.lease.id, None).await.unwrap();
    pods[0].auth().logout().await.unwrap();
    house.until_gone(&user.user).await;

    let user = pods[1].database().issue("db/web", None).await.unwrap();
    house.kubernetes.delete_pod(&pod);
    let deleted = Instant::now();
    house.until_gone(&user.user).await;
    println!("the user of a deleted pod was gone after {:?}", deleted.elapsed());
    house.until_none_is_left().await;
}

/// Renewed in the background until there is no more, and told then; and told when somebody ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_kept_as_long_as_it_can_be() {
    let Some(house) = House::open().await else { return };
    let alice = house.world.user("alice", &[]).await.unwrap();
    let short = Some(Duration::from_secs(6));
    let user = alice.database().issue("db/web", short).await.unwrap();
    let mut kept = alice.leases().keep(user.lease.clone());
    let state = tokio::time::timeout(DEADLINE, kept.changed()).await.unwrap();
    assert!(
        matches!(&state, LeaseState::Kept(lease) if lease.expires_at > user.lease.expires_at),
        "{state:?}"
    );
    let longest = alice.leases().renew(&user.lease.id, Some(HOUR * 10_000)).await.unwrap();
    assert_eq!(longest.expires_at, user.lease.max_expires_at);
    let state = tokio::time::timeout(DEADLINE, kept.changed()).await.unwrap();
    assert!(matches!(&state, LeaseState::Last(lease) if lease.expires_at == longest.expires_at), "{state:?}");
    assert!(house.users().contains(&user.user));

    let user = alice.database().issue("db/web", short).await.unwrap();
    let mut kept = alice.leases().keep(user.lease.clone());
    house.root.leases().revoke(&LeaseSelector::Id(user.lease.id)).await.unwrap();
    let state = tokio::time::timeout(DEADLINE, kept.changed()).await.unwrap();
    assert!(matches!(&state, LeaseState::Lost(why) if why.kind() == &ErrorKind::NotFound), "{state:?}");
}

/// A database that is away: said at once, shown as stuck, counted; and ended when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_ended_is_seen_by_operators() {
    let Some(house) = House::open().await else { return };
    let token = house.world.home.path().join("root-token");
    fs::write(&token, house.world.keys.root_token.expose()).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let cli = Cli::new(&house.world.home.path().join("cli"), &house.world.server).unwrap().with_token(&token);
    let user = house.root.database().issue("db/web", None).await.unwrap();
    let id = user.lease.id.as_str();
    assert!(cli.ok(&["lease", "list"], b"").unwrap().contains(&user.user));
    assert!(cli.ok(&["lease", "show", id], b"").unwrap().contains("db/web"));
    assert!(cli.ok(&["lease", "renew", id, "--for", "2h"], b"").unwrap().contains("renewed until"));

    house.postgres.down().unwrap();
    let told = cli.ok(&["lease", "revoke", "--prefix", "db", "--yes"], b"").unwrap();
    assert!(told.contains("ended 0 leases; 1 could not be ended yet"), "{told}");
    let stuck = async || cli.ok(&["lease", "list", "--all", "--stuck"], b"").unwrap().contains(id);
    until_async("it is called stuck", stuck).await.unwrap();
    let counted = async || {
        let (_, metrics) = http_get(house.world.server.ops, "/metrics").unwrap();
        metrics.contains("strongroom_leases{state=\"stuck\"} 1")
    };
    until_async("it is counted", counted).await.unwrap();
    let refused = house.root.sys().unmount("db").await.unwrap_err();
    assert!(refused.to_string().contains("has 1 leases; end them first"), "{refused}");

    house.postgres.up().unwrap();
    house.until_gone(&user.user).await;
    house.until_none_is_left().await;

    // One whose database never comes back.
    let user = house.root.database().issue("db/web", None).await.unwrap();
    house.postgres.down().unwrap();
    let refused = cli.run(&["lease", "forget", &user.lease.id], b"").unwrap();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("--yes"));
    let told = cli.ok(&["lease", "forget", &user.lease.id, "--yes"], b"").unwrap();
    assert!(told.contains(&user.user) && told.contains("by hand"), "{told}");
}

//! A pod gets a database user or a certificate of its own as files: real server, real driver, real PostgreSQL, and a fake Kubernetes
//! API.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test ends at the first surprise")]

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use strongroom_client::{Lease, LeaseSelector};
use strongroom_csi::wire::provider::csi_driver_provider_client::CsiDriverProviderClient;
use strongroom_tests::{
    cli::Cli,
    database::{CREATE, Database},
    fake_kubernetes::Pod,
    node::{Kubelet, Volume, mount_request},
    one_node::{OneNode, may_mount},
    wait::{until, until_async},
};

const ISSUE: &str = "
- issue: db/app
- issue: db/app
  template: {url: \"postgres://{{username}}:{{password}}@{{host}}:{{port}}/{{database}}\"}
";
const POLICY: &str = "
kind: Role
name: database
rules:
- {paths: [db/app], verbs: [use]}
---
kind: Binding
name: database
role: database
subjects: [{serviceAccount: {cluster: main, namespace: shop, name: web}}]
";

struct House {
    cluster: OneNode,
    database: Database,
    kubelet: Kubelet,
}

impl House {
    async fn open(ttl: Duration, max: Duration) -> Option<Self> {
        if !may_mount() {
            return None;
        }
        let database = Database::start().await.unwrap()?;
        let cluster = OneNode::start(false).await.unwrap();
        database.mount(&cluster.shop.root).await.unwrap();
        let role = cluster.shop.root.database().put_role("db/app", vec![CREATE.to_owned()]);
        role.ttl(ttl).max_ttl(max).send().await.unwrap();
        cluster.shop.world.apply(POLICY).await.unwrap();
        let kubelet = cluster.kubelet().await.unwrap();
        Some(Self { cluster, database, kubelet })
    }

    async fn publish(&self, name: &str) -> (Pod, Volume) {
        let pod = self.cluster.shop.pod(name);
        let volume = self.cluster.node.volume(&pod, "database", ISSUE).unwrap();
        self.kubelet.publish(volume.publish(&self.cluster.shop.token(&pod))).await.unwrap();
        (pod, volume)
    }

    /// Whether what is in the volume is good.
    fn works(&self, volume: &Volume) -> bool {
        self.database.reads(&volume.read("username"), &volume.read("password"))
    }

    async fn leases(&self) -> Vec<Lease> {
        let below = LeaseSelector::Prefix("db/app".to_owned());
        let leases = self.cluster.shop.root.leases().list(Some(&below), false).await.unwrap();
        leases.into_iter().map(|info| info.lease).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_comes_and_goes_with_its_pod() {
    let hour = Duration::from_secs(3600);
    let Some(house) = House::open(hour, hour * 24).await else { return };
    let (pod, volume) = house.publish("web-0").await;
    assert!(house.works(&volume));
    let (user, password) = (volume.read("username"), volume.read("password"));
    let port = house.database.postgres.port;
    assert_eq!(volume.read("url"), format!("postgres://{user}:{password}@127.0.0.1:{port}/postgres"));
    // As every minute.
    house.kubelet.publish(volume.publish(&house.cluster.shop.token(&pod))).await.unwrap();
    let (_other_pod, other) = house.publish("web-1").await;
    assert_ne!(other.read("username"), user);
    assert_eq!(house.database.users(), "2");

    let began = Instant::now();
    house.kubelet.unpublish(volume.unpublish()).await.unwrap();
    println!("unpublished in {:?}", began.elapsed());
    until("the user is gone", || !house.database.reads(&user, &password)).unwrap();
    println!("gone {:?} after the unpublish began", began.elapsed());
    assert_eq!(house.database.users(), "1");
    assert!(house.works(&other));
    house.kubelet.unpublish(other.unpublish()).await.unwrap();
    until("all are gone", || house.database.users() == "0").unwrap();
    assert_eq!(house.cluster.node.leftovers().unwrap(), Vec::<String>::new());

    let log = house.cluster.node.log() + &house.cluster.shop.world.server.log();
    assert!(!log.contains(&password), "a password is in a log");
}

/// The node dies, for example: nobody unpublishes.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_goes_with_a_pod_that_nobody_unpublished() {
    let hour = Duration::from_secs(3600);
    let Some(mut house) = House::open(hour, hour * 24).await else { return };
    let (pod, volume) = house.publish("web-0").await;
    assert!(house.works(&volume));
    house.cluster.node.kill().unwrap();
    let began = Instant::now();
    house.cluster.shop.kubernetes.delete_pod(&pod);
    until("the user is gone", || house.database.users() == "0").unwrap();
    println!("gone {:?} after the pod", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_renewed_also_by_the_next_driver_and_replaced_in_time() {
    let Some(mut house) = House::open(Duration::from_secs(6), Duration::from_secs(24)).await else { return };
    let (pod, volume) = house.publish("web-0").await;
    let (user, password) = (volume.read("username"), volume.read("password"));
    let first = house.leases().await.remove(0);
    let renewed =
        async || house.leases().await.iter().any(|l| l.id == first.id && l.expires_at > first.expires_at);
    until_async("it is renewed", renewed).await.unwrap();

    // A driver that is killed has nothing issued again.
    house.cluster.node.kill().unwrap();
    house.cluster.node.restart().unwrap();
    house.kubelet = house.cluster.kubelet().await.unwrap();
    let before = house.leases().await.remove(0);
    house.kubelet.publish(volume.publish(&house.cluster.shop.token(&pod))).await.unwrap();
    let renewed =
        async || house.leases().await.iter().any(|l| l.id == first.id && l.expires_at > before.expires_at);
    until_async("it is renewed again", renewed).await.unwrap();
    assert_eq!((volume.read("username"), house.database.users().as_str()), (user.clone(), "1"));

    until("another one takes its place", || volume.read("username") != user).unwrap();
    assert!(house.works(&volume) && house.database.reads(&user, &password), "both are good for a while");
    assert!(volume.read("url").contains(&volume.read("username")));
    until("the former is gone", || !house.database.reads(&user, &password)).unwrap();
    assert!(house.works(&volume));
    house.kubelet.unpublish(volume.unpublish()).await.unwrap();
    until("all are gone", || house.database.users() == "0").unwrap();
}

/// Key, certificate and chain of a pod's own name, which OpenSSL takes; and the certificate is revoked with the volume.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_a_certificate_of_its_own() {
    if !may_mount() {
        return;
    }
    let cluster = OneNode::start(false).await.unwrap();
    let (shop, root) = (&cluster.shop, &cluster.shop.root);
    root.sys().mount("pki", "pki", "", Default::default()).await.unwrap();
    root.pki().create_issuer("pki/root", "CN=Root").send().await.unwrap();
    let name = "spiffe://example.org/ns/{{namespace}}/sa/{{serviceaccount}}".to_owned();
    root.pki().put_role("pki/pods").uris(vec![name]).lease(true).send().await.unwrap();
    shop.world.apply(&POLICY.replace("db/app", "pki/pods")).await.unwrap();
    let kubelet = cluster.kubelet().await.unwrap();
    let pod = shop.pod("web-0");
    let volume = cluster.node.volume(&pod, "certificate", "- issue: pki/pods\n").unwrap();
    kubelet.publish(volume.publish(&shop.token(&pod))).await.unwrap();

    let folder = shop.world.home.path();
    let copy = |name: &str| fs::write(folder.join(name), volume.read(name)).unwrap();
    ["tls.key", "tls.crt", "ca.crt"].into_iter().for_each(copy);
    let openssl = |arguments: &[&str]| {
        let done = Command::new("openssl").current_dir(folder).args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    openssl(&["verify", "-x509_strict", "-CAfile", "ca.crt", "tls.crt"]);
    let text = openssl(&["x509", "-in", "tls.crt", "-noout", "-text"]);
    assert!(text.contains("URI:spiffe://example.org/ns/shop/sa/web"), "{text}");
    let public = openssl(&["x509", "-in", "tls.crt", "-noout", "-pubkey"]);
    assert_eq!(openssl(&["pkey", "-in", "tls.key", "-pubout"]), public);

    kubelet.unpublish(volume.unpublish()).await.unwrap();
    let serial = openssl(&["x509", "-in", "tls.crt", "-noout", "-serial"]);
    let serial = serial.trim().trim_start_matches("serial=");
    let is_revoked = async || {
        fs::write(folder.join("list.der"), root.pki().crl("pki/root", false).await.unwrap().der).unwrap();
        openssl(&["crl", "-inform", "DER", "-in", "list.der", "-noout", "-text"]).contains(serial)
    };
    until_async("the certificate is revoked", is_revoked).await.unwrap();
}

/// What can be known without having anything issued, and who gets nothing.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_use_a_role_is_told_before_and_after() {
    let hour = Duration::from_secs(3600);
    let Some(house) = House::open(hour, hour).await else { return };
    let stranger = house.cluster.shop.kubernetes.create_pod("pay", "api", "api-0");
    let volume = house.cluster.node.volume(&stranger, "database", ISSUE).unwrap();
    let token = house.cluster.shop.token(&stranger);
    let refused = house.kubelet.publish(volume.publish(&token)).await.unwrap_err();
    assert!(refused.message().contains("may not use db/app"), "{refused}");

    // Another driver's volumes end without our hearing of it.
    let socket = house.cluster.home.path().join("provider.sock");
    let provider = format!("--provider-socket={}", socket.display());
    let other = house.cluster.add_node("other", &[&provider]).unwrap();
    let pod = house.cluster.shop.pod("web-0");
    let mut client = CsiDriverProviderClient::new(other.channel_at("../provider.sock").await.unwrap());
    let refused = client
        .mount(mount_request(&pod, ISSUE, &house.cluster.shop.token(&pod)))
        .await
        .map(drop)
        .unwrap_err();
    assert!(refused.message().contains("neither renewed nor revoked"), "{refused}");

    let world = &house.cluster.shop.world;
    fs::write(world.home.path().join("root-token"), world.keys.root_token.expose()).unwrap();
    let cli = Cli::new(&world.home.path().join("root"), &world.server).unwrap();
    let cli = cli.with_token(&world.home.path().join("root-token"));
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/database-user.yaml");
    let example = fs::read(example).unwrap();
    let told = cli.run(&["explain", "volume", "-f", "-"], &example).unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("0 of 1 volume would mount"), "{told}");
    let policy = POLICY.replace("db/app", "database/shop").replace("name: web}", "name: shop}");
    world.apply(&policy).await.unwrap();
    let told = cli.run(&["explain", "volume", "-f", "-"], &example).unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("1 of 1 volume would mount") && told.contains("may use database/shop"), "{told}");
    assert_eq!(house.database.users(), "0");
}

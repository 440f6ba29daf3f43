//! Pods get their secrets as files: the real driver against the real server, with a fake Kubernetes API behind it and the
//! kubelet's side of the sockets played by the test.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test ends at the first surprise"
)]

use std::{
    fs,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use strongroom_client::SecretBytes;
use strongroom_csi::wire::csi::{
    GetPluginCapabilitiesRequest, GetPluginInfoRequest, NodeGetCapabilitiesRequest, NodeGetInfoRequest,
    NodePublishVolumeRequest, NodeUnpublishVolumeRequest, ProbeRequest, VolumeCapability,
    identity_client::IdentityClient,
    node_client::NodeClient,
    node_service_capability::Type,
    volume_capability::{AccessType, BlockVolume, MountVolume},
};
use strongroom_csi::wire::provider::{
    MountRequest, VersionRequest, csi_driver_provider_client::CsiDriverProviderClient,
};
use strongroom_tests::{
    audit_log::segments,
    faults::driver,
    http::http_get,
    node::{Node, Volume, mount_request},
    one_node::{OneNode, SECRETS, may_mount},
    server::{Options, Server},
    shop::{self, DB, HOUR, Shop},
    wait::{nothing_for, until, until_async},
    world::World,
};
use tonic::Code;

const POLICY_FOR_BATCH: &str = r#"
kind: Binding
name: batch
role: own
subjects:
- serviceAccount: {cluster: main, namespace: shop, name: batch}
"#;

fn is_clean(cluster: &OneNode) {
    assert_eq!(cluster.node.leftovers().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_mean_nothing_end_nothing() {
    if !may_mount() {
        return;
    }
    let mut cluster = OneNode::start(false).await.unwrap();
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2] {
        cluster.node.signal(signal).unwrap();
    }
    until("all are told", || {
        let log = cluster.node.log();
        log.contains("SIGHUP") && log.matches("means nothing here").count() == 2
    })
    .unwrap();
    assert!(cluster.node.ended().unwrap().is_none());
    cluster.node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_its_secrets_as_files_and_leaves_nothing() {
    if !may_mount() {
        return;
    }
    let cluster = OneNode::start(false).await.unwrap();
    let kubelet = cluster.kubelet().await.unwrap();
    let secrets = r#"
- path: secret/apps/shop/db
  dir: db
- path: secret/apps/shop/db
  template: {database.url: "postgres://{{user}}:{{password}}@db"}
  mode: "0400"
- path: secret/apps/shop/nothing
  optional: true
"#;
    let pod = cluster.shop.pod("web-0");
    let volume = Volume { group: "2000".into(), ..cluster.node.volume(&pod, "secrets", secrets).unwrap() };
    let token = cluster.shop.token(&pod);
    kubelet.publish(volume.publish(&token)).await.unwrap();
    assert_eq!((volume.read("db/user").as_str(), volume.read("db/password").as_str()), ("shop", "one"));
    assert_eq!(volume.read("database.url"), "postgres://shop:one@db");
    let file = |name: &str| fs::metadata(volume.target.join(name)).unwrap();
    assert_eq!((file("db/user").mode() & 0o7777, file("db/user").gid()), (0o440, 2000));
    assert_eq!(file("database.url").mode() & 0o7777, 0o400);
    assert_eq!((file("").mode() & 0o7777, file("").gid()), (0o750, 2000));

    // What `csi-driver/src/publish_idle_tests.rs` counts with: one secret more is its path more.
    let records = segments(&cluster.shop.world.server.directory.join("audit")).unwrap();
    let records: String = records.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for (operation, most) in [("Auth.Login", 700), ("Secrets.Watch", 800), ("Secrets.Get", 800)] {
        let of_pods = records.lines().filter(|line| line.contains(operation) && line.contains("\"pod\""));
        let longest = of_pods.map(str::len).max().unwrap();
        println!("{operation}: {longest} bytes");
        assert!(longest <= most, "{operation}: {longest} bytes");
    }

    // The same call again, as every minute, and with the token elsewhere.
    kubelet.publish(volume.publish_with_secrets(&token)).await.unwrap();
    let stats = kubelet.stats(&volume).await.unwrap();
    assert_eq!(stats.usage.len(), 2);
    assert!(stats.usage.iter().all(|usage| usage.total >= usage.used && usage.used > 0), "{stats:?}");
    assert_eq!(
        kubelet.condition(&volume).await.unwrap(),
        (false, "the content is current (secret/apps/shop/db@1)".into())
    );
    let elsewhere = Volume { target: "/nowhere".into(), ..volume.clone() };
    assert_eq!(kubelet.stats(&elsewhere).await.unwrap_err().code(), Code::NotFound);

    let log = cluster.node.log();
    assert_eq!(log.matches("\"published\"").count(), 1, "{log}");
    assert!(!log.contains(&token) && !log.contains("postgres://"), "{log}");
    kubelet.unpublish(volume.unpublish()).await.unwrap();
    kubelet.unpublish(volume.unpublish()).await.unwrap();
    is_clean(&cluster);
    assert_eq!(kubelet.stats(&volume).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_reaches_the_disk_in_well_under_a_second() {
    if !may_mount() {
        return;
    }
    let cluster = OneNode::start(false).await.unwrap();
    let kubelet = cluster.kubelet().await.unwrap();
    let (pod, volume) = cluster.pod("web-0").unwrap();
    kubelet.publish(volume.publish(&cluster.shop.token(&pod))).await.unwrap();
    let mut times = Vec::new();
    for round in 0..50 {
        let value = format!("value-{round}");
        let began = Instant::now();
        cluster.shop.put(&value).await.unwrap();
        until("the new content", || volume.read("password") == value).unwrap();
        times.push(began.elapsed());
    }
    times.sort();
    println!("rotation, put to new content: p50 {:?}, p99 {:?}", times[25], times[49]);
    assert!(times[49] < Duration::from_secs(1), "{:?}", times[49]);
    assert_eq!(metric(&cluster.node, "strongroom_csi_logins_total"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_what_is_missing_and_the_pod_starts_when_it_is_there() {
    if !may_mount() {
        return;
    }
    let cluster = OneNode::start(false).await.unwrap();
    let kubelet = cluster.kubelet().await.unwrap();
    let pod = cluster.shop.kubernetes.create_pod("shop", "batch", "job-0");
    let volume = cluster.node.volume(&pod, "secrets", SECRETS).unwrap();
    let token = cluster.shop.token(&pod);
    let refused = kubelet.publish(volume.publish(&token)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    for part in
        ["kubernetes/main/shop/batch may not read secret/apps/shop/db", "ask for a role", "strongroom can-i"]
    {
        assert!(refused.message().contains(part), "{part} is missing in {}", refused.message());
    }
    is_clean(&cluster);
    cluster.shop.world.apply(POLICY_FOR_BATCH).await.unwrap();
    kubelet.publish(volume.publish(&token)).await.unwrap();
    assert_eq!(volume.read("password"), "one");

    // Nobody else's token works, and none of it is repeated.
    let (_, other) = cluster.pod("web-1").unwrap();
    let forged = format!("{}x", &token[..token.len() - 1]);
    for token in [forged, cluster.shop.kubernetes.token(&pod, "vault", HOUR), "nonsense".to_owned()] {
        let refused = kubelet.publish(other.publish(&token)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        assert!(refused.message().contains("refused the login of kubernetes/main/shop/web"), "{refused}");
        assert!(!refused.message().contains(&token) && !cluster.node.log().contains(&token));
    }
    let missing = cluster.node.volume(&pod, "more", "- path: secret/apps/shop/nothing\n").unwrap();
    let refused = kubelet.publish(missing.publish(&token)).await.unwrap_err();
    assert!(refused.message().starts_with("secret/apps/shop/nothing: not found"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_takes_nothing_from_running_pods_and_new_ones_wait() {
    if !may_mount() {
        return;
    }
    let cluster = OneNode::start(false).await.unwrap();
    let kubelet = cluster.kubelet().await.unwrap();
    let (pod, volume) = cluster.pod("web-0").unwrap();
    let (late, waiting) = cluster.pod("web-1").unwrap();
    let token = cluster.shop.token(&pod);
    kubelet.publish(volume.publish(&token)).await.unwrap();
    let OneNode { shop: Shop { world, kubernetes, .. }, node, .. } = cluster;
    let World { server, home, keys } = world;
    let address = server.url.trim_start_matches("https://").to_owned();
    server.stop().unwrap();

    until_async("the condition is told", async || kubelet.condition(&volume).await.unwrap().0).await.unwrap();
    for _ in 0..3 {
        kubelet.publish(volume.publish(&token)).await.unwrap();
    }
    assert_eq!(volume.read("password"), "one");
    let late_token = kubernetes.token(&late, "strongroom", HOUR);
    let call = tokio::spawn(async move {
        let published = kubelet.publish(waiting.publish(&late_token)).await;
        (kubelet, waiting, published)
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!call.is_finished(), "a pod is not refused for an outage");

    let config = kubernetes.config_toml("main");
    let server = restart(home.path(), &address, config);
    let (kubelet, waiting, published) = call.await.unwrap();
    published.unwrap();
    assert_eq!(waiting.read("password"), "one");
    until_async("all is well again", async || !kubelet.condition(&volume).await.unwrap().0).await.unwrap();
    // The session from before goes on: changes are told again.
    let token = SecretBytes::from(keys.root_token.expose());
    let root = strongroom_tests::world::builder(&server).token(token).connect().await.unwrap();
    shop::put(&root, "two").await.unwrap();
    until("the new content", || volume.read("password") == "two" && waiting.read("password") == "two")
        .unwrap();
    assert_eq!(metric(&node, "strongroom_csi_logins_total"), 2);
}

/// The same server again, at the same address.
fn restart(home: &std::path::Path, address: &str, config: String) -> Server {
    let path = home.join("server.toml");
    drop(Server::start(home, &Options { config, ..Options::default() }).map(Server::kill));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("127.0.0.1:0", address, 1)).unwrap();
    Server::start_as_configured(home, &Options::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_is_restarted_goes_on_where_it_was() {
    if !may_mount() {
        return;
    }
    let mut cluster = OneNode::start(false).await.unwrap();
    let (pod, volume) = cluster.pod("web-0").unwrap();
    let token = cluster.shop.token(&pod);
    cluster.kubelet().await.unwrap().publish(volume.publish(&token)).await.unwrap();
    for graceful in [true, false] {
        if graceful {
            cluster.node.stop().unwrap();
        } else {
            cluster.node.kill().unwrap();
        }
        let value = format!("while it was away {graceful}");
        cluster.shop.put(&value).await.unwrap();
        assert!(!volume.read("password").is_empty());
        cluster.node.restart().unwrap();
        let kubelet = cluster.kubelet().await.unwrap();
        assert!(kubelet.condition(&volume).await.unwrap().0);
        kubelet.publish(volume.publish(&token)).await.unwrap();
        until("what was missed", || volume.read("password") == value).unwrap();
        let value = format!("and then {graceful}");
        cluster.shop.put(&value).await.unwrap();
        until("the new content", || volume.read("password") == value).unwrap();
    }
    cluster.kubelet().await.unwrap().unpublish(volume.unpublish()).await.unwrap();
    is_clean(&cluster);
}

/// A few of what `make faults` tries a hundred times, and 500 before a release.
#[tokio::test(flavor = "multi_thread")]
async fn kills_in_the_middle_leave_nothing() {
    if !may_mount() {
        return;
    }
    let tally = driver::rounds(20, 1).await.unwrap();
    assert_eq!((tally.left, tally.partial), (0, 0));
    assert!(tally.cut_off > 0, "no kill hit a call");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubelet_registers_the_driver_and_a_refusal_ends_it() {
    if !may_mount() {
        return;
    }
    let mut cluster = OneNode::start(false).await.unwrap();
    let ready = |cluster: &OneNode| http_get(cluster.node.ops(), "/readyz").unwrap().0;
    assert_eq!(http_get(cluster.node.ops(), "/healthz").unwrap(), (200, "ok\n".into()));
    assert_eq!(ready(&cluster), 503);
    let info = cluster.node.register(None).await.unwrap();
    assert_eq!((info.r#type.as_str(), info.name.as_str()), ("CSIPlugin", "csi.strongroom.dev"));
    assert!(info.endpoint.ends_with("/kubelet/plugins/csi.strongroom.dev/csi.sock"), "{}", info.endpoint);
    assert_eq!(info.supported_versions, ["1.0.0"]);
    assert_eq!(ready(&cluster), 200);

    cluster.node.register(Some("no room for csi.strongroom.dev")).await.unwrap();
    let mut status = None;
    until("the driver ends", || {
        status = cluster.node.ended().unwrap();
        status.is_some()
    })
    .unwrap();
    assert_eq!(status.unwrap().code(), Some(1));
    assert!(cluster.node.log().contains("no room for csi.strongroom.dev"));
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_and_node_say_what_the_specification_wants() {
    if !may_mount() {
        return;
    }
    let cluster = OneNode::start(false).await.unwrap();
    let channel = cluster.node.channel().await.unwrap();
    let mut identity = IdentityClient::new(channel.clone());
    let info = identity.get_plugin_info(GetPluginInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.name, "csi.strongroom.dev");
    assert!(!info.vendor_version.is_empty() && info.name.len() <= 63);
    let capabilities = identity.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await.unwrap();
    assert!(capabilities.into_inner().capabilities.is_empty());
    assert_eq!(identity.probe(ProbeRequest {}).await.unwrap().into_inner().ready, Some(true));

    let mut node = NodeClient::new(channel.clone());
    let info = node.node_get_info(NodeGetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.node_id.as_str(), info.max_volumes_per_node), ("node-1", 0));
    let capabilities = node.node_get_capabilities(NodeGetCapabilitiesRequest {}).await.unwrap().into_inner();
    let numbers: Vec<i32> = capabilities
        .capabilities
        .into_iter()
        .filter_map(|capability| match capability.r#type? {
            Type::Rpc(rpc) => Some(rpc.r#type),
        })
        .collect();
    // VOLUME_MOUNT_GROUP, GET_VOLUME_STATS, VOLUME_CONDITION as the specification numbers them.
    assert_eq!(numbers, [6, 2, 4]);

    // What is not there is said to be not there.
    for method in ["NodeStageVolume", "NodeUnstageVolume", "NodeExpandVolume"] {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let path = format!("/csi.v1.Node/{method}").parse().unwrap();
        let codec = tonic_prost::ProstCodec::<ProbeRequest, ProbeRequest>::default();
        let refused = client.unary(tonic::Request::new(ProbeRequest {}), path, codec).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_hostile_is_refused_and_nothing_is_touched() {
    if !may_mount() {
        return;
    }
    let cluster = OneNode::start(false).await.unwrap();
    let kubelet = cluster.kubelet().await.unwrap();
    let (pod, volume) = cluster.pod("web-0").unwrap();
    let token = cluster.shop.token(&pod);
    type Change = Box<dyn Fn(&mut NodePublishVolumeRequest)>;
    let mut wrong: Vec<(String, Change)> = vec![
        ("no id".into(), Box::new(|m| m.volume_id.clear())),
        ("a long id".into(), Box::new(|m| m.volume_id = "x".repeat(257))),
        ("no target".into(), Box::new(|m| m.target_path.clear())),
        ("no capability".into(), Box::new(|m| m.volume_capability = None)),
        ("no access type".into(), Box::new(|m| m.volume_capability = Some(VolumeCapability::default()))),
        (
            "a block device".into(),
            Box::new(|m| {
                let block = Some(AccessType::Block(BlockVolume {}));
                m.volume_capability = Some(VolumeCapability { access_type: block, access_mode: None });
            }),
        ),
        ("to write".into(), Box::new(|m| m.readonly = false)),
        ("persistent".into(), Box::new(|m| drop(m.volume_context.remove("csi.storage.k8s.io/ephemeral")))),
        ("no attributes".into(), Box::new(|m| drop(m.volume_context.remove("secrets")))),
        ("unknown".into(), Box::new(|m| drop(m.volume_context.insert("secret".into(), "x".into())))),
    ];
    for path in hostile_targets(&volume) {
        wrong.push((path.clone(), Box::new(move |m| m.target_path = path.clone())));
    }
    for name in HOSTILE_NAMES {
        let secrets = format!("- path: {DB}\n  keys: {{password: {name}}}\n");
        wrong.push((
            secrets.clone(),
            Box::new(move |m| drop(m.volume_context.insert("secrets".into(), secrets.clone()))),
        ));
        let secrets = format!("- path: {DB}\n  dir: {name}\n");
        wrong.push((
            secrets.clone(),
            Box::new(move |m| drop(m.volume_context.insert("secrets".into(), secrets.clone()))),
        ));
    }
    println!("{} wrong requests", wrong.len());
    assert!(wrong.len() >= 50);
    for (what, change) in wrong {
        let mut request = volume.publish(&token);
        change(&mut request);
        let refused = kubelet.publish(request).await.expect_err(&what);
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {refused}");
        assert!(!refused.message().contains(&token), "{what}");
        is_clean(&cluster);
    }
    for (id, target) in
        [("", volume.target.display().to_string()), ("x", String::new()), ("x", "/etc/mount".into())]
    {
        let request = NodeUnpublishVolumeRequest { volume_id: id.into(), target_path: target };
        assert_eq!(kubelet.unpublish(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let unknown = NodeUnpublishVolumeRequest { volume_id: "unknown".into(), ..volume.unpublish() };
    kubelet.unpublish(unknown).await.unwrap();
    assert_eq!(metric(&cluster.node, "strongroom_csi_logins_total"), 0);
}

const HOSTILE_NAMES: [&str; 16] = [
    "../up",
    "/etc/cron.d/x",
    "a/../../b",
    "..",
    ".",
    "..data",
    "..2026_01_01",
    "a/..data/b",
    "a//b",
    "a/",
    "./a",
    "\"a\\0b\"",
    "\"a\\nb\"",
    "a b",
    "\"\"",
    "a/b/c/d/e/f/g/h/i",
];

fn hostile_targets(volume: &Volume) -> Vec<String> {
    let target = volume.target.display().to_string();
    let (pods, _) = target.split_once("/pods/").unwrap();
    [
        "/etc".to_owned(),
        "/".to_owned(),
        "mount".to_owned(),
        target.trim_start_matches('/').to_owned(),
        format!("{target}/"),
        format!("{target}/.."),
        format!("{target}/../../../../../../../../etc/mount"),
        format!("/proc/self/root{target}"),
        format!("/{target}"),
        target.replace("/pods/", "/pods//"),
        target.replace("/pods/", "/pods/./"),
        target.replace("/kubelet/", "/kubelet/../kubelet/"),
        format!("{pods}/pods/another/volumes/kubernetes.io~csi/secrets/mount"),
        format!("{target}\0"),
        format!("{pods}/{}", "x".repeat(4000)),
    ]
    .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_once_and_long_ids_are_served() {
    if !may_mount() {
        return;
    }
    let cluster = OneNode::start(false).await.unwrap();
    let kubelet = std::sync::Arc::new(cluster.kubelet().await.unwrap());
    let mut calls = Vec::new();
    let mut volumes = Vec::new();
    for n in 0..20 {
        let (pod, volume) = cluster.pod(&format!("web-{n}")).unwrap();
        let volume = Volume { id: format!("{n}-{}", "é/../x".repeat(20)), ..volume };
        let (kubelet, request) = (std::sync::Arc::clone(&kubelet), volume.publish(&cluster.shop.token(&pod)));
        calls.push(tokio::spawn(async move { kubelet.publish(request).await }));
        volumes.push(volume);
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(volumes.iter().all(|volume| volume.read("password") == "one"));

    // One volume, many calls: one mounts, the others are told that it is at work or done.
    let (pod, volume) = cluster.pod("web-all").unwrap();
    let token = cluster.shop.token(&pod);
    let mut calls = Vec::new();
    for _ in 0..20 {
        let (kubelet, request) = (std::sync::Arc::clone(&kubelet), volume.publish(&token));
        calls.push(tokio::spawn(async move { kubelet.publish(request).await }));
    }
    let mut served = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(()) => served += 1,
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status}"),
        }
    }
    assert!(served >= 1);
    assert_eq!(cluster.node.mounts().unwrap().len(), 21);
    let differs = |change: &dyn Fn(&mut NodePublishVolumeRequest)| {
        let mut request = volume.publish(&token);
        change(&mut request);
        kubelet.publish(request)
    };
    let group = differs(&|m| {
        let mount = MountVolume { volume_mount_group: "7".into(), ..Default::default() };
        m.volume_capability =
            Some(VolumeCapability { access_type: Some(AccessType::Mount(mount)), access_mode: None });
    });
    assert_eq!(group.await.unwrap_err().code(), Code::AlreadyExists);

    for volume in volumes.iter().chain([&volume]) {
        kubelet.unpublish(volume.unpublish()).await.unwrap();
    }
    is_clean(&cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pods_session_ends_with_it() {
    if !may_mount() {
        return;
    }
    let cluster = OneNode::start(false).await.unwrap();
    let kubelet = cluster.kubelet().await.unwrap();
    let (pod, volume) = cluster.pod("web-0").unwrap();
    kubelet.publish(volume.publish(&cluster.shop.token(&pod))).await.unwrap();
    cluster.shop.kubernetes.delete_pod(&pod);
    // The driver holds the pod's session, and that is of no use any more; the files stay until the kubelet comes.
    until_async("the condition is told", async || kubelet.condition(&volume).await.unwrap().0).await.unwrap();
    cluster.shop.put("two").await.unwrap();
    nothing_for(Duration::from_millis(500));
    assert_eq!(volume.read("password"), "one");
    kubelet.unpublish(volume.unpublish()).await.unwrap();
    is_clean(&cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secrets_store_driver_gets_the_same_files() {
    if !may_mount() {
        return;
    }
    let cluster = OneNode::start(false).await.unwrap();
    let socket = cluster.home.path().join("provider.sock");
    let node = cluster.add_node("other", &[&format!("--provider-socket={}", socket.display())]).unwrap();
    let mut provider = CsiDriverProviderClient::new(node.channel_at("../provider.sock").await.unwrap());
    let version = provider.version(VersionRequest { version: "v1alpha1".into() }).await.unwrap().into_inner();
    assert_eq!((version.version.as_str(), version.runtime_name.as_str()), ("v1alpha1", "strongroom"));

    let pod = cluster.shop.pod("web-0");
    let token = cluster.shop.token(&pod);
    let request = |secrets: &str, token: &str| MountRequest {
        secrets: "{}".into(),
        ..mount_request(&pod, secrets, token)
    };
    let keys = format!("- path: {DB}\n  keys: {{password: db/password}}\n");
    let answer = provider.mount(request(&keys, &token)).await.unwrap().into_inner();
    let [file] = &*answer.files else { panic!("{} files", answer.files.len()) };
    assert_eq!((file.path.as_str(), file.mode, &*file.contents), ("db/password", 0o644, b"one".as_slice()));
    assert_eq!((answer.object_version[0].id.as_str(), answer.object_version[0].version.as_str()), (DB, "1"));

    let refused = provider.mount(request("surprise: true", &token)).await.err().unwrap();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let refused = provider.mount(request(&keys, "canary")).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let broken = MountRequest { attributes: "{\"canary\": 1}".into(), ..request(&keys, &token) };
    let refused = provider.mount(broken).await.err().unwrap();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(!node.log().contains("canary") && !refused.message().contains("canary"));
}

/// A counter or gauge without labels.
fn metric(node: &Node, name: &str) -> u64 {
    let (_, text) = http_get(node.ops(), "/metrics").unwrap();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .unwrap_or_else(|| panic!("{name} is not in\n{text}"))
}

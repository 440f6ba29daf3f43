//! Volumes of which nothing changes, and volumes that are refused: what they ask of the server, and what they say.

use super::*;

/// A little more than what these are in the audit log of a server: `tests/tests/csi.rs` measures them.
const LOGIN_BYTES: u32 = 700;
const WATCH_BYTES: u32 = 800;
const READ_BYTES: u32 = 800;
/// `session_max_minutes`, as it is by default.
const SESSION: Duration = Duration::from_secs(120 * 60);
/// How often a kubelet asks about a volume that is mounted.
const REPUBLISH: Duration = Duration::from_secs(90);

/// A day of two hundred volumes, on a clock that is moved. A volume knows nothing of the others, so ten thousand cost fifty
/// times as much.
#[tokio::test(start_paused = true)]
async fn an_idle_volume_costs_at_most_20_kb_of_audit_a_day() {
    const VOLUMES: u32 = 200;
    let node = Node::with(false);
    node.server.sessions_last(SESSION);
    for n in 0..VOLUMES {
        node.driver.publish(node.request_of(n)).await.unwrap();
    }
    let asked = || [node.server.logins(), node.server.watches(), node.server.reads()];
    let before = asked();
    let followers: Vec<_> =
        (0..VOLUMES).map(|n| node.driver.volumes.get(&node.request_of(n).id).unwrap()).collect();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(24 * 3600) {
        tokio::time::advance(REPUBLISH).await;
        // The tokens that were good are over long ago, and nobody needs them.
        node.server.end_tokens();
        for mounted in &followers {
            mounted.follower().as_ref().unwrap().bring(SecretBytes::from(b"good".as_slice()));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let [logins, watches, reads] = std::array::from_fn(|n| asked()[n] - before[n]);
    let bytes = logins * LOGIN_BYTES + watches * WATCH_BYTES + reads * READ_BYTES;
    println!(
        "{VOLUMES} volumes: {logins} logins, {watches} watches, {reads} reads, {} B each",
        bytes / VOLUMES
    );
    assert!(logins >= VOLUMES * 11, "sessions end: {logins}");
    assert_eq!(reads, 0, "nothing has changed");
    assert!(bytes / VOLUMES <= 20_000, "{} bytes a day", bytes / VOLUMES);
}

/// The watch goes on when the token has ended; the pod's newest token is there for the moment in which something changes.
#[tokio::test]
async fn a_change_after_the_end_of_the_token_is_on_the_disk_at_once() {
    let node = Node::with(false);
    node.publish().await.unwrap();
    node.publish().await.unwrap();
    node.server.end_tokens();
    assert_eq!(node.server.logins(), 1);
    node.server.put(DB, "two");
    node.until("the new content", || node.content() == "two" && node.trouble().is_none()).await;
    assert_eq!(node.server.logins(), 2);
    // And the new session watches.
    node.server.put(DB, "three");
    node.until("the new content", || node.content() == "three").await;
    assert_eq!(node.server.logins(), 2);
}

/// Each attempt is refused with the same words, although each decision has an id of its own; and not each republish is one.
#[tokio::test(start_paused = true)]
async fn a_refusal_keeps_its_words_and_is_not_repeated_at_each_republish() {
    let node = Node::with(false);
    node.publish().await.unwrap();
    node.server.deny(DB, true);
    node.server.end_watches(Reason::PermissionDenied);
    node.until("the condition", || node.trouble().is_some_and(|why| why.contains("may not read"))).await;
    let told = node.trouble();
    assert!(told.as_ref().is_some_and(|why| !why.contains("decision")), "{told:?}");
    let before = node.server.logins();
    for _ in 0..40 {
        node.publish().await.unwrap();
        tokio::time::sleep(REPUBLISH).await;
        assert_eq!(node.trouble(), told);
    }
    // The pod's owner has one event of that, which counts.
    let [(reason, said, count)] = &node.events.told()[..] else { panic!("{:?}", node.events.told()) };
    assert!(
        *reason == "SecretsDenied" && said.contains("may not read") && !said.contains("decision"),
        "{said}"
    );
    assert!((4..=7).contains(count), "{count} times in an hour");
    let logins = node.server.logins() - before;
    assert!((4..=10).contains(&logins), "{logins} attempts in an hour");
    node.server.deny(DB, false);
    for _ in 0..8 {
        node.publish().await.unwrap();
        tokio::time::sleep(REPUBLISH).await;
    }
    assert_eq!(node.trouble(), None);
    assert_eq!(node.events.told().last().unwrap().0, "SecretsCurrent");
}

#[tokio::test]
async fn what_is_mounted_is_told_by_its_version() {
    let node = Node::with(false);
    node.publish().await.unwrap();
    node.server.put(DB, "two");
    node.until("the new content", || node.content() == "two").await;
    let mounted = node.driver.volumes.get(&node.request(|_| {}).id).unwrap();
    node.until("the version", || mounted.versions() == format!("{DB}@2")).await;
    // For Prometheus by the time at which it was written: no path is a label.
    node.driver.measure();
    let text = node.driver.metrics().render();
    let line =
        "strongroom_csi_newest_version_timestamp_seconds{pod_name=\"web-1\",pod_namespace=\"payments\"}";
    assert!(text.contains(line) && !text.contains(DB), "{text}");
}

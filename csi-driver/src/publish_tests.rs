//! The driver without the kubelet and without a server: with real mounts where they are allowed, and always with those of
//! the fake.

use std::{fs, io, path::Path, time::Duration};

use strongroom_client::{ChangeKind, Reason};
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::{
    fake_server::FakeServer,
    folder::Folder,
    mount::{Linux, MountPoint, fake::Fake, tests::may_mount},
    pod_events::{EventSink, tests::Kept},
    volume::Request,
    wire::csi::{
        NodePublishVolumeRequest, VolumeCapability,
        volume_capability::{AccessType, MountVolume},
    },
    writer,
};

const DB: &str = "secret/app/db";
const DEADLINE: Duration = Duration::from_secs(20);

struct Node {
    home: TempDir,
    driver: Arc<Driver>,
    server: FakeServer,
    mounter: Arc<dyn Mounter>,
    events: Arc<Kept>,
    fake: Option<Arc<Fake>>,
}

impl Node {
    fn with(real: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (mounter, fake): (Arc<dyn Mounter>, _) = if real {
            (Arc::new(Linux::probe().unwrap()), None)
        } else {
            let fake = Arc::new(Fake::new(&home.path().join("mounts")));
            (Arc::clone(&fake) as Arc<dyn Mounter>, Some(fake))
        };
        let server = FakeServer::default();
        server.put(DB, "one");
        let events = Arc::default();
        let driver = start(home.path(), &server, &mounter, &events);
        let node = Self { home, driver, server, mounter, events, fake };
        fs::create_dir_all(node.target("u-1").parent().unwrap()).unwrap();
        node
    }

    /// Both kinds, or the one that is allowed.
    fn each() -> Vec<Self> {
        let mut nodes = vec![Self::with(false)];
        if may_mount() {
            nodes.push(Self::with(true));
        }
        nodes
    }

    fn fake() -> (Self, Arc<Fake>) {
        let node = Self::with(false);
        let fake = Arc::clone(node.fake.as_ref().unwrap());
        (node, fake)
    }

    /// The process dies and is started again.
    async fn restart(&mut self) {
        self.driver.stop().await;
        self.driver = start(self.home.path(), &self.server, &self.mounter, &self.events);
        self.driver.recover().unwrap();
    }

    fn target(&self, uid: &str) -> PathBuf {
        self.home.path().join(format!("kubelet/pods/{uid}/volumes/csi/secrets/mount"))
    }

    /// The volume of the pod of that number, whose folder is there.
    fn request_of(&self, number: u32) -> Request {
        let uid = format!("u-{number}");
        let target = self.target(&uid);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        self.request(|m| {
            m.volume_id = format!("csi-{number}");
            m.target_path = target.display().to_string();
            m.volume_context.insert("csi.storage.k8s.io/pod.uid".into(), uid);
        })
    }

    fn request(&self, change: impl FnOnce(&mut NodePublishVolumeRequest)) -> Request {
        let context = [
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("csi.storage.k8s.io/pod.namespace", "payments"),
            ("csi.storage.k8s.io/pod.name", "web-1"),
            ("csi.storage.k8s.io/pod.uid", "u-1"),
            ("csi.storage.k8s.io/serviceAccount.name", "web"),
            ("csi.storage.k8s.io/serviceAccount.tokens", r#"{"strongroom":{"token":"good"}}"#),
            ("secrets", "- path: secret/app/db\n"),
        ];
        let mut message = NodePublishVolumeRequest {
            volume_id: "csi-1".into(),
            target_path: self.target("u-1").display().to_string(),
            volume_capability: Some(VolumeCapability {
                access_type: Some(AccessType::Mount(MountVolume::default())),
                access_mode: None,
            }),
            readonly: true,
            volume_context: context.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Default::default()
        };
        change(&mut message);
        Request::parse(&self.home.path().join("kubelet"), "strongroom", message).ok().unwrap()
    }

    async fn publish(&self) -> Result<(), Failure> {
        self.driver.publish(self.request(|_| {})).await
    }

    async fn unpublish(&self) -> Result<(), Failure> {
        let Request { id, target, .. } = self.request(|_| {});
        self.driver.unpublish(id, target).await
    }

    fn content(&self) -> String {
        fs::read_to_string(self.target("u-1").join("value")).unwrap_or_default()
    }

    async fn until(&self, what: &str, so: impl Fn() -> bool) {
        let waiting = async {
            while !so() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(timeout(DEADLINE, waiting).await.is_ok(), "not in time: {what}");
    }

    fn trouble(&self) -> Option<String> {
        self.driver.volumes.get(&self.request(|_| {}).id).and_then(|mounted| mounted.health().trouble)
    }

    /// No mount, no folder, no state.
    fn is_clean(&self) {
        assert!(self.mounter.all(self.home.path()).unwrap().is_empty(), "a mount is left");
        assert!(!self.target("u-1").exists(), "the target is left");
        assert_eq!(fs::read_dir(self.home.path().join("state")).unwrap().count(), 0, "a state file is left");
    }
}

impl Drop for Node {
    /// A failing test leaves no mount behind.
    fn drop(&mut self) {
        let root = self.home.path().to_owned();
        for path in self.mounter.all(&root).unwrap_or_default() {
            if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
                let parent = Folder::open(parent).unwrap();
                let place =
                    MountPoint { parent, name: name.to_str().unwrap().to_owned(), path: path.clone() };
                let _ = self.mounter.detach(&place);
            }
        }
    }
}

fn start(home: &Path, server: &FakeServer, mounter: &Arc<dyn Mounter>, events: &Arc<Kept>) -> Arc<Driver> {
    let metrics = Arc::new(Metrics::new().unwrap());
    fs::create_dir_all(home.join("kubelet")).unwrap();
    Driver::new(Parts {
        kubelet_root: home.join("kubelet"),
        cluster: "main".into(),
        audience: "strongroom".into(),
        patience: Duration::from_secs(2),
        budget: 64 << 20,
        server: Arc::new(server.clone()),
        mounter: Arc::clone(mounter),
        states: StateFolder::open(&home.join("state")).unwrap(),
        events: PodEvents::start(Arc::clone(events) as Arc<dyn EventSink>, Arc::clone(&metrics)),
        metrics,
    })
}

#[tokio::test]
async fn a_volume_lives_and_leaves_nothing() {
    for node in Node::each() {
        node.publish().await.unwrap();
        assert_eq!(node.content(), "one");
        node.publish().await.unwrap();
        assert_eq!((node.server.logins(), node.trouble()), (1, None));
        node.unpublish().await.unwrap();
        node.is_clean();
        node.unpublish().await.unwrap();
        node.until("the session is ended", || node.server.goodbyes() == 1).await;
    }
}

#[tokio::test]
async fn a_change_is_on_the_disk_at_once() {
    for node in Node::each() {
        node.publish().await.unwrap();
        for value in ["two", "three"] {
            node.server.put(DB, value);
            node.until("the new content", || node.content() == value).await;
        }
        node.unpublish().await.unwrap();
        node.is_clean();
    }
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_leaves_nothing() {
    let node = Node::with(false);
    node.server.deny(DB, true);
    let refusal = node.publish().await.unwrap_err();
    let text = refusal.to_string();
    assert!(
        text.starts_with("kubernetes/main/payments/web may not read secret/app/db: ask for a role"),
        "{text}"
    );
    // Where it stands in the audit log is for the driver's own log: events are the same word for word.
    assert_eq!(refusal.decision(), Some("01k"));
    node.is_clean();
    node.server.delete(DB);
    node.server.deny(DB, false);
    let text = node.publish().await.unwrap_err().to_string();
    assert!(text.starts_with("secret/app/db: not found. Write it, or set `optional: true`"), "{text}");
    node.is_clean();
    // What was missing is there: the kubelet's next call mounts.
    node.server.put(DB, "later");
    node.publish().await.unwrap();
    assert_eq!(node.content(), "later");
}

#[tokio::test]
async fn without_a_good_token_nothing_is_mounted() {
    let node = Node::with(false);
    let tokens = |text: &str| {
        let text = text.to_owned();
        node.request(|m| {
            drop(m.volume_context.insert("csi.storage.k8s.io/serviceAccount.tokens".into(), text))
        })
    };
    let none = node.driver.publish(tokens(r#"{"vault":{"token":"good"}}"#)).await.unwrap_err();
    assert!(none.to_string().contains("tokenRequests"), "{none}");
    let bad = node.driver.publish(tokens(r#"{"strongroom":{"token":"bad-canary"}}"#)).await.unwrap_err();
    assert!(
        bad.to_string().starts_with("the server refused the login of kubernetes/main/payments/web"),
        "{bad}"
    );
    assert!(!bad.to_string().contains("canary"));
    node.is_clean();
}

#[tokio::test]
async fn a_server_that_comes_back_within_the_call_is_waited_for() {
    let node = Node::with(false);
    node.server.set_down(true);
    let (published, ()) = tokio::join!(node.publish(), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        node.server.set_down(false);
    });
    published.unwrap();
    assert_eq!(node.content(), "one");

    node.unpublish().await.unwrap();
    node.server.set_down(true);
    let failure = node.publish().await.unwrap_err();
    assert!(matches!(failure, Failure::Unreachable { .. }), "{failure}");
    node.is_clean();
}

#[tokio::test]
async fn a_mounted_volume_is_never_refused() {
    let node = Node::with(false);
    node.publish().await.unwrap();
    node.server.set_down(true);
    node.server.end_watches(Reason::TokenExpired);
    node.until("trouble", || node.trouble().is_some()).await;
    node.publish().await.unwrap();
    let broken = node.request(|m| drop(m.volume_context.insert("secrets".into(), "surprise: true".into())));
    node.driver.publish(broken).await.unwrap();
    let no_token =
        node.request(|m| drop(m.volume_context.remove("csi.storage.k8s.io/serviceAccount.tokens")));
    node.driver.publish(no_token).await.unwrap();
    assert_eq!(node.content(), "one");
    // And when the server is back, the next call brings everything up to date.
    node.server.put_silently(DB, "two");
    node.server.set_down(false);
    node.publish().await.unwrap();
    node.until("the new content", || node.content() == "two" && node.trouble().is_none()).await;
}

#[tokio::test]
async fn a_deleted_secret_stays_on_the_disk_and_is_told() {
    let node = Node::with(false);
    node.publish().await.unwrap();
    node.server.delete(DB);
    node.until("the condition", || node.trouble().is_some_and(|why| why.contains("not found"))).await;
    assert_eq!(node.content(), "one");
    node.server.put(DB, "again");
    node.until("the new content", || node.content() == "again" && node.trouble().is_none()).await;
}

#[tokio::test]
async fn a_lost_right_leaves_the_content_until_it_is_back() {
    let node = Node::with(false);
    node.publish().await.unwrap();
    node.server.deny(DB, true);
    node.server.put(DB, "two");
    node.until("the condition", || node.trouble().is_some_and(|why| why.contains("may not read"))).await;
    assert_eq!(node.content(), "one");
    node.server.deny(DB, false);
    node.server.tell(ChangeKind::Resync, "", 0);
    node.until("the new content", || node.content() == "two").await;
}

#[tokio::test]
async fn a_token_is_used_only_when_it_is_needed() {
    let node = Node::with(false);
    node.publish().await.unwrap();
    for _ in 0..5 {
        node.publish().await.unwrap();
    }
    node.server.put(DB, "two");
    node.until("the new content", || node.content() == "two").await;
    assert_eq!(node.server.logins(), 1);
    node.server.sessions_end_soon();
    node.publish().await.unwrap();
    node.until("a second login", || node.server.logins() == 2).await;
    // The first session ends by itself, the second one watches.
    node.server.put(DB, "three");
    node.until("the new content", || node.content() == "three").await;
}

#[tokio::test]
async fn a_session_that_is_over_is_replaced_by_the_next_call() {
    let node = Node::with(false);
    node.publish().await.unwrap();
    node.server.end_sessions(true);
    node.server.put(DB, "two");
    node.until("trouble", || node.trouble().is_some_and(|why| why.contains("expired"))).await;
    node.server.end_sessions(false);
    node.publish().await.unwrap();
    node.until("the new content", || node.content() == "two" && node.trouble().is_none()).await;
}

#[tokio::test]
async fn the_same_volume_in_another_way_is_refused() {
    let node = Node::with(false);
    node.publish().await.unwrap();
    let group = node.request(|m| {
        m.volume_capability.as_mut().unwrap().access_type =
            Some(AccessType::Mount(MountVolume { volume_mount_group: "7".into(), ..Default::default() }));
    });
    assert!(matches!(node.driver.publish(group).await, Err(Failure::Differs { what: "capability", .. })));
    let elsewhere = node.request(|m| m.target_path.push('2'));
    assert!(matches!(node.driver.publish(elsewhere).await, Err(Failure::Differs { what: "target", .. })));
    let Request { id, target, .. } = node.request(|m| m.target_path.push('2'));
    assert!(matches!(node.driver.unpublish(id, target).await, Err(Failure::Differs { what: "target", .. })));
    // Nor is another volume mounted over it, or taken away by another name.
    let other = node.request(|m| m.volume_id = "csi-2".into());
    assert!(matches!(node.driver.publish(other).await, Err(Failure::Differs { what: "id", .. })));
    let Request { id, target, .. } = node.request(|m| m.volume_id = "csi-2".into());
    assert!(matches!(node.driver.unpublish(id, target).await, Err(Failure::Differs { what: "id", .. })));
    assert_eq!(node.content(), "one");
}

#[tokio::test]
async fn a_second_call_for_a_volume_at_work_is_aborted() {
    let node = Node::with(false);
    node.server.set_down(true);
    let (first, second) = tokio::join!(node.publish(), async {
        tokio::task::yield_now().await;
        let second = node.publish().await;
        let third = node.unpublish().await;
        node.server.set_down(false);
        (second, third)
    });
    first.unwrap();
    assert!(matches!(second, (Err(Failure::Busy(_)), Err(Failure::Busy(_)))));
    assert_eq!((node.content(), node.server.logins()), ("one".into(), 1));
}

#[tokio::test]
async fn a_kubelet_that_hangs_up_leaves_nothing_half_done() {
    for hang_up_after in 0..12 {
        let node = Node::with(false);
        let calling = async {
            // Polled so many times, and then dropped.
            let mut call = Box::pin(node.publish());
            for _ in 0..hang_up_after {
                if futures_util::poll!(&mut call).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        calling.await;
        // What went on is over when nobody has the volume any more.
        let Request { id, target, .. } = node.request(|_| {});
        let free = || node.driver.volumes.claim(&id, &target.path).is_ok();
        node.until("the claim is given back", free).await;
        node.publish().await.unwrap();
        assert_eq!(node.content(), "one");
        node.unpublish().await.unwrap();
        node.is_clean();
    }
}

#[tokio::test]
async fn a_mount_that_fails_is_undone() {
    let (node, fake) = Node::fake();
    fake.fail(io::Error::from_raw_os_error(28));
    let failure = node.publish().await.unwrap_err();
    assert!(matches!(failure, Failure::Mount(_)), "{failure}");
    node.is_clean();
    node.publish().await.unwrap();
    assert_eq!(node.content(), "one");
}

#[tokio::test]
async fn a_mount_that_is_not_ours_is_left_alone() {
    let (node, fake) = Node::fake();
    fs::create_dir(node.target("u-1")).unwrap();
    fs::write(node.target("u-1").join("precious"), "x").unwrap();
    fake.occupy(&node.target("u-1"));
    assert!(matches!(node.publish().await, Err(Failure::Foreign(_))));
    assert!(matches!(node.unpublish().await, Err(Failure::Foreign(_))));
    assert!(node.target("u-1").join("precious").exists());
    assert_eq!(fake.mounted(), [node.target("u-1")]);
}

#[tokio::test]
async fn a_target_with_something_in_it_is_not_deleted() {
    let node = Node::with(false);
    fs::create_dir(node.target("u-1")).unwrap();
    fs::write(node.target("u-1").join("precious"), "x").unwrap();
    assert!(matches!(node.unpublish().await, Err(Failure::Occupied(_))));
    // Nor is it hidden under a mount that could then not be taken away.
    let refused = node.publish().await.unwrap_err();
    assert!(refused.to_string().contains("remove what is in it"), "{refused}");
    assert!(node.target("u-1").join("precious").exists());
    fs::remove_file(node.target("u-1").join("precious")).unwrap();
    node.publish().await.unwrap();
    node.unpublish().await.unwrap();
    node.is_clean();
}

#[tokio::test]
async fn links_in_the_way_are_refused() {
    for node in Node::each() {
        let outside = node.home.path().join("outside");
        fs::create_dir_all(outside.join("mount")).unwrap();
        let parent = node.target("u-1").parent().unwrap().to_owned();
        for link_at in [node.target("u-1"), parent.clone(), parent.parent().unwrap().to_owned()] {
            let _ = fs::remove_dir_all(node.home.path().join("kubelet/pods/u-1"));
            fs::create_dir_all(link_at.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(&outside, &link_at).unwrap();
            assert!(
                matches!(node.publish().await, Err(Failure::Target { .. } | Failure::Mount(_))),
                "{link_at:?}"
            );
            assert!(matches!(node.unpublish().await, Err(Failure::Target { .. })), "{link_at:?}");
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
            assert!(outside.join("mount").is_dir());
        }
        assert!(node.mounter.all(node.home.path()).unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_volume_whose_mount_went_away_is_mounted_again() {
    for node in Node::each() {
        node.publish().await.unwrap();
        let Request { target, .. } = node.request(|_| {});
        node.mounter.detach(&node.driver.disk.place(&target).unwrap().unwrap()).unwrap();
        node.server.put(DB, "two");
        node.until("trouble", || node.trouble().is_some_and(|why| why.contains("mount is gone"))).await;
        assert_eq!(
            fs::read_dir(node.target("u-1")).unwrap().count(),
            0,
            "a secret was written to the node's disk"
        );
        node.publish().await.unwrap();
        assert_eq!(node.content(), "two");
        node.unpublish().await.unwrap();
        node.is_clean();
    }
}

#[tokio::test]
async fn stats_tell_fill_and_condition() {
    for node in Node::each() {
        node.publish().await.unwrap();
        let id = node.request(|_| {}).id;
        let path = node.target("u-1").display().to_string();
        let (usage, condition) = node.driver.stats(id.clone(), path.clone()).await.unwrap();
        assert!(usage.bytes.0 > usage.bytes.1 && usage.inodes.0 > usage.inodes.1, "{usage:?}");
        assert!(!condition.abnormal);
        assert_eq!(condition.message, format!("the content is current ({DB}@1)"));
        assert!(matches!(
            node.driver.stats(id.clone(), "/elsewhere".into()).await,
            Err(Failure::Unknown { .. })
        ));
        node.unpublish().await.unwrap();
        assert!(matches!(node.driver.stats(id, path).await, Err(Failure::Unknown { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn old_files_are_swept_away_after_a_while() {
    let node = Node::with(false);
    node.publish().await.unwrap();
    node.server.put(DB, "two");
    node.until("the new content", || node.content() == "two").await;
    let hidden = || {
        let names = fs::read_dir(node.target("u-1")).unwrap();
        names.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("..")).count()
    };
    assert_eq!(hidden(), 3);
    node.until("only what is served", || hidden() == 2).await;
    assert!(node.server.reads() >= 2);
}

#[cfg(test)]
#[path = "publish_crowd_tests.rs"]
mod crowd;
#[cfg(test)]
#[path = "publish_idle_tests.rs"]
mod idle;
#[cfg(test)]
#[path = "publish_issued_tests.rs"]
mod issued;
#[cfg(test)]
#[path = "publish_restart_tests.rs"]
mod restart;

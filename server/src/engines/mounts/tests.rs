//! The life of a mount, over a real barrier.

use std::time::Duration;

use super::*;
use crate::{
    barrier::conformance,
    clock::ManualClock,
    crypto::SystemEntropy,
    engines::conformance::barrier,
    model::SecretBytes,
    storage::{
        Store,
        fault::{Fault, FaultStore, Operation},
        memory::MemoryStore,
    },
};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const BY: RequestId = RequestId([1; 16]);

async fn load(barrier: &Arc<Barrier>) -> Mounts {
    let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) =
        (Arc::new(ManualClock::default()), Arc::new(SystemEntropy));
    Mounts::load(barrier, &clock, &entropy).await.unwrap()
}

async fn fresh() -> (Arc<Barrier>, Mounts) {
    let barrier = barrier(Arc::new(MemoryStore::new())).await;
    let mounts = load(&barrier).await;
    (barrier, mounts)
}

fn states(mounts: &Mounts) -> Vec<(String, State)> {
    mounts.list().into_iter().map(|mount| (mount.name.into(), mount.record.state)).collect()
}

async fn mount(mounts: &Mounts, name: &str, kind: &str) -> Result<(), MountError> {
    mounts.mount(name, kind, "", Settings::new(), NOW, BY).await
}

/// Something that kv finds again, written below its nose.
async fn keep(barrier: &Arc<Barrier>, mount: &str, name: &str) {
    let address = Address { kind: kv::SECRET, folder: "".into(), name: name.into(), part: 0 };
    let puts = vec![(address, SecretBytes::from(&b"x"[..]))];
    barrier.view(&format!("mount/{mount}")).commit(Changes { puts, ..Changes::default() }).await.unwrap();
}

async fn kept(barrier: &Arc<Barrier>, mount: &str) -> usize {
    barrier.view(&format!("mount/{mount}")).scan(kv::SECRET, "", None, 10).await.unwrap().len()
}

use crate::{barrier::Address, engines::kv};

#[tokio::test]
async fn a_fresh_store_has_one_and_writes_it_as_the_first_stores_did() {
    let (barrier, mounts) = fresh().await;
    assert_eq!(states(&mounts), [("secret".to_owned(), State::Mounted)]);
    let stored = barrier.view("sys/mounts").get(&record::address("secret")).await.unwrap().unwrap();
    assert_eq!(stored.content.expose(), b"kv");
    assert!(mounts.enter("secret").is_some() && mounts.enter("other").is_none());
}

#[tokio::test]
async fn what_was_taken_away_is_kept_until_it_is_destroyed() {
    let (barrier, mounts) = fresh().await;
    mount(&mounts, "team", "kv").await.unwrap();
    keep(&barrier, "team", "a").await;
    keep(&barrier, "secret", "b").await;

    mounts.unmount("team", BY).await.unwrap();
    assert!(mounts.enter("team").is_none());
    assert_eq!(states(&load(&barrier).await)[1], ("team".to_owned(), State::Away));
    mount(&mounts, "team", "kv").await.unwrap();
    assert_eq!(kept(&barrier, "team").await, 1, "it was only away");

    mounts.destroy("team", BY).await.unwrap();
    assert_eq!(kept(&barrier, "team").await, 0);
    assert_eq!(kept(&barrier, "secret").await, 1, "what others keep stays");
    assert_eq!(states(&mounts), [("secret".to_owned(), State::Mounted)]);
    assert!(matches!(mounts.unmount("team", BY).await, Err(MountError::NoSuch(_))));
}

#[tokio::test]
async fn the_first_mount_stays_destroyed() {
    let (barrier, mounts) = fresh().await;
    mounts.destroy("secret", BY).await.unwrap();
    assert!(states(&mounts).is_empty() && states(&load(&barrier).await).is_empty());
    mount(&mounts, "secret", "kv").await.unwrap();
    assert!(load(&barrier).await.enter("secret").is_some());
}

#[tokio::test]
async fn names_kinds_and_settings_are_checked() {
    let (_, mounts) = fresh().await;
    for (name, kind) in
        [("", "kv"), ("a/b", "kv"), ("..", "kv"), ("sys", "kv"), ("secret", "kv"), ("x", "vk")]
    {
        assert!(matches!(mount(&mounts, name, kind).await, Err(MountError::Invalid(_))), "{name} {kind}");
    }
    let settings = |key: &str, value: &str| Settings::from([(key.to_owned(), value.to_owned())]);
    for (key, value) in [("max_versions", "0"), ("max_versions", "many"), ("unknown", "1")] {
        let refused = mounts.mount("x", "kv", "", settings(key, value), NOW, BY).await;
        assert!(matches!(refused, Err(MountError::Invalid(_))), "{key} {value}");
        let refused = mounts.tune("secret", None, Some(settings(key, value)), BY).await;
        assert!(matches!(refused, Err(MountError::Invalid(_))), "{key} {value}");
    }
    let long = "x".repeat(DESCRIPTION_BYTES + 1);
    assert!(matches!(mounts.tune("secret", Some(&long), None, BY).await, Err(MountError::Invalid(_))));
    assert!(matches!(mounts.tune("none", Some(""), None, BY).await, Err(MountError::NoSuch(_))));
}

#[tokio::test]
async fn tuning_lasts_and_leaves_the_engine_where_it_is() {
    let (barrier, mounts) = fresh().await;
    let before = mounts.enter("secret").unwrap().mounted();
    let settings = Settings::from([("max_versions".to_owned(), "3".to_owned())]);
    mounts.tune("secret", Some("of all teams"), Some(settings.clone()), BY).await.unwrap();
    assert!(Arc::ptr_eq(&before, &mounts.enter("secret").unwrap().mounted()) && !before.is_away());
    for mounts in [&mounts, &load(&barrier).await] {
        let listed = mounts.list();
        assert_eq!((&*listed[0].record.description, &listed[0].record.settings), ("of all teams", &settings));
    }
}

/// Whoever is at work finishes before a mount is taken away for good, and nobody gets in meanwhile.
#[tokio::test]
async fn those_at_work_finish_first() {
    let (_, mounts) = fresh().await;
    let mounts = Arc::new(mounts);
    let at_work = mounts.enter("secret").unwrap();
    let mounted = at_work.mounted();
    let destroying = tokio::spawn({
        let mounts = Arc::clone(&mounts);
        async move { mounts.destroy("secret", BY).await }
    });
    tokio::time::timeout(Duration::from_secs(10), async {
        while !mounted.is_away() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!(mounts.enter("secret").is_none() && !destroying.is_finished());
    assert_eq!(states(&mounts), [("secret".to_owned(), State::Destroying)]);
    drop(at_work);
    destroying.await.unwrap().unwrap();
    assert!(states(&mounts).is_empty());
}

/// The store stops in the middle: nothing is served, the list says so, and asking again goes on.
#[tokio::test]
async fn a_destruction_that_was_cut_off_goes_on() {
    let store = Arc::new(FaultStore::new(MemoryStore::new()));
    let shared: Arc<dyn Store> = Arc::<FaultStore<MemoryStore>>::clone(&store);
    let barrier = barrier(shared).await;
    let mounts = load(&barrier).await;
    keep(&barrier, "secret", "a").await;
    mounts.unmount("secret", BY).await.unwrap();
    let record = mounts.row("secret").unwrap();
    let destroying = Record { state: State::Destroying, ..record.record };
    mounts.write("secret", Condition::At(record.revision), destroying, None).await.unwrap();

    let mounts = load(&barrier).await;
    assert_eq!(states(&mounts), [("secret".to_owned(), State::Destroying)]);
    assert!(mounts.enter("secret").is_none());
    assert!(matches!(mount(&mounts, "secret", "kv").await, Err(MountError::Invalid(_))));
    store.inject(Operation::Commit, Fault::ReadOnly);
    assert!(matches!(mounts.destroy("secret", BY).await, Err(MountError::Barrier(_))));
    assert_eq!(kept(&barrier, "secret").await, 1);
    mounts.destroy("secret", BY).await.unwrap();
    assert_eq!(kept(&barrier, "secret").await, 0);
}

impl conformance::Subject for Mounts {
    async fn load(house: &conformance::House) -> Self {
        load(&house.barrier().await).await
    }

    fn derived(&self) -> &dyn Derived {
        self
    }

    async fn change(&self) {
        mount(self, "other", "kv").await.unwrap();
        self.tune("secret", Some("told"), None, BY).await.unwrap();
    }

    async fn shows(&self) -> bool {
        let told = self.list().iter().any(|mount| &*mount.record.description == "told");
        assert_eq!(told, self.enter("other").is_some());
        told
    }

    fn is_empty(&self) -> bool {
        self.list().is_empty() && self.enter("secret").is_none()
    }
}

#[tokio::test]
async fn mounts_follow_the_store() {
    conformance::check::<Mounts>().await;
}

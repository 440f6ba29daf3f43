//! The store of policies over a real barrier and a store that fails on demand.

use std::{fmt::Write, sync::Arc};

use super::{Documents, plan, store::PolicyStore};
use crate::{
    barrier::{Barrier, BarrierError, Derived, KEYRING_KEY, Keyring, View, conformance},
    clock::ManualClock,
    crypto::{Key, SystemEntropy},
    model::{StoreId, Timestamp},
    storage::{
        Batch, Store,
        fault::{Fault, FaultStore, Operation},
        memory::MemoryStore,
    },
};

const ID: StoreId = StoreId([7; 16]);

struct House {
    disk: Arc<FaultStore<MemoryStore>>,
    root: Key,
}

impl House {
    async fn new() -> Self {
        let (disk, root) =
            (Arc::new(FaultStore::new(MemoryStore::new())), Key::random(&SystemEntropy).unwrap());
        let keyring = Keyring::create(&SystemEntropy, Timestamp::from_millis(1)).unwrap();
        let record = keyring.seal(&root, ID, &SystemEntropy).unwrap();
        disk.commit(Batch { puts: vec![(KEYRING_KEY.to_vec(), record)], ..Batch::default() }).await.unwrap();
        Self { disk, root }
    }

    /// As after a restart.
    async fn view(&self) -> View {
        let record = self.disk.get(KEYRING_KEY).await.unwrap().unwrap();
        let keyring = Keyring::open(&self.root, ID, &record.value).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(5)));
        let disk: Arc<dyn Store> = self.disk.clone();
        let barrier =
            Barrier::open(disk, ID, keyring, Arc::new(SystemEntropy), clock, Arc::default(), Arc::default());
        barrier.await.unwrap().view("sys/policy")
    }

    async fn load(&self) -> PolicyStore {
        PolicyStore::load(self.view().await).await.unwrap()
    }

    fn fail(&self, fault: Fault) {
        self.disk.inject(Operation::Commit, fault);
    }
}

/// `count` roles that allow `verb`, and a binding for each.
fn many(count: usize, verb: &str) -> Documents {
    let mut yaml = String::new();
    for n in 0..count {
        let _ = write!(
            yaml,
            "---\n{{kind: Role, name: r-{n}, rules: [{{paths: [a], verbs: [{verb}]}}]}}\n---\n\
             {{kind: Binding, name: b-{n}, role: r-{n}, subjects: [{{user: {{method: m, name: n}}}}]}}\n"
        );
    }
    Documents::parse(&yaml).unwrap()
}

async fn apply(store: &PolicyStore, documents: Documents) -> Result<(), BarrierError> {
    store.apply(plan(&store.documents(), documents, &[]).unwrap(), None).await
}

#[tokio::test]
async fn what_was_applied_is_there_after_a_restart() {
    let house = House::new().await;
    for count in [1, 3, 500] {
        let store = house.load().await;
        apply(&store, many(count, "read")).await.unwrap();
        assert_eq!(*store.documents(), many(count, "read"));
        assert_eq!(*house.load().await.documents(), many(count, "read"));
    }
    let store = house.load().await;
    let remove: Vec<_> = many(400, "read").names().map(|(kind, name)| (kind, name.to_string())).collect();
    store.apply(plan(&store.documents(), many(450, "list"), &[]).unwrap(), None).await.unwrap();
    store.apply(plan(&store.documents(), Documents::default(), &remove).unwrap(), None).await.unwrap();
    assert_eq!(store.documents().names().count(), 200);
    assert_eq!(house.load().await.documents(), store.documents());
}

/// Such a policy was taken once: the store must open with it, whatever it is worth.
#[tokio::test]
async fn what_is_refused_today_still_loads() {
    let house = House::new().await;
    let store = house.load().await;
    let yaml = "{kind: Role, name: old, rules: [{paths: [\"secret/{{namespace}}-{{pod}}\"], verbs: [read]}]}";
    assert!(Documents::parse(yaml).is_err());
    let stored = Documents::from_stored([yaml]).unwrap();
    apply(&store, stored.clone()).await.unwrap();
    let again = house.load().await;
    assert_eq!(*again.documents(), stored);
    apply(&again, many(1, "read")).await.unwrap();
}

#[tokio::test]
async fn a_small_apply_is_one_batch_and_no_change_is_none() {
    let house = House::new().await;
    let store = house.load().await;
    let before = house.disk.inner().last_revision().0;
    apply(&store, many(40, "read")).await.unwrap();
    assert_eq!(house.disk.inner().last_revision().0, before + 1);
    let set = store.current();
    apply(&store, many(40, "read")).await.unwrap();
    assert_eq!(house.disk.inner().last_revision().0, before + 1);
    assert!(Arc::ptr_eq(&set, &store.current()));
}

#[tokio::test]
async fn a_plan_made_from_older_documents_conflicts() {
    let house = House::new().await;
    let store = house.load().await;
    let late = plan(&store.documents(), many(2, "list"), &[]).unwrap();
    apply(&store, many(1, "read")).await.unwrap();
    assert!(matches!(store.apply(late, None).await, Err(BarrierError::Conflict)));
    assert_eq!(*store.documents(), many(1, "read"));
}

/// A journal, three batches for 250 changed roles, and its removal: whichever commit fails, and however, it is the old policy
#[tokio::test]
async fn an_apply_is_whole_wherever_it_breaks() {
    for (count, batches) in [(3, 1), (250, 5)] {
        for at in 0..batches {
            for fault in [Fault::ReadOnly, Fault::UnknownBefore, Fault::UnknownAfter] {
                let house = House::new().await;
                let store = house.load().await;
                apply(&store, many(count, "read")).await.unwrap();
                let (old, new) = (many(count, "read"), many(count, "list"));
                for _ in 0..at {
                    let held = house.disk.hold(Operation::Commit);
                    drop(held);
                }
                house.fail(fault.clone());
                let done = apply(&store, new.clone()).await;
                // In force: what was reported. At rest: the same, now and after the next restart.
                let expected = if done.is_ok() { &new } else { &old };
                let case = format!("{count} documents, {fault:?} at {at}");
                assert_eq!(*store.documents(), *expected, "{case}");
                assert_eq!(done.is_ok(), at > 0 || fault == Fault::UnknownAfter, "{case}");
                assert_eq!(*house.load().await.documents(), *expected, "{case}");
                // The next start continues it.
                let third = many(count, "use");
                let store = house.load().await;
                apply(&store, third.clone()).await.unwrap();
                assert_eq!(*house.load().await.documents(), third, "{case}");
            }
        }
    }
}

/// An old journal may never be laid over what was written after it.
#[tokio::test]
async fn nothing_is_written_over_a_journal_that_is_still_there() {
    let house = House::new().await;
    let store = house.load().await;
    drop(house.disk.hold(Operation::Commit));
    house.fail(Fault::ReadOnly);
    apply(&store, many(250, "read")).await.unwrap();
    house.fail(Fault::ReadOnly);
    assert!(apply(&store, many(1, "list")).await.is_err());
    apply(&store, many(1, "list")).await.unwrap();
    let loaded = house.load().await.documents();
    assert_eq!(loaded, store.documents());
    assert!(loaded.to_yaml().contains("[list]"));
}

#[tokio::test]
async fn a_cancelled_caller_does_not_keep_the_old_policy_in_force() {
    let house = House::new().await;
    let store = Arc::new(house.load().await);
    let held = house.disk.hold(Operation::Commit);
    let task = tokio::spawn({
        let store = Arc::clone(&store);
        async move { apply(&store, many(1, "read")).await }
    });
    let stopped = held.reached().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    stopped.release();
    // Waits its turn behind the first, and finds its plan out of date.
    let late = plan(&Arc::default(), many(1, "list"), &[]).unwrap();
    assert!(matches!(store.apply(late, None).await, Err(BarrierError::Conflict)));
    assert_eq!(*store.documents(), many(1, "read"));
}

impl conformance::Subject for PolicyStore {
    async fn load(house: &conformance::House) -> Self {
        let store = PolicyStore::load(house.barrier().await.view("sys/policy")).await.unwrap();
        if store.documents().names().count() == 0 {
            apply(&store, many(1, "read")).await.unwrap();
        }
        store
    }

    fn derived(&self) -> &dyn Derived {
        self
    }

    /// More than fits into one batch: a journal first.
    async fn change(&self) {
        apply(self, many(250, "list")).await.unwrap();
    }

    async fn shows(&self) -> bool {
        *self.documents() == many(250, "list")
    }

    fn is_empty(&self) -> bool {
        self.documents().names().count() == 0
    }
}

#[tokio::test]
async fn the_policy_in_force_follows_the_store() {
    conformance::check::<PolicyStore>().await;
}

/// One who has forgotten the policy must not take an empty one for it.
#[tokio::test]
async fn what_was_forgotten_is_not_written_over() {
    let house = House::new().await;
    let store = house.load().await;
    apply(&store, many(3, "read")).await.unwrap();
    store.forget();
    assert!(matches!(apply(&store, many(1, "list")).await, Err(BarrierError::Conflict)));
    assert_eq!(*store.documents(), many(3, "read"));
}

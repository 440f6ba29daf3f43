//! Tests of the barrier as a whole, over a store in a map.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
};

use async_trait::async_trait;
use proptest::prelude::*;

use super::*;
use crate::{
    clock::ManualClock,
    crypto::SystemEntropy,
    model::{LogPoint, RequestId, SecretBytes, Timestamp},
    storage::{Page, Record, StoreKey},
};

const ID: StoreId = StoreId([7; 16]);
/// The numbers are those of the vectors.
const SOME: RecordKind = RecordKind::new(16, "Some");
const OTHER: RecordKind = RecordKind::new(17, "Other");
const THIRD: RecordKind = RecordKind::new(32, "Third");

/// A store in a map; `fail` makes the next commit fail once: 1 read-only, 2 unknown.
#[derive(Default)]
struct MapStore {
    map: Mutex<(u64, BTreeMap<StoreKey, Record>)>,
    fail: AtomicU8,
}

#[async_trait]
impl Store for MapStore {
    async fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        Ok(self.map.lock().unwrap().1.get(key).cloned())
    }

    async fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Page, StoreError> {
        let map = self.map.lock().unwrap();
        let wanted = map
            .1
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|after| &key[..] > after));
        Ok(wanted.take(limit).map(|(key, record)| (key.clone(), record.clone())).collect())
    }

    async fn commit(&self, batch: Batch) -> Result<Revision, StoreError> {
        match self.fail.swap(0, Ordering::SeqCst) {
            1 => return Err(StoreError::ReadOnly(String::from("full"))),
            2 => return Err(StoreError::Unknown(String::from("power"))),
            _ => {}
        }
        let mut map = self.map.lock().unwrap();
        for (key, condition) in &batch.conditions {
            let found = map.1.get(key).map(|record| record.revision);
            let holds = match condition {
                Condition::Absent => found.is_none(),
                Condition::At(revision) => found == Some(*revision),
            };
            if !holds {
                return Err(StoreError::Conflict(key.clone()));
            }
        }
        map.0 += 1;
        let revision = Revision(map.0);
        for key in batch.deletes {
            map.1.remove(&key);
        }
        for (key, value) in batch.puts {
            map.1.insert(key, Record { value, revision });
        }
        Ok(revision)
    }

    fn kind(&self) -> &'static str {
        "map"
    }
}

/// 0, 1, 2, ...: reproducible bytes for vectors.
#[derive(Default)]
struct Counting(AtomicU8);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), CryptoError> {
        bytes.iter_mut().for_each(|byte| *byte = self.0.fetch_add(1, Ordering::SeqCst));
        Ok(())
    }
}

struct House {
    store: Arc<MapStore>,
    root: Key,
    barrier: Arc<Barrier>,
    applied: Arc<Applied>,
}

async fn house() -> House {
    let (store, root) = (Arc::new(MapStore::default()), Key::random(&SystemEntropy).unwrap());
    let keyring = Keyring::create(&SystemEntropy, Timestamp::from_millis(1)).unwrap();
    let record = keyring.seal(&root, ID, &SystemEntropy).unwrap();
    store.commit(Batch { puts: vec![(KEYRING_KEY.to_vec(), record)], ..Batch::default() }).await.unwrap();
    let applied = Arc::new(Applied::default());
    let barrier = open_with(&store, &root, &applied).await.unwrap();
    House { store, root, barrier, applied }
}

async fn open(store: &Arc<MapStore>, root: &Key) -> Result<Arc<Barrier>, BarrierError> {
    open_with(store, root, &Arc::default()).await
}

async fn open_with(
    store: &Arc<MapStore>,
    root: &Key,
    applied: &Arc<Applied>,
) -> Result<Arc<Barrier>, BarrierError> {
    let record = store.get(KEYRING_KEY).await?.unwrap();
    let keyring = Keyring::open(root, ID, &record.value)?;
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(5)));
    Barrier::open(
        store.clone(),
        ID,
        keyring,
        Arc::new(SystemEntropy),
        clock,
        Arc::clone(applied),
        Arc::default(),
    )
    .await
}

fn at(name: &str, part: u64) -> Address {
    Address { kind: SOME, folder: "apps/pay".into(), name: name.into(), part }
}

fn put(address: Address, content: &str) -> Changes {
    Changes { puts: vec![(address, SecretBytes::from(content.as_bytes()))], ..Changes::default() }
}

async fn read(view: &View, address: &Address) -> Option<Vec<u8>> {
    view.get(address).await.unwrap().map(|entry| entry.content.expose().to_vec())
}

impl House {
    fn tamper(&self, change: impl FnOnce(&mut BTreeMap<StoreKey, Record>)) {
        change(&mut self.store.map.lock().unwrap().1);
    }

    fn secret_keys(&self) -> Vec<StoreKey> {
        let map = self.store.map.lock().unwrap();
        map.1.keys().filter(|key| key.len() == record::STORE_KEY).cloned().collect()
    }

    async fn problems(&self) -> Vec<String> {
        self.barrier.scrub().await.unwrap().problems
    }
}

#[tokio::test]
async fn reads_what_was_written_and_only_in_its_namespace() {
    let house = house().await;
    let (mine, other) = (house.barrier.view("mine"), house.barrier.view("other"));
    mine.commit(put(at("a", 1), "x")).await.unwrap();
    mine.commit(put(at("a", 0), "y")).await.unwrap();
    assert_eq!(read(&mine, &at("a", 1)).await.unwrap(), b"x");
    assert_eq!(read(&other, &at("a", 1)).await, None);
    assert!(other.scan(SOME, "apps/pay", None, 10).await.unwrap().is_empty());
    let found = mine.scan(SOME, "apps/pay", None, 10).await.unwrap();
    assert_eq!(
        found.iter().map(|found| (&*found.name, found.part)).collect::<Vec<_>>(),
        [("a", 0), ("a", 1)]
    );
    let rest = mine.scan(SOME, "apps/pay", Some(&found[0].cursor), 10).await.unwrap();
    assert_eq!((rest.len(), rest[0].part), (1, 1));
    assert!(house.problems().await.is_empty());
}

#[tokio::test]
async fn a_changed_record_is_an_error_and_not_absent() {
    let house = house().await;
    let view = house.barrier.view("kv");
    view.commit(put(at("a", 0), "x")).await.unwrap();
    let key = house.secret_keys().remove(0);
    house.tamper(|map| *map.get_mut(&key).unwrap().value.last_mut().unwrap() ^= 1);
    assert!(matches!(view.get(&at("a", 0)).await, Err(BarrierError::Corrupt { .. })));
    assert!(matches!(view.scan(SOME, "apps/pay", None, 9).await, Err(BarrierError::Corrupt { .. })));
    assert_eq!(house.problems().await.len(), 2);
}

/// One thread: who was let on a moment later still finds the group open.
#[tokio::test]
async fn who_comes_while_others_run_is_in_the_same_group() {
    let house = house().await;
    let view = house.barrier.view("kv");
    let (first, second) = tokio::join!(view.commit(put(at("a", 0), "1")), async {
        tokio::task::yield_now().await;
        view.commit(put(at("b", 0), "2")).await
    });
    assert_eq!((first.unwrap(), house.barrier.state().batch_seq), (second.unwrap(), 1));
}

/// One thread and no wait in between: all of them are queued before the committer runs, so they are one group.
#[tokio::test]
async fn a_conflict_in_a_group_is_of_one_member_alone() {
    let house = house().await;
    let view = house.barrier.view("kv");
    let old = view.commit(put(at("a", 0), "0")).await.unwrap();
    let when = |condition, content| Changes {
        conditions: vec![(at("a", 0), condition)],
        ..put(at("a", 0), content)
    };
    let (first, second, third, fourth) = tokio::join!(
        view.commit(when(Condition::At(old), "1")),
        view.commit(when(Condition::At(old), "2")),
        view.commit(when(Condition::Absent, "3")),
        view.commit(put(at("b", 0), "4")),
    );
    assert!(matches!(second, Err(BarrierError::Conflict)));
    assert!(matches!(third, Err(BarrierError::Conflict)));
    assert_eq!(first.unwrap(), fourth.unwrap());
    assert_eq!(read(&view, &at("a", 0)).await.unwrap(), b"1");
    assert_eq!(house.barrier.state().batch_seq, 2);
    assert!(house.problems().await.is_empty());
}

#[tokio::test]
async fn later_members_of_a_group_win_and_see_deletes() {
    let house = house().await;
    let view = house.barrier.view("kv");
    view.commit(put(at("a", 0), "0")).await.unwrap();
    let delete = Changes { deletes: vec![at("a", 0)], ..Changes::default() };
    let create = Changes { conditions: vec![(at("a", 0), Condition::Absent)], ..put(at("a", 0), "1") };
    let (one, two, three) =
        tokio::join!(view.commit(delete), view.commit(create), view.commit(put(at("a", 0), "2")));
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    assert_eq!(read(&view, &at("a", 0)).await.unwrap(), b"2");
    assert!(house.problems().await.is_empty());
}

#[tokio::test]
async fn rotation_and_rekey_keep_everything_readable() {
    let mut house = house().await;
    let view = house.barrier.view("kv");
    view.commit(put(at("old", 0), "x")).await.unwrap();
    assert!(house.barrier.rotate(&Key::random(&SystemEntropy).unwrap(), RequestId([1; 16])).await.is_err());
    assert_eq!(house.barrier.rotate(&house.root, RequestId([2; 16])).await.unwrap(), 2);
    view.commit(put(at("new", 0), "y")).await.unwrap();
    let root = Key::random(&SystemEntropy).unwrap();
    house.barrier.rekey(&house.root, &root, b"how".to_vec(), RequestId([3; 16])).await.unwrap();
    let names = house.barrier.purpose(Purpose::Names);
    house.barrier.stop().await;
    assert!(matches!(view.commit(put(at("a", 0), "z")).await, Err(BarrierError::Stopped)));

    assert!(open(&house.store, &house.root).await.is_err());
    house.barrier = open(&house.store, &root).await.unwrap();
    assert_eq!(house.barrier.active_term(), 2);
    assert!(house.barrier.purpose(Purpose::Names).expose() == names.expose());
    let view = house.barrier.view("kv");
    assert_eq!(read(&view, &at("old", 0)).await.unwrap(), b"x");
    assert_eq!(read(&view, &at("new", 0)).await.unwrap(), b"y");
    assert!(house.problems().await.is_empty());
}

#[tokio::test]
async fn an_unknown_end_stops_the_committer_and_read_only_does_not() {
    let house = house().await;
    let view = house.barrier.view("kv");
    house.store.fail.store(1, Ordering::SeqCst);
    let refused = view.commit(put(at("a", 0), "x")).await;
    assert!(matches!(refused, Err(BarrierError::Store(StoreError::ReadOnly(_)))));
    view.commit(put(at("a", 0), "x")).await.unwrap();
    assert!(house.problems().await.is_empty());
    house.store.fail.store(2, Ordering::SeqCst);
    let unknown = view.commit(put(at("a", 0), "y")).await;
    assert!(matches!(unknown, Err(BarrierError::Store(StoreError::Unknown(_)))));
    house.barrier.stop().await;
    assert!(matches!(view.commit(put(at("a", 0), "y")).await, Err(BarrierError::Stopped)));
    open(&house.store, &house.root).await.unwrap().view("kv").commit(put(at("a", 0), "z")).await.unwrap();
}

#[tokio::test]
async fn of_two_committers_on_one_store_the_late_one_ends() {
    let house = house().await;
    house.barrier.view("kv").commit(put(at("a", 0), "x")).await.unwrap();
    let second = open(&house.store, &house.root).await.unwrap();
    second.view("kv").commit(put(at("b", 0), "y")).await.unwrap();
    let late = house.barrier.view("kv").commit(put(at("c", 0), "z")).await;
    assert!(matches!(late, Err(BarrierError::Conflict)));
    assert!(second.scrub().await.unwrap().problems.is_empty());
}

#[tokio::test]
async fn a_missing_stale_added_or_swapped_record_is_found() {
    let house = house().await;
    let view = house.barrier.view("kv");
    for name in ["a", "b", "c"] {
        view.commit(put(at(name, 0), name)).await.unwrap();
    }
    let before = house.store.map.lock().unwrap().1.clone();
    view.commit(put(at("a", 0), "new")).await.unwrap();
    let good = house.store.map.lock().unwrap().1.clone();
    let keys = house.secret_keys();
    let changed = *keys.iter().filter(|key| before[*key] != good[*key]).collect::<Vec<_>>().first().unwrap();

    for (sort, damage) in [
        (
            "missing",
            Box::new(|map: &mut BTreeMap<_, _>| drop(map.remove(&keys[1])))
                as Box<dyn Fn(&mut BTreeMap<_, _>)>,
        ),
        ("stale", Box::new(|map| drop(map.insert(changed.clone(), before[changed].clone())))),
        ("added", Box::new(|map| drop(map.insert(vec![9; 41], good[&keys[0]].clone())))),
        ("swapped", Box::new(|map| drop(map.insert(keys[0].clone(), good[&keys[1]].clone())))),
        ("old digest", Box::new(|map| drop(map.insert(DIGEST_KEY.to_vec(), before[DIGEST_KEY].clone())))),
    ] {
        house.tamper(|map| damage(map));
        assert!(!house.problems().await.is_empty(), "{sort}");
        house.tamper(|map| *map = good.clone());
        assert!(house.problems().await.is_empty(), "{sort}");
    }
    house.tamper(|map| drop(map.remove(DIGEST_KEY)));
    assert!(matches!(open(&house.store, &house.root).await, Err(BarrierError::Corrupt { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrub_is_exact_while_writes_go_on() {
    let house = house().await;
    let view = house.barrier.view("kv");
    for first in 0..10 {
        let puts = (0..100).map(|n| (at("a", first * 100 + n), SecretBytes::from(&b"x"[..]))).collect();
        view.commit(Changes { puts, ..Changes::default() }).await.unwrap();
    }
    let writer = tokio::spawn(async move {
        for n in 0..500_u64 {
            let deletes = vec![at("a", n * 7 % 1000)];
            view.commit(Changes { deletes, ..put(at("b", n * 13 % 400), "y") }).await.unwrap();
        }
    });
    let mut scrubs = 0;
    while scrubs == 0 || !writer.is_finished() {
        assert_eq!(house.problems().await, Vec::<String>::new());
        scrubs += 1;
    }
    writer.await.unwrap();
    assert!(house.problems().await.is_empty());
}

#[tokio::test]
async fn too_much_is_refused_before_anything_is_queued() {
    let house = house().await;
    let view = house.barrier.view("kv");
    let big = put(at("a", 0), &"x".repeat(MAX_PLAINTEXT));
    assert!(matches!(view.commit(big).await, Err(BarrierError::TooLarge(_))));
    view.commit(put(at("a", 0), &"x".repeat(MAX_PLAINTEXT - 1))).await.unwrap();
    let deletes = (0..101).map(|n| at("a", n)).collect();
    assert!(matches!(
        view.commit(Changes { deletes, ..Changes::default() }).await,
        Err(BarrierError::TooLarge(_))
    ));
}

#[tokio::test]
async fn nothing_shown_is_a_key() {
    let house = house().await;
    let keyring = Keyring::create(&SystemEntropy, Timestamp::default()).unwrap();
    assert_eq!(format!("{keyring:?}"), "Keyring(term 1 of 1)");
    assert!(format!("{:?}", house.barrier).ends_with("Keyring(term 1 of 1))"));
    assert_eq!(format!("{:?}", house.barrier.view("kv")), "View(kv)");
}

#[test]
fn a_rotation_is_due_by_age_or_number() {
    let day = std::time::Duration::from_secs(24 * 3600);
    let keyring = Keyring::create(&SystemEntropy, Timestamp::default()).unwrap();
    assert!(!keyring.rotation_due(Timestamp::default().plus(89 * day), (1 << 32) - 1));
    assert!(keyring.rotation_due(Timestamp::default().plus(90 * day), 0));
    assert!(keyring.rotation_due(Timestamp::default(), 1 << 32));
}

/// The file is a promise: what it holds opens for ever. Whoever changes it breaks every store there is.
#[test]
fn the_vector_opens_and_is_made_again() {
    let vector: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/record.json")).unwrap();
    let text = |field: &str| vector[field].as_str().unwrap().to_owned();
    let hex = |field: &str| data_encoding::HEXLOWER.decode(text(field).as_bytes()).unwrap();

    let entropy = Counting::default();
    let root = Key::random(&entropy).unwrap();
    let first = Keyring::create(&entropy, Timestamp::from_millis(1_700_000_000_000)).unwrap();
    let made = first.rotate(&entropy, Timestamp::from_millis(1_710_000_000_000)).unwrap();
    let sealed = made.seal(&root, ID, &entropy).unwrap();
    let names = MacKey::new(&made.purpose(Purpose::Names));
    let address = Address { kind: OTHER, folder: "apps/pay".into(), name: "db".into(), part: 258 };
    let key = record::store_key(&names, "kv/1", &address);
    let record = record::seal(&made, ID, &key, "db", b"correct horse", &entropy).unwrap();
    let again = serde_json::json!({
        "root": data_encoding::HEXLOWER.encode(root.expose()), "store_id": ID.to_string(),
        "keyring": data_encoding::HEXLOWER.encode(&sealed), "namespace": "kv/1", "kind": OTHER.byte(),
        "folder": "apps/pay", "name": "db", "part": 258, "key": data_encoding::HEXLOWER.encode(&key),
        "content": "correct horse", "record": data_encoding::HEXLOWER.encode(&record),
    });
    assert_eq!(vector.to_string(), again.to_string());

    let keyring = Keyring::open(&Key::from_slice(&hex("root")).unwrap(), ID, &hex("keyring")).unwrap();
    let opened = record::open(&keyring, ID, &hex("key"), &hex("record")).unwrap();
    assert_eq!((opened.name(), keyring.active_term()), ("db", 2));
    assert_eq!(opened.into_content().expose(), b"correct horse");
}

#[test]
fn a_keyring_opens_only_whole_under_its_root_and_store() {
    let root = Key::random(&SystemEntropy).unwrap();
    let sealed = Keyring::create(&SystemEntropy, Timestamp::default())
        .unwrap()
        .seal(&root, ID, &SystemEntropy)
        .unwrap();
    assert!(Keyring::open(&root, StoreId([8; 16]), &sealed).is_err());
    assert!(Keyring::open(&Key::random(&SystemEntropy).unwrap(), ID, &sealed).is_err());
    for at in 0..sealed.len() {
        assert!(Keyring::open(&root, ID, &sealed[..at]).is_err());
        let mut flipped = sealed.clone();
        flipped[at] ^= 1;
        assert!(Keyring::open(&root, ID, &flipped).is_err());
    }
}

fn any_address() -> impl Strategy<Value = Address> {
    (prop::sample::select(&[SOME, OTHER, THIRD]), "[ab]{0,2}", "[ab]{0,2}", 0..3_u64).prop_map(
        |(kind, folder, name, part)| Address { kind, folder: folder.into(), name: name.into(), part },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// A record opens at its own place and nowhere else, whatever term its header claims.
    #[test]
    fn a_moved_record_never_opens(from in any_address(), to in any_address(), namespaces in ("[ab]", "[ab]"), term in 0..4_u32) {
        let first = Keyring::create(&SystemEntropy, Timestamp::default()).unwrap();
        let keyring = first.rotate(&SystemEntropy, Timestamp::default()).unwrap();
        let names = MacKey::new(&keyring.purpose(Purpose::Names));
        let from_key = record::store_key(&names, &namespaces.0, &from);
        let to_key = record::store_key(&names, &namespaces.1, &to);
        let same = from == to && namespaces.0 == namespaces.1;
        prop_assert_eq!(from_key == to_key, same);

        let mut sealed = record::seal(&keyring, ID, &from_key, &from.name, b"x", &SystemEntropy).unwrap();
        prop_assert!(record::open(&keyring, ID, &from_key, &sealed).is_ok());
        prop_assert_eq!(record::open(&keyring, ID, &to_key, &sealed).is_ok(), same);
        prop_assert!(record::open(&keyring, StoreId([8; 16]), &from_key, &sealed).is_err());
        sealed[1..5].copy_from_slice(&term.to_be_bytes());
        prop_assert_eq!(record::open(&keyring, ID, &from_key, &sealed).is_ok(), term == 2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Random groups of puts and deletes against a model; in the end the digest is the sum computed from scratch.
    #[test]
    fn the_digest_is_that_of_the_records(rounds in prop::collection::vec(prop::collection::vec((0..6_u64, prop::option::of(0..9_u8)), 1..4), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let house = house().await;
            let view = house.barrier.view("kv");
            let mut model = BTreeMap::new();
            for round in rounds {
                let commits = round.iter().map(|(part, value)| view.commit(match value {
                    Some(value) => put(at("n", *part), &value.to_string()),
                    None => Changes { deletes: vec![at("n", *part)], ..Changes::default() },
                }));
                for done in futures_util::future::join_all(commits).await {
                    done.unwrap();
                }
                for (part, value) in round {
                    match value {
                        Some(value) => drop(model.insert(part, value.to_string().into_bytes())),
                        None => drop(model.remove(&part)),
                    }
                }
            }
            for part in 0..6 {
                assert_eq!(read(&view, &at("n", part)).await, model.get(&part).cloned());
            }
            assert_eq!(house.problems().await, Vec::<String>::new());
            let state = house.barrier.state();
            house.barrier.stop().await;
            assert_eq!(open(&house.store, &house.root).await.unwrap().state(), state);
        });
    }
}

#[tokio::test]
async fn a_store_that_is_made_knows_the_request_that_made_it() {
    let (store, root) = (Arc::new(MapStore::default()), Key::random(&SystemEntropy).unwrap());
    let keyring = Keyring::create(&SystemEntropy, Timestamp::from_millis(1)).unwrap();
    let by = RequestId([5; 16]);
    let puts = first_records(&keyring, &root, ID, by, &SystemEntropy).unwrap().to_vec();
    store.commit(Batch { puts, ..Batch::default() }).await.unwrap();
    let barrier = open(&store, &root).await.unwrap();
    assert!(barrier.was_applied(&by) && !barrier.was_applied(&RequestId([6; 16])));
    barrier.view("kv").commit(put(at("a", 0), "x")).await.unwrap();
    assert_eq!(barrier.scrub().await.unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn more_outcomes_on_their_way_than_a_ledger_can_hold_stop_writes_and_nothing_else() {
    let house = house().await;
    let ids: Vec<_> = (0..applied::MAX as u64 + 1).map(request).collect();
    house.applied.add(&ids);
    let view = house.barrier.view("kv");
    assert!(matches!(view.commit(put(at("a", 0), "x")).await, Err(BarrierError::TooLarge(_))));
    house.applied.settle(&ids[..1], LogPoint::default());
    view.commit(put(at("a", 0), "x")).await.unwrap();
    assert!(open(&house.store, &house.root).await.unwrap().was_applied(&ids[1]));
}

fn request(number: u64) -> RequestId {
    RequestId([number.to_be_bytes(), [0; 8]].concat().try_into().unwrap())
}

/// One round of a life: writes at the same time, some of which are refused; how the store answers; which of the requests
/// so far get their outcome recorded; whether the process ends after it.
type Round = (Vec<(u64, bool)>, u8, Vec<prop::sample::Index>, bool);

fn any_round() -> impl Strategy<Value = Round> {
    let writes = prop::collection::vec((0..4_u64, any::<bool>()), 1..6);
    (writes, 0..6_u8, prop::collection::vec(any::<prop::sample::Index>(), 0..4), prop::bool::weighted(0.2))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// However writes are grouped, refused, settled and cut off by ends of the process: for each request whose outcome is
    /// missing the store knows at its next opening whether it was applied.
    #[test]
    fn what_was_applied_is_known_after_any_end(rounds in prop::collection::vec(any_round(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut house = house().await;
            // Without an outcome; whether the store has them.
            let mut open_intents: BTreeMap<RequestId, bool> = BTreeMap::new();
            let mut next = 0;
            for (writes, fault, settled, ends) in rounds {
                house.store.fail.store(fault, Ordering::SeqCst);
                let view = house.barrier.view("kv");
                let commits = writes.iter().map(|(part, refused)| {
                    next += 1;
                    let never = Condition::At(Revision(u64::MAX));
                    let conditions = if *refused { vec![(at("n", *part), never)] } else { Vec::new() };
                    let (by, view) = (request(next), &view);
                    async move {
                        let changes = Changes { conditions, by: Some(by), ..put(at("n", *part), "x") };
                        (by, view.commit(changes).await)
                    }
                });
                for (by, result) in futures_util::future::join_all(commits).await {
                    open_intents.insert(by, result.is_ok());
                }
                for index in settled {
                    let ids: Vec<_> = open_intents.keys().copied().collect();
                    if !ids.is_empty() {
                        let id = *index.get(&ids);
                        open_intents.remove(&id);
                        house.applied.settle(&[id], LogPoint::default());
                    }
                }
                house.store.fail.store(0, Ordering::SeqCst);
                // After a write of unknown end there is no committer any more: the process has to end.
                if ends || fault == 2 {
                    house.barrier.stop().await;
                    let applied = Arc::new(Applied::default());
                    let barrier = open_with(&house.store, &house.root, &applied).await.unwrap();
                    applied.keep_inherited(|id| open_intents.contains_key(id));
                    for (id, was_applied) in &open_intents {
                        assert_eq!(barrier.was_applied(id), *was_applied, "{id}");
                    }
                    (house.barrier, house.applied) = (barrier, applied);
                }
            }
            assert_eq!(house.problems().await, Vec::<String>::new());
        });
    }
}

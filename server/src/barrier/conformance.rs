//! What all that is derived from the store must keep, whatever it is: it follows what others write, and forgets. Each
//! implements [`Subject`] in its tests and calls [`check`]; `server/tests/tidy.rs` looks that none is left out.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::{Barrier, Derived, KEYRING_KEY, Keyring};
use crate::{
    clock::ManualClock,
    crypto::{Key, SystemEntropy},
    model::{StoreId, Timestamp},
    storage::{Batch, Page, Record, Revision, Store, StoreError, StoreKey, memory::MemoryStore},
};

const ID: StoreId = StoreId([7; 16]);

/// Something derived, as one of several servers has it.
pub(crate) trait Subject: Sized {
    /// Loads it as an unseal does.
    async fn load(house: &House) -> Self;
    fn derived(&self) -> &dyn Derived;
    /// Changes something, as its owner does.
    async fn change(&self);
    /// Whether it knows of the change.
    async fn shows(&self) -> bool;
    /// Whether it holds nothing.
    fn is_empty(&self) -> bool;
}

/// A store that several servers share, and its root key.
pub(crate) struct House {
    store: Arc<Telling>,
    root: Key,
}

/// Fails if what is derived breaks a promise.
pub(crate) async fn check<S: Subject>() {
    let house = House::new().await;
    let (here, late) = (S::load(&house).await, S::load(&house).await);
    let elsewhere = S::load(&house).await;
    assert!(!here.shows().await && !late.shows().await && !elsewhere.shows().await);
    house.news();

    elsewhere.change().await;
    assert!(elsewhere.shows().await, "who writes reads what was written");
    assert!(!here.shows().await, "nobody has told it yet");

    let (news, others) = (house.news(), [Vec::new(), vec![0], vec![250; 41]]);
    here.derived().changed(&others).await.unwrap();
    assert!(!here.shows().await, "news of others");
    for _ in 0..2 {
        here.derived().changed(&news).await.unwrap();
        assert!(here.shows().await, "told of it");
    }
    late.derived().load().await.unwrap();
    assert!(late.shows().await, "loaded again");
    assert!(S::load(&house).await.shows().await, "built again");

    assert!(!here.is_empty());
    here.derived().forget();
    assert!(here.is_empty());
}

impl House {
    async fn new() -> Self {
        let (store, root) = (Arc::new(Telling::default()), Key::random(&SystemEntropy).unwrap());
        let keyring = Keyring::create(&SystemEntropy, Timestamp::from_millis(1)).unwrap();
        let record = keyring.seal(&root, ID, &SystemEntropy).unwrap();
        let batch = Batch { puts: vec![(KEYRING_KEY.to_vec(), record)], ..Batch::default() };
        store.commit(batch).await.unwrap();
        Self { store, root }
    }

    /// The barrier of one more server.
    pub(crate) async fn barrier(&self) -> Arc<Barrier> {
        let record = self.store.get(KEYRING_KEY).await.unwrap().unwrap();
        let keyring = Keyring::open(&self.root, ID, &record.value).unwrap();
        let store: Arc<dyn Store> = self.store.clone();
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(5)));
        Barrier::open(store, ID, keyring, Arc::new(SystemEntropy), clock, Arc::default(), Arc::default())
            .await
            .unwrap()
    }

    pub(crate) fn root(&self) -> Key {
        Key::from_bytes(self.root.expose())
    }

    /// What was written since the last time, as a store's watch would tell it.
    fn news(&self) -> Vec<StoreKey> {
        std::mem::take(&mut *self.store.news.lock().unwrap())
    }
}

/// Remembers which records were written.
#[derive(Default)]
struct Telling {
    inner: MemoryStore,
    news: Mutex<Vec<StoreKey>>,
}

#[async_trait]
impl Store for Telling {
    async fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        self.inner.get(key).await
    }

    async fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Page, StoreError> {
        self.inner.scan(prefix, after, limit).await
    }

    async fn commit(&self, batch: Batch) -> Result<Revision, StoreError> {
        let keys: Vec<_> = batch.puts.iter().map(|(key, _)| key).chain(&batch.deletes).cloned().collect();
        let revision = self.inner.commit(batch).await?;
        self.news.lock().unwrap().extend(keys);
        Ok(revision)
    }

    fn kind(&self) -> &'static str {
        "telling"
    }
}

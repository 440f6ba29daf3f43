//! What every engine must keep, whatever it does: it is mounted under a plain name, all it knows is in its view, and a
//! write happens wholly or not at all. An engine's tests implement [`Subject`] and call [`check`].

use std::{future::Future, sync::Arc};

use super::{EngineError, EngineKind, KINDS};
use crate::{
    barrier::{Barrier, BarrierError, Keyring, View},
    clock::ManualClock,
    crypto::SystemEntropy,
    model::{Path, StoreId, Timestamp},
    storage::{
        Store,
        fault::{Fault, FaultStore, Operation},
        memory::MemoryStore,
    },
};

/// An engine under test: something it can be told, and be asked for again.
pub(super) trait Subject: Clone + Send + Sync + 'static {
    /// Its entry in the table of kinds.
    const KIND: EngineKind;
    /// Mounts it on `view`.
    fn build(view: View) -> Self;
    /// Keeps `value` at `path`.
    fn write(&self, path: &Path, value: &str) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// Erases all of it.
    fn erase(&self) -> impl Future<Output = Result<(), BarrierError>> + Send;
    /// What is kept at `path`.
    fn read(&self, path: &Path) -> impl Future<Output = Result<String, EngineError>> + Send;
}

/// A barrier over `store`, with keys of its own.
pub(super) async fn barrier(store: Arc<dyn Store>) -> Arc<Barrier> {
    let entropy = Arc::new(SystemEntropy);
    let keyring = Keyring::create(&*entropy, Timestamp::from_millis(1)).unwrap();
    let clock = Arc::new(ManualClock::default());
    Barrier::open(store, StoreId([7; 16]), keyring, entropy, clock, Arc::default(), Arc::default())
        .await
        .unwrap()
}

/// Fails if the engine breaks a promise.
pub(super) async fn check<S: Subject>() {
    let store = Arc::new(FaultStore::new(MemoryStore::new()));
    let barrier = barrier(store.clone()).await;
    let path = Path::parse("mount/folder/name").unwrap();
    let mounted_plainly = Path::parse(S::KIND.name).is_ok_and(|path| path.segments().count() == 1);
    assert!(mounted_plainly && !S::KIND.description.is_empty());
    assert_eq!(KINDS.iter().filter(|kind| kind.name == S::KIND.name).count(), 1);

    let first = S::build(barrier.view("first"));
    assert!(matches!(first.read(&path).await, Err(EngineError::NotFound)));
    first.write(&path, "one").await.unwrap();
    assert_eq!(first.read(&path).await.unwrap(), "one");

    // Built again it knows the same; on another view, nothing.
    assert_eq!(S::build(barrier.view("first")).read(&path).await.unwrap(), "one");
    let second = S::build(barrier.view("second"));
    assert!(matches!(second.read(&path).await, Err(EngineError::NotFound)));

    // Nothing can be kept at the mount itself.
    assert!(matches!(
        first.write(&path.parent().unwrap().parent().unwrap(), "x").await,
        Err(EngineError::Invalid(_))
    ));

    // A write that the store refuses leaves everything as it was, and says so without the value.
    store.inject(Operation::Commit, Fault::ReadOnly);
    let error = first.write(&path, "refused-value").await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("refused-value"));
    assert_eq!(first.read(&path).await.unwrap(), "one");

    // A caller that stops waiting leaves a write that is done or not, and not one that is half done.
    let held = store.hold(Operation::Commit);
    let (writer, place) = (first.clone(), path.clone());
    let waiting = tokio::spawn(async move { writer.write(&place, "two").await });
    let stopped = held.reached().await;
    waiting.abort();
    stopped.release();
    first.write(&path, "three").await.unwrap();
    assert_eq!(first.read(&path).await.unwrap(), "three");
    // Erased is erased, for one that is built again as well, and nobody else loses anything. An attempt that was cut off
    // is made again.
    second.write(&path, "kept").await.unwrap();
    for n in 0..300 {
        let many = Path::parse(&format!("mount/folder/deeper/{}/{n}", n % 3)).unwrap();
        first.write(&many, "much").await.unwrap();
    }
    let emptied = S::build(barrier.view("first"));
    store.inject(Operation::Commit, Fault::ReadOnly);
    assert!(emptied.erase().await.is_err());
    emptied.erase().await.unwrap();
    for name in ["mount/folder/name", "mount/folder/deeper/0/0", "mount/folder/deeper/2/299"] {
        let read = S::build(barrier.view("first")).read(&Path::parse(name).unwrap()).await;
        assert!(matches!(read, Err(EngineError::NotFound)), "{name}");
    }
    assert_eq!(second.read(&path).await.unwrap(), "kept");
}

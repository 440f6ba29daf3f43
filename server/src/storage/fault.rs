//! A wrapper that makes any store fail on demand: a real store plus a queue of faults for each operation. For tests of
//! everything that stands on a store.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{Batch, Page, Record, Revision, Store, StoreError, StoreKey};

/// What a fault waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Store::get`].
    Get,
    /// [`Store::scan`].
    Scan,
    /// [`Store::commit`].
    Commit,
}

/// What goes wrong, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// [`StoreError::Conflict`] over this key; nothing happens.
    Conflict(StoreKey),
    /// [`StoreError::Unknown`], and nothing happened.
    UnknownBefore,
    /// [`StoreError::Unknown`], and yet it did happen.
    UnknownAfter,
    /// [`StoreError::Fatal`]; nothing happens.
    Fatal,
    /// [`StoreError::ReadOnly`]; nothing happens.
    ReadOnly,
}

enum Planned {
    Fails(Fault),
    Waits { reached: oneshot::Sender<()>, released: oneshot::Receiver<()> },
}

/// An operation that will stop before it begins.
pub struct Held {
    reached: oneshot::Receiver<()>,
    release: oneshot::Sender<()>,
}

/// An operation that has stopped. Goes on when this is released or dropped.
pub struct Stopped {
    release: oneshot::Sender<()>,
}

/// See the module.
pub struct FaultStore<S> {
    inner: S,
    planned: Mutex<HashMap<Operation, VecDeque<Planned>>>,
    /// Commits until the process is gone, if it is to go.
    left: Mutex<Option<usize>>,
    /// Only what is urgent is written.
    full: AtomicBool,
}

impl<S: Store> FaultStore<S> {
    /// `inner`, without faults so far.
    pub fn new(inner: S) -> Self {
        Self { inner, planned: Mutex::default(), left: Mutex::default(), full: AtomicBool::new(false) }
    }

    /// The store underneath, which never fails on demand.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The next `operation` that has no fault planned yet meets this one.
    pub fn inject(&self, operation: Operation, fault: Fault) {
        self.plan(operation, Planned::Fails(fault));
    }

    /// The next `operation` that has no fault planned yet waits until it is released, and then succeeds.
    pub fn hold(&self, operation: Operation) -> Held {
        let (reaching, reached) = oneshot::channel();
        let (release, released) = oneshot::channel();
        self.plan(operation, Planned::Waits { reached: reaching, released });
        Held { reached, release }
    }

    /// So many commits happen; those after them are the first that a process which was killed does not make. `None`: another
    /// process runs, without an end in sight.
    pub fn crash_after(&self, commits: Option<usize>) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = commits;
    }

    /// From now on only what is urgent is written.
    pub fn fill(&self) {
        self.full.store(true, Ordering::SeqCst);
    }

    fn is_gone(&self) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = *left == Some(0);
        *left = left.map(|left| left.saturating_sub(1));
        gone
    }

    fn plan(&self, operation: Operation, planned: Planned) {
        let mut all = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(operation).or_default().push_back(planned);
    }

    /// Waits or fails as planned. `true`: do it, and then say that nobody knows.
    async fn meet(&self, operation: Operation) -> Result<bool, StoreError> {
        let next = {
            let mut all = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
            all.get_mut(&operation).and_then(VecDeque::pop_front)
        };
        match next {
            None => Ok(false),
            Some(Planned::Fails(Fault::UnknownAfter)) => Ok(true),
            Some(Planned::Fails(fault)) => Err(fault.into_error()),
            Some(Planned::Waits { reached, released }) => {
                // Either end may have been dropped by a test that no longer cares: then there is nothing to wait for.
                let _ = reached.send(());
                let _ = released.await;
                Ok(false)
            }
        }
    }
}

impl Held {
    /// Waits until the operation stands still.
    pub async fn reached(self) -> Stopped {
        // An error means that the store is gone, and then so is the operation.
        let _ = self.reached.await;
        Stopped { release: self.release }
    }
}

impl Stopped {
    /// Lets the operation continue.
    pub fn release(self) {
        let _ = self.release.send(());
    }
}

impl Fault {
    fn into_error(self) -> StoreError {
        match self {
            Self::Conflict(key) => StoreError::Conflict(key),
            Self::UnknownBefore | Self::UnknownAfter => StoreError::Unknown("an injected fault".into()),
            Self::Fatal => StoreError::Fatal("an injected fault".into()),
            Self::ReadOnly => StoreError::ReadOnly("an injected fault".into()),
        }
    }
}

#[async_trait]
impl<S: Store> Store for FaultStore<S> {
    async fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        let unknown = self.meet(Operation::Get).await?;
        after(unknown, self.inner.get(key).await)
    }

    async fn scan(&self, prefix: &[u8], start: Option<&[u8]>, limit: usize) -> Result<Page, StoreError> {
        let unknown = self.meet(Operation::Scan).await?;
        after(unknown, self.inner.scan(prefix, start, limit).await)
    }

    async fn commit(&self, batch: Batch) -> Result<Revision, StoreError> {
        if self.is_gone() {
            return Err(Fault::Fatal.into_error());
        }
        if self.is_full() && !batch.urgent {
            return Err(Fault::ReadOnly.into_error());
        }
        let unknown = self.meet(Operation::Commit).await?;
        after(unknown, self.inner.commit(batch).await)
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst) || self.inner.is_full()
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
}

fn after<T>(unknown: bool, done: Result<T, StoreError>) -> Result<T, StoreError> {
    if unknown { done.and(Err(Fault::UnknownAfter.into_error())) } else { done }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::{conformance, memory::MemoryStore};

    fn put(key: &[u8]) -> Batch {
        Batch { puts: vec![(key.to_vec(), b"value".to_vec())], ..Batch::default() }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn keeps_the_contract_without_faults() {
        conformance::run(async || FaultStore::new(MemoryStore::new())).await;
    }

    #[tokio::test]
    async fn faults_come_in_order_and_once() {
        let store = FaultStore::new(MemoryStore::new());
        store.inject(Operation::Commit, Fault::UnknownBefore);
        store.inject(Operation::Commit, Fault::UnknownAfter);
        store.inject(Operation::Commit, Fault::ReadOnly);
        store.inject(Operation::Commit, Fault::Fatal);
        store.inject(Operation::Commit, Fault::Conflict(b"k".to_vec()));
        assert!(matches!(store.commit(put(b"before")).await, Err(StoreError::Unknown(_))));
        assert_eq!(store.get(b"before").await.unwrap(), None);
        assert!(matches!(store.commit(put(b"after")).await, Err(StoreError::Unknown(_))));
        assert!(store.get(b"after").await.unwrap().is_some());
        assert!(matches!(store.commit(put(b"x")).await, Err(StoreError::ReadOnly(_))));
        assert!(matches!(store.commit(put(b"x")).await, Err(StoreError::Fatal(_))));
        assert!(matches!(store.commit(put(b"x")).await, Err(StoreError::Conflict(key)) if key == b"k"));
        assert_eq!(store.get(b"x").await.unwrap(), None);
        assert_eq!(store.commit(put(b"x")).await.unwrap(), Revision(2));
    }

    #[tokio::test]
    async fn a_held_commit_happens_only_when_released() {
        let store = Arc::new(FaultStore::new(MemoryStore::new()));
        let held = store.hold(Operation::Commit);
        let committing = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.commit(put(b"k")).await }
        });
        let stopped = held.reached().await;
        assert_eq!(store.get(b"k").await.unwrap(), None);
        stopped.release();
        assert_eq!(committing.await.unwrap().unwrap(), Revision(1));
        assert!(store.get(b"k").await.unwrap().is_some());
    }
}

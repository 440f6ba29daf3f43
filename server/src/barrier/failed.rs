//! What is known of a store that failed: nothing more can be promised then, so whoever meets the failure notes it here, and the
//! life of the process, which waits for it, ends.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::storage::{Batch, Page, Record, Revision, Store, StoreError};

/// The first failure, once there is one. There is no way back but another process.
#[derive(Debug, Default)]
pub struct Failed {
    cause: OnceLock<String>,
    happened: CancellationToken,
}

impl Failed {
    /// What happened.
    pub fn cause(&self) -> Option<&str> {
        self.cause.get().map(String::as_str)
    }

    /// Waits until it happens.
    pub async fn happened(&self) -> String {
        self.happened.cancelled().await;
        self.cause().unwrap_or_default().to_owned()
    }

    fn note(&self, error: &StoreError) {
        // Only the first is the cause of all others.
        if self.cause.set(error.to_string()).is_ok() {
            tracing::error!(%error, "the store failed: the process has to end");
        }
        self.happened.cancel();
    }
}

/// A store whose failures are noted.
pub(super) struct Watched {
    store: Arc<dyn Store>,
    failed: Arc<Failed>,
}

impl Watched {
    pub(super) fn new(store: Arc<dyn Store>, failed: Arc<Failed>) -> Self {
        Self { store, failed }
    }

    pub(super) async fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        self.noted(self.store.get(key).await)
    }

    pub(super) async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.noted(self.store.scan(prefix, after, limit).await)
    }

    pub(super) async fn commit(&self, batch: Batch) -> Result<Revision, StoreError> {
        self.noted(self.store.commit(batch).await)
    }

    /// After this error nobody knows what the store holds.
    pub(super) fn fail(&self, error: &StoreError) {
        self.failed.note(error);
    }

    fn noted<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error @ (StoreError::Fatal(_) | StoreError::Unknown(_))) = &result {
            self.fail(error);
        }
        result
    }
}

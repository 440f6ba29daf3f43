//! The keyring as it is stored, sealed under the root key: who has the root key can read it again, start a new term and
//! seal it under another root. Exists while the server is unsealed; nobody else has the root key then.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;

use super::{Barrier, BarrierError, Derived, KEYRING_KEY};
use crate::{crypto::Key, model::RequestId, storage::StoreKey};

/// See the module.
pub struct StoredKeyring {
    barrier: Arc<Barrier>,
    root: ArcSwapOption<Key>,
}

impl StoredKeyring {
    /// `root` is that of the keyring which the barrier was opened with.
    pub fn new(barrier: Arc<Barrier>, root: Key) -> Self {
        Self { barrier, root: ArcSwapOption::from_pointee(root) }
    }

    /// Starts a new term and returns its number. See [`Barrier::rotate`].
    ///
    /// # Errors
    /// The write failed, or the root key is gone; then the old term continues.
    pub async fn rotate(&self, by: RequestId) -> Result<u32, BarrierError> {
        let root = self.root()?;
        self.barrier.rotate(&root, by).await
    }

    /// From now on the keyring is sealed under `new_root`, which `seal_record` tells how to find. See [`Barrier::rekey`].
    ///
    /// # Errors
    /// The write failed, or the root key is gone; then the old root key stays in use.
    pub async fn rekey(
        &self,
        new_root: Key,
        seal_record: Vec<u8>,
        by: RequestId,
    ) -> Result<(), BarrierError> {
        let root = self.root()?;
        self.barrier.rekey(&root, &new_root, seal_record, by).await?;
        self.root.store(Some(Arc::new(new_root)));
        Ok(())
    }

    fn root(&self) -> Result<Arc<Key>, BarrierError> {
        self.root.load_full().ok_or(BarrierError::Stopped)
    }
}

#[async_trait]
impl Derived for StoredKeyring {
    /// A keyring with more terms counts from now on. One that somebody sealed under another root does not open: then
    /// whoever has that root has to unseal this server, too.
    async fn load(&self) -> Result<(), BarrierError> {
        let root = self.root()?;
        let (stored, _) = self.barrier.stored_keyring(&root).await?;
        self.barrier.records.install(stored);
        Ok(())
    }

    async fn changed(&self, keys: &[StoreKey]) -> Result<(), BarrierError> {
        if keys.iter().any(|key| key == KEYRING_KEY) { self.load().await } else { Ok(()) }
    }

    /// The root key, that is: the keys that it sealed go with the barrier, once the last who works with it is done.
    fn forget(&self) {
        self.root.store(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::barrier::conformance::{self, House};

    impl conformance::Subject for StoredKeyring {
        async fn load(house: &House) -> Self {
            Self::new(house.barrier().await, house.root())
        }

        fn derived(&self) -> &dyn Derived {
            self
        }

        async fn change(&self) {
            assert_eq!(self.rotate(RequestId([1; 16])).await.unwrap(), 2);
        }

        async fn shows(&self) -> bool {
            self.barrier.active_term() == 2
        }

        fn is_empty(&self) -> bool {
            self.root().is_err()
        }
    }

    #[tokio::test]
    async fn the_keyring_follows_the_store() {
        conformance::check::<StoredKeyring>().await;
    }
}

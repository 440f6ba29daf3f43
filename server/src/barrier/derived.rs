//! What is held in memory and derived from the store: policy, revocations, mounts, the keyring, the names of a kv. Answers
//! come from there without a lock; the store stays what is right.
//!
//! With one server its own commits are all the news there is: whoever commits takes over what it wrote before anybody is
//! told that it is done, so that everybody reads what was written. With several servers on one store the news of the
//! others come from the store as the keys of a batch, and go through [`Derived::changed`].
//!
//! A user is looked up in the store at each login, so nothing is derived of users.

use async_trait::async_trait;

use super::BarrierError;
use crate::storage::StoreKey;

/// See the module. Every implementation passes the conformance suite beside this file.
#[async_trait]
pub trait Derived: Send + Sync {
    /// Reads everything anew.
    ///
    /// # Errors
    /// The store, or a record that is not what it should be. What was held is held on.
    async fn load(&self) -> Result<(), BarrierError>;

    /// The records under `keys` were written or deleted, by one batch and by whoever. What is held is then what the store
    /// has, and never a part of the batch; records of others are passed over. News may be told twice, late, or in another
    /// order.
    ///
    /// # Errors
    /// As [`Derived::load`]; then what is held may be stale until it is loaded or told again.
    async fn changed(&self, keys: &[StoreKey]) -> Result<(), BarrierError>;

    /// Nothing of the store is held from here on. Nobody is at work with it any more; who asks all the same is refused
    /// rather than answered from nothing.
    fn forget(&self);
}

//! Records without a store around them: whether they open, and whether together they are all there are. For a store that
//! cannot be opened any more, of which some of everything may be missing.

use std::collections::HashSet;

use super::{
    BarrierError, Keyring, Purpose,
    digest::{SetDigest, SetMac, is_covered},
    ledger::{DigestState, Ledger},
    record,
};
use crate::{
    crypto::{CryptoError, Entropy, PublicKey, SigningKey},
    model::{RequestId, StoreId},
    storage::StoreKey,
};

/// The keys of one store.
pub struct Assay {
    keyring: Keyring,
    store_id: StoreId,
    mac: SetMac,
}

/// What a digest's record says: how far the store was, and which requests it had applied by then.
#[derive(Clone, Debug)]
pub struct Account {
    /// Batch and digest.
    pub state: DigestState,
    /// Those whose outcome the audit log did not hold yet.
    pub applied: HashSet<RequestId>,
    ledger: Ledger,
}

impl Assay {
    /// With the keyring of that store.
    pub fn new(keyring: Keyring, store_id: StoreId) -> Self {
        let mac = SetMac::new(&keyring);
        Self { keyring, store_id, mac }
    }

    /// Whether a record opens under that key. Those of the seal and the keyring are under the root key, which is not here.
    pub fn opens(&self, key: &[u8], value: &[u8]) -> bool {
        let placed = key.len() == record::STORE_KEY || !is_covered(key);
        placed && record::open(&self.keyring, self.store_id, key, value).is_ok()
    }

    /// What a digest's record says, if it is one.
    pub fn account(&self, value: &[u8]) -> Option<Account> {
        let opened = record::open(&self.keyring, self.store_id, super::DIGEST_KEY, value).ok()?;
        let (ledger, applied) = Ledger::decode(opened.into_content().expose()).ok()?;
        Some(Account { state: ledger.state, applied, ledger })
    }

    /// The digest over these records.
    ///
    /// # Errors
    /// One of them could not be read.
    pub fn digest<E>(
        &self,
        records: impl Iterator<Item = Result<(StoreKey, Vec<u8>), E>>,
    ) -> Result<crate::crypto::Digest, E> {
        let mut sum = SetDigest::default();
        for record in records {
            let (key, value) = record?;
            sum = sum.plus(self.mac.of_value(&key, &value));
        }
        Ok(sum.to_bytes())
    }

    /// The record of a digest: that of `account`, if there is one, but in that state.
    ///
    /// # Errors
    /// No randomness.
    pub fn seal_state(
        &self,
        account: Option<&Account>,
        state: DigestState,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, CryptoError> {
        let first = Ledger::first(self.keyring.active_term());
        let ledger = account.map_or(first, |account| account.ledger).in_state(state);
        let applied = account.map(|account| account.applied.clone()).unwrap_or_default();
        let content = ledger.encode(&applied);
        record::seal(&self.keyring, self.store_id, super::DIGEST_KEY, "", &content, entropy)
    }

    /// The key that the audit log of this store is signed with.
    ///
    /// # Errors
    /// A key of the wrong size.
    pub fn audit_key(&self) -> Result<PublicKey, BarrierError> {
        Ok(SigningKey::from_seed(&self.keyring.purpose(Purpose::AuditSign))?.public_key())
    }
}

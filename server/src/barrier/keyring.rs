//! The keyring: the keys that seal records, one for each term, and the keys with one fixed purpose. It is one record,
//! sealed under the root key. Pure: no IO, no clock.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use zeroize::Zeroizing;

use crate::{
    crypto::{self, CryptoError, Entropy, Key},
    model::{StoreId, Timestamp},
};

/// Version of the encoding, inside and outside of the seal.
const V1: u8 = 1;
const LABEL: &str = "strongroom keyring v1";
/// Version, purpose key, active term, number of terms.
const HEAD: usize = 1 + 32 + 4 + 4;
/// Term, when it began, key.
const TERM: usize = 4 + 8 + 32;
/// Most terms: 250 years of rotation every 90 days, and the record stays below 64 KiB.
const MAX_TERMS: usize = 1024;
/// A term ends after this time.
const TERM_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// A term ends after this many records. Every record has a key of its own, so this is hygiene, not a limit of the cipher.
const TERM_RECORDS: u64 = 1 << 32;

/// What a fixed key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Hashes the names of records.
    Names,
    /// Seals session tokens.
    Token,
    /// Hashes the values of fields in the audit log.
    AuditMac,
    /// Seed of the key that signs audit checkpoints.
    AuditSign,
    /// Hashes records for the set digest.
    SetDigest,
}

/// See the module. Shared parts make a rotated keyring cheap; nothing in it is ever changed.
pub struct Keyring {
    purposes: Arc<Purposes>,
    terms: BTreeMap<u32, Arc<Term>>,
    active: u32,
}

/// All derived from one random key of the keyring and not from the root: a rekey, which exchanges the root, must change
/// neither the names of records nor tokens nor the audit key. And not from a term: names must be found after a rotation.
struct Purposes {
    parent: Key,
    names: Key,
    token: Key,
    audit_mac: Key,
    audit_sign: Key,
    set_digest: Key,
}

struct Term {
    key: Key,
    since: Timestamp,
}

impl Keyring {
    /// A new one with term 1.
    ///
    /// # Errors
    /// No randomness.
    pub fn create(entropy: &dyn Entropy, now: Timestamp) -> Result<Self, CryptoError> {
        let purposes = Arc::new(Purposes::derive(Key::random(entropy)?)?);
        let first = Arc::new(Term { key: Key::random(entropy)?, since: now });
        Ok(Self { purposes, terms: BTreeMap::from([(1, first)]), active: 1 })
    }

    /// The same with one more term, which is the active one from then on.
    ///
    /// # Errors
    /// No randomness, or 1,024 terms are reached.
    pub fn rotate(&self, entropy: &dyn Entropy, now: Timestamp) -> Result<Self, CryptoError> {
        if self.terms.len() >= MAX_TERMS {
            return Err(CryptoError);
        }
        let active = self.active.checked_add(1).ok_or(CryptoError)?;
        let mut terms = self.terms.clone();
        terms.insert(active, Arc::new(Term { key: Key::random(entropy)?, since: now }));
        Ok(Self { purposes: Arc::clone(&self.purposes), terms, active })
    }

    /// Whether the active term is over at `now`, with `records` sealed under it.
    pub fn rotation_due(&self, now: Timestamp, records: u64) -> bool {
        let since = self.terms.get(&self.active).map_or(Timestamp::default(), |term| term.since);
        records >= TERM_RECORDS || now.since(since) >= TERM_LIFE
    }

    /// The record to store, sealed under `root` for the store `store_id`.
    ///
    /// # Errors
    /// No randomness.
    pub fn seal(&self, root: &Key, store_id: StoreId, entropy: &dyn Entropy) -> Result<Vec<u8>, CryptoError> {
        let sealed = crypto::seal(root, LABEL, &store_id.0, &self.encode()?, entropy)?;
        let mut record = Vec::with_capacity(1 + sealed.len());
        record.push(V1);
        record.extend_from_slice(&sealed);
        Ok(record)
    }

    /// Opens what [`Self::seal`] made.
    ///
    /// # Errors
    /// Another root, another store, or a record that was changed.
    pub fn open(root: &Key, store_id: StoreId, record: &[u8]) -> Result<Self, CryptoError> {
        match record.split_first() {
            Some((&V1, sealed)) => Self::decode(crypto::open(root, LABEL, &store_id.0, sealed)?.expose()),
            _ => Err(CryptoError),
        }
    }

    /// The key for `purpose`; the same for as long as the store lives.
    pub fn purpose(&self, purpose: Purpose) -> Key {
        Key::from_bytes(self.purposes.get(purpose).expose())
    }

    /// The number of the term that seals new records.
    pub fn active_term(&self) -> u32 {
        self.active
    }

    /// The key of a term, if there is such a term.
    pub(super) fn term(&self, term: u32) -> Option<&Key> {
        self.terms.get(&term).map(|term| &term.key)
    }

    /// `version | purpose key 32 | active u32 | count u32 | count * (term u32 | since i64 | key 32)`
    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let count = u32::try_from(self.terms.len()).map_err(|_| CryptoError)?;
        // Exact, because a vector that grows leaves copies of keys behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEAD + TERM * self.terms.len()));
        bytes.push(V1);
        bytes.extend_from_slice(self.purposes.parent.expose());
        bytes.extend_from_slice(&self.active.to_be_bytes());
        bytes.extend_from_slice(&count.to_be_bytes());
        for (number, term) in &self.terms {
            bytes.extend_from_slice(&number.to_be_bytes());
            bytes.extend_from_slice(&term.since.as_millis().to_be_bytes());
            bytes.extend_from_slice(term.key.expose());
        }
        Ok(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CryptoError> {
        let ([version], rest) = take::<1>(bytes)?;
        let (parent, rest) = take::<32>(rest)?;
        let (active, rest) = take::<4>(rest)?;
        let (count, mut rest) = take::<4>(rest)?;
        let (active, count) = (u32::from_be_bytes(*active), u32::from_be_bytes(*count));

        let mut terms = BTreeMap::new();
        while !rest.is_empty() && terms.len() < MAX_TERMS {
            let (number, after) = take::<4>(rest)?;
            let (since, after) = take::<8>(after)?;
            let (key, after) = take::<32>(after)?;
            let since = Timestamp::from_millis(i64::from_be_bytes(*since));
            terms.insert(u32::from_be_bytes(*number), Arc::new(Term { key: Key::from_bytes(key), since }));
            rest = after;
        }
        let complete = rest.is_empty() && usize::try_from(count) == Ok(terms.len());
        // Only the newest term may be active: `rotate` counts on from it.
        let newest = terms.last_key_value().map(|(number, _)| *number);
        if *version != V1 || !complete || newest != Some(active) {
            return Err(CryptoError);
        }
        Ok(Self { purposes: Arc::new(Purposes::derive(Key::from_bytes(parent))?), terms, active })
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring(term {} of {})", self.active, self.terms.len())
    }
}

impl Purposes {
    fn derive(parent: Key) -> Result<Self, CryptoError> {
        Ok(Self {
            names: parent.derive("names")?,
            token: parent.derive("token")?,
            audit_mac: parent.derive("audit-mac")?,
            audit_sign: parent.derive("audit-sign")?,
            set_digest: parent.derive("set-digest")?,
            parent,
        })
    }

    fn get(&self, purpose: Purpose) -> &Key {
        match purpose {
            Purpose::Names => &self.names,
            Purpose::Token => &self.token,
            Purpose::AuditMac => &self.audit_mac,
            Purpose::AuditSign => &self.audit_sign,
            Purpose::SetDigest => &self.set_digest,
        }
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), CryptoError> {
    bytes.split_first_chunk::<N>().ok_or(CryptoError)
}

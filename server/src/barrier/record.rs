//! The sealed record and the key it is stored under. Pure functions of a keyring; no store, no clock.

use zeroize::Zeroizing;

use super::{Address, Keyring, RecordKind};
use crate::{
    crypto::{self, CryptoError, Entropy, MacKey},
    model::{SecretBytes, StoreId},
    storage::StoreKey,
};

/// Version of the format.
const V1: u8 = 1;
const LABEL: &str = "strongroom record v1";
/// Version and term, before the sealed box.
const HEADER: usize = 1 + 4;
/// Bytes of a hashed name.
const HASH: usize = 16;
/// Bytes of the key of a folder's records up to their names.
const PREFIX: usize = 1 + HASH;
/// Bytes of a store key.
pub(super) const STORE_KEY: usize = PREFIX + HASH + 8;

/// What was in a record.
#[derive(Debug)]
pub struct Plaintext {
    plaintext: SecretBytes,
    /// Bytes of the name, which starts behind its length.
    name: usize,
}

/// What the keys of all records of `kind` in `folder` begin with: `kind u8 | HMAC(names, namespace \0 folder)[16]`.
pub fn folder_prefix(names: &MacKey, namespace: &str, kind: RecordKind, folder: &str) -> StoreKey {
    let mut key = Vec::with_capacity(STORE_KEY);
    key.push(kind.byte());
    let folder = names.mac(&[namespace.as_bytes(), &[0], folder.as_bytes()]);
    key.extend_from_slice(folder.split_at(HASH).0);
    key
}

/// The key of a record: `folder_prefix | HMAC(names, hash of the folder | name)[16] | part u64`.
pub fn store_key(names: &MacKey, namespace: &str, address: &Address) -> StoreKey {
    let mut key = folder_prefix(names, namespace, address.kind, &address.folder);
    let name = names.mac(&[key.split_at(1).1, address.name.as_bytes()]);
    key.extend_from_slice(name.split_at(HASH).0);
    key.extend_from_slice(&address.part.to_be_bytes());
    key
}

/// Seals a record for its place: `0x01 | term u32 | salt 32 | commit 32 | ciphertext | tag 16`, of the plaintext
/// `name length u16 | name | content`.
///
/// # Errors
/// No randomness, or a name longer than 65,535 bytes.
pub fn seal(
    keyring: &Keyring,
    store_id: StoreId,
    key: &[u8],
    name: &str,
    content: &[u8],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, CryptoError> {
    let term = keyring.active_term();
    let term_key = keyring.term(term).ok_or(CryptoError)?;
    let length = u16::try_from(name.len()).map_err(|_| CryptoError)?;
    let mut plaintext = Zeroizing::new(Vec::with_capacity(2 + name.len() + content.len()));
    plaintext.extend_from_slice(&length.to_be_bytes());
    plaintext.extend_from_slice(name.as_bytes());
    plaintext.extend_from_slice(content);

    let sealed = crypto::seal(term_key, LABEL, &place(store_id, key), &plaintext, entropy)?;
    let mut record = Vec::with_capacity(HEADER + sealed.len());
    record.push(V1);
    record.extend_from_slice(&term.to_be_bytes());
    record.extend_from_slice(&sealed);
    Ok(record)
}

/// Opens what [`seal`] made for the same place.
///
/// # Errors
/// It was made for another place, store or keyring, or changed since.
pub fn open(
    keyring: &Keyring,
    store_id: StoreId,
    key: &[u8],
    record: &[u8],
) -> Result<Plaintext, CryptoError> {
    let (header, sealed) = record.split_first_chunk::<HEADER>().ok_or(CryptoError)?;
    let [V1, term @ ..] = header else { return Err(CryptoError) };
    let term_key = keyring.term(u32::from_be_bytes(*term)).ok_or(CryptoError)?;
    let plaintext = crypto::open(term_key, LABEL, &place(store_id, key), sealed)?;

    let (length, rest) = plaintext.expose().split_first_chunk::<2>().ok_or(CryptoError)?;
    let name = usize::from(u16::from_be_bytes(*length));
    let (text, _) = rest.split_at_checked(name).ok_or(CryptoError)?;
    std::str::from_utf8(text).map_err(|_| CryptoError)?;
    Ok(Plaintext { plaintext, name })
}

impl Plaintext {
    /// The record's name in its folder.
    pub fn name(&self) -> &str {
        let name = self.plaintext.expose().get(2..2 + self.name);
        name.and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    }

    pub fn into_content(self) -> SecretBytes {
        SecretBytes::from(self.plaintext.expose().get(2 + self.name..).unwrap_or_default())
    }
}

/// What a record's ciphertext is bound to: `store id 16 | kind u8 | store key`. The kind is the key's first byte too;
/// it stands alone so that a later change of the keys cannot lose it.
fn place(store_id: StoreId, key: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(16 + 1 + key.len());
    place.extend_from_slice(&store_id.0);
    place.extend_from_slice(key.split_at(key.len().min(1)).0);
    place.extend_from_slice(key);
    place
}

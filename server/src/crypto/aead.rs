//! Encryption with a fresh key for every message. The key comes from a parent key, a label and a random salt by HKDF,
//! so the nonce is a constant and there is nothing to count; a second derived value commits to the key, because neither
//! AES-GCM nor ChaCha20-Poly1305 alone keeps one ciphertext from opening under two keys.

use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use strongroom_proto::SecretBytes;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{CryptoError, Entropy, Key};

/// Bytes of the salt.
const SALT: usize = 32;
/// Bytes of the commitment.
const COMMIT: usize = 32;
/// Bytes of the tag.
const TAG: usize = 16;
/// What a sealed box is longer than its content.
const OVERHEAD: usize = SALT + COMMIT + TAG;

/// `salt 32 | commit 32 | ciphertext | tag 16`
pub type SealedBox = Vec<u8>;

/// With what a message is encrypted. A parent key is for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    Aes256Gcm,
    /// RFC 8439: as fast without hardware for AES.
    ChaCha20Poly1305,
}

/// [`seal_with`] AES-256-GCM, which is what everything of our own is sealed with.
///
/// # Errors
/// No randomness.
pub fn seal(
    parent: &Key,
    label: &str,
    context: &[u8],
    plaintext: &[u8],
    entropy: &dyn Entropy,
) -> Result<SealedBox, CryptoError> {
    seal_with(Cipher::Aes256Gcm, parent, label, context, plaintext, entropy)
}

/// [`open_with`] AES-256-GCM.
///
/// # Errors
/// Anything differs, or the box is cut or changed.
pub fn open(parent: &Key, label: &str, context: &[u8], sealed: &[u8]) -> Result<SecretBytes, CryptoError> {
    open_with(Cipher::Aes256Gcm, parent, label, context, sealed)
}

/// Seals `plaintext` under `parent` for the purpose `label`, bound to `context`.
///
/// # Errors
/// No randomness.
pub fn seal_with(
    cipher: Cipher,
    parent: &Key,
    label: &str,
    context: &[u8],
    plaintext: &[u8],
    entropy: &dyn Entropy,
) -> Result<SealedBox, CryptoError> {
    let mut sealed = vec![0; SALT + COMMIT];
    sealed.reserve_exact(plaintext.len() + TAG);
    let (salt, commit) = sealed.split_at_mut(SALT);
    entropy.fill(salt)?;
    let keys = message_keys(parent, label, salt)?;
    let (key, commitment) = keys.split_at(32);
    commit.copy_from_slice(commitment);

    sealed.extend_from_slice(plaintext);
    let body = sealed.get_mut(SALT + COMMIT..).ok_or(CryptoError)?;
    let tag = cipher
        .key(key)?
        .seal_in_place_separate_tag(zero_nonce(), Aad::from(context), body)
        .map_err(|_| CryptoError)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// Opens what [`seal_with`] made with the same cipher, parent, label and context.
///
/// # Errors
/// Anything differs, or the box is cut or changed.
pub fn open_with(
    cipher: Cipher,
    parent: &Key,
    label: &str,
    context: &[u8],
    sealed: &[u8],
) -> Result<SecretBytes, CryptoError> {
    if sealed.len() < OVERHEAD {
        return Err(CryptoError);
    }
    let (salt, rest) = sealed.split_at(SALT);
    let (commit, body) = rest.split_at(COMMIT);
    let keys = message_keys(parent, label, salt)?;
    let (key, commitment) = keys.split_at(32);
    if !bool::from(commitment.ct_eq(commit)) {
        return Err(CryptoError);
    }
    let mut buffer = Zeroizing::new(body.to_vec());
    let plaintext = cipher
        .key(key)?
        .open_in_place(zero_nonce(), Aad::from(context), &mut buffer)
        .map_err(|_| CryptoError)?;
    Ok(SecretBytes::from(&*plaintext))
}

/// Encryption key and commitment of one message.
fn message_keys(parent: &Key, label: &str, salt: &[u8]) -> Result<Zeroizing<[u8; 64]>, CryptoError> {
    let mut keys = Zeroizing::new([0; 64]);
    parent.expand(&[label.as_bytes(), salt], &mut *keys)?;
    Ok(keys)
}

impl Cipher {
    fn key(self, key: &[u8]) -> Result<LessSafeKey, CryptoError> {
        let algorithm = match self {
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        UnboundKey::new(algorithm, key).map(LessSafeKey::new).map_err(|_| CryptoError)
    }
}

/// Constant, because no key is used for a second message.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::SystemEntropy;

    proptest! {
        #[test]
        fn opens_what_was_sealed(plaintext: Vec<u8>, context: Vec<u8>) {
            let key = Key::random(&SystemEntropy).unwrap();
            for [cipher, other] in
                [[Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305], [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm]]
            {
                let sealed = seal_with(cipher, &key, "test", &context, &plaintext, &SystemEntropy).unwrap();
                let opened = open_with(cipher, &key, "test", &context, &sealed).unwrap();
                prop_assert_eq!(opened.expose(), &plaintext[..]);
                prop_assert!(open_with(other, &key, "test", &context, &sealed).is_err());
            }
        }

        #[test]
        fn any_flip_is_found(plaintext: Vec<u8>, at: prop::sample::Index, bit in 0..8u8) {
            let key = Key::random(&SystemEntropy).unwrap();
            let mut sealed = seal(&key, "test", b"here", &plaintext, &SystemEntropy).unwrap();
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(open(&key, "test", b"here", &sealed).is_err());
        }
    }

    #[test]
    fn everything_is_bound() {
        let key = Key::random(&SystemEntropy).unwrap();
        let sealed = seal(&key, "test", b"here", b"content", &SystemEntropy).unwrap();
        assert!(open(&Key::random(&SystemEntropy).unwrap(), "test", b"here", &sealed).is_err());
        assert!(open(&key, "other", b"here", &sealed).is_err());
        assert!(open(&key, "test", b"there", &sealed).is_err());
        for cut in 0..sealed.len() {
            assert!(open(&key, "test", b"here", &sealed[..cut]).is_err());
        }
    }
}

//! The only users of `ring`: authenticated encryption, key derivation, keyed and plain hashes, signatures, randomness.
//! Small on purpose, so that another provider can take its place. No caller ever passes a nonce (CVE-2023-4680).

mod aead;
mod certify;
mod ecdsa;
mod kdf;
mod mac;
mod random;
mod scram;
mod sign;
mod unique;
mod verify;
#[cfg(test)]
mod wycheproof_tests;

pub use aead::{Cipher, SealedBox, open, open_with, seal, seal_with};
pub use certify::{CertifyingKey, Hash, KeyKind, verify_certified};
pub use ecdsa::{Curve, EcdsaKey, Encoding, verify_ecdsa};
pub use kdf::Key;
pub use mac::{Digest, MacKey, Sha256, sha256};
pub use random::{Entropy, SystemEntropy};
pub use scram::scram_verifier;
pub use sign::{PublicKey, SigningKey};
pub use unique::Unique;
pub use verify::VerifyingKey;
#[cfg(test)]
pub(crate) use verify::testing::Signer;

/// The one thing that cryptography tells a caller: it did not fit. What exactly is nobody's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cryptographic check failed")]
pub struct CryptoError;

//! Signatures of certificates, and of what belongs to them: ECDSA, Ed25519 and RSA by the names that X.509 gives them. Keys are
//! PKCS #8 in DER. What is signed, others know.

use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
        ED25519, Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
        RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
    },
};
use strongroom_proto::SecretBytes;
use zeroize::Zeroizing;

use super::{CryptoError, Curve, EcdsaKey, Encoding, Entropy};

/// What stands before the seed of an Ed25519 key in PKCS #8 (RFC 8410, section 7), in the version that every program reads.
const ED25519_PKCS8: &[u8] =
    &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    EcdsaP256,
    EcdsaP384,
    Ed25519,
    /// 2048 to 8192 bits, with PKCS #1 v1.5. ring makes none of these.
    Rsa,
}

/// What is signed of a message. Ed25519 has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// Signs.
pub struct CertifyingKey(Inner);

enum Inner {
    Ecdsa(Curve, EcdsaKey),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl KeyKind {
    /// A fresh key as PKCS #8.
    ///
    /// # Errors
    /// No randomness, or a kind that is not made here.
    pub fn generate(self, entropy: &dyn Entropy) -> Result<SecretBytes, CryptoError> {
        match self {
            Self::EcdsaP256 => EcdsaKey::generate(Curve::P256),
            Self::EcdsaP384 => EcdsaKey::generate(Curve::P384),
            Self::Ed25519 => {
                let mut seed = Zeroizing::new([0; 32]);
                entropy.fill(&mut *seed)?;
                let pkcs8 = Zeroizing::new([ED25519_PKCS8, &*seed].concat());
                Ok(SecretBytes::from(pkcs8.as_slice()))
            }
            Self::Rsa => Err(CryptoError),
        }
    }
}

impl CertifyingKey {
    /// From PKCS #8, whatever kind of key is in it.
    ///
    /// # Errors
    /// It is no key of a kind that is known, or its halves do not belong together.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, CryptoError> {
        for curve in [Curve::P256, Curve::P384] {
            if let Ok(key) = EcdsaKey::from_pkcs8(curve, Encoding::Asn1, pkcs8) {
                return Ok(Self(Inner::Ecdsa(curve, key)));
            }
        }
        if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8) {
            return Ok(Self(Inner::Ed25519(key)));
        }
        RsaKeyPair::from_pkcs8(pkcs8).map(|key| Self(Inner::Rsa(key))).map_err(|_| CryptoError)
    }

    pub fn kind(&self) -> KeyKind {
        match &self.0 {
            Inner::Ecdsa(Curve::P256, _) => KeyKind::EcdsaP256,
            Inner::Ecdsa(Curve::P384, _) => KeyKind::EcdsaP384,
            Inner::Ed25519(_) => KeyKind::Ed25519,
            Inner::Rsa(_) => KeyKind::Rsa,
        }
    }

    /// ECDSA on P-384 with SHA-384, Ed25519, everything else with SHA-256.
    ///
    /// # Errors
    /// No randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        match &self.0 {
            Inner::Ecdsa(_, key) => key.sign(message),
            Inner::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
            Inner::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .map_err(|_| CryptoError)?;
                Ok(signature)
            }
        }
    }

    /// The other half, as it stands in the bit string of a SubjectPublicKeyInfo.
    pub fn public(&self) -> Vec<u8> {
        match &self.0 {
            Inner::Ecdsa(_, key) => key.public_point(),
            Inner::Ed25519(key) => key.public_key().as_ref().to_vec(),
            Inner::Rsa(key) => key.public_key().as_ref().to_vec(),
        }
    }
}

/// Whether `signature` was made for `message` by the other half of `public`.
///
/// # Errors
/// It was not, or the key is none of its kind.
pub fn verify_certified(
    kind: KeyKind,
    hash: Hash,
    public: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), CryptoError> {
    let algorithm: &dyn VerificationAlgorithm = match (kind, hash) {
        (KeyKind::EcdsaP256, Hash::Sha256) => &ECDSA_P256_SHA256_ASN1,
        (KeyKind::EcdsaP256, Hash::Sha384) => &ECDSA_P256_SHA384_ASN1,
        (KeyKind::EcdsaP384, Hash::Sha256) => &ECDSA_P384_SHA256_ASN1,
        (KeyKind::EcdsaP384, Hash::Sha384) => &ECDSA_P384_SHA384_ASN1,
        (KeyKind::Ed25519, _) => &ED25519,
        (KeyKind::Rsa, Hash::Sha256) => &RSA_PKCS1_2048_8192_SHA256,
        (KeyKind::Rsa, Hash::Sha384) => &RSA_PKCS1_2048_8192_SHA384,
        (KeyKind::Rsa, Hash::Sha512) => &RSA_PKCS1_2048_8192_SHA512,
        (KeyKind::EcdsaP256 | KeyKind::EcdsaP384, Hash::Sha512) => return Err(CryptoError),
    };
    UnparsedPublicKey::new(algorithm, public).verify(message, signature).map_err(|_| CryptoError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemEntropy;

    #[test]
    fn verifies_what_was_signed_and_nothing_else() {
        let kinds = [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Ed25519];
        for (kind, hash) in kinds.into_iter().zip([Hash::Sha256, Hash::Sha384, Hash::Sha512]) {
            let key = CertifyingKey::from_pkcs8(kind.generate(&SystemEntropy).unwrap().expose()).unwrap();
            assert_eq!(key.kind(), kind);
            let (public, signature) = (key.public(), key.sign(b"message").unwrap());
            verify_certified(kind, hash, &public, b"message", &signature).unwrap();
            assert!(verify_certified(kind, hash, &public, b"massage", &signature).is_err());
            assert!(verify_certified(kind, hash, &public, b"message", &signature[1..]).is_err());
            for other in kinds.into_iter().filter(|other| *other != kind) {
                assert!(verify_certified(other, hash, &public, b"message", &signature).is_err());
            }
        }
        assert!(KeyKind::Rsa.generate(&SystemEntropy).is_err());
        assert!(CertifyingKey::from_pkcs8(b"no key").is_err());
    }
}

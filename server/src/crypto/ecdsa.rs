//! ECDSA (FIPS 186-5) on P-256 with SHA-256 and on P-384 with SHA-384, for keys that the server keeps for others.

use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED,
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        EcdsaVerificationAlgorithm, KeyPair, UnparsedPublicKey,
    },
};
use strongroom_proto::SecretBytes;

use super::CryptoError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    P256,
    P384,
}

/// How the two numbers of a signature are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// DER (RFC 3279, 2.2.3).
    Asn1,
    /// One after the other (RFC 7518, 3.4).
    Jws,
}

/// Signs.
pub struct EcdsaKey(EcdsaKeyPair);

impl Curve {
    fn signing(self, encoding: Encoding) -> &'static EcdsaSigningAlgorithm {
        match (self, encoding) {
            (Self::P256, Encoding::Asn1) => &ECDSA_P256_SHA256_ASN1_SIGNING,
            (Self::P256, Encoding::Jws) => &ECDSA_P256_SHA256_FIXED_SIGNING,
            (Self::P384, Encoding::Asn1) => &ECDSA_P384_SHA384_ASN1_SIGNING,
            (Self::P384, Encoding::Jws) => &ECDSA_P384_SHA384_FIXED_SIGNING,
        }
    }

    fn verification(self, encoding: Encoding) -> &'static EcdsaVerificationAlgorithm {
        match (self, encoding) {
            (Self::P256, Encoding::Asn1) => &ECDSA_P256_SHA256_ASN1,
            (Self::P256, Encoding::Jws) => &ECDSA_P256_SHA256_FIXED,
            (Self::P384, Encoding::Asn1) => &ECDSA_P384_SHA384_ASN1,
            (Self::P384, Encoding::Jws) => &ECDSA_P384_SHA384_FIXED,
        }
    }
}

impl EcdsaKey {
    /// A fresh key as PKCS #8 in DER, public key included. Its scalar has to come from the system: ring takes no other source.
    ///
    /// # Errors
    /// No randomness.
    pub fn generate(curve: Curve) -> Result<SecretBytes, CryptoError> {
        let document = EcdsaKeyPair::generate_pkcs8(curve.signing(Encoding::Asn1), &SystemRandom::new())
            .map_err(|_| CryptoError)?;
        Ok(SecretBytes::from(document.as_ref()))
    }

    /// From PKCS #8 in DER, with the public key in it.
    ///
    /// # Errors
    /// It is no key of this curve, or its halves do not belong together.
    pub fn from_pkcs8(curve: Curve, encoding: Encoding, pkcs8: &[u8]) -> Result<Self, CryptoError> {
        EcdsaKeyPair::from_pkcs8(curve.signing(encoding), pkcs8, &SystemRandom::new())
            .map(Self)
            .map_err(|_| CryptoError)
    }

    /// # Errors
    /// No randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let signature = self.0.sign(&SystemRandom::new(), message).map_err(|_| CryptoError)?;
        Ok(signature.as_ref().to_vec())
    }

    /// The other half, as an uncompressed point (SEC 1, 2.3.3).
    pub fn public_point(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }
}

/// Whether `signature` was made for `message` by the other half of the point.
///
/// # Errors
/// It was not, or the point is none.
pub fn verify_ecdsa(
    curve: Curve,
    encoding: Encoding,
    point: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), CryptoError> {
    UnparsedPublicKey::new(curve.verification(encoding), point)
        .verify(message, signature)
        .map_err(|_| CryptoError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifies_what_was_signed_and_nothing_else() {
        for curve in [Curve::P256, Curve::P384] {
            for (encoding, other) in [(Encoding::Asn1, Encoding::Jws), (Encoding::Jws, Encoding::Asn1)] {
                let pkcs8 = EcdsaKey::generate(curve).unwrap();
                let key = EcdsaKey::from_pkcs8(curve, encoding, pkcs8.expose()).unwrap();
                let (point, signature) = (key.public_point(), key.sign(b"message").unwrap());
                let verify = |encoding, message: &[u8], signature: &[u8]| {
                    verify_ecdsa(curve, encoding, &point, message, signature)
                };
                verify(encoding, b"message", &signature).unwrap();
                assert!(verify(encoding, b"massage", &signature).is_err());
                assert!(verify(other, b"message", &signature).is_err());
                assert!(verify(encoding, b"message", &signature[1..]).is_err());
            }
        }
    }

    #[test]
    fn a_key_of_another_curve_is_none() {
        let pkcs8 = EcdsaKey::generate(Curve::P384).unwrap();
        assert!(EcdsaKey::from_pkcs8(Curve::P256, Encoding::Asn1, pkcs8.expose()).is_err());
        assert!(EcdsaKey::from_pkcs8(Curve::P384, Encoding::Asn1, &pkcs8.expose()[1..]).is_err());
    }
}

//! Signatures that others make: RS256 and ES256 (RFC 7518) of a cluster's service-account tokens.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};

use super::CryptoError;

/// A public key with the one algorithm it is for: a signature cannot choose another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyingKey {
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048 to 8192 bits.
    Rs256 {
        /// The modulus, big-endian.
        n: Vec<u8>,
        /// The exponent, big-endian.
        e: Vec<u8>,
    },
    /// ECDSA on P-256 with SHA-256: the uncompressed point.
    Es256([u8; 65]),
}

impl VerifyingKey {
    /// From the coordinates of a point on P-256; whether it is on the curve turns out when it is used.
    pub fn es256(x: &[u8; 32], y: &[u8; 32]) -> Self {
        let mut point = [4; 65];
        for (to, from) in point.iter_mut().skip(1).zip(x.iter().chain(y)) {
            *to = *from;
        }
        Self::Es256(point)
    }

    /// Whether `signature` was made for `message` by the key's other half.
    ///
    /// # Errors
    /// It was not, or the key is none.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        match self {
            Self::Rs256 { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Self::Es256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
        }
        .map_err(|_| CryptoError)
    }
}

/// A signer for the tests of those who verify.
#[cfg(test)]
pub(crate) mod testing {
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };

    /// A fresh ES256 key.
    pub(crate) struct Signer(EcdsaKeyPair);

    impl Signer {
        pub(crate) fn new() -> Self {
            let random = SystemRandom::new();
            let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random);
            Self(pair.unwrap())
        }

        pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
            self.0.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
        }

        /// The coordinates of the public half.
        pub(crate) fn point(&self) -> ([u8; 32], [u8; 32]) {
            let point = self.0.public_key().as_ref();
            (point[1..33].try_into().unwrap(), point[33..].try_into().unwrap())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::Signer, *};

    /// RFC 7515, A.2: the key and the token of the standard itself.
    #[test]
    fn the_example_of_the_standard() {
        use data_encoding::BASE64URL_NOPAD;
        let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
        let n = decode(
            "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4Ql\
             L-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUs\
             LA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoud\
             F8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
        );
        let key = VerifyingKey::Rs256 { n, e: decode("AQAB") };
        let message = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxl\
                       LmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = decode(
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujG\
             bds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K\
             0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6\
             LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        );
        key.verify(message.as_bytes(), &signature).unwrap();
        assert!(key.verify(b"another", &signature).is_err());
        assert!(key.verify(message.as_bytes(), &signature[1..]).is_err());
    }

    #[test]
    fn es256_of_our_own_making() {
        let signer = Signer::new();
        let (x, y) = signer.point();
        let key = VerifyingKey::es256(&x, &y);
        let signature = signer.sign(b"message");
        key.verify(b"message", &signature).unwrap();
        assert!(key.verify(b"massage", &signature).is_err());
        assert!(VerifyingKey::es256(&[1; 32], &[1; 32]).verify(b"message", &signature).is_err());
    }

    #[test]
    fn a_weak_key_is_none() {
        let key = VerifyingKey::Rs256 { n: vec![0xff; 128], e: vec![1, 0, 1] };
        assert!(key.verify(b"message", &[1; 128]).is_err());
    }
}

//! What a key can do, and how. Which key and which version, and who may, others know.

use data_encoding::BASE64;
use subtle::ConstantTimeEq;

use crate::{
    crypto::{
        Cipher, CryptoError, Curve, EcdsaKey, Encoding, Entropy, Key, MacKey, PublicKey, SigningKey,
        open_with, seal_with, verify_ecdsa,
    },
    model::{Invalid, SecretBytes},
};

/// For what the keys of messages are derived; the cipher is in it, because a key is for one.
const AES_LABEL: &str = "transit aes256-gcm";
const CHACHA_LABEL: &str = "transit chacha20-poly1305";
/// For what the keys of contexts are derived.
const CONTEXT_LABEL: &[u8] = b"transit context";

/// What stands before the point in a SubjectPublicKeyInfo: RFC 8410, section 4, and RFC 5480, section 2.
const ED25519_SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const P256_SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const P384_SPKI: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
    0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Encrypts(Cipher),
    Signs(Scheme),
    /// HMAC-SHA256.
    Authenticates,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Ed25519,
    Ecdsa(Curve),
}

/// The bytes of a key and, if it signs, its public half.
pub(super) struct Pair {
    pub(super) secret: SecretBytes,
    /// Empty for a key that does not sign.
    pub(super) public: Vec<u8>,
}

impl Algorithm {
    /// All there are, with their names and the numbers that records have.
    const ALL: [(&'static str, u32, Self); 6] = [
        ("aes256-gcm", 1, Self::Encrypts(Cipher::Aes256Gcm)),
        ("chacha20-poly1305", 2, Self::Encrypts(Cipher::ChaCha20Poly1305)),
        ("ed25519", 3, Self::Signs(Scheme::Ed25519)),
        ("ecdsa-p256", 4, Self::Signs(Scheme::Ecdsa(Curve::P256))),
        ("ecdsa-p384", 5, Self::Signs(Scheme::Ecdsa(Curve::P384))),
        ("hmac-sha256", 6, Self::Authenticates),
    ];

    /// By its name; without one, the usual way to encrypt.
    pub(super) fn parse(name: &str) -> Result<Self, Invalid> {
        if name.is_empty() {
            return Ok(Self::Encrypts(Cipher::Aes256Gcm));
        }
        Self::ALL.iter().find(|(known, ..)| *known == name).map(|(.., found)| *found).ok_or_else(|| {
            let names = Self::ALL.map(|(name, ..)| name).join(", ");
            let shown: String = name.chars().take(64).collect();
            Invalid::new("algorithm", format!("is {shown:?}; expected one of {names}"))
        })
    }

    pub(super) fn of_number(number: u32) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == number).map(|(.., found)| *found)
    }

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(.., known)| *known == self).map_or("", |(name, ..)| name)
    }

    pub(super) fn number(self) -> u32 {
        Self::ALL.iter().find(|(.., known)| *known == self).map_or(0, |(_, number, _)| *number)
    }

    pub(super) fn generate(self, entropy: &dyn Entropy) -> Result<Pair, CryptoError> {
        let secret = match self {
            Self::Signs(Scheme::Ecdsa(curve)) => EcdsaKey::generate(curve)?,
            _ => SecretBytes::from(Key::random(entropy)?.expose().as_slice()),
        };
        self.pair(secret)
    }

    /// A key that exists already.
    ///
    /// # Errors
    /// It is not one of this algorithm.
    pub(super) fn pair(self, secret: SecretBytes) -> Result<Pair, CryptoError> {
        let public = match self {
            Self::Encrypts(_) | Self::Authenticates => {
                Key::from_slice(secret.expose())?;
                Vec::new()
            }
            Self::Signs(Scheme::Ed25519) => {
                SigningKey::from_seed(&Key::from_slice(secret.expose())?)?.public_key().0.to_vec()
            }
            Self::Signs(Scheme::Ecdsa(curve)) => {
                EcdsaKey::from_pkcs8(curve, Encoding::Asn1, secret.expose())?.public_point()
            }
        };
        Ok(Pair { secret, public })
    }

    /// What the bytes of such a key are, for people.
    pub(super) fn shape(self) -> &'static str {
        match self {
            Self::Encrypts(_) | Self::Authenticates => "32 bytes",
            Self::Signs(Scheme::Ed25519) => "a seed of 32 bytes",
            Self::Signs(Scheme::Ecdsa(_)) => "PKCS #8 in DER, with the public key in it",
        }
    }
}

/// The key of a version, or of one of its contexts.
pub(super) fn derived(secret: &SecretBytes, context: Option<&[u8]>) -> Result<Key, CryptoError> {
    let key = Key::from_slice(secret.expose())?;
    let Some(context) = context else { return Ok(key) };
    let mut of_context = zeroize::Zeroizing::new([0; 32]);
    key.expand(&[CONTEXT_LABEL, context], &mut *of_context)?;
    Ok(Key::from_bytes(&of_context))
}

pub(super) fn encrypt(
    cipher: Cipher,
    key: &Key,
    associated_data: &[u8],
    plaintext: &[u8],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, CryptoError> {
    seal_with(cipher, key, label(cipher), associated_data, plaintext, entropy)
}

pub(super) fn decrypt(
    cipher: Cipher,
    key: &Key,
    associated_data: &[u8],
    ciphertext: &[u8],
) -> Result<SecretBytes, CryptoError> {
    open_with(cipher, key, label(cipher), associated_data, ciphertext)
}

fn label(cipher: Cipher) -> &'static str {
    match cipher {
        Cipher::Aes256Gcm => AES_LABEL,
        Cipher::ChaCha20Poly1305 => CHACHA_LABEL,
    }
}

impl Scheme {
    pub(super) fn sign(
        self,
        secret: &SecretBytes,
        encoding: Encoding,
        message: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        match self {
            Self::Ed25519 => Ok(SigningKey::from_seed(&Key::from_slice(secret.expose())?)?.sign(message)),
            Self::Ecdsa(curve) => EcdsaKey::from_pkcs8(curve, encoding, secret.expose())?.sign(message),
        }
    }

    pub(super) fn verify(
        self,
        public: &[u8],
        encoding: Encoding,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        match self {
            Self::Ed25519 => {
                PublicKey(public.try_into().map_err(|_| CryptoError)?).verify(message, signature)
            }
            Self::Ecdsa(curve) => verify_ecdsa(curve, encoding, public, message, signature),
        }
    }

    /// The public key as others read it: SubjectPublicKeyInfo in PEM (RFC 7468).
    pub(super) fn pem(self, public: &[u8]) -> String {
        let prefix = match self {
            Self::Ed25519 => ED25519_SPKI,
            Self::Ecdsa(Curve::P256) => P256_SPKI,
            Self::Ecdsa(Curve::P384) => P384_SPKI,
        };
        let text = BASE64.encode(&[prefix, public].concat());
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }
}

pub(super) fn mac(key: &Key, message: &[u8]) -> [u8; 32] {
    MacKey::new(key).mac(&[message])
}

pub(super) fn is_mac(key: &Key, message: &[u8], claimed: &[u8]) -> bool {
    mac(key, message).ct_eq(claimed).into()
}

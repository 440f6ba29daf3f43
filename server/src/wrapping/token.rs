//! What opens a wrapped answer once: `srw1_` and, in base64url, the 16 bytes of its id and 32 that nobody guesses. A secret
//! scanner finds a leaked one by `srw1_[0-9A-Za-z_-]{64}`.

use data_encoding::BASE64URL_NOPAD;

use crate::{
    crypto::{CryptoError, Digest, Entropy, sha256},
    model::{RequestId, SecretBytes},
};

/// The start of every such token.
const PREFIX: &str = "srw1_";
const ID: usize = 16;
const SECRET: usize = 32;

/// See the module.
pub struct Token {
    id: RequestId,
    text: SecretBytes,
}

impl Token {
    /// A new one, for the answer of this id.
    ///
    /// # Errors
    /// No randomness.
    pub(super) fn new(id: RequestId, entropy: &dyn Entropy) -> Result<Self, CryptoError> {
        let mut secret = zeroize::Zeroizing::new([0; SECRET]);
        entropy.fill(&mut *secret)?;
        let bytes = zeroize::Zeroizing::new([&id.0[..], &secret[..]].concat());
        Ok(Self { id, text: SecretBytes::from(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))) })
    }

    /// None: it does not look like one.
    pub fn parse(shown: &SecretBytes) -> Option<Self> {
        let encoded = shown.expose_str().ok()?.trim().strip_prefix(PREFIX)?;
        let bytes = zeroize::Zeroizing::new(BASE64URL_NOPAD.decode(encoded.as_bytes()).ok()?);
        let id = bytes.first_chunk::<ID>().filter(|_| bytes.len() == ID + SECRET)?;
        Some(Self { id: RequestId(*id), text: SecretBytes::from(format!("{PREFIX}{encoded}")) })
    }

    pub(super) fn id(&self) -> RequestId {
        self.id
    }

    /// What the store knows it by: no token can be made of it.
    pub(super) fn digest(&self) -> Digest {
        sha256(self.text.expose())
    }

    pub fn into_text(self) -> SecretBytes {
        self.text
    }
}

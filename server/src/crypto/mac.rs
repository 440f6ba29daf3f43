//! HMAC-SHA256 (RFC 2104) and SHA-256 (FIPS 180-4).

use ring::{digest, hmac};

use super::Key;

/// 32 bytes of a hash. Not a secret.
pub type Digest = [u8; 32];

/// A key for HMAC-SHA256.
pub struct MacKey(hmac::Key);

impl MacKey {
    /// From a key made for this.
    pub fn new(key: &Key) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// The MAC of the concatenation of `parts`.
    pub fn mac(&self, parts: &[&[u8]]) -> Digest {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        to_digest(context.sign().as_ref())
    }
}

/// The hash of `bytes`.
pub fn sha256(bytes: &[u8]) -> Digest {
    to_digest(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// A hash in the making.
#[derive(Clone)]
pub struct Sha256(digest::Context);

impl Sha256 {
    /// Begins with nothing.
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum over everything that was given.
    pub fn finish(self) -> Digest {
        to_digest(self.0.finish().as_ref())
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

fn to_digest(bytes: &[u8]) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(bytes);
    digest
}

//! How values that must not be in the log can still be correlated: by a keyed hash. The key is the store's, so a reader
//! of the log cannot try out short values.

use super::record::push_hex;
use crate::crypto::{Key, MacKey};

/// Makes [`Hashed`] values.
pub struct Redactor(MacKey);

/// `hmac:` and 32 hex digits: half of an HMAC-SHA256, enough to tell values apart. Made only by a [`Redactor`], so that
/// nothing else gets into the fields of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed(String);

impl Redactor {
    /// With the key made for this.
    pub fn new(key: &Key) -> Self {
        Self(MacKey::new(key))
    }

    /// What stands for `value` in the log.
    pub fn hash(&self, value: &[u8]) -> Hashed {
        let mac = self.0.mac(&[b"strongroom audit field v1\n", value]);
        let mut text = Vec::with_capacity(37);
        text.extend_from_slice(b"hmac:");
        push_hex(&mut text, mac.split_at(16).0);
        Hashed(String::from_utf8(text).unwrap_or_default())
    }
}

impl Hashed {
    /// As it stands in the log.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlates_under_one_key_only() {
        let (one, other) =
            (Redactor::new(&Key::from_bytes(&[1; 32])), Redactor::new(&Key::from_bytes(&[2; 32])));
        let hash = one.hash(b"hunter2");
        assert_eq!(hash, one.hash(b"hunter2"));
        assert_ne!(hash, one.hash(b"hunter3"));
        assert_ne!(hash, other.hash(b"hunter2"));
        assert!(hash.as_str().starts_with("hmac:") && hash.as_str().len() == 37);
    }
}

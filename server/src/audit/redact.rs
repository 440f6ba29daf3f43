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

    /// What stands in the log for a `value` that was written at `path` as `field`. The same value elsewhere has another
    /// hash: who may ask for the one learns nothing of the other.
    pub fn hash(&self, path: &str, field: &str, value: &[u8]) -> Hashed {
        let lengths = format!("{} {}\n", path.len(), field.len());
        let parts =
            [b"strongroom audit field v2\n", lengths.as_bytes(), path.as_bytes(), field.as_bytes(), value];
        let mac = self.0.mac(&parts);
        let mut text = Vec::with_capacity(37);
        text.extend_from_slice(b"hmac:");
        push_hex(&mut text, mac.split_at(16).0);
        Hashed(String::from_utf8(text).unwrap_or_default())
    }
}

#[cfg(test)]
impl Hashed {
    /// One that stands in a vector, whose hashes are those of an earlier build.
    pub(super) fn of_a_vector(text: &str) -> Self {
        Self(text.to_owned())
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
        let hash = one.hash("a/b", "k", b"hunter2");
        assert_eq!(hash, one.hash("a/b", "k", b"hunter2"));
        assert_ne!(hash, one.hash("a/b", "k", b"hunter3"));
        assert_ne!(hash, other.hash("a/b", "k", b"hunter2"));
        for (path, field) in [("a/c", "k"), ("a/b", "j"), ("a/bk", ""), ("a", "/bk")] {
            assert_ne!(hash, one.hash(path, field, b"hunter2"));
        }
        assert!(hash.as_str().starts_with("hmac:") && hash.as_str().len() == 37);
    }
}

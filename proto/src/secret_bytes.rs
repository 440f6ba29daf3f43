//! Secret bytes as a type: they are wiped when dropped, and never shown, compared in variable time or copied by accident.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::v1::Sensitive;

/// Bytes that must not leak. There is no `Clone`, no `Serialize` and no `PartialEq`, and `Debug` prints nothing of them.
///
/// It cannot wipe copies that were made before, in a TLS buffer or a decoder's scratch space.
pub struct SecretBytes(Zeroizing<Box<[u8]>>);

impl SecretBytes {
    /// Takes ownership. A `Vec` with spare capacity is moved to an exact box; the old allocation is wiped.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        if bytes.len() == bytes.capacity() {
            return Self(Zeroizing::new(bytes.into_boxed_slice()));
        }
        let exact = Box::from(bytes.as_slice());
        bytes.zeroize();
        Self(Zeroizing::new(exact))
    }

    /// The bytes. Search for this name to find every place that looks at a secret.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text.
    ///
    /// # Errors
    /// The bytes are not UTF-8.
    pub fn expose_str(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.0)
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(Box::from(bytes)))
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

/// A copy. What the text was copied from, such as a variable of the environment, is not wiped.
impl From<&str> for SecretBytes {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<String> for SecretBytes {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

impl From<Sensitive> for SecretBytes {
    fn from(mut message: Sensitive) -> Self {
        Self::new(std::mem::take(&mut message.value))
    }
}

impl From<&SecretBytes> for Sensitive {
    fn from(secret: &SecretBytes) -> Self {
        Self { value: secret.expose().to_vec() }
    }
}

impl From<SecretBytes> for Sensitive {
    fn from(mut secret: SecretBytes) -> Self {
        Self { value: std::mem::take(&mut *secret.0).into_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = SecretBytes::from(String::from("hunter2"));
        assert_eq!(format!("{secret:?}"), "SecretBytes(..)");
    }

    #[test]
    fn spare_capacity_is_dropped() {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(b"abc");
        assert_eq!(SecretBytes::new(bytes).expose(), b"abc");
    }
}

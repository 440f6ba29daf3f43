//! What leaves the engine as text: `strongroom:v3:<base64>`. The version is in front, so that a database can be asked which
//! of its rows are old.

use std::fmt;

use data_encoding::BASE64;

use crate::model::Invalid;

const PREFIX: &str = "strongroom:v";

/// A ciphertext, signature or message authentication code, and the version of the key that made it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Versioned {
    pub(super) version: u32,
    pub(super) bytes: Vec<u8>,
}

impl Versioned {
    /// Reads it. What was meant is in no error: somebody may have sent the plaintext.
    pub(super) fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        let parsed = || {
            let (version, base64) = text.strip_prefix(PREFIX)?.split_once(':')?;
            // No other way to write it: two texts for one ciphertext would surprise whoever compares them.
            let canonical = !version.starts_with(['0', '+']);
            let version = version.parse().ok().filter(|_| canonical)?;
            Some(Self { version, bytes: BASE64.decode(base64.as_bytes()).ok()? })
        };
        parsed().ok_or_else(|| Invalid::new(field, "is not of the form strongroom:v<version>:<base64>"))
    }
}

impl fmt::Display for Versioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}:{}", self.version, BASE64.encode_display(&self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_read_as_it_was_written(version in 1..u32::MAX, bytes: Vec<u8>) {
            let versioned = Versioned { version, bytes };
            prop_assert_eq!(Versioned::parse("x", &versioned.to_string()), Ok(versioned));
        }

        #[test]
        fn whatever_is_read_has_one_form(text in "(strongroom:v)?[0-9+]{0,3}:?[A-Za-z0-9+/=]{0,12}") {
            if let Ok(versioned) = Versioned::parse("x", &text) {
                prop_assert_eq!(versioned.to_string(), text);
            }
        }
    }

    #[test]
    fn anything_else_is_refused_without_being_shown() {
        for wrong in [
            "",
            "hunter2",
            "vault:v1:aGk=",
            "strongroom:v:aGk=",
            "strongroom:v1:aGk",
            "strongroom:v4294967296:",
            "strongroom:v0:",
        ] {
            let error = Versioned::parse("ciphertext", wrong).unwrap_err();
            assert!(wrong.is_empty() || !error.to_string().contains(wrong), "{error}");
        }
    }
}

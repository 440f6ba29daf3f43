//! The forms in which the values of a secret come and go: JSON, YAML, files of environment variables, and Kubernetes Secrets.
//! Values stay as they are, byte for byte; a mistake names its line and its key, never a value.

pub(crate) mod environment;
pub(crate) mod json;
pub(crate) mod kubernetes;
pub(crate) mod provider_class;
pub(crate) mod vault_objects;
pub(crate) mod yaml;

use std::collections::BTreeMap;

use strongroom_client::SecretBytes;

use crate::failure::Failure;

/// The values of a secret, by their keys.
pub(crate) type Values = BTreeMap<String, SecretBytes>;

/// A text that is to be read, and how to call it.
pub(crate) struct Document<'a> {
    pub(crate) name: &'a str,
    pub(crate) bytes: &'a SecretBytes,
}

impl<'a> Document<'a> {
    /// An empty one is a mistake: a pipe whose program failed, or another file than was meant.
    fn text(&self) -> Result<&'a str, Failure> {
        let text = self.bytes.expose_str().map_err(|_| Failure::local(self.name, "is not UTF-8 text"))?;
        if text.trim().is_empty() {
            return Err(Failure::usage(format!("{} is empty", self.name)));
        }
        Ok(text)
    }

    pub(crate) fn wrong(&self, line: u64, problem: impl std::fmt::Display) -> Failure {
        Failure::usage(format!("{}, line {line}: {problem}", self.name))
    }

    /// Says what is wrong with the value of a key.
    fn wrong_key(&self, line: u64, key: &str, problem: impl std::fmt::Display) -> Failure {
        self.wrong(line, format_args!("the key {key:?} {problem}"))
    }
}

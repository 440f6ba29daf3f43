//! Reads the YAML that people write for Strongroom into plain nodes that know their line: within a budget, without
//! aliases and without duplicate fields. Server, library and command line report mistakes in the same words, and never
//! quote the document, which may hold a secret in the wrong place. This crate knows no particular document, and it is the
//! only one that knows the YAML library.

mod node;
mod read;

use serde::Serialize;

pub use node::{Fields, Node, Value, field};
pub use read::{Limits, NotYaml, read, read_all, read_json};

/// Writes a value as a YAML document.
///
/// # Errors
/// The value cannot be written, and the text says why.
pub fn write(value: &impl Serialize) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|error| error.to_string())
}

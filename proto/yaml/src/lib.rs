//! YAML that people write for Strongroom, read with care: as plain nodes that know their line, within a budget, without
//! aliases and without a field that is there twice. What is wrong is told in the same words by server, library and command
//! line, and never with a text that stands in the document: it may be a secret in the wrong place. It knows no document of
//! ours, and it is the only place that knows the YAML crate.

mod node;
mod read;

use serde::Serialize;

pub use node::{Fields, Node, Value, field};
pub use read::{Limits, NotYaml, read, read_all};

/// A value as a YAML document.
///
/// # Errors
/// What cannot be written, in words.
pub fn write(value: &impl Serialize) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|error| error.to_string())
}

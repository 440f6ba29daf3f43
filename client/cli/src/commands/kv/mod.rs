//! Secrets: the engine kv.

pub(crate) mod list;
pub(crate) mod meta;
pub(crate) mod read;
pub(crate) mod remove;
pub(crate) mod watch;
pub(crate) mod write;

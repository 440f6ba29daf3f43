//! Secrets: the engine kv.

pub(crate) mod diff;
pub(crate) mod edit;
pub(crate) mod import;
pub(crate) mod list;
pub(crate) mod meta;
pub(crate) mod read;
pub(crate) mod remove;
pub(crate) mod run;
pub(crate) mod tree;
pub(crate) mod watch;
pub(crate) mod write;

//! The commands, in a folder or a file for each noun.

pub(crate) mod audit;
pub(crate) mod database;
pub(crate) mod documentation;
pub(crate) mod explain;
pub(crate) mod identity;
pub(crate) mod key;
pub(crate) mod kubernetes;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod pki;
pub(crate) mod policy;
pub(crate) mod profile;
pub(crate) mod random;
pub(crate) mod server;
pub(crate) mod unwrap;

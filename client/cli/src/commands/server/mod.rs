//! The server and its store: keys, seal, mounts and health.

pub(crate) mod init;
mod keys;
pub(crate) mod mount;
pub(crate) mod operator;
pub(crate) mod status;
pub(crate) mod unseal;

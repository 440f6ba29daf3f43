//! The calls of a client, with a file for each subject.

pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod database;
pub(crate) mod follow;
pub(crate) mod kept_lease;
pub(crate) mod lease;
mod pages;
pub(crate) mod pki;
pub(crate) mod policy;
pub(crate) mod random;
pub(crate) mod secrets;
pub(crate) mod sys;
pub(crate) mod transit;
pub(crate) mod watch;
pub(crate) mod wrapping;

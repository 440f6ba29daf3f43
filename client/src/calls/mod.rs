//! What a client can be asked, a file for each noun.

pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod policy;
pub(crate) mod random;
pub(crate) mod secrets;
pub(crate) mod sys;
pub(crate) mod watch;

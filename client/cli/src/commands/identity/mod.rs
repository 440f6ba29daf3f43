//! Who asks: one's own session, the sessions of others, and users.

pub(crate) mod login;
mod passwd;
pub(super) mod session;
pub(crate) mod token;
pub(crate) mod user;

//! The heart: the state the server is in, and the one function every request runs through ([`handle`]).

mod attend;
#[cfg(test)]
mod attend_tests;
mod context;
#[cfg(test)]
mod crash_tests;
mod error;
mod handle;
mod keeper;
mod lease;
#[cfg(test)]
mod lease_tests;
mod lifecycle;
mod long_stream;
#[cfg(test)]
mod long_stream_tests;
mod phase;
mod record;
mod remember;
mod request;
mod rollback;
mod run;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod unauthenticated;
mod upkeep;
#[cfg(test)]
mod verbs_tests;
mod wrap;
#[cfg(test)]
mod wrap_tests;

pub use context::Origin;
pub use error::Error;
pub use handle::{handle, vouch};
pub use lifecycle::Initialized;
pub use request::{
    Action, Answer, Answers, AuditAction, CanI, LeaseAction, Place, PolicyAction, Request, SessionAction,
    Slot, SysAction, UserAction, Wrap,
};
pub use state::{Core, Options, SealSummary, Status, Unsealed};
pub use unauthenticated::{Login, generate_root, init, login, refuse_sealed, unseal};
pub use wrap::{Unwrapped, unwrap};

//! What every request meets before the pipeline, whatever wire it came over: an id, its row of the access table, a deadline,
//! room for its message and its answer, a slot, its caller's share and quota, a net under panics, and the figures. A wire
//! knows what it got and from where; whether that is let in is decided here, and a wire gets at the core in no other way.
//! Nothing here looks into a message or knows a wire.

pub mod access;
mod intake;
mod quotas;
mod shares;
mod slots;
#[cfg(test)]
mod tests;
mod visit;

pub use intake::Room;
pub use visit::{Admission, AnswerRoom, AtWork, Visit};

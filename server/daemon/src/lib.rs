//! What every long-running process of Strongroom does around its work, whatever that is: it hardens itself, starts its log,
//! obeys signals, answers the machines that watch it, and ends in order. What differs from one to the next is a parameter;
//! nothing here knows secrets, gRPC or who uses it.

pub mod harden;
pub mod life;
pub mod log;
pub mod metrics;
pub mod ops;
pub mod socket;
pub mod systemd;
pub mod tasks;

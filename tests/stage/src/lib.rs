//! The real programs, started on free loopback ports over TLS, in a directory of their own: for the demo, and for all whole-system
//! tests, which have more beside it in the crate above.

pub mod cli;
pub mod http;
pub mod pki;
pub mod server;
pub mod wait;

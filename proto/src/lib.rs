//! The contract that both ends of Strongroom share: the generated messages and services, the type that carries secret
//! bytes, the machine-readable reasons of errors, and the limits of the wire.
//!
//! It knows neither how the server works nor how a client keeps its connections.

// Others read these docs; in the other crates an empty comment would be worse than none.
#![warn(missing_docs)]

pub mod limits;
mod reason;
mod secret_bytes;
mod timeout;

pub use reason::{DOMAIN, Reason};
pub use secret_bytes::SecretBytes;
pub use timeout::grpc_timeout;

/// Messages, clients and servers generated from `proto/strongroom/v1/*.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
pub mod v1 {
    tonic::include_proto!("strongroom.v1");
}

/// The encoded `FileDescriptorSet` of everything in [`v1`], for reflection and for tests that walk every RPC.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

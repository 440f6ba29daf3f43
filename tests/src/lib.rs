//! What whole-system tests, the demo, the benchmark and the fault harness share: starting the real binaries over TLS.

pub mod audit_log;
pub mod bench;
pub mod between;
pub mod cli;
pub mod cluster;
pub mod fake_kubernetes;
pub mod faults;
pub mod figures;
pub mod go;
pub mod node;
pub mod one_node;
pub mod pki;
pub mod postgres;
pub mod raw;
pub mod server;
pub mod shop;
pub mod wait;
pub mod weather;
pub mod wire;
pub mod world;

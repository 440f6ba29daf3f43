//! What whole-system tests, the benchmark and the fault harness share. The stage on which all of it takes place, the real programs
//! started over TLS, is a crate of its own, because the demo needs nothing else.

pub mod audit_log;
pub mod bench;
pub mod between;
pub mod cluster;
pub mod database;
pub mod fake_kubernetes;
pub mod faults;
pub mod figures;
pub mod go;
pub mod node;
pub mod one_node;
pub mod postgres;
pub mod raw;
pub mod shop;
pub mod weather;
pub mod wire;
pub mod world;

pub use strongroom_stage::{cli, http, pki, server, wait};

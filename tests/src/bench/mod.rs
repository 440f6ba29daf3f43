//! The benchmark: every figure against a baseline in the same run, on the same machine, with the same client.

pub mod audit;
pub mod cpu;
pub mod disk;
pub mod echo;
pub mod leases;
pub mod load;
pub mod mounts;
pub mod pods;
pub mod rooms;
pub mod subject;
pub mod transit;
pub mod wire;

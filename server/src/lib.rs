//! The Strongroom server. The modules stand in the order in which a request meets them; a module uses only modules
//! below it, and `server/tests/tidy.rs` keeps it so. ARCHITECTURE.md has the map.

pub mod app;

pub mod salvage;

pub mod api;

pub mod admission;

pub mod core;

pub mod wrapping;

pub mod leases;

pub mod tokens;

pub mod auth;

pub mod engines;

pub mod permit;

pub mod policy;

pub mod audit;

pub mod barrier;

pub mod seal;

pub mod storage;

pub mod config;

pub mod tls;

pub mod unsent;

pub mod telemetry;

pub mod crypto;

pub mod clock;

pub mod limits;

pub mod model;

//! x
pub mod audit_verify;

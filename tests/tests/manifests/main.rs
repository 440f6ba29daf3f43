//! What `deploy/` renders to, without a cluster: the bases with their components, and the Helm chart, which has to say the same.
//! kubectl and Helm are those of the cluster in the tests, built from pinned sources.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

mod chart;
mod components;
mod render;

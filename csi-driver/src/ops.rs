//! The plain port for machines: `/healthz` (alive), `/readyz` (registered with the kubelet), `/metrics`. Whether the
//! server can be reached is no part of being ready: pods that are mounted do not need it.

use std::{path::PathBuf, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{publish::Driver, registration::Standing};

/// What the answers are made of.
#[derive(Clone)]
pub struct Ops {
    /// What is mounted, and the metrics.
    pub driver: Arc<Driver>,
    /// What the kubelet says.
    pub standing: watch::Receiver<Standing>,
    /// Where it has to look.
    pub registration_socket: PathBuf,
}

/// Serves until `stop`.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, ops: Ops, stop: CancellationToken) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(ops);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn ready(State(ops): State<Ops>) -> impl IntoResponse {
    let trouble = ops.standing.borrow().trouble(&ops.registration_socket);
    match trouble {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(trouble) => (StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}\n")),
    }
}

async fn render(State(ops): State<Ops>) -> impl IntoResponse {
    ops.driver.measure();
    ([("content-type", "text/plain; version=0.0.4")], ops.driver.metrics().render())
}

//! The plain port for machines: `/healthz` (alive), `/readyz` (unsealed and able to write its audit log), `/metrics`.
//! No secret and no name of one is ever here, and nothing can be changed.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{core::Core, telemetry::Metrics};

#[derive(Clone)]
struct Ops {
    core: Arc<Core>,
    metrics: Arc<Metrics>,
}

/// Serves until `stop`.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    core: Arc<Core>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(Ops { core, metrics });
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn ready(State(ops): State<Ops>) -> impl IntoResponse {
    match ops.core.ready() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

async fn render(State(ops): State<Ops>) -> impl IntoResponse {
    ops.core.measure(&ops.metrics);
    ([("content-type", "text/plain; version=0.0.4")], ops.metrics.render())
}

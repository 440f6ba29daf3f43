//! The plain port for machines: `/healthz` (alive), `/readyz` (registered with the kubelet), `/metrics`. Whether the
//! server can be reached is no part of being ready: pods that are mounted do not need it.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::publish::Driver;

/// Serves until `stop`.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    driver: Arc<Driver>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(driver);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn ready(State(driver): State<Arc<Driver>>) -> impl IntoResponse {
    if driver.metrics().is_registered() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the kubelet has not registered this driver yet\n")
    }
}

async fn render(State(driver): State<Arc<Driver>>) -> impl IntoResponse {
    driver.measure();
    ([("content-type", "text/plain; version=0.0.4")], driver.metrics().render())
}

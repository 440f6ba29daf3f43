//! The plain port for machines: `/healthz` (alive), `/readyz` (ready, or what is in the way), `/metrics`. No secret and no
//! name of one is ever here, and nothing can be changed.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What a process reports of itself.
pub trait Report: Send + Sync + 'static {
    /// Why it is not ready, as a sentence for the operator; `None` if it is.
    fn trouble(&self) -> Option<String>;

    /// What a process that works cannot do at the moment: told with the readiness, which it does not end.
    fn shortcoming(&self) -> Option<String> {
        None
    }

    /// What only a new process can mend, as a sentence: whoever looks after this one is to start it again.
    fn illness(&self) -> Option<String> {
        None
    }

    /// Its metrics in the text format of Prometheus, as they are now.
    fn metrics(&self) -> String;
}

/// Serves until `stop`.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    report: Arc<impl Report>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(report as Arc<dyn Report>);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn health(State(report): State<Arc<dyn Report>>) -> impl IntoResponse {
    match report.illness() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(illness) => (StatusCode::SERVICE_UNAVAILABLE, format!("{illness}\n")),
    }
}

async fn ready(State(report): State<Arc<dyn Report>>) -> impl IntoResponse {
    match report.trouble() {
        None => {
            let but = report.shortcoming().map(|shortcoming| format!(", but {shortcoming}"));
            (StatusCode::OK, format!("ready{}\n", but.unwrap_or_default()))
        }
        Some(trouble) => (StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}\n")),
    }
}

async fn metrics(State(report): State<Arc<dyn Report>>) -> impl IntoResponse {
    ([("content-type", "text/plain; version=0.0.4")], report.metrics())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    struct Sealed;

    impl Report for Sealed {
        fn trouble(&self) -> Option<String> {
            Some("sealed".into())
        }

        fn metrics(&self) -> String {
            "strongroom_sealed 1\n".into()
        }
    }

    async fn get(port: u16, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn machines_are_told_how_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, stop) = (listener.local_addr().unwrap().port(), CancellationToken::new());
        let serving = tokio::spawn(serve(listener, Arc::new(Sealed), stop.clone()));
        for (path, code, body) in [
            ("/healthz", "200", "ok\n"),
            ("/readyz", "503", "sealed\n"),
            ("/metrics", "200", "strongroom_sealed 1\n"),
            ("/", "404", ""),
        ] {
            let answer = get(port, path).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {code}")) && answer.ends_with(body), "{answer}");
        }
        stop.cancel();
        serving.await.unwrap().unwrap();
    }
}

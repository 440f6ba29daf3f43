//! gRPC: the only place that knows tonic. It parses messages into actions, hands them to `admission` and converts what comes
//! back; it decides nothing, and has no core to ask.

mod audit;
mod auth;
mod call;
mod connection;
mod convert;
mod engines;
mod intake;
mod layers;
mod leases;
pub mod ops_http;
mod outgoing;
mod path;
mod policy;
mod status;
mod sys;
mod wrapping;

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::StreamExt;
pub use path::path;
use strongroom_proto::{
    FILE_DESCRIPTOR_SET, limits as wire,
    v1::{
        audit_server::AuditServer, auth_server::AuthServer, leases_server::LeasesServer,
        policy_server::PolicyServer, sys_server::SysServer, wrapping_server::WrappingServer,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{admission::Admission, engines::KINDS, limits, tls::TlsConnection};

/// What a TLS connection must agree on to be ours (RFC 7301): gRPC is HTTP/2.
pub const ALPN: &[&[u8]] = &[b"h2"];

/// How often health is judged again.
const HEALTH_REVIEW: Duration = Duration::from_secs(1);

/// A service with the wire's limits on messages.
macro_rules! bounded {
    ($server:ident, $service:expr, $bytes:expr) => {
        $server::new($service)
            .max_decoding_message_size($bytes)
            .max_encoding_message_size(wire::RESPONSE_BYTES)
    };
}

/// Why the API could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// At start: our own descriptors.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("serving: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// What the API is made of.
pub struct Api {
    pub admission: Arc<Admission>,
}

impl Api {
    /// Serves connections until `stop`, then lets those in flight finish.
    ///
    /// # Errors
    /// It could not be set up, or the transport failed.
    pub async fn serve(
        self,
        connections: mpsc::Receiver<TlsConnection>,
        stop: CancellationToken,
    ) -> Result<(), ApiError> {
        let (reporter, health) = tonic_health::server::health_reporter();
        let follower = tokio::spawn(report_health(Arc::clone(&self.admission), reporter));
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let served = Server::builder()
            .layer(layers::PerRequestLayer(self.admission))
            .layer(engines::EnginesLayer)
            .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
            .http2_max_pending_accept_reset_streams(Some(limits::PENDING_RESETS))
            .http2_max_header_list_size(limits::HEADER_BYTES)
            .max_connection_age(limits::CONNECTION_AGE)
            .max_connection_age_grace(limits::CONNECTION_GRACE)
            .add_service(health.max_decoding_message_size(limits::SMALL_REQUEST_BYTES))
            .add_service(reflection.max_decoding_message_size(limits::SMALL_REQUEST_BYTES))
            .add_service(bounded!(AuthServer, auth::AuthService, limits::SMALL_REQUEST_BYTES))
            .add_service(bounded!(PolicyServer, policy::PolicyService, wire::REQUEST_BYTES))
            .add_service(bounded!(SysServer, sys::SysService, limits::SMALL_REQUEST_BYTES))
            .add_service(bounded!(LeasesServer, leases::LeasesService, limits::SMALL_REQUEST_BYTES))
            .add_service(bounded!(WrappingServer, wrapping::WrappingService, limits::SMALL_REQUEST_BYTES))
            .add_service(bounded!(AuditServer, audit::AuditService, wire::REQUEST_BYTES))
            .serve_with_incoming_shutdown(
                ReceiverStream::new(connections).map(Ok::<_, Infallible>),
                stop.cancelled_owned(),
            )
            .await;
        follower.abort();
        Ok(served?)
    }
}

/// The standard health service says SERVING when the server can answer: unsealed and with a log to write to.
async fn report_health(admission: Arc<Admission>, reporter: HealthReporter) {
    let mut changes = admission.watch_phase();
    loop {
        let serving = if admission.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", serving).await;
        for kind in KINDS {
            reporter.set_service_status(kind.service.name, serving).await;
        }
        // When the log cannot be written, or can be again, the phase does not change.
        if let Ok(Err(_)) = tokio::time::timeout(HEALTH_REVIEW, changes.changed()).await {
            return;
        }
    }
}

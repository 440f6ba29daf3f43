//! Strongroom's CSI driver: secrets as files in pods. A node plugin for inline volumes that holds no credential of its
//! own; each pod's secrets are read with that pod's service-account token.
//!
//! [`run`] is the whole driver; the binary only parses arguments and opens sockets. Modules, from the kubelet to the disk:
//! `node` (thin), `volume` (the request, parsed), `publish` (what is done), `refresh` (what happens to a mounted volume),
//! `fetch`, `issued` and `session` (from the server), `pod_events` and `cluster` (to the pod's owner), `disk` (to the node: `state` beyond a restart, `writer` to the files, `mount` to the tree).

pub mod authority;
pub mod budget;
pub mod call;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod disk;
pub mod failure;
#[cfg(test)]
mod fake_server;
pub mod fetch;
pub mod folder;
pub mod follower;
pub mod identity;
pub mod issued;
pub mod limits;
pub mod mount;
pub mod node;
pub mod ops;
pub mod pod_events;
pub mod probe;
pub mod provider;
pub mod publish;
pub mod recover;
pub mod refresh;
pub mod registration;
pub mod session;
pub mod state;
pub mod strongroom;
pub mod telemetry;
pub mod volume;
pub mod volumes;
pub mod wire;
pub mod writer;

use std::{io, path::PathBuf, sync::Arc};

use futures_util::TryStreamExt;
use strongroom_daemon::{
    metrics::MetricsError,
    ops::serve as serve_ops,
    socket::{Socket, SocketError},
    tasks::Tasks,
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::Router};

pub use config::Config;

use crate::{
    cluster::{ApiServer, Cluster, ClusterError},
    connection::Connection,
    identity::IdentityService,
    mount::Linux,
    node::NodeService,
    pod_events::PodEvents,
    provider::ProviderService,
    publish::Driver,
    registration::{RegistrationService, Standing},
    state::StateFolder,
    strongroom::Strongroom,
    telemetry::Metrics,
    wire::{
        csi::{identity_server::IdentityServer, node_server::NodeServer},
        provider::csi_driver_provider_server::CsiDriverProviderServer,
        registration::registration_server::RegistrationServer,
    },
};

/// Why the driver could not start or continue.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The plain port.
    #[error("cannot open or serve the ops port: {0}")]
    Ops(io::Error),
    /// The system cannot do what is needed.
    #[error("cannot mount a tmpfs: {0}")]
    Mount(io::Error),
    #[error("cannot open the state folder {path}: {cause}")]
    State { path: PathBuf, cause: io::Error },
    #[error("cannot recover the volumes of an earlier run: {0}")]
    Recover(String),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A fault of ours.
    #[error("cannot set up the metrics: {0}")]
    Metrics(#[from] MetricsError),
    #[error("cannot serve a socket: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// The kubelet refused the driver.
    #[error("{0}")]
    Registration(String),
    /// A task ended that must not.
    #[error("a task of the driver failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Everything the driver listens on.
pub struct Listeners {
    pub csi: Socket,
    /// The kubelet's registration.
    pub registration: Socket,
    /// The plain port.
    pub ops: TcpListener,
    /// The Secrets Store CSI driver.
    pub provider: Option<Socket>,
}

impl Listeners {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// The first that could not be opened.
    pub async fn bind(config: &Config) -> Result<Self, RunError> {
        Ok(Self {
            csi: Socket::bind(&config.endpoint)?,
            ops: TcpListener::bind(config.ops_address).await.map_err(RunError::Ops)?,
            provider: config.provider_socket.as_deref().map(Socket::bind).transpose()?,
            // The last one: the kubelet calls as soon as it sees it.
            registration: Socket::bind(&config.registration_socket())?,
        })
    }
}

/// Serves until `stop`; mounted volumes stay mounted.
///
/// # Errors
/// It could not start, or something that must keep running ended.
pub async fn run(config: Config, listeners: Listeners, stop: CancellationToken) -> Result<(), RunError> {
    let metrics = Arc::new(Metrics::new()?);
    let driver = build(&config, Arc::clone(&metrics))?;
    driver.recover().map_err(|failure| RunError::Recover(failure.to_string()))?;

    let (standing, mut kubelet) = watch::channel(Standing::Unasked);
    let registration = RegistrationService::new(&config.kubelet_endpoint(), metrics, standing);
    let late = tokio::spawn(registration::warn_when_late(kubelet.clone(), config.registration_socket()));
    let node = NodeService { driver: Arc::clone(&driver), node_id: config.node_name.clone() };
    let (csi, csi_file) = listeners.csi.into_parts();
    let (registration_socket, registration_file) = listeners.registration.into_parts();

    let mut tasks = Tasks::default();
    let services = Server::builder()
        .add_service(IdentityServer::new(IdentityService))
        .add_service(NodeServer::new(node).max_decoding_message_size(limits::REQUEST_BYTES));
    tasks.spawn(serve(services, csi, stop.clone()));
    let services = Server::builder().add_service(RegistrationServer::new(registration));
    tasks.spawn(serve(services, registration_socket, stop.clone()));
    let ops = listeners.ops.local_addr().map(|address| address.to_string()).ok();
    let (told, answering) = watch::channel(None);
    let asking = tokio::spawn({
        let socket = config.endpoint.clone();
        async move { probe::keep_asking(&socket, told).await }
    });
    let answers = ops::Ops {
        driver: Arc::clone(&driver),
        answering,
        standing: kubelet.clone(),
        registration_socket: config.registration_socket(),
        seats: vec![csi_file.seat(), registration_file.seat()],
    };
    let serving = serve_ops(listeners.ops, Arc::new(answers), stop.clone());
    tasks.spawn(async move { serving.await.map_err(RunError::Ops) });
    let _provider_file = listeners.provider.map(|socket| {
        let (provider, file) = socket.into_parts();
        let service = CsiDriverProviderServer::new(ProviderService { driver: Arc::clone(&driver) })
            .max_decoding_message_size(limits::REQUEST_BYTES)
            .max_encoding_message_size(limits::PROVIDER_RESPONSE_BYTES);
        tasks.spawn(serve(Server::builder().add_service(service), provider, stop.clone()));
        file
    });

    tracing::info!(node = config.node_name, server = config.server, ops, "serving");
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        Ok(standing) = kubelet.wait_for(|now| matches!(now, Standing::Refused(_))) => {
            let trouble = standing.trouble(&config.registration_socket()).unwrap_or_default();
            Err(RunError::Registration(trouble))
        }
        outcome = tasks.ended() => outcome,
    };
    late.abort();
    asking.abort();
    // The kubelet takes the driver off its list before the driver stops answering.
    drop(registration_file);
    stop.cancel();
    let outcome = outcome.and(tasks.drain(limits::DRAIN).await);
    drop(csi_file);
    driver.stop().await;
    outcome
}

fn build(config: &Config, metrics: Arc<Metrics>) -> Result<Arc<Driver>, RunError> {
    let path = config.state_dir();
    let states = StateFolder::open(&path).map_err(|cause| RunError::State { path, cause })?;
    let events = if config.pod_events {
        let cluster = Cluster::connect(&ApiServer::of_this_pod()?, &config.node_name)?;
        PodEvents::start(Arc::new(cluster), Arc::clone(&metrics))
    } else {
        PodEvents::off()
    };
    Ok(Driver::new(publish::Parts {
        kubelet_root: config.kubelet_root.clone(),
        cluster: config.cluster.clone(),
        audience: config.audience.clone(),
        patience: config.patience(),
        budget: config.budget(),
        server: Arc::new(Strongroom::new(config.clone())),
        mounter: Arc::new(Linux::probe().map_err(RunError::Mount)?),
        states,
        events,
        metrics,
    }))
}

async fn serve(services: Router, listener: UnixListener, stop: CancellationToken) -> Result<(), RunError> {
    let incoming = UnixListenerStream::new(listener).map_ok(Connection::from);
    Ok(services.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await?)
}

//! The life of the process: build everything from a [`Config`], run it, drain it. `main` does nothing else.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use strongroom_daemon::{metrics::MetricsError, ops, systemd, tasks::Tasks};
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::CancellationToken;

use crate::storage::sled::{SledOptions, SledStore};
use crate::{
    admission::Admission,
    api::{self, Api, ApiError, ops_http::Ops},
    audit,
    auth::{self, Methods},
    barrier::{KEYRING_KEY, SEAL_KEY, commit_of},
    clock::{Clock, SystemClock},
    config::{self, Config, StorageKind},
    core::{Core, Options},
    crypto::{CryptoError, Entropy, SystemEntropy},
    limits,
    model::LogPoint,
    salvage::{self, Order, Report, SalvageError, Shares},
    seal::{self, Seals},
    storage::{Revision, Store, memory::MemoryStore},
    telemetry::Metrics,
    tls,
};

/// Kept free for a full disk; see `storage/sled`.
const BALLAST_BYTES: u64 = 16 << 20;
/// How often expired revocations are forgotten and the age of the keys is looked at.
const HOUR: Duration = Duration::from_secs(3600);
/// How often what people began and nobody ended is forgotten, and the store takes note of an audit log that only grows by
/// reads.
const MINUTE: Duration = Duration::from_secs(60);

/// Why the server could not start or go on. Each is a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("opening the store: {0}")]
    Storage(#[from] crate::storage::sled::OpenError),
    #[error(transparent)]
    Audit(#[from] audit::OpenError),
    /// The certificate.
    #[error("TLS: {0}")]
    Tls(#[from] tls::TlsError),
    /// An auth method.
    #[error(transparent)]
    Auth(#[from] auth::ConnectError),
    /// What is known of the log from elsewhere.
    #[error("audit.anchor {path}: {problem}", path = .path.display())]
    Anchor { path: PathBuf, problem: String },
    #[error("listening on {address}: {cause}")]
    Listen { address: SocketAddr, cause: std::io::Error },
    #[error(transparent)]
    Core(#[from] crate::core::Error),
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The plain port.
    #[error("the ops port: {0}")]
    Ops(std::io::Error),
    /// A fault of ours.
    #[error("metrics: {0}")]
    Metrics(#[from] MetricsError),
    /// Fail-stop: whatever it held may be lost from here on, and no answer would be worth anything.
    #[error("the store failed and nothing more can be promised ({0}); check the disk, then start again")]
    StoreFailed(String),
    /// A task ended that must not.
    #[error("a task of the server failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// A server that is ready to run: everything opened, both ports bound, nothing answered yet.
pub struct App {
    core: Arc<Core>,
    metrics: Arc<Metrics>,
    certificate: Arc<tls::Certificate>,
    listener: TcpListener,
    ops: TcpListener,
    limits: config::Limits,
    /// What is kept where.
    kept: Vec<(&'static str, PathBuf)>,
    entropy: Arc<dyn Entropy>,
}

impl App {
    /// Opens everything the configuration names.
    ///
    /// # Errors
    /// The first thing that could not be opened.
    pub async fn build(config: &Config, accept_rollback: bool) -> Result<App, AppError> {
        let metrics = Arc::new(Metrics::new()?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);

        // The log first: it names a commit that the store must have.
        let audit = audit::open(&config.audit, Arc::clone(&clock))?;
        let store: Arc<dyn Store> = match config.storage.kind {
            StorageKind::Memory => Arc::new(MemoryStore::new()),
            StorageKind::Sled => {
                let at_least = acknowledged(&audit.1);
                Arc::new(SledStore::open(SledOptions { at_least, ..sled_options(&config.storage) })?)
            }
        };
        let anchor = anchor(&config.audit)?;
        let (seals, init_from) = (Seals::build(&config.seal), config.listen.init_from);
        let options = Options { seals, accept_rollback, anchor, init_from };
        let methods = Methods::connect(&auth::Surroundings { config, clock: &clock, metrics: &metrics })?;
        let (entropy_too, metrics_too) = (Arc::clone(&entropy), Arc::clone(&metrics));
        let core =
            Core::start(store, audit, Arc::clone(&clock), entropy_too, metrics_too, methods, options).await?;

        let certificate = tls::Certificate::load(&config.tls.certificate, &config.tls.key, clock)?;
        if let Some(error) = certificate.untimely() {
            tracing::warn!(%error, "clients refuse the certificate that is served");
        }
        let listener = bind(config.listen.address).await?;
        let ops = bind(config.listen.ops_address).await?;
        if let (Ok(api), Ok(ops)) = (listener.local_addr(), ops.local_addr()) {
            tracing::info!(%api, %ops, "listening");
        }
        let mut kept = vec![("audit", config.audit.directory.clone())];
        if config.storage.kind == StorageKind::Sled {
            kept.push(("store", config.storage.directory.clone()));
        }
        let limits = config.limits.clone();
        Ok(App { core, metrics, certificate, listener, ops, limits, kept, entropy })
    }

    /// Serves until `stop`, then drains: no new connections, those in flight finish, the audit log ends with a checkpoint.
    /// The certificate is read again whenever `again` says so.
    ///
    /// # Errors
    /// Something that must go on did not.
    pub async fn run(self, again: Arc<Notify>, stop: CancellationToken) -> Result<(), AppError> {
        let App { core, metrics, certificate, listener, ops, limits, kept, entropy } = self;
        let in_flight = usize::try_from(limits.in_flight).unwrap_or(usize::MAX);
        let longest = Duration::from_secs(limits.request_seconds);
        let (core_too, metrics_too) = (Arc::clone(&core), Arc::clone(&metrics));
        let admission = Admission::new(core_too, in_flight, longest, limits.rates, &*entropy, metrics_too)?;
        let tls = certificate.server_config(api::ALPN)?;
        let connections = tls::accept(listener, tls, Arc::clone(&metrics), stop.clone());
        let answers = Ops { core: Arc::clone(&core), metrics: Arc::clone(&metrics), kept };
        let ops = ops::serve(ops, Arc::new(answers), stop.clone());
        let api_stop = stop.clone();
        let mut tasks = Tasks::default();
        tasks.spawn(async move { Ok(Api { admission }.serve(connections, api_stop).await?) });
        tasks.spawn(async move { ops.await.map_err(AppError::Ops) });
        tokio::spawn(certificate.watch(metrics, again, stop.clone()));
        core.start_methods(&stop);
        tokio::spawn(chores(Arc::clone(&core), stop.clone()));
        tokio::spawn(Arc::clone(&core).keep_leases(stop.clone()));
        tokio::spawn(Arc::clone(&core).attend_engines(stop.clone()));

        systemd::ready();
        let outcome = tokio::select! {
            () = stop.cancelled() => Ok(()),
            outcome = tasks.ended() => outcome,
            cause = core.store_failed() => Err(AppError::StoreFailed(cause)),
        };
        systemd::stopping();
        stop.cancel();
        core.drain();
        let outcome = outcome.and(tasks.drain(limits::DRAIN).await);
        core.stop().await;
        outcome
    }
}

/// What was found where the configuration points to.
#[derive(Debug, Default)]
pub struct Inspection {
    /// The server would not start.
    pub mistakes: Vec<String>,
    /// It would, but clients would not come in.
    pub warnings: Vec<String>,
}

/// Reads every file that the configuration names, and changes none.
pub fn inspect(config: &Config) -> Inspection {
    let mut found = Inspection::default();
    match tls::Certificate::load(&config.tls.certificate, &config.tls.key, Arc::new(SystemClock)) {
        Ok(certificate) => found.warnings.extend(certificate.untimely().map(|error| format!("tls: {error}"))),
        Err(error) => found.mistakes.push(format!("tls: {error}")),
    }
    for (key, directory) in [("storage", &config.storage.directory), ("audit", &config.audit.directory)] {
        if directory.exists() && !directory.is_dir() {
            found.mistakes.push(format!("{key}.directory: {} is not a directory", directory.display()));
        }
    }
    found.mistakes.extend(anchor(&config.audit).err().map(|error| error.to_string()));
    found.mistakes.extend(seal::inspect(&config.seal).map(|error| format!("seal.key_file: {error}")));
    found.mistakes.extend(Methods::inspect(config).iter().map(ToString::to_string));
    found
}

/// Brings back what is intact of the store that the configuration names.
///
/// # Errors
/// Nothing could be brought back.
pub async fn salvage(config: &Config, into: PathBuf, shares: Shares) -> Result<Report, SalvageError> {
    let order = Order {
        from: &config.storage.directory,
        audit: &config.audit.directory,
        into: SledOptions { directory: into, ..sled_options(&config.storage) },
        seals: Seals::build(&config.seal),
        shares,
    };
    salvage::run(order, &SystemEntropy).await
}

async fn bind(address: SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|cause| AppError::Listen { address, cause })
}

fn sled_options(config: &config::Storage) -> SledOptions {
    SledOptions {
        directory: config.directory.clone(),
        cache_bytes: config.cache_mib << 20,
        allow_unsafe_filesystem: false,
        reserve_bytes: BALLAST_BYTES,
        at_least: Revision::default(),
        copied: vec![SEAL_KEY.to_vec(), KEYRING_KEY.to_vec()],
    }
}

/// How far the audit log was, as the operator has it from elsewhere: the last line of a file.
fn anchor(config: &config::Audit) -> Result<LogPoint, AppError> {
    let Some(path) = &config.anchor else { return Ok(LogPoint::default()) };
    let wrong = |problem: String| AppError::Anchor { path: path.clone(), problem };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let last = text.lines().rev().find_map(|line| line.split_whitespace().next());
    let expected = "expected SIZE:HEAD, as `strongroom audit anchor` prints it";
    last.and_then(LogPoint::parse).ok_or_else(|| wrong(expected.to_owned()))
}

/// The last commit that the audit log names.
fn acknowledged(log: &audit::RecoveredLog) -> Revision {
    log.last_checkpoint.as_ref().map_or(Revision(0), |checkpoint| commit_of(checkpoint.state.batch_seq))
}

/// What has to be done now and then while the server is up.
async fn chores(core: Arc<Core>, stop: CancellationToken) {
    let (mut hour, mut minute) = (tokio::time::interval(HOUR), tokio::time::interval(MINUTE));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = hour.tick() => core.hourly().await,
            _ = minute.tick() => core.minutely().await,
        }
    }
}

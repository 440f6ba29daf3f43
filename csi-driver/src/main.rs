//! `strongroom-csi`: arguments -> sockets -> run -> drain.
#![expect(clippy::print_stderr, reason = "without a log there is only standard error")]

use std::process::ExitCode;

use clap::Parser;
use strongroom_csi::{Config, Listeners, RunError, process, run, telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The configuration was refused; nothing was started.
const EXIT_CONFIG: u8 = 2;
/// Threads for the disk, which is memory. Each has its own share of the allocator's pages, and a node has many pods to
/// keep small: two are enough for files of a few hundred bytes.
const DISK_THREADS: usize = 2;

fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(error) = telemetry::init_log(config.log_format, &config.log_level) {
        eprintln!("{error}");
        return ExitCode::from(EXIT_CONFIG);
    }
    process::harden();
    // One thread: what the driver does is to wait, for the kubelet and for the server.
    let runtime =
        tokio::runtime::Builder::new_current_thread().max_blocking_threads(DISK_THREADS).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(start(config)),
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the driver cannot go on");
            ExitCode::FAILURE
        }
    }
}

async fn start(config: Config) -> Result<(), RunError> {
    let stop = stop_on_signal();
    let listeners = Listeners::bind(&config).await?;
    run(config, listeners, stop).await
}

/// Cancelled by SIGTERM and SIGINT.
fn stop_on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        match signal(kind) {
            Ok(mut signals) => {
                let stop = stop.clone();
                tokio::spawn(async move {
                    signals.recv().await;
                    tracing::info!("stopping");
                    stop.cancel();
                });
            }
            Err(error) => tracing::warn!(%error, "a signal cannot be handled"),
        }
    }
    stop
}

//! `strongroom-csi`: arguments -> sockets -> run -> drain.

use std::process::ExitCode;

use clap::Parser;
use strongroom_csi::{Config, Listeners, RunError, run};
use strongroom_daemon::{
    harden::Needs,
    life::{live, prepare, stop_on_signal, survive_signals},
};
use tokio::runtime::Builder;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads for the disk, which is memory. Each has its own share of the allocator's pages, and a node has many pods to
/// keep small: two are enough for files of a few hundred bytes.
const DISK_THREADS: usize = 2;
const NEEDS: Needs = Needs {
    open_files: None,
    against_swap: "switch swap off, as is the rule on Kubernetes nodes, or add the capability IPC_LOCK",
};

fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(code) = prepare(config.log_format, &config.log_level, NEEDS) {
        return code;
    }
    // One thread: what the driver does is to wait, for the kubelet and for the server.
    live("the driver", Builder::new_current_thread().max_blocking_threads(DISK_THREADS), start(config))
}

async fn start(config: Config) -> Result<(), RunError> {
    survive_signals(|| {
        tracing::info!(
            "SIGHUP: there is nothing to read again; the CA file is read at each connection, and all else is in flags"
        );
    });
    let stop = stop_on_signal();
    let listeners = Listeners::bind(&config).await?;
    run(config, listeners, stop).await
}

//! `strongroom-server`: arguments -> configuration -> build -> run -> drain.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a person asked for on the command line goes to them"
)]

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use strongroom_server::{
    app::{self, App},
    config::{self, Args, Command, Config},
    process,
    salvage::Shares,
    telemetry,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The configuration was refused; nothing was started.
const EXIT_CONFIG: u8 = 2;
/// A salvage that brought back less than there was.
const EXIT_LOST: u8 = 3;

fn main() -> ExitCode {
    let args = Args::parse();
    let config = match config::load(&args) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("the configuration has {} mistake(s):", problems.len());
            problems.iter().for_each(|problem| eprintln!("  {problem}"));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    match args.command.unwrap_or(Command::Run) {
        Command::CheckConfig => {
            println!("the configuration is fine");
            ExitCode::SUCCESS
        }
        Command::Version => {
            println!("strongroom-server {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Command::Salvage { into, share_file } => bring_back(&config, into, share_file),
        Command::Run => run(&config, args.accept_rollback),
    }
}

/// Everything came back, or what did not was told.
fn bring_back(config: &Config, into: PathBuf, shares: Vec<PathBuf>) -> ExitCode {
    if let Err(error) = telemetry::init_log(config.log.format, &config.log.level) {
        eprintln!("{error}");
        return ExitCode::from(EXIT_CONFIG);
    }
    process::harden();
    let salvaging = async { app::salvage(config, into, Shares(shares)).await };
    match tokio::runtime::Runtime::new().map(|runtime| runtime.block_on(salvaging)) {
        Ok(Ok(report)) => {
            print!("{report}");
            if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_LOST) }
        }
        Ok(Err(error)) => {
            eprintln!("nothing was salvaged: {error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("no runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config, accept_rollback: bool) -> ExitCode {
    if let Err(error) = telemetry::init_log(config.log.format, &config.log.level) {
        eprintln!("{error}");
        return ExitCode::from(EXIT_CONFIG);
    }
    process::harden();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        let app = App::build(config, accept_rollback).await?;
        app.run(stop_on_signal()).await
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the server cannot go on");
            ExitCode::FAILURE
        }
    }
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

//! `strongroom-server`: arguments -> configuration -> build -> run -> drain.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a person asked for on the command line goes to them"
)]

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use strongroom_daemon::{
    harden::Needs,
    life::{EXIT_CONFIG, live, prepare, stop_on_signal, survive_signals},
    log::Level,
};
use strongroom_server::{
    app::{self, App},
    config::{self, Args, Command, Config},
    limits,
    salvage::Shares,
};
use tokio::{runtime::Builder, sync::Notify};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NEEDS: Needs = Needs {
    open_files: Some(limits::OPEN_FILES),
    // No word of IPC_LOCK: the Pod Security level that the server's own namespace enforces does not allow to add it.
    against_swap: "switch swap off, as is the rule on Kubernetes nodes, or set LimitMEMLOCK=infinity (systemd)",
};
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
    match args.command.clone().unwrap_or(Command::Run) {
        Command::CheckConfig => check(&config),
        Command::Version => {
            println!("strongroom-server {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Command::Salvage { into, share_file } => bring_back(&config, into, share_file),
        Command::Run => run(args, &config),
    }
}

/// The configuration was read; what it names is looked at, too.
fn check(config: &Config) -> ExitCode {
    let found = app::inspect(config);
    found.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    if found.mistakes.is_empty() {
        println!("the configuration is fine");
        return ExitCode::SUCCESS;
    }
    eprintln!("the configuration names what cannot be used, {} mistake(s):", found.mistakes.len());
    found.mistakes.iter().for_each(|mistake| eprintln!("  {mistake}"));
    ExitCode::from(EXIT_CONFIG)
}

/// Everything came back, or what did not was told.
fn bring_back(config: &Config, into: PathBuf, shares: Vec<PathBuf>) -> ExitCode {
    if let Err(code) = prepare(config.log.format, &config.log.level, NEEDS) {
        return code;
    }
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

fn run(args: Args, config: &Config) -> ExitCode {
    let level = match prepare(config.log.format, &config.log.level, NEEDS) {
        Ok(level) => level,
        Err(code) => return code,
    };
    live("the server", &mut Builder::new_multi_thread(), async {
        let (accept_rollback, again) = (args.accept_rollback, Arc::new(Notify::new()));
        let certificate = Arc::clone(&again);
        survive_signals(move || read_again(&args, &level, &certificate));
        // Before anything is begun: a stop that comes during the start is an orderly one too.
        let stop = stop_on_signal();
        let app = App::build(config, accept_rollback).await?;
        app.run(again, stop).await
    })
}

/// What SIGHUP asks for. All other settings need a restart.
fn read_again(args: &Args, level: &Level, certificate: &Notify) {
    tracing::info!("SIGHUP: reading the log level and the certificate again");
    match config::load(args) {
        Ok(config) => {
            if let Err(error) = level.set(&config.log.level) {
                tracing::error!(%error, "the log level stays as it was");
            }
        }
        Err(problems) => {
            let problems = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            tracing::error!(problems, "the configuration has mistakes, and the log level stays as it was");
        }
    }
    certificate.notify_one();
}

//! `strongroom-server`: arguments -> configuration -> build -> run -> drain.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a person asked for on the command line goes to them"
)]

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use strongroom_daemon::{
    harden::Needs,
    life::{EXIT_CONFIG, live, prepare, stop_on_signal},
};
use strongroom_server::{
    app::{self, App},
    config::{self, Args, Command, Config},
    limits,
    salvage::Shares,
};
use tokio::runtime::Builder;

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

fn run(config: &Config, accept_rollback: bool) -> ExitCode {
    if let Err(code) = prepare(config.log.format, &config.log.level, NEEDS) {
        return code;
    }
    live("the server", &mut Builder::new_multi_thread(), async {
        let app = App::build(config, accept_rollback).await?;
        app.run(stop_on_signal()).await
    })
}

//! `strongroom`: the command line. This file starts it: hardens the process, parses the arguments, runs one command and
//! turns its failure into a sentence, a hint and an exit code. The commands are in `commands/`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line speaks there; all of it through output/"
)]

mod arguments;
mod commands;
mod context;
mod failure;
mod forms;
mod input;
mod output;
mod private_file;

use std::{ffi::OsStr, io::IsTerminal, process::ExitCode};

use clap::{ColorChoice, CommandFactory, FromArgMatches};
use rustix::process::{Resource, Rlimit, setrlimit};
use tracing_subscriber::EnvFilter;

use crate::{
    arguments::{Arguments, Command},
    commands::{
        audit, database, documentation, explain,
        identity::{login, token, user},
        key, kubernetes,
        kv::{diff, edit, import, list, meta, read, remove, run as run_program, tree, watch, write},
        lease, pki,
        policy::{apply, ask},
        profile, random,
        server::{init, mount, operator, status, unseal},
        unwrap,
    },
    context::{Context, options::Global},
    failure::Failure,
};

fn main() -> ExitCode {
    harden();
    let arguments = parse();
    log_to_stderr(&arguments.global);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::from(error)),
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

/// The grammar's own help and errors have colours too, and it prints them before it knows the options.
fn parse() -> Arguments {
    let no_color =
        std::env::args_os().take_while(|word| word != "--").any(|word| word == OsStr::new("--no-color"));
    let colours = if no_color { ColorChoice::Never } else { ColorChoice::Auto };
    let matches = Arguments::command().color(colours).get_matches();
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let context = Context::new(arguments.global)?;
    if !matches!(
        arguments.command,
        Command::Login(_) | Command::Profile(_) | Command::Completion(_) | Command::Man(_)
    ) {
        context.profile.check_known()?;
    }
    context.output.check_suits(matches!(arguments.command, Command::Get(_)))?;
    match arguments.command {
        Command::Status => status::run(&context).await,
        Command::Init(args) => init::run(&context, args).await,
        Command::Unseal(args) => unseal::run(&context, args).await,
        Command::Seal(args) => unseal::seal(&context, args).await,
        Command::Login(args) => login::login(&context, args).await,
        Command::Logout => login::logout(&context).await,
        Command::Whoami => login::whoami(&context).await,
        Command::Token(args) => token::run(&context, args).await,
        Command::Put(args) => write::put(&context, args).await,
        Command::Edit(args) => edit::run(&context, args).await,
        Command::Run(args) => run_program::run(&context, args).await,
        Command::Diff(args) => diff::run(&context, args).await,
        Command::Tree(args) => tree::run(&context, args).await,
        Command::Import(args) => import::run(&context, args).await,
        Command::Patch(args) => write::patch(&context, args).await,
        Command::Rollback(args) => write::rollback(&context, args).await,
        Command::Get(args) => read::run(&context, args).await,
        Command::Unwrap(args) => unwrap::run(&context, args).await,
        Command::List(args) => list::run(&context, args).await,
        Command::Rm(args) => remove::delete(&context, args).await,
        Command::Undelete(args) => remove::undelete(&context, args).await,
        Command::Destroy(args) => remove::destroy(&context, args).await,
        Command::History(args) => meta::history(&context, args).await,
        Command::Meta(args) => meta::run(&context, args).await,
        Command::Watch(args) => watch::run(&context, args).await,
        Command::Random(args) => random::run(&context, args).await,
        Command::Encrypt(args) => key::file::encrypt(&context, args).await,
        Command::Decrypt(args) => key::file::decrypt(&context, args).await,
        Command::Key(args) => key::run(&context, args).await,
        Command::Database(args) => database::run(&context, args).await,
        Command::Pki(args) => pki::run(&context, args).await,
        Command::Lease(args) => lease::run(&context, args).await,
        Command::Apply(args) => apply::run(&context, args).await,
        Command::CanI(args) => ask::can_i(&context, args).await,
        Command::WhoCan(args) => ask::who_can(&context, args).await,
        Command::Explain(args) => explain::run(&context, args).await,
        Command::Kubernetes(args) => kubernetes::run(&context, args),
        Command::Roles => ask::export(&context).await,
        Command::User(args) => user::run(&context, args).await,
        Command::Audit(args) => audit::run(&context, args).await,
        Command::Mount(args) => mount::run(&context, args).await,
        Command::Operator(args) => operator::run(&context, args).await,
        Command::Profile(args) => profile::run(&context, args),
        Command::Completion(args) => documentation::completion(&context, &args, Arguments::command()),
        Command::Man(args) => documentation::man(&context, &args, Arguments::command()),
    }
}

/// Says why it failed and what may help, and gives the exit code that scripts can tell failures apart by.
fn report(failure: &Failure) -> ExitCode {
    if !failure.is_silent() {
        output::complain(&format!("error: {failure}"));
        if let Some(hint) = failure.hint() {
            output::complain(&format!("hint: {hint}"));
        }
    }
    ExitCode::from(failure.code())
}

/// Secrets pass through this process: no core dump holds them, and no other process of the user reads its memory.
fn harden() {
    // Both can fail only where the system forbids even this; that is no reason not to work.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Only this project's own messages: the layers below would log frames, and frames hold secrets.
fn log_to_stderr(global: &Global) {
    let level = match global.verbose {
        0 => return,
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::new(format!("off,strongroom={level},strongroom_client={level}"));
    let colours = std::io::stderr().is_terminal() && output::wants_colours(global.no_color);
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}

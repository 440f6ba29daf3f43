//! `kubernetes`: what a cluster and its pods need. Nothing here asks the server.

mod enable;
mod volume;

use clap::{Args, Subcommand};

use crate::{context::Context, failure::Failure};

#[derive(Args)]
pub(crate) struct Kubernetes {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print, or apply, what a cluster needs so that its pods can log in
    Enable(enable::Enable),
    /// Print the volume that gives a pod the files of a SecretProviderClass
    ///
    /// Reads SecretProviderClasses of the Secrets Store CSI driver, for the provider strongroom or vault, and prints volumes for a
    /// pod. A path of Vault's versioned engine, secret/data/app, becomes secret/app. What has no equal is an error.
    Volume(volume::VolumeArgs),
}

pub(crate) fn run(context: &Context, args: Kubernetes) -> Result<(), Failure> {
    match args.command {
        Command::Enable(args) => enable::run(context, &args),
        Command::Volume(args) => volume::run(context, &args),
    }
}

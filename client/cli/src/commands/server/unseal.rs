//! `unseal` and `seal`: giving the server its keys and taking them away.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::status;
use crate::{
    context::Context,
    failure::Failure,
    input::{content, prompt},
    output::{Format, Presentation},
};

#[derive(Args)]
#[command(after_help = "Example:
  strongroom unseal")]
pub(crate) struct Unseal {
    /// A file with one share on each line, or - for standard input; may be repeated. Without it you are asked for a share
    #[arg(long, value_name = "FILE")]
    share_file: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Seal {
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(context: &Context, args: Unseal) -> Result<(), Failure> {
    let client = context.anonymous().await?;
    let mut status = client.sys().status().await?;
    if status.initialized && !status.sealed {
        return match context.output.format() {
            Format::Table => context.output.line("already unsealed"),
            _ => status::show(&context.output, &status),
        };
    }
    for share in content::shares(&args.share_file)? {
        status = client.sys().unseal(&share).await?;
        if !status.sealed {
            break;
        }
    }
    let progress = match (status.sealed, status.progress, status.threshold) {
        (false, ..) => "unsealed".to_owned(),
        (true, progress, threshold) => format!("{progress} of {threshold} shares given"),
    };
    match context.output.format() {
        Format::Table => context.output.present(Presentation::Text(progress)),
        _ => status::show(&context.output, &status),
    }
}

pub(crate) async fn seal(context: &Context, args: Seal) -> Result<(), Failure> {
    prompt::confirm_loss("Seal the server? Nobody is served until it is unsealed.", args.yes)?;
    context.client().await?.sys().seal().await?;
    context.output.done(&json!({ "sealed": true }), "sealed")
}

//! `unseal` and `seal`: giving the server its keys and taking them away.

use std::path::PathBuf;

use clap::Args;

use super::status;
use crate::{
    context::Context,
    failure::Failure,
    input::content,
    output::{Format, View},
};

#[derive(Args)]
pub(crate) struct Unseal {
    /// A file with one share on each line, - for standard input; may be repeated. Without it a share is asked for
    #[arg(long, value_name = "FILE")]
    share_file: Vec<PathBuf>,
}

pub(crate) async fn run(context: &Context, args: Unseal) -> Result<(), Failure> {
    let client = context.anonymous().await?;
    let mut status = client.sys().status().await?;
    if status.initialized && !status.sealed {
        return context.output.line("unsealed already");
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
        Format::Table => context.output.view(View::Text(progress)),
        _ => status::show(&context.output, &status),
    }
}

pub(crate) async fn seal(context: &Context) -> Result<(), Failure> {
    context.client().await?.sys().seal().await?;
    context.output.line("sealed")
}

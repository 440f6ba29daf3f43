//! `list`: what is in a folder.

use clap::Args;
use strongroom_client::StreamExt;

use crate::{context::Context, failure::Failure};

#[derive(Args)]
pub(crate) struct List {
    /// The folder, such as secret/app
    #[arg(default_value = "secret")]
    folder: String,
    /// All secrets below it, with their whole paths
    #[arg(short, long)]
    recursive: bool,
}

pub(crate) async fn run(context: &Context, args: List) -> Result<(), Failure> {
    let client = context.client().await?;
    // People often write the slash that `list` itself prints.
    let folder = args.folder.strip_suffix('/').unwrap_or(&args.folder);
    let mut names = if args.recursive { client.list_recursive(folder).await? } else { client.list(folder) };
    // As they come: a large folder is not gathered in memory first.
    while let Some(name) = names.next().await {
        let name = name?;
        context.output.item(&name, &name)?;
    }
    Ok(())
}

//! `list`: what is in a folder.

use clap::Args;
use strongroom_client::{StreamExt, TryStreamExt};

use crate::{
    context::Context,
    failure::Failure,
    output::{Format, Presentation},
};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom list secret/apps
  strongroom list --recursive secret")]
pub(crate) struct List {
    /// The folder, such as secret/app
    #[arg(default_value = "secret")]
    folder: String,
    /// List all secrets below the folder, with their full paths
    #[arg(short, long)]
    recursive: bool,
}

pub(crate) async fn run(context: &Context, args: List) -> Result<(), Failure> {
    let client = context.client().await?;
    // People often write the slash that `list` itself prints.
    let folder = args.folder.strip_suffix('/').unwrap_or(&args.folder);
    let mut names = if args.recursive { client.list_recursive(folder).await? } else { client.list(folder) };
    if context.output.format() != Format::Table {
        let names: Vec<String> = names.try_collect().await?;
        return context.output.show(&names, Presentation::Text(String::new()));
    }
    // As they come: a large folder is not gathered in memory first.
    while let Some(name) = names.next().await {
        context.output.line(&name?)?;
    }
    Ok(())
}

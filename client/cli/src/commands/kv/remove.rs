//! `rm`, `undelete`, `destroy`: taking versions away, back, and for good.

use clap::Args;
use serde_json::json;

use super::meta;
use crate::{context::Context, failure::Failure, input::prompt, output::Presentation};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom rm secret/apps/shop/db
  strongroom rm secret/apps/shop/db --versions 2,3")]
pub(crate) struct Delete {
    /// The path of the secret
    path: String,
    /// The versions, such as 1,2; the latest if none is given
    #[arg(long, value_delimiter = ',', value_name = "N,N")]
    versions: Vec<u64>,
}

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom undelete secret/apps/shop/db
  strongroom undelete secret/apps/shop/db --versions 2")]
pub(crate) struct Undelete {
    /// The path of the secret
    path: String,
    /// The versions, such as 1,2; the latest if none is given
    #[arg(long, value_delimiter = ',', value_name = "N,N")]
    versions: Vec<u64>,
}

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom destroy secret/apps/shop/db --versions 1,2
  strongroom destroy secret/apps/shop/db --all")]
pub(crate) struct Destroy {
    /// The path of the secret
    path: String,
    /// The versions, such as 1,2
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "N,N",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    versions: Vec<u64>,
    /// Erase the whole secret with its metadata
    #[arg(long)]
    all: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn delete(context: &Context, args: Delete) -> Result<(), Failure> {
    let metadata = context.client().await?.delete(&args.path, args.versions).await?;
    let text = format!("deleted; strongroom undelete {} brings it back", args.path);
    context.output.show(&meta::structured(&metadata), Presentation::Text(text))
}

pub(crate) async fn undelete(context: &Context, args: Undelete) -> Result<(), Failure> {
    let client = context.client().await?;
    let versions = match args.versions.is_empty() {
        true => vec![client.metadata(&args.path).await?.current_version],
        false => args.versions,
    };
    let metadata = client.undelete(&args.path, versions).await?;
    context.output.show(&meta::structured(&metadata), Presentation::Text("undeleted".into()))
}

pub(crate) async fn destroy(context: &Context, args: Destroy) -> Result<(), Failure> {
    let what = match args.all {
        true => format!("{} with all its versions", args.path),
        false => format!("{:?} of {}", args.versions, args.path),
    };
    prompt::confirm_loss(&format!("Erase {what} for good?"), args.yes)?;
    let client = context.client().await?;
    match args.all {
        true => client.destroy_all(&args.path).await?,
        false => client.destroy(&args.path, args.versions).await?,
    }
    let value = json!({ "path": args.path, "destroyed": true });
    context.output.done(&value, "destroyed")
}

//! `watch`: changes as they happen, one on each line; never values.

use clap::Args;
use serde_json::json;
use strongroom_client::{Change, ChangeKind, StreamExt};

use crate::{context::Context, failure::Failure};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom watch secret/apps/shop
  strongroom watch secret/apps/shop/db -o json")]
pub(crate) struct Watch {
    /// Paths of secrets, or of folders to watch everything below them
    #[arg(required = true)]
    paths: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Watch) -> Result<(), Failure> {
    let client = context.client().await?;
    let mut changes = client.watch(args.paths);
    while let Some(change) = changes.next().await {
        let change = change?;
        let value = json!({ "kind": word(change.kind), "path": change.path, "version": change.version });
        context.output.item(&value, &sentence(&change))?;
    }
    Ok(())
}

fn word(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Started => "started",
        ChangeKind::Written => "written",
        ChangeKind::Deleted => "deleted",
        ChangeKind::Undeleted => "undeleted",
        ChangeKind::Destroyed => "destroyed",
        ChangeKind::Metadata => "metadata",
        ChangeKind::Interrupted => "interrupted",
        ChangeKind::Resync => "resync",
        _ => "other",
    }
}

fn sentence(change: &Change) -> String {
    match (change.kind, change.version) {
        (ChangeKind::Started, _) => "started: every change from now on is shown".into(),
        (ChangeKind::Interrupted, _) => "interrupted: the server cannot be reached; retrying".into(),
        (ChangeKind::Resync, _) => "resync: changes may have been missed".into(),
        (kind, 0) => format!("{:9}  {}", word(kind), change.path),
        (kind, version) => format!("{:9}  {} version {version}", word(kind), change.path),
    }
}

//! `list`: what is in a folder, and with `--long` whether it can be read.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use strongroom_client::{
    Client, Error, ErrorKind, Metadata, ResultStream, StreamExt, TryStreamExt, VersionInfo,
};

use super::meta;
use crate::{
    context::Context,
    failure::Failure,
    output::{Format, Presentation},
};

/// Secrets that are asked about at once: enough that nobody waits for one after the other, and few beside what one caller may
/// have in progress.
const AT_ONCE: usize = 8;

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom list secret/apps
  strongroom list --long secret/apps
  strongroom list --recursive secret")]
pub(crate) struct List {
    /// The folder, such as secret/app
    #[arg(default_value = "secret")]
    folder: String,
    /// List all secrets below the folder, with their full paths
    #[arg(short, long)]
    recursive: bool,
    /// Show the latest version of each secret and whether it can be read, is deleted or has expired. This asks about each secret
    /// by itself, and shows - for those that you may not read
    #[arg(short, long)]
    long: bool,
}

/// A name, and the latest version if it may be known.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) latest: Option<VersionInfo>,
}

pub(crate) async fn run(context: &Context, args: List) -> Result<(), Failure> {
    let client = context.client().await?;
    // People often write the slash that `list` itself prints.
    let folder = args.folder.strip_suffix('/').unwrap_or(&args.folder);
    let mut names = if args.recursive { client.list_recursive(folder).await? } else { client.list(folder) };
    if args.long {
        let within = if args.recursive { String::new() } else { format!("{folder}/") };
        return show_long(context, &look(&client, &within, names).await?);
    }
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

/// Asks about each name that is a secret.
pub(super) async fn look(
    client: &Client,
    within: &str,
    names: ResultStream<String>,
) -> Result<Vec<Entry>, Failure> {
    let looks = names.map(|name| async move {
        let name = name?;
        let latest = match name.ends_with('/') {
            true => None,
            false => latest(client.metadata(&format!("{within}{name}")).await)?,
        };
        Ok(Entry { name, latest })
    });
    looks.buffered(AT_ONCE).try_collect().await
}

/// Whoever may list a secret may not always read it; and one that was there may be gone.
fn latest(answer: Result<Metadata, Error>) -> Result<Option<VersionInfo>, Failure> {
    match answer {
        Ok(metadata) => {
            Ok(metadata.versions.into_iter().find(|version| version.version == metadata.current_version))
        }
        Err(error) if matches!(error.kind(), ErrorKind::Denied { .. }) || error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn show_long(context: &Context, entries: &[Entry]) -> Result<(), Failure> {
    let now = Timestamp::now();
    let rows = entries.iter().map(|entry| row(entry, now)).collect();
    let header = vec!["NAME", "VERSION", "STATE", "WRITTEN", "BY"];
    context.output.show(&structured(entries, now), Presentation::Table(header, rows))
}

fn row(entry: &Entry, now: Timestamp) -> Vec<String> {
    let known = entry.latest.as_ref().map(|latest| {
        let written = format!("{:.0}", latest.created_at);
        [latest.version.to_string(), meta::state(latest, now), written, latest.created_by.clone()]
    });
    let columns = known.unwrap_or_else(|| [(); 4].map(|()| "-".to_owned()));
    std::iter::once(entry.name.clone()).chain(columns).collect()
}

/// As programs see them.
pub(super) fn structured(entries: &[Entry], now: Timestamp) -> Vec<Value> {
    let version = |latest: &VersionInfo| {
        let mut value = meta::version(latest);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("state".into(), json!(meta::word(latest, now)));
        }
        value
    };
    let entry = |entry: &Entry| json!({ "name": entry.name, "latest": entry.latest.as_ref().map(version) });
    entries.iter().map(entry).collect()
}

//! `put`, `patch`, `rollback`: new versions of a secret.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use strongroom_client::{Client, Metadata, SecretBytes};

use super::meta;
use crate::{
    commands::random,
    context::Context,
    failure::Failure,
    input::{
        span,
        values::{self, ValueArgs},
    },
    output::View,
};

#[derive(Args)]
pub(crate) struct Put {
    /// Where, such as secret/app/db
    path: String,
    #[command(flatten)]
    values: ValueArgs,
    #[command(flatten)]
    conditions: Conditions,
}

#[derive(Args)]
pub(crate) struct Patch {
    /// Where, such as secret/app/db
    path: String,
    #[command(flatten)]
    values: ValueArgs,
    /// Leave out this key; may be repeated
    #[arg(long, value_name = "KEY")]
    remove: Vec<String>,
    #[command(flatten)]
    conditions: Conditions,
}

#[derive(Args)]
struct Conditions {
    /// Write only if this is the latest version; 0 = only if there is none
    #[arg(long, value_name = "N")]
    expected_version: Option<u64>,
    /// Make the version unreadable after this time: 90s, 15m, 8h, 30d
    #[arg(long, value_parser = span::parse)]
    ttl: Option<Duration>,
}

#[derive(Args)]
pub(crate) struct Rollback {
    /// Where
    path: String,
    /// The version whose content comes back
    #[arg(long, value_name = "N")]
    to: u64,
}

pub(crate) async fn put(context: &Context, args: Put) -> Result<(), Failure> {
    if args.values.is_empty() {
        return Err(Failure::usage("nothing to write: KEY=@FILE, KEY=-, KEY=, --json or --generate KEY"));
    }
    let client = context.client().await?;
    let mut put = client.put(&args.path).values(all(&client, &args.values).await?);
    if let Some(version) = args.conditions.expected_version {
        put = put.expected_version(version);
    }
    if let Some(ttl) = args.conditions.ttl {
        put = put.ttl(ttl);
    }
    written(context, &args.path, &put.send().await?)
}

pub(crate) async fn patch(context: &Context, args: Patch) -> Result<(), Failure> {
    if args.values.is_empty() && args.remove.is_empty() {
        return Err(Failure::usage(
            "nothing to change: KEY=@FILE, KEY=-, KEY=, --json, --generate KEY or --remove KEY",
        ));
    }
    let client = context.client().await?;
    let mut patch = client.patch(&args.path);
    for (key, value) in all(&client, &args.values).await? {
        if args.remove.contains(&key) {
            return Err(Failure::usage(format!("key {key:?} is both set and removed")));
        }
        patch = patch.set(key, value);
    }
    for key in args.remove {
        patch = patch.remove(key);
    }
    if let Some(version) = args.conditions.expected_version {
        patch = patch.expected_version(version);
    }
    if let Some(ttl) = args.conditions.ttl {
        patch = patch.ttl(ttl);
    }
    written(context, &args.path, &patch.send().await?)
}

pub(crate) async fn rollback(context: &Context, args: Rollback) -> Result<(), Failure> {
    let client = context.client().await?;
    // The current version first: whatever is written between the two reads makes the put fail.
    let current = client.metadata(&args.path).await?.current_version;
    let old = client.get_version(&args.path, args.to).await?;
    let put = client.put(&args.path).values(old.values).expected_version(current);
    written(context, &args.path, &put.send().await?)
}

/// The values that are given, and those that the server makes.
async fn all(client: &Client, args: &ValueArgs) -> Result<BTreeMap<String, SecretBytes>, Failure> {
    let mut all = args.read()?;
    for (key, path) in args.generated() {
        values::insert(&mut all, key, random::generate(client, path, None).await?)?;
    }
    Ok(all)
}

fn written(context: &Context, path: &str, metadata: &Metadata) -> Result<(), Failure> {
    let text = format!("{path} is at version {}", metadata.current_version);
    context.output.show(&meta::structured(metadata), View::Text(text))
}

//! `put`, `patch`, `rollback`: new versions of a secret.

use std::time::Duration;

use clap::Args;
use strongroom_client::{Client, Metadata};

use super::meta;
use crate::{
    commands::random,
    context::Context,
    failure::Failure,
    forms::json::Read,
    input::{
        span,
        values::{self, ValueArgs},
    },
    output::Presentation,
};

#[derive(Args)]
#[command(after_help = "Examples:
  printf %s \"$PASSWORD\" | strongroom put secret/apps/shop/db password=-
  strongroom put secret/apps/shop/db user=@user.txt password=@password.txt
  strongroom put secret/apps/shop/db --generate password --expected-version 0")]
pub(crate) struct Put {
    /// The path of the secret, such as secret/app/db
    path: String,
    #[command(flatten)]
    values: ValueArgs,
    #[command(flatten)]
    conditions: Conditions,
}

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom patch secret/apps/shop/db password=@password.txt
  strongroom patch secret/apps/shop/db --json @changes.json
  strongroom patch secret/apps/shop/db --remove old_password")]
pub(crate) struct Patch {
    /// The path of the secret, such as secret/app/db
    path: String,
    #[command(flatten)]
    values: ValueArgs,
    /// Remove this key; may be repeated
    #[arg(long, value_name = "KEY")]
    remove: Vec<String>,
    #[command(flatten)]
    conditions: Conditions,
}

#[derive(Args)]
pub(super) struct Conditions {
    /// Write only if this is the latest version; 0 means only if the secret does not exist
    #[arg(long, value_name = "N")]
    pub(super) expected_version: Option<u64>,
    /// Make the version unreadable after this time: 90s, 15m, 8h, 30d
    #[arg(long, value_parser = span::parse)]
    pub(super) ttl: Option<Duration>,
}

#[derive(Args)]
#[command(after_help = "Example:
  strongroom rollback secret/apps/shop/db --to 3")]
pub(crate) struct Rollback {
    /// The path of the secret
    path: String,
    /// The version whose content is written again
    #[arg(long, value_name = "N")]
    to: u64,
}

pub(crate) async fn put(context: &Context, args: Put) -> Result<(), Failure> {
    if args.values.is_empty() {
        return Err(Failure::usage(
            "there is nothing to write; give KEY=@FILE, KEY=-, KEY=, --json or --generate KEY",
        ));
    }
    args.values.check()?;
    let client = context.client().await?;
    let mut put = client.put(&args.path).values(all(&client, &args.values, false).await?.values);
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
            "there is nothing to change; give KEY=@FILE, KEY=-, KEY=, --json, --generate KEY or --remove KEY",
        ));
    }
    args.values.check()?;
    let client = context.client().await?;
    let mut patch = client.patch(&args.path);
    let Read { values, mut removed } = all(&client, &args.values, true).await?;
    removed.extend(args.remove);
    for (key, value) in values {
        if removed.contains(&key) {
            return Err(Failure::usage(format!("key {key:?} is both set and removed")));
        }
        patch = patch.set(key, value);
    }
    for key in removed {
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
async fn all(client: &Client, args: &ValueArgs, removes: bool) -> Result<Read, Failure> {
    let mut all = args.read(removes)?;
    for (key, path) in args.generated() {
        values::insert(&mut all.values, key, random::generate(client, path, None).await?)?;
    }
    Ok(all)
}

pub(super) fn written(context: &Context, path: &str, metadata: &Metadata) -> Result<(), Failure> {
    let text = format!("{path} is at version {}", metadata.current_version);
    context.output.show(&meta::structured(metadata), Presentation::Text(text))
}

//! `meta` and `history`: what is known of a secret besides its values.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use strongroom_client::{Metadata, VersionInfo};

use crate::{context::Context, failure::Failure, output::Presentation};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom history secret/apps/shop/db
  strongroom history secret/apps/shop/db -o json")]
pub(crate) struct History {
    /// The path of the secret
    path: String,
}

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom meta secret/apps/shop/db
  strongroom meta secret/apps/shop/db --max-versions 20 --set owner=shop-team")]
pub(crate) struct Meta {
    /// The path of the secret
    path: String,
    /// Set a pair of custom metadata; may be repeated. Metadata is printed openly, so never put a secret value in it
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Remove a pair of custom metadata; may be repeated
    #[arg(long, value_name = "KEY")]
    remove: Vec<String>,
    /// How many versions to keep
    #[arg(long, value_name = "N")]
    max_versions: Option<u32>,
    /// Whether each write must name the version it expects
    #[arg(long, value_name = "BOOL")]
    cas_required: Option<bool>,
}

pub(crate) async fn history(context: &Context, args: History) -> Result<(), Failure> {
    let metadata = context.client().await?.metadata(&args.path).await?;
    let now = Timestamp::now();
    let rows = metadata
        .versions
        .iter()
        .rev()
        .map(|version| {
            vec![
                version.version.to_string(),
                state(version, now),
                format!("{:.0}", version.created_at),
                version.created_by.clone(),
                version.size.to_string(),
            ]
        })
        .collect();
    let header = vec!["VERSION", "STATE", "CREATED", "BY", "BYTES"];
    context.output.show(&structured(&metadata), Presentation::Table(header, rows))
}

pub(crate) async fn run(context: &Context, args: Meta) -> Result<(), Failure> {
    let client = context.client().await?;
    let changes_pairs = !args.set.is_empty() || !args.remove.is_empty();
    let changes = changes_pairs || args.max_versions.is_some() || args.cas_required.is_some();
    if !changes {
        return show(context, &client.metadata(&args.path).await?);
    }
    let mut update = client.update_metadata(&args.path);
    if changes_pairs {
        let mut custom = client.metadata(&args.path).await?.custom;
        for key in &args.remove {
            custom.remove(key);
        }
        for pair in &args.set {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| Failure::usage("--set expects KEY=VALUE"))?;
            custom.insert(key.to_owned(), value.to_owned());
        }
        update = update.custom(custom);
    }
    if let Some(count) = args.max_versions {
        update = update.max_versions(count);
    }
    if let Some(required) = args.cas_required {
        update = update.cas_required(required);
    }
    show(context, &update.send().await?)
}

fn show(context: &Context, metadata: &Metadata) -> Result<(), Failure> {
    let custom: Vec<_> = metadata.custom.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let pairs = vec![
        ("path", metadata.path.clone()),
        ("version", metadata.current_version.to_string()),
        ("kept", format!("{} to {}", metadata.oldest_version, metadata.current_version)),
        ("max versions", metadata.max_versions.to_string()),
        ("cas required", metadata.cas_required.to_string()),
        ("custom", custom.join(", ")),
        ("created", format!("{:.0} by {}", metadata.created_at, metadata.created_by)),
        ("updated", format!("{:.0} by {}", metadata.updated_at, metadata.updated_by)),
    ];
    context.output.show(&structured(metadata), Presentation::Pairs(pairs))
}

/// What can be done with it, and since or until when.
pub(super) fn state(version: &VersionInfo, now: Timestamp) -> String {
    match (word(version, now), version.deleted_at, version.expires_at) {
        (word @ "deleted", Some(time), _) | (word @ "expired", _, Some(time)) => format!("{word} {time:.0}"),
        ("readable", _, Some(time)) => format!("until {time:.0}"),
        (word, ..) => word.to_owned(),
    }
}

/// What can be done with it.
pub(super) fn word(version: &VersionInfo, now: Timestamp) -> &'static str {
    match version {
        VersionInfo { destroyed: true, .. } => "destroyed",
        VersionInfo { deleted_at: Some(_), .. } => "deleted",
        VersionInfo { expires_at: Some(time), .. } if *time <= now => "expired",
        _ => "readable",
    }
}

/// A version, as programs see it.
pub(super) fn version(version: &VersionInfo) -> Value {
    let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
    json!({
        "version": version.version,
        "created_at": version.created_at.to_string(),
        "created_by": version.created_by,
        "deleted_at": text(version.deleted_at),
        "destroyed": version.destroyed,
        "expires_at": text(version.expires_at),
        "size": version.size,
    })
}

pub(crate) fn structured(metadata: &Metadata) -> Value {
    let versions: Vec<_> = metadata.versions.iter().map(version).collect();
    json!({
        "path": metadata.path,
        "version": metadata.current_version,
        "oldest_version": metadata.oldest_version,
        "max_versions": metadata.max_versions,
        "cas_required": metadata.cas_required,
        "custom": metadata.custom,
        "created_at": metadata.created_at.to_string(),
        "created_by": metadata.created_by,
        "updated_at": metadata.updated_at.to_string(),
        "updated_by": metadata.updated_by,
        "versions": versions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_one_state() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut version = VersionInfo::new(1, at(0));
        assert_eq!(state(&version, at(9)), "readable");
        version.expires_at = Some(at(5));
        assert!(state(&version, at(5)).starts_with("expired"));
        assert!(state(&version, at(4)).starts_with("until"));
        version.deleted_at = Some(at(3));
        assert!(state(&version, at(9)).starts_with("deleted"));
        version.destroyed = true;
        assert_eq!(state(&version, at(9)), "destroyed");
    }
}

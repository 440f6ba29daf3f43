//! `mount`: which engines are where.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom_client::MountState;

use crate::{context::Context, failure::Failure, output::Presentation};

#[derive(Args)]
pub(crate) struct Mount {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Mount an engine under a name, or mount again what was unmounted there
    Add {
        /// The name of the mount: the first segment of all its paths
        name: String,
        /// The kind of the engine: kv, random, transit or database
        #[arg(long)]
        kind: String,
        /// A description for people, on one line
        #[arg(long, default_value = "")]
        description: String,
        /// A setting of the engine, KEY=VALUE; may be repeated
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
    },
    /// Unmount an engine; its data is kept until it is added again
    Remove {
        /// The name of the mount
        name: String,
        /// Repeat the name here to also destroy the data, for good
        #[arg(long, value_name = "NAME")]
        destroy_data: Option<String>,
    },
    /// Change the description or the settings of a mount
    Tune {
        /// The name of the mount
        name: String,
        /// A description for people, on one line
        #[arg(long)]
        description: Option<String>,
        /// A setting of the engine, KEY=VALUE; may be repeated. Settings that are not given return to their defaults
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
        /// Return all settings to their defaults
        #[arg(long, conflicts_with = "settings")]
        reset: bool,
    },
    /// List all mounts, including unmounted ones whose data is still there
    List,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    split.ok_or_else(|| "expected KEY=VALUE".to_owned())
}

pub(crate) async fn run(context: &Context, args: Mount) -> Result<(), Failure> {
    let client = context.client().await?;
    let sys = client.sys();
    match args.command {
        Command::Add { name, kind, description, settings } => {
            sys.mount(&name, &kind, &description, settings.into_iter().collect()).await?;
            context.output.done(
                &json!({ "name": name, "kind": kind, "state": "mounted" }),
                &format!("{name}/ is mounted; its engine is {kind}"),
            )
        }
        Command::Remove { name, destroy_data: None } => {
            sys.unmount(&name).await?;
            context.output.done(
                &json!({ "name": name, "state": "away" }),
                &format!("{name}/ is unmounted; its data is kept"),
            )
        }
        Command::Remove { name, destroy_data: Some(again) } if again == name => {
            sys.destroy_mount(&name).await?;
            context
                .output
                .done(&json!({ "name": name, "state": "gone" }), &format!("{name}/ and its data are gone"))
        }
        Command::Remove { .. } => {
            Err(Failure::usage("--destroy-data must repeat the name of the mount; nothing was done"))
        }
        Command::Tune { name, description, settings, reset } => {
            let given: BTreeMap<String, String> = settings.into_iter().collect();
            let settings = (reset || !given.is_empty()).then_some(given);
            sys.tune(&name, description, settings).await?;
            context.output.done(&json!({ "name": name, "state": "mounted" }), &format!("{name}/ is changed"))
        }
        Command::List => {
            let mounts = sys.mounts().await?;
            let value: Vec<_> = mounts
                .iter()
                .map(|mount| {
                    json!({
                        "name": mount.name, "kind": mount.kind, "state": state(mount.state),
                        "description": mount.description, "settings": mount.settings,
                    })
                })
                .collect();
            let rows = mounts.into_iter().map(|mount| {
                let state = state(mount.state).to_owned();
                let settings = mount.settings.iter().map(|(key, value)| format!("{key}={value}"));
                let settings = settings.collect::<Vec<_>>().join(" ");
                vec![format!("{}/", mount.name), mount.kind, state, settings, mount.description]
            });
            let header = vec!["MOUNT", "KIND", "STATE", "SETTINGS", "DESCRIPTION"];
            context.output.show(&value, Presentation::Table(header, rows.collect()))
        }
    }
}

fn state(state: MountState) -> &'static str {
    match state {
        MountState::Mounted => "mounted",
        MountState::Away => "away",
        MountState::Destroying => "being destroyed",
        _ => "unknown",
    }
}

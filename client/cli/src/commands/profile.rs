//! `profile`: the servers that this person knows.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{context::Context, failure::Failure, output::Presentation};

#[derive(Args)]
pub(crate) struct Profile {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the profiles, and say which one is used
    List,
    /// Make a profile the one that is used where none is named
    #[command(after_help = "Example:\n  strongroom profile use production")]
    Use {
        /// The name of the profile
        name: String,
    },
}

pub(crate) fn run(context: &Context, args: Profile) -> Result<(), Failure> {
    match args.command {
        Command::List => list(context),
        Command::Use { name } => {
            context.profile.make_default(&name)?;
            if context.profile.is_named() {
                let used = &context.profile.name;
                context.output.note(&format!(
                    "warning: STRONGROOM_PROFILE or --profile names {used}, and goes before it"
                ));
            }
            context
                .output
                .done(&json!({ "default": name }), &format!("{name} is the profile where none is named"))
        }
    }
}

fn list(context: &Context) -> Result<(), Failure> {
    let known = context.profile.known()?;
    let used = |name: &str| name == context.profile.name;
    let value: Vec<_> = known
        .iter()
        .map(|one| json!({ "name": one.name, "address": one.address, "logged_in": one.has_token, "used": used(&one.name) }))
        .collect();
    let rows = known
        .iter()
        .map(|one| {
            let mark = |so: bool| if so { "yes" } else { "" }.to_owned();
            let address = one.address.clone().unwrap_or_default();
            vec![one.name.clone(), address, mark(one.has_token), mark(used(&one.name))]
        })
        .collect();
    context.output.show(&value, Presentation::Table(vec!["NAME", "ADDRESS", "TOKEN", "USED"], rows))
}

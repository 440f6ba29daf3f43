//! `user`: the users of the userpass method; `passwd.rs` is for what they do themselves.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use serde_json::json;

use super::passwd;
use crate::{
    context::Context,
    failure::Failure,
    input::{content, prompt},
    output::Presentation,
};

#[derive(Args)]
pub(crate) struct User {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create a user, or set the password and groups of an existing one; revokes all sessions of the user
    Put(Put),
    /// Delete a user and revoke all sessions of the user
    Delete {
        /// The name of the user
        name: String,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// Change your own password; your other sessions end
    Passwd(passwd::Passwd),
    /// List all users
    List,
}

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom user put alice --group shop
  strongroom user put alice --keep-password --no-groups")]
struct Put {
    /// The name of the user
    name: String,
    /// A group of the user; may be repeated. The given groups replace all current ones; without any they stay as they are
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// Take the user out of all groups
    #[arg(long, conflicts_with = "groups")]
    no_groups: bool,
    /// A file with the password, or - for standard input; without it you are asked for the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Leave the password as it is
    #[arg(long, conflicts_with = "password_file")]
    keep_password: bool,
}

pub(crate) async fn run(context: &Context, args: User) -> Result<(), Failure> {
    let client = context.client().await?;
    match args.command {
        Command::Put(put) => {
            let password = match &put.password_file {
                _ if put.keep_password => None,
                Some(file) => Some(content::word(file)?),
                None if io::stdin().is_terminal() => Some(prompt::new_password()?),
                None => return Err(prompt::nobody_to_ask("--password-file")),
            };
            let groups = (put.no_groups || !put.groups.is_empty()).then_some(put.groups);
            client.auth().put_user(&put.name, password.as_ref(), groups).await?;
            context.output.done(&json!({ "name": put.name }), &format!("user {} is set", put.name))
        }
        Command::Delete { name, yes } => {
            prompt::confirm_loss(&format!("Delete the user {name} and end all of their sessions?"), yes)?;
            client.auth().delete_user(&name).await?;
            context.output.done(&json!({ "name": name, "deleted": true }), &format!("user {name} is deleted"))
        }
        Command::Passwd(args) => passwd::run(context, &client, args).await,
        Command::List => {
            let users = client.auth().list_users().await?;
            let value: Vec<_> = users
                .iter()
                .map(|user| json!({ "name": user.name, "groups": user.groups, "created_at": user.created_at.to_string() }))
                .collect();
            let rows = users
                .into_iter()
                .map(|user| vec![user.name, user.groups.join(", "), format!("{:.0}", user.created_at)])
                .collect();
            context.output.show(&value, Presentation::Table(vec!["NAME", "GROUPS", "CREATED"], rows))
        }
    }
}

//! `user`: the users of the userpass method.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    context::Context,
    failure::Failure,
    input::{content, prompt},
    output::View,
};

#[derive(Args)]
pub(crate) struct User {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a user, or set password and groups of one; revokes all sessions of the user
    Put(Put),
    /// Delete a user and revoke all sessions of the user
    Delete {
        /// The name
        name: String,
    },
    /// List all users
    List,
}

#[derive(Args)]
struct Put {
    /// The name
    name: String,
    /// A group; may be repeated. Replaces all groups
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// A file with the password, - for standard input; without it the password is asked for
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
                None => {
                    return Err(Failure::usage(
                        "nobody can be asked for the password: --password-file FILE, or -",
                    ));
                }
            };
            client.auth().put_user(&put.name, password.as_ref(), put.groups).await?;
            context.output.line(&format!("user {} is set", put.name))
        }
        Command::Delete { name } => {
            client.auth().delete_user(&name).await?;
            context.output.line(&format!("user {name} is deleted"))
        }
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
            context.output.show(&value, View::Table(vec!["NAME", "GROUPS", "CREATED"], rows))
        }
    }
}

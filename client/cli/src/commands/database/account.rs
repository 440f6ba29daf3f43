//! `database account`: users that were there before, whose passwords the server keeps and changes.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom_client::{Client, DatabaseAccount, StreamExt, TryStreamExt};

use crate::{
    failure::Failure,
    input::{prompt, span},
    output::{Output, Presentation},
};

#[derive(Args)]
pub(super) struct Account {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take over the password of a user that exists; it is changed at once
    ///
    /// For a user that was taken over before, only --rotate-every becomes another.
    #[command(after_help = "Examples:
  strongroom database account put database/legacy --user legacy_app
  strongroom database account put database/legacy --user legacy_app --rotate-every 7d")]
    Put {
        /// The path of the account: MOUNT/NAME
        path: String,
        /// The user of the database
        #[arg(long, value_name = "NAME")]
        user: String,
        /// How often its password changes by itself, a minute at least; never: only when somebody says so
        #[arg(long, value_name = "TIME", default_value = "never", value_parser = span::or_never)]
        rotate_every: Duration,
    },
    /// Show an account, without its password
    Show {
        /// The path of the account
        path: String,
    },
    /// List the accounts below a folder or in a mount
    List {
        /// A mount, or a folder of it
        #[arg(default_value = "database")]
        folder: String,
    },
    /// Give an account a new password
    Rotate {
        /// The path of the account
        path: String,
    },
    /// Forget an account and its password; the user stays as it is
    Delete {
        /// The path of the account
        path: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

pub(super) async fn run(output: &Output, client: &Client, args: Account) -> Result<(), Failure> {
    let database = client.database();
    match args.command {
        Command::Put { path, user, rotate_every } => {
            show(output, &database.put_account(&path, &user, Some(rotate_every)).await?)
        }
        Command::Show { path } => show(output, &database.account(&path).await?),
        Command::Rotate { path } => show(output, &database.rotate_account(&path).await?),
        Command::List { folder } => {
            let accounts: Vec<String> = database.accounts(folder).boxed().try_collect().await?;
            let rows = accounts.iter().map(|account| vec![account.clone()]).collect();
            output.show(&accounts, Presentation::Table(vec!["ACCOUNT"], rows))
        }
        Command::Delete { path, yes } => {
            prompt::confirm_loss(&format!("Forget the password of {path}?"), yes)?;
            database.delete_account(&path).await?;
            output.done(&json!({ "path": path, "deleted": true }), &format!("account {path} is deleted"))
        }
    }
}

fn show(output: &Output, account: &DatabaseAccount) -> Result<(), Failure> {
    let rotated = account.rotated_at.map(|at| format!("{at:.0}"));
    let period = account.rotation_period.map(|period| period.as_secs());
    let value = json!({
        "path": account.path, "user": account.user, "rotated_at": rotated, "rotation_period_seconds": period,
    });
    output.show(
        &value,
        Presentation::Pairs(vec![
            ("path", account.path.clone()),
            ("user", account.user.clone()),
            ("rotated", rotated.unwrap_or_else(|| "not for certain; rotate it again".to_owned())),
            ("rotates", span::every(account.rotation_period)),
        ]),
    )
}

//! `database role`: how users are made, renewed and revoked.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use strongroom_client::{Client, DatabaseRole, StreamExt, TryStreamExt};

use crate::{
    failure::Failure,
    input::{prompt, span},
    output::{Output, Presentation},
};

#[derive(Args)]
pub(super) struct Role {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a role; the SQL has {{name}}, {{password}} and {{expires}} without quotes around them
    #[command(after_help = "Example:
  strongroom database role put database/reporting --ttl 1h --max-ttl 24h \\
    --creation 'CREATE ROLE {{name}} LOGIN PASSWORD {{password}} IN ROLE reader'")]
    Put {
        /// The path of the role: MOUNT/NAME
        path: String,
        /// SQL that makes a user; may be repeated, and all of it is one transaction
        #[arg(long, value_name = "SQL", required = true)]
        creation: Vec<String>,
        /// SQL that follows when a user lives longer; may be repeated
        #[arg(long, value_name = "SQL")]
        renewal: Vec<String>,
        /// SQL that ends a user, instead of dropping it with what it owns; may be repeated
        #[arg(long, value_name = "SQL")]
        revocation: Vec<String>,
        /// How long a user lives unless it is renewed [default: 1h]
        #[arg(long, value_parser = span::parse)]
        ttl: Option<Duration>,
        /// How long it may live [default: 24h]
        #[arg(long, value_parser = span::parse)]
        max_ttl: Option<Duration>,
    },
    /// Show a role
    Show {
        /// The path of the role
        path: String,
    },
    /// List the roles below a folder or in a mount
    List {
        /// A mount, or a folder of it
        #[arg(default_value = "database")]
        folder: String,
    },
    /// Forget a role; users that it made live on until their leases end
    Delete {
        /// The path of the role
        path: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

pub(super) async fn run(output: &Output, client: &Client, args: Role) -> Result<(), Failure> {
    let database = client.database();
    match args.command {
        Command::Put { path, creation, renewal, revocation, ttl, max_ttl } => {
            let mut put = database.put_role(path, creation).renewal(renewal).revocation(revocation);
            if let Some(ttl) = ttl {
                put = put.ttl(ttl);
            }
            if let Some(ttl) = max_ttl {
                put = put.max_ttl(ttl);
            }
            show(output, &put.send().await?)
        }
        Command::Show { path } => show(output, &database.role(&path).await?),
        Command::List { folder } => {
            let roles: Vec<String> = database.roles(folder).boxed().try_collect().await?;
            let rows = roles.iter().map(|role| vec![role.clone()]).collect();
            output.show(&roles, Presentation::Table(vec!["ROLE"], rows))
        }
        Command::Delete { path, yes } => {
            prompt::confirm_loss(&format!("Forget the role {path}?"), yes)?;
            database.delete_role(&path).await?;
            output.done(&json!({ "path": path, "deleted": true }), &format!("role {path} is deleted"))
        }
    }
}

fn show(output: &Output, role: &DatabaseRole) -> Result<(), Failure> {
    let value: Value = json!({
        "path": role.path, "creation": role.creation, "renewal": role.renewal, "revocation": role.revocation,
        "ttl_seconds": role.ttl.as_secs(), "max_ttl_seconds": role.max_ttl.as_secs(),
    });
    let or = |statements: &[String], nothing: &str| match statements {
        [] => nothing.to_owned(),
        statements => statements.join("; "),
    };
    output.show(
        &value,
        Presentation::Pairs(vec![
            ("path", role.path.clone()),
            ("creation", role.creation.join("; ")),
            ("renewal", or(&role.renewal, "nothing more than VALID UNTIL")),
            ("revocation", or(&role.revocation, "dropped, with what it owns")),
            ("lives", format!("{} s, at most {} s", role.ttl.as_secs(), role.max_ttl.as_secs())),
        ]),
    )
}

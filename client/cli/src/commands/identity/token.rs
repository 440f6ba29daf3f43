//! `token`: the token itself, and the sessions of others.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use strongroom_client::Sessions;

use super::session::{structured, until};
use crate::{context::Context, failure::Failure, output::View};

#[derive(Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the token: whoever has it is you
    Show,
    /// Give the session more time
    Renew,
    /// Revoke sessions: of a session id, a principal, a method, or a pod
    Revoke(Revoke),
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Revoke {
    /// The session with this id (see whoami and the audit log)
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// All sessions of a principal, such as userpass/alice
    #[arg(long)]
    principal: Option<String>,
    /// All sessions of an auth method
    #[arg(long)]
    method: Option<String>,
    /// All sessions of the pod with this uid
    #[arg(long, value_name = "UID")]
    pod: Option<String>,
}

pub(crate) async fn run(context: &Context, args: Token) -> Result<(), Failure> {
    match args.command {
        Command::Show => {
            let token = context.token()?.ok_or(Failure::NotLoggedIn)?;
            context.output.raw(token.expose())?;
            context.output.raw(b"\n")
        }
        Command::Renew => {
            let login = context.client().await?.auth().renew().await?;
            context.profile.save_token(&login.token)?;
            let text = format!("renewed until {}", until(login.session.expires_at, Timestamp::now()));
            context.output.show(&structured(&login.session), View::Text(text))
        }
        Command::Revoke(which) => {
            context.client().await?.auth().revoke_sessions(which.sessions()?).await?;
            context.output.line("revoked")
        }
    }
}

impl Revoke {
    fn sessions(self) -> Result<Sessions, Failure> {
        match (self.session, self.principal, self.method, self.pod) {
            (Some(id), ..) => Ok(Sessions::Id(id)),
            (_, Some(principal), ..) => Ok(Sessions::Principal(principal)),
            (_, _, Some(method), _) => Ok(Sessions::Method(method)),
            (.., Some(uid)) => Ok(Sessions::Pod(uid)),
            _ => Err(Failure::usage("which sessions? --session, --principal, --method or --pod")),
        }
    }
}

//! `token`: the token itself, and the sessions of others.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use strongroom_client::Sessions;

use super::session::{structured, until};
use crate::{
    context::Context,
    failure::Failure,
    forms::json::JsonValue,
    input::prompt,
    output::{Format, Presentation},
};

#[derive(Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the token; whoever has it can act as you
    Show,
    /// Extend the session
    Renew,
    /// Revoke sessions by session id, principal, auth method or pod
    Revoke(Revoke),
}

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom token revoke --principal userpass/alice
  strongroom token revoke --session 0123456789abcdef0123456789abcdef")]
struct Revoke {
    #[command(flatten)]
    which: Which,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Which {
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

/// The token, as programs see it.
#[derive(Serialize)]
struct Shown<'a> {
    token: JsonValue<'a>,
}

pub(crate) async fn run(context: &Context, args: Token) -> Result<(), Failure> {
    match args.command {
        Command::Show => {
            let token = context.token()?;
            if context.output.format() != Format::Table {
                let shown = JsonValue(&token);
                return context.output.show(&Shown { token: shown }, Presentation::Text(String::new()));
            }
            context.output.raw(token.expose())?;
            context.output.raw(b"\n")
        }
        Command::Renew => {
            let source = context.token_source();
            source.check_replaceable()?;
            let login = context.client().await?.auth().renew().await?;
            source.replace(&context.profile, &login.token, &context.address())?;
            let text = format!("renewed until {}", until(login.session.expires_at, Timestamp::now()));
            context.output.show(&structured(&login.session), Presentation::Text(text))
        }
        Command::Revoke(Revoke { which, yes }) => {
            prompt::confirm_loss(&format!("End {}?", which.describe()), yes)?;
            context.client().await?.auth().revoke_sessions(which.sessions()?).await?;
            context.output.done(&json!({ "revoked": true }), "revoked")
        }
    }
}

impl Which {
    fn describe(&self) -> String {
        match (&self.session, &self.principal, &self.method, &self.pod) {
            (Some(id), ..) => format!("the session {id}"),
            (_, Some(principal), ..) => format!("all sessions of {principal}"),
            (_, _, Some(method), _) => format!("all sessions of everybody who logged in by {method}"),
            (.., pod) => format!("all sessions of the pod {}", pod.as_deref().unwrap_or_default()),
        }
    }

    fn sessions(self) -> Result<Sessions, Failure> {
        match (self.session, self.principal, self.method, self.pod) {
            (Some(id), ..) => Ok(Sessions::Id(id)),
            (_, Some(principal), ..) => Ok(Sessions::Principal(principal)),
            (_, _, Some(method), _) => Ok(Sessions::Method(method)),
            (.., Some(uid)) => Ok(Sessions::Pod(uid)),
            _ => Err(Failure::usage("say which sessions with --session, --principal, --method or --pod")),
        }
    }
}

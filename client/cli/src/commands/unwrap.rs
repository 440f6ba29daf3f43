//! `unwrap`: opens what somebody wrapped. How it is wrapped stands with the commands that would show it.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;
use strongroom_client::{Content, SecretBytes, Unwrapped, Wrapped};

use super::{
    database::{show_password, show_user},
    kv::read,
};
use crate::{
    context::Context,
    failure::Failure,
    forms::json::JsonValue,
    input::{content, prompt},
    output::{Format, Output, Presentation},
};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom get secret/apps/shop/db --wrap 10m > token
  strongroom unwrap --token-file token -o json")]
pub(crate) struct Unwrap {
    /// A file with the token, or - for standard input; without it you are asked for the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Show what was wrapped on a terminal
    #[arg(long)]
    show: bool,
}

/// A token, as programs see it.
#[derive(Serialize)]
struct Token<'a> {
    token: JsonValue<'a>,
    id: &'a str,
    expires_at: String,
}

/// An answer that this program has no form for.
#[derive(Serialize)]
struct Message<'a> {
    operation: &'a str,
    message: JsonValue<'a>,
}

pub(crate) async fn run(context: &Context, args: Unwrap) -> Result<(), Failure> {
    let output = &context.output;
    // Before it is opened: there is no second time.
    output.check_consent(args.show)?;
    if !output.is_terminal() && output.format() == Format::Table {
        return Err(Failure::usage("standard output is not a terminal: choose -o json or yaml"));
    }
    let token = match &args.token_file {
        Some(file) => content::word(file)?,
        None if io::stdin().is_terminal() => prompt::hidden("Token")?,
        None => content::word(Path::new("-"))?,
    };
    let Unwrapped { path, wrapped_by, wrapped_at, content, .. } =
        context.anonymous().await?.unwrap(&token).await?;
    crate::output::complain(&format!("{path}, wrapped by {wrapped_by} at {wrapped_at:.0}"));
    match &content {
        Content::Secret(secret) => output.show(&read::shown(secret, true), read::table(secret, true)),
        Content::DatabaseUser(user) => show_user(output, user),
        Content::DatabasePassword(password) => show_password(output, password),
        Content::Other { operation, message } => show_message(output, operation, message),
        _ => Err(Failure::usage("this is something that a later version of strongroom shows")),
    }
}

/// Wrapped by a program, for a program.
fn show_message(output: &Output, operation: &str, message: &SecretBytes) -> Result<(), Failure> {
    let value = Message { operation, message: JsonValue(message) };
    output.show(&value, Presentation::Pairs(vec![("answer of", operation.to_owned())]))
}

/// The token alone, to be handed on; the rest is for programs.
pub(crate) fn show_token(output: &Output, wrapped: &Wrapped) -> Result<(), Failure> {
    let expires_at = format!("{:.0}", wrapped.expires_at);
    match output.format() {
        Format::Table => output.value(wrapped.token.expose()),
        _ => {
            let token = Token { token: JsonValue(&wrapped.token), id: &wrapped.id, expires_at };
            output.show(&token, Presentation::Text(String::new()))
        }
    }
}

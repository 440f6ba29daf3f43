//! `user passwd`: one's own password, which takes the current one and no right.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use clap::Args;
use strongroom_client::{Client, Error, ErrorKind, Reason};

use super::session::structured;
use crate::{
    context::Context,
    failure::Failure,
    input::{content, prompt},
    output::Presentation,
};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom user passwd
  strongroom user passwd --current-password-file old --new-password-file -")]
pub(crate) struct Passwd {
    /// A file with the current password, or - for standard input; without it you are asked for it
    #[arg(long, value_name = "FILE")]
    current_password_file: Option<PathBuf>,
    /// A file with the new password, or - for standard input; without it you are asked for it
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, client: &Client, args: Passwd) -> Result<(), Failure> {
    let (current, new) = (args.current_password_file.as_deref(), args.new_password_file.as_deref());
    let stdin = Some(Path::new("-"));
    if current == stdin && new == stdin {
        return Err(Failure::usage("only one of the two passwords can come from standard input"));
    }
    let source = context.token_source();
    source.check_replaceable()?;
    // Said before anybody types a password.
    let session = client.auth().whoami().await?.session;
    if session.method != "userpass" {
        let sentence = format!("you are logged in as {}, who has no password", session.principal);
        return Err(Failure::usage(sentence));
    }
    let current = match current {
        Some(file) => content::word(file)?,
        None if io::stdin().is_terminal() => {
            prompt::hidden(&format!("Current password of {}", session.principal))?
        }
        None => return Err(prompt::nobody_to_ask("--current-password-file")),
    };
    let new = match new {
        Some(file) => content::word(file)?,
        None if io::stdin().is_terminal() => prompt::new_password()?,
        None => return Err(prompt::nobody_to_ask("--new-password-file")),
    };
    let login = client.auth().change_password(&current, &new).await.map_err(refused)?;
    source.replace(&context.profile, &login.token, &context.address())?;
    let text = format!("the password of {} is changed; other sessions have ended", login.session.principal);
    context.output.show(&structured(&login.session), Presentation::Text(text))
}

/// Who is logged in is told what the two that a login wants would not be: which of them is wrong.
fn refused(error: Error) -> Failure {
    match error.kind() {
        ErrorKind::Unauthenticated(Reason::LoginRejected) => Failure::WrongPassword,
        _ => error.into(),
    }
}

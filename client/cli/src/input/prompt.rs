//! What only a person can say: secrets typed without echo, and whether to continue.

use std::io::{self, BufRead, IsTerminal, Write};

use strongroom_client::SecretBytes;

use crate::failure::Failure;

/// Asks on the terminal without echo.
pub(crate) fn hidden(question: &str) -> Result<SecretBytes, Failure> {
    rpassword::prompt_password(format!("{question}: ")).map(SecretBytes::from).map_err(|error| {
        Failure::local("cannot ask on the terminal (use a file or - for standard input)", error)
    })
}

/// Asks twice and wants the same answer.
pub(crate) fn new_password() -> Result<SecretBytes, Failure> {
    let (first, second) = (hidden("New password")?, hidden("Once more")?);
    if first.expose() != second.expose() {
        return Err(Failure::usage("the two passwords differ"));
    }
    Ok(first)
}

/// Where there is no terminal to ask for a password on.
pub(crate) fn nobody_to_ask(option: &str) -> Failure {
    Failure::usage(format!(
        "there is no terminal to ask for the password on; use {option} FILE, or - for standard input"
    ))
}

/// y or n; anything else is n.
pub(crate) fn confirm(question: &str) -> Result<bool, Failure> {
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Asks before something that cannot be undone; where nobody can be asked, only `--yes` will do.
pub(crate) fn confirm_loss(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "this cannot be undone and there is no terminal to confirm it on; add --yes",
        ));
    }
    if confirm(question)? { Ok(()) } else { Err(Failure::No) }
}

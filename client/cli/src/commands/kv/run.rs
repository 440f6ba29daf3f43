//! `run`: a program with the values of secrets in its environment. It takes the place of this process, so that signals and its
//! exit code are its own.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::{ffi::OsStrExt, process::CommandExt},
    process::Command,
};

use clap::Args;
use strongroom_client::SecretBytes;

use crate::{context::Context, failure::Failure, forms::environment::is_variable};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom run secret/apps/shop/env -- ./server --port 8080
  strongroom run secret/apps/shop/db --prefix DB_ -- sh -c 'psql -U \"$DB_user\"'")]
pub(crate) struct Run {
    /// The secrets; each key becomes a variable
    #[arg(required = true)]
    paths: Vec<String>,
    /// What to put before the name of each key
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// The program and its arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) async fn run(context: &Context, args: Run) -> Result<(), Failure> {
    let client = context.client().await?;
    let mut variables = BTreeMap::new();
    for path in &args.paths {
        for (key, value) in client.get(path).await?.values {
            let name = format!("{}{key}", args.prefix);
            check(path, &name, &value)?;
            if variables.insert(name.clone(), value).is_some() {
                return Err(Failure::usage(format!(
                    "two of the secrets have a value for the variable {name}"
                )));
            }
        }
    }
    let Some((program, arguments)) = args.command.split_first() else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, value) in &variables {
        command.env(name, OsStr::from_bytes(value.expose()));
    }
    // It comes back only if the program cannot be started.
    Err(Failure::local(program.to_string_lossy(), command.exec()))
}

/// What tells a shell or a runtime to run or load something of its own, beside `PATH` and what begins with `LD_` and `DYLD_`.
const LOADERS: [&str; 12] = [
    "BASH_ENV",
    "ENV",
    "GIT_SSH_COMMAND",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "NODE_OPTIONS",
    "PERL5LIB",
    "PERL5OPT",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYLIB",
    "RUBYOPT",
];

/// Whoever may write a secret must not choose the programs of whoever reads it: the well-known ways are closed.
fn check(path: &str, name: &str, value: &SecretBytes) -> Result<(), Failure> {
    let problem = match name {
        _ if !is_variable(name) => "cannot be the name of an environment variable: A-Z a-z 0-9 _",
        "PATH" => "would change which programs run; use --prefix",
        _ if name.starts_with("LD_") || name.starts_with("DYLD_") || LOADERS.contains(&name) => {
            "would change what programs load; use --prefix"
        }
        _ if value.expose().contains(&0) => "has a zero byte, which no environment variable can have",
        _ => return Ok(()),
    };
    Err(Failure::usage(format!("{path}: {name:?} {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_that_are_harmless_are_set() {
        let told = |name: &str, value: &[u8]| {
            check("secret/a", name, &SecretBytes::from(value)).err().map(|e| e.to_string())
        };
        assert_eq!(told("API_KEY", b"\xff"), None);
        for name in ["api-key", "a.b", "1a", "", "PATH", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "BASH_ENV"] {
            let sentence = told(name, b"x").unwrap();
            assert!(sentence.starts_with("secret/a: ") && sentence.contains(name), "{sentence}");
        }
        assert!(told("A", b"a\0b").unwrap().contains("zero byte"));
    }
}

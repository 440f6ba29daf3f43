//! `database`: users of a PostgreSQL server that end by themselves. How they are made is in `role.rs`, users that stay in
//! `account.rs`.

mod account;
mod role;

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};
use strongroom_client::{DatabaseConfiguration, DatabasePassword, DatabaseUser, SecretBytes};

use crate::{
    commands::unwrap,
    context::Context,
    failure::Failure,
    forms::json::JsonValue,
    input::{content, prompt, span},
    output::{Format, Output, Presentation},
};

#[derive(Args)]
pub(crate) struct Database {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say where the database of a mount is, and as which user to work there; it is tried out first
    #[command(after_help = "Examples:
  strongroom database configure db --host db.example --user strongroom --ca-file ca.pem --password-file -
  strongroom database configure db --host /var/run/postgresql --user strongroom --plaintext")]
    Configure(Configure),
    /// Show what was configured, without the password
    Show {
        /// The mount
        #[arg(default_value = "database")]
        mount: String,
    },
    /// Give the user that the server works as a new password, which nobody else knows
    RotateRoot {
        /// The mount
        #[arg(default_value = "database")]
        mount: String,
    },
    /// Manage roles, which say how users are made
    Role(role::Role),
    /// Manage accounts, which are users that stay and whose passwords the server changes
    Account(account::Account),
    /// Have a user made, which lives as long as its lease
    #[command(after_help = "Examples:
  strongroom database issue database/reporting --show
  strongroom database issue database/reporting --ttl 15m -o json > user.json")]
    Issue {
        /// The path of the role
        path: String,
        /// How long it lives unless it is renewed: 15m, 8h [default: as long as the role says]
        #[arg(long, value_parser = span::parse)]
        ttl: Option<Duration>,
        /// Show the password on a terminal
        #[arg(long)]
        show: bool,
        /// Do not show it: print a token that opens it once, within this time, for `strongroom unwrap`
        #[arg(long, value_name = "TIME", value_parser = span::parse, conflicts_with = "show")]
        wrap: Option<Duration>,
    },
    /// Print the password of an account
    Password {
        /// The path of the account
        path: String,
        /// Show it on a terminal
        #[arg(long)]
        show: bool,
        /// Do not show it: print a token that opens it once, within this time, for `strongroom unwrap`
        #[arg(long, value_name = "TIME", value_parser = span::parse, conflicts_with = "show")]
        wrap: Option<Duration>,
    },
}

#[derive(Args)]
struct Configure {
    /// The mount
    #[arg(default_value = "database")]
    mount: String,
    /// A name, an address, or the folder of a Unix socket
    #[arg(long, value_name = "HOST")]
    host: String,
    /// The port
    #[arg(long, value_name = "PORT", default_value_t = 5432)]
    port: u16,
    /// The database to connect to
    #[arg(long, value_name = "NAME", default_value = "postgres")]
    database: String,
    /// The user to work as, who may create roles
    #[arg(long, value_name = "NAME")]
    user: String,
    /// A file with the password, or - for standard input; without it you are asked for the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Leave the password as it is, which is possible while host, port and user stay the same
    #[arg(long, conflicts_with = "password_file")]
    keep_password: bool,
    /// The certificates to trust, in PEM [default: those that the server's system trusts]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Do without TLS, which is possible over a Unix socket or a loopback address only
    #[arg(long, conflicts_with = "ca_file")]
    plaintext: bool,
    /// Connections at once, at most 32
    #[arg(long, value_name = "N", default_value_t = 4)]
    max_connections: u32,
}

/// A user and its password, as programs see it.
#[derive(Serialize)]
struct Issued<'a> {
    lease: &'a str,
    expires_at: String,
    max_expires_at: String,
    user: &'a str,
    password: JsonValue<'a>,
    host: &'a str,
    port: u32,
    database: &'a str,
}

/// The same of a user that stays.
#[derive(Serialize)]
struct Kept<'a> {
    user: &'a str,
    password: JsonValue<'a>,
    rotated_at: String,
}

pub(crate) async fn run(context: &Context, args: Database) -> Result<(), Failure> {
    let output = &context.output;
    match args.command {
        Command::Configure(args) => configure(context, args).await,
        Command::Show { mount } => {
            show(output, &context.client().await?.database().configuration(&mount).await?)
        }
        Command::RotateRoot { mount } => {
            let at = context.client().await?.database().rotate_root(&mount).await?;
            let value = json!({ "path": mount, "rotated_at": format!("{at:.0}") });
            output.done(
                &value,
                &format!("the password that {mount} works with is another one, which nobody knows"),
            )
        }
        Command::Role(args) => role::run(output, &context.client().await?, args).await,
        Command::Account(args) => account::run(output, &context.client().await?, args).await,
        Command::Issue { path, ttl, wrap: Some(wrap), .. } => {
            let client = context.client().await?;
            unwrap::show_token(output, &client.wrapping().database_user(&path, ttl, wrap).await?)
        }
        Command::Issue { path, ttl, show, wrap: None } => {
            // Before anything is made that nobody would see.
            output.check_consent(show)?;
            show_user(output, &context.client().await?.database().issue(&path, ttl).await?)
        }
        Command::Password { path, wrap: Some(wrap), .. } => {
            let client = context.client().await?;
            unwrap::show_token(output, &client.wrapping().database_password(&path, wrap).await?)
        }
        Command::Password { path, show, wrap: None } => {
            output.check_consent(show)?;
            show_password(output, &context.client().await?.database().password(&path).await?)
        }
    }
}

async fn configure(context: &Context, args: Configure) -> Result<(), Failure> {
    let password = match &args.password_file {
        _ if args.keep_password => None,
        Some(file) => Some(content::word(file)?),
        None if io::stdin().is_terminal() => Some(prompt::hidden("Password")?),
        None => return Err(prompt::nobody_to_ask("--password-file")),
    };
    let client = context.client().await?;
    let mut configure = client
        .database()
        .configure(args.mount, args.host, args.user)
        .port(args.port)
        .database(args.database)
        .plaintext(args.plaintext)
        .max_connections(args.max_connections);
    if let Some(password) = password {
        configure = configure.password(password);
    }
    if let Some(file) = &args.ca_file {
        configure = configure.ca_pem(text(file)?);
    }
    show(&context.output, &configure.send().await?)
}

/// A file that is no secret.
fn text(file: &std::path::Path) -> Result<String, Failure> {
    let bytes: SecretBytes = content::whole(file)?;
    let text = bytes.expose_str().map_err(|error| Failure::local(content::name(file), error))?;
    Ok(text.to_owned())
}

fn show(output: &Output, configuration: &DatabaseConfiguration) -> Result<(), Failure> {
    let rotated = configuration.rotated_at.map(|at| format!("{at:.0}"));
    let value: Value = json!({
        "path": configuration.path, "host": configuration.host, "port": configuration.port,
        "database": configuration.database, "user": configuration.user, "ca_pem": configuration.ca_pem,
        "plaintext": configuration.plaintext, "max_connections": configuration.max_connections,
        "rotated_at": rotated,
    });
    let trust = match (configuration.plaintext, configuration.ca_pem.as_str()) {
        (true, _) => "no TLS",
        (false, "") => "TLS, as the server's system trusts",
        (false, _) => "TLS, with an authority of its own",
    };
    output.show(
        &value,
        Presentation::Pairs(vec![
            ("path", configuration.path.clone()),
            ("server", format!("{}:{}", configuration.host, configuration.port)),
            ("connection", trust.to_owned()),
            ("database", configuration.database.clone()),
            ("user", configuration.user.clone()),
            ("password", rotated.map_or("given by an operator".to_owned(), |at| format!("made here, {at}"))),
            ("connections", format!("at most {}", configuration.max_connections)),
        ]),
    )
}

pub(crate) fn show_user(output: &Output, user: &DatabaseUser) -> Result<(), Failure> {
    let issued = Issued {
        lease: &user.lease.id,
        expires_at: format!("{:.0}", user.lease.expires_at),
        max_expires_at: format!("{:.0}", user.lease.max_expires_at),
        user: &user.user,
        password: JsonValue(&user.password),
        host: &user.host,
        port: user.port,
        database: &user.database,
    };
    let pairs = vec![
        ("user", user.user.clone()),
        ("password", user.password.expose_str().unwrap_or_default().to_owned()),
        ("server", format!("{}:{}", user.host, user.port)),
        ("database", user.database.clone()),
        ("lease", user.lease.id.clone()),
        ("expires", format!("{:.0}", user.lease.expires_at)),
    ];
    output.show(&issued, Presentation::Pairs(pairs))
}

pub(crate) fn show_password(output: &Output, kept: &DatabasePassword) -> Result<(), Failure> {
    let value = Kept {
        user: &kept.user,
        password: JsonValue(&kept.password),
        rotated_at: format!("{:.0}", kept.rotated_at),
    };
    match output.format() {
        Format::Table => output.value(kept.password.expose()),
        _ => output.show(&value, Presentation::Text(String::new())),
    }
}

//! `random`: passwords and keys that the server makes, for a pipe or a file; on a terminal only if somebody asks to see one.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use strongroom_client::{Client, ErrorKind, SecretBytes};

use crate::{
    context::Context,
    failure::Failure,
    forms::json::JsonValue,
    output::{Format, Output, Presentation, structured},
};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom random password --show
  strongroom random hex --length 64 --out-file key.hex")]
pub(crate) struct Random {
    /// What to generate
    kind: Kind,
    /// The length, in characters for a password and in bytes for everything else: 16 to 1024 [default: 32]
    #[arg(short, long, value_name = "N")]
    length: Option<u32>,
    /// The mount of the engine
    #[arg(long, value_name = "NAME", default_value = "random")]
    mount: String,
    /// Show the result on a terminal
    #[arg(long)]
    show: bool,
    /// Write to this file, which only you may read; - is standard output, also if it is a terminal
    #[arg(long, value_name = "FILE")]
    out_file: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A password of letters and digits
    Password,
    /// Raw bytes
    Bytes,
    /// Bytes as hex digits
    Hex,
    /// Bytes in base64
    Base64,
}

impl Kind {
    /// The engine's name for it.
    fn word(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Bytes => "bytes",
            Self::Hex => "hex",
            Self::Base64 => "base64",
        }
    }
}

/// The result, as programs see it.
#[derive(Serialize)]
struct Made<'a> {
    path: &'a str,
    value: JsonValue<'a>,
}

pub(crate) async fn run(context: &Context, args: Random) -> Result<(), Failure> {
    // Before anything is made: nobody could ever see it again.
    check_destination(&args, &context.output)?;
    let path = format!("{}/{}", args.mount, args.kind.word());
    let value = generate(&context.client().await?, &path, args.length).await?;
    let made = Made { path: &path, value: JsonValue(&value) };
    match (&args.out_file, context.output.format()) {
        (Some(file), Format::Table) => context.output.deliver(file, value.expose()),
        (Some(file), format) => context.output.deliver(file, &structured(&made, format)?),
        (None, Format::Table) => context.output.value(value.expose()),
        (None, _) => context.output.show(&made, Presentation::Text(String::new())),
    }
}

fn check_destination(args: &Random, output: &Output) -> Result<(), Failure> {
    if args.out_file.is_some() || !output.is_terminal() {
        return Ok(());
    }
    output.check_consent(args.show)?;
    if args.kind == Kind::Bytes && output.format() == Format::Table {
        return Err(Failure::usage(
            "bytes are not text: choose hex, base64 or -o json, or add --out-file FILE",
        ));
    }
    Ok(())
}

/// Has the server generate one.
pub(crate) async fn generate(
    client: &Client,
    path: &str,
    length: Option<u32>,
) -> Result<SecretBytes, Failure> {
    client.random().generate(path, length).await.map_err(|error| match error.kind() {
        // The engine keeps nothing that could be missing, so the engine itself is not mounted.
        ErrorKind::NotFound => Failure::NotMounted {
            name: path.split('/').next().unwrap_or_default().to_owned(),
            kind: "random",
        },
        _ => error.into(),
    })
}

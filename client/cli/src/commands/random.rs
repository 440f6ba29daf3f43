//! `random`: passwords and keys that the server makes, for a pipe or a file; on a terminal only if somebody asks to see one.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use strongroom_client::{Client, ErrorKind, SecretBytes};

use crate::{
    context::Context,
    failure::Failure,
    output::{Format, Output, View, structured},
    private_file,
    secret_json::JsonValue,
};

#[derive(Args)]
pub(crate) struct Random {
    /// What to make
    kind: Kind,
    /// Characters of a password, bytes of everything else: 16 to 1024 [default: 32]
    #[arg(short, long, value_name = "N")]
    length: Option<u32>,
    /// Where the engine is mounted
    #[arg(long, value_name = "NAME", default_value = "random")]
    mount: String,
    /// Show it on a terminal
    #[arg(long)]
    show: bool,
    /// Write to this file, which only you may read, instead of standard output
    #[arg(long, value_name = "FILE")]
    out_file: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Letters and digits
    Password,
    /// Bytes as they are
    Bytes,
    /// Bytes as hex digits
    Hex,
    /// Bytes in base64
    Base64,
}

impl Kind {
    /// As the engine calls it.
    fn word(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Bytes => "bytes",
            Self::Hex => "hex",
            Self::Base64 => "base64",
        }
    }
}

/// What was made, as programs see it.
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
        (Some(file), Format::Table) => private_file::write(file, value.expose()),
        (Some(file), format) => private_file::write(file, &structured(&made, format)?),
        (None, Format::Table) => {
            context.output.raw(value.expose())?;
            // For people; a program gets the bytes alone.
            if context.output.is_terminal() { context.output.raw(b"\n") } else { Ok(()) }
        }
        (None, _) => context.output.show(&made, View::Text(String::new())),
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

/// Has one made.
pub(crate) async fn generate(
    client: &Client,
    path: &str,
    length: Option<u32>,
) -> Result<SecretBytes, Failure> {
    client.random().generate(path, length).await.map_err(|error| match error.kind() {
        // The engine keeps nothing that could be missing: it is the engine itself that is not there.
        ErrorKind::NotFound => Failure::NotMounted {
            name: path.split('/').next().unwrap_or_default().to_owned(),
            kind: "random",
        },
        _ => error.into(),
    })
}

//! `encrypt` and `decrypt`: files of any size. They are encrypted here, with a key of their own that only the server can open.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use strongroom_client::{Client, StreamError};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncWrite},
};

use crate::{
    context::Context,
    failure::Failure,
    input::content,
    output::{Destination, destination},
    private_file::Unfinished,
};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom encrypt backup.tar --key transit/backups --out-file backup.tar.sealed
  pg_dump shop | strongroom encrypt - --key transit/backups --out-file shop.sealed")]
pub(crate) struct Encrypt {
    /// What to encrypt; - is standard input
    file: PathBuf,
    /// The path of the key
    #[arg(long, value_name = "PATH")]
    key: String,
    /// Where to write it; - is standard output
    #[arg(long, value_name = "FILE")]
    out_file: PathBuf,
}

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom decrypt backup.tar.sealed --out-file backup.tar")]
pub(crate) struct Decrypt {
    /// What to decrypt; - is standard input
    file: PathBuf,
    /// The path of the key that it must have been encrypted with; without it, the one that the file names
    #[arg(long, value_name = "PATH")]
    key: Option<String>,
    /// Where to write it: a file, which only you may read, is there when all of it is. - is standard output
    #[arg(long, value_name = "FILE")]
    out_file: PathBuf,
}

/// In which direction.
enum Direction {
    Encrypt(String),
    Decrypt(Option<String>),
}

pub(crate) async fn encrypt(context: &Context, args: Encrypt) -> Result<(), Failure> {
    run(context, Direction::Encrypt(args.key), &args.file, &args.out_file).await
}

pub(crate) async fn decrypt(context: &Context, args: Decrypt) -> Result<(), Failure> {
    run(context, Direction::Decrypt(args.key), &args.file, &args.out_file).await
}

async fn run(context: &Context, direction: Direction, from: &Path, to: &Path) -> Result<(), Failure> {
    let client = context.client().await?;
    let (source, size) = open(from).await?;
    let bar = bar(size);
    let source = bar.wrap_async_read(source);
    let bytes = match destination(to)? {
        Destination::Standard => {
            return transfer(&client, &direction, source, stream(io::stdout())?, from).await.map(drop);
        }
        Destination::Open(file) => transfer(&client, &direction, source, File::from_std(file), from).await?,
        Destination::Whole(path) => {
            let unfinished = Unfinished::create(&path)?;
            let file = unfinished.file().try_clone().map_err(|error| Failure::local(to.display(), error))?;
            let bytes = transfer(&client, &direction, source, File::from_std(file), from).await?;
            unfinished.finish()?;
            bytes
        }
    };
    bar.finish_and_clear();
    let done = json!({ "from": content::name(from), "to": content::name(to), "bytes": bytes });
    context.output.done(&done, &format!("{}: {bytes} bytes", content::name(to)))
}

async fn transfer(
    client: &Client,
    direction: &Direction,
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    name: &Path,
) -> Result<u64, Failure> {
    let transit = client.transit();
    let result = match direction {
        Direction::Encrypt(key) => transit.encrypt_stream(key, from, to).await,
        Direction::Decrypt(key) => transit.decrypt_stream(key.as_deref(), from, to).await,
    };
    result.map_err(|error| match error {
        StreamError::Server(error) => error.into(),
        other => Failure::local(content::name(name), other),
    })
}

/// What is read, and how much it is if that is known.
async fn open(from: &Path) -> Result<(Box<dyn AsyncRead + Unpin>, Option<u64>), Failure> {
    if from == Path::new("-") {
        return Ok((Box::new(stream(io::stdin())?), None));
    }
    let told = |error| Failure::local(from.display(), error);
    let file = File::open(from).await.map_err(told)?;
    let metadata = file.metadata().await.map_err(told)?;
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

/// A standard stream as a file: it is read and written as one, in large pieces.
fn stream(standard: impl AsFd) -> io::Result<File> {
    Ok(File::from_std(standard.as_fd().try_clone_to_owned()?.into()))
}

/// On a terminal's standard error; elsewhere it draws nothing.
fn bar(size: Option<u64>) -> ProgressBar {
    const KNOWN: &str =
        "{bar:40} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left";
    const UNKNOWN: &str = "{spinner} {decimal_bytes}, {decimal_bytes_per_sec}";
    let bar = size.map_or_else(ProgressBar::no_length, ProgressBar::new);
    match ProgressStyle::with_template(if size.is_some() { KNOWN } else { UNKNOWN }) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

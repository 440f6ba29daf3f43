//! `operator`: new keys, and whether the store is whole.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom_client::SecretBytes;

use super::keys::{SealArgs, deliver_shares, prepare};
use crate::{
    context::Context,
    failure::Failure,
    input::{content, content::trimmed, prompt},
    output::{View, plural},
};

#[derive(Args)]
pub(crate) struct Operator {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Begin a new key term for all new writes
    Rotate,
    /// Make new shares, or move to another seal
    Rekey(Rekey),
    /// Read every record and compare the digest of all of them
    Scrub,
}

#[derive(Args)]
struct Rekey {
    #[command(flatten)]
    seal: SealArgs,
    /// A file with current shares, one on each line, - for standard input; may be repeated. Without it they are asked for
    #[arg(long, value_name = "FILE")]
    share_file: Vec<PathBuf>,
    /// Write each new share to a file of its own in this folder instead of printing them
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
}

pub(crate) async fn run(context: &Context, args: Operator) -> Result<(), Failure> {
    match args.command {
        Command::Rotate => {
            let term = context.client().await?.sys().rotate().await?;
            context.output.show(&json!({ "term": term }), View::Text(format!("key term {term}")))
        }
        Command::Rekey(rekey) => run_rekey(context, rekey).await,
        Command::Scrub => scrub(context).await,
    }
}

async fn run_rekey(context: &Context, args: Rekey) -> Result<(), Failure> {
    let seal = args.seal.kind()?;
    let client = context.client().await?;
    let status = client.sys().status().await?;
    if let Some(folder) = &args.out_dir {
        prepare(folder)?;
    }
    let current = match status.threshold {
        // A file seal: the server holds the proof itself.
        0 => Vec::new(),
        threshold => current_shares(&args.share_file, threshold)?,
    };
    let shares = client.sys().rekey(seal, &current).await?;
    if shares.is_empty() {
        return context
            .output
            .line("the key is in the server's key file now; older shares open nothing but older backups");
    }
    deliver_shares(&context.output, args.out_dir.as_deref(), &shares)?;
    // Only now that they are in a file or on the screen: until here the older shares still open the store.
    client.sys().confirm_rekey(&shares).await?;
    context
        .output
        .note("warning: from now on older shares open nothing but older backups; give each new one to another person");
    Ok(())
}

fn current_shares(files: &[PathBuf], threshold: u32) -> Result<Vec<SecretBytes>, Failure> {
    if !files.is_empty() || !io::stdin().is_terminal() {
        return content::shares(files);
    }
    (1..=threshold)
        .map(|n| prompt::hidden(&format!("Current share {n} of {threshold}")).map(trimmed))
        .collect()
}

async fn scrub(context: &Context) -> Result<(), Failure> {
    let found = context.client().await?.sys().scrub().await?;
    let value = json!({ "records": found.records, "batch_seq": found.batch_seq, "problems": found.problems });
    let text = match found.problems.len() {
        0 => format!("{} records read, all is well", found.records),
        count => format!(
            "{} records read, {}:\n{}",
            found.records,
            plural(count, "problem"),
            found.problems.join("\n")
        ),
    };
    context.output.show(&value, View::Text(text))?;
    if found.problems.is_empty() { Ok(()) } else { Err(Failure::No) }
}

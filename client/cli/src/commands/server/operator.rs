//! `operator`: new keys, a new root token, and whether the store is whole.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::keys::{ProofArgs, SealArgs, deliver_shares, prepare, text};
use crate::{
    context::Context,
    failure::Failure,
    output::{Presentation, plural},
    private_file,
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
    /// Create new shares, or move to another seal
    Rekey(Rekey),
    /// Get a new root token with the shares or the server's key file, when no administrator is left
    GenerateRoot(GenerateRoot),
    /// Read every record and compare the digest of all of them
    Scrub,
}

#[derive(Args)]
struct Rekey {
    #[command(flatten)]
    seal: SealArgs,
    #[command(flatten)]
    proof: ProofArgs,
    /// Write each new share to a file of its own in this folder instead of printing them
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
}

#[derive(Args)]
struct GenerateRoot {
    #[command(flatten)]
    proof: ProofArgs,
    /// Write the token to a new file instead of printing it
    #[arg(long, value_name = "FILE")]
    out_file: Option<PathBuf>,
}

pub(crate) async fn run(context: &Context, args: Operator) -> Result<(), Failure> {
    match args.command {
        Command::Rotate => {
            let term = context.client().await?.sys().rotate().await?;
            context.output.show(&json!({ "term": term }), Presentation::Text(format!("key term {term}")))
        }
        Command::Rekey(rekey) => run_rekey(context, rekey).await,
        Command::GenerateRoot(args) => generate_root(context, args).await,
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
    let shares = client.sys().rekey(seal, &args.proof.read(status.threshold)?).await?;
    if shares.is_empty() {
        let text = "the key is in the server's key file now; older shares open only older backups";
        return context.output.done(&json!({ "shares": [] }), text);
    }
    deliver_shares(&context.output, args.out_dir.as_deref(), &shares)?;
    // This comes after the new shares are in a file or on the screen: until now the older ones still open the store.
    client.sys().confirm_rekey(&shares).await?;
    context
        .output
        .note("warning: from now on older shares open only older backups; give each new share to a different person");
    Ok(())
}

async fn generate_root(context: &Context, args: GenerateRoot) -> Result<(), Failure> {
    let client = context.anonymous().await?;
    let status = client.sys().status().await?;
    // Made before there is a token that could be lost.
    if let Some(file) = &args.out_file {
        private_file::create(file, b"")?;
    }
    let token = client.sys().generate_root(&args.proof.read(status.threshold)?).await?;
    match &args.out_file {
        Some(file) => {
            private_file::write(file, token.expose())?;
            let text = format!("the root token is in {}", file.display());
            context.output.done(&json!({ "root_token_file": file }), &text)?;
        }
        None => {
            let pairs = Presentation::Pairs(vec![("root token", text(&token))]);
            context.output.show(&json!({ "root_token": text(&token) }), pairs)?;
        }
    }
    context.output.note(
        "warning: the root token is valid for an hour; put an administrator back with it, then revoke it (strongroom logout)",
    );
    Ok(())
}

async fn scrub(context: &Context) -> Result<(), Failure> {
    let found = context.client().await?.sys().scrub().await?;
    let value = json!({ "records": found.records, "batch_seq": found.batch_seq, "problems": found.problems });
    let text = match found.problems.len() {
        0 => format!("{} records read; no problems were found", found.records),
        count => format!(
            "{} records read, {}:\n{}",
            found.records,
            plural(count, "problem"),
            found.problems.join("\n")
        ),
    };
    context.output.show(&value, Presentation::Text(text))?;
    if found.problems.is_empty() { Ok(()) } else { Err(Failure::No) }
}

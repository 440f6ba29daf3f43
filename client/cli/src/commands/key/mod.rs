//! `key`: the keys of the engine transit. What is done with them is in `work.rs`; files of any size in `file.rs`.

pub(crate) mod file;
mod work;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use strongroom_client::{Client, SecretBytes, StreamExt, TransitKey, TryStreamExt};

use crate::{
    context::Context,
    failure::Failure,
    forms::json::JsonValue,
    input::{content, prompt, span},
    output::{Format, Output, Presentation, plural, structured},
};

#[derive(Args)]
pub(crate) struct Key {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key, or take one that exists elsewhere
    #[command(after_help = "Examples:
  strongroom key create transit/orders
  strongroom key create transit/releases --algorithm ed25519
  strongroom key create transit/old --from old.key")]
    Create {
        /// The path of the key: MOUNT/NAME
        path: String,
        /// aes256-gcm, chacha20-poly1305, ed25519, ecdsa-p256, ecdsa-p384 or hmac-sha256
        #[arg(long, value_name = "NAME", default_value = "aes256-gcm")]
        algorithm: String,
        /// Give each context a key of its own
        #[arg(long)]
        derived: bool,
        /// Let its bytes leave the server; it cannot be taken back
        #[arg(long)]
        exportable: bool,
        /// Take the key from this file: 32 bytes, or PKCS #8 in DER for ECDSA; - is standard input
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Show what there is to know of a key, public keys included
    Show {
        /// The path of the key
        path: String,
    },
    /// List the keys below a folder or in a mount
    List {
        /// A mount, or a folder of it
        #[arg(default_value = "transit")]
        folder: String,
    },
    /// Add a version, which encrypts and signs from then on; older ones still decrypt and verify
    Rotate {
        /// The path of the key
        path: String,
    },
    /// Change which versions may be used, or let the key be exported
    #[command(after_help = "Examples:
  strongroom key update transit/orders --min-decryption-version 2
  strongroom key update transit/orders --rotate-every 90d")]
    Update {
        /// The path of the key
        path: String,
        /// Older versions neither decrypt nor verify
        #[arg(long, value_name = "N")]
        min_decryption_version: Option<u32>,
        /// Older versions neither encrypt nor sign, even if they are asked for; 0: those that decrypt do
        #[arg(long, value_name = "N")]
        min_encryption_version: Option<u32>,
        /// Let its bytes leave the server; it cannot be taken back
        #[arg(long)]
        exportable: bool,
        /// How often to add a version without anybody asking, an hour at least; never: only when somebody asks
        #[arg(long, value_name = "TIME", value_parser = span::or_never)]
        rotate_every: Option<Duration>,
    },
    /// Erase old versions, or a whole key, for good: what was encrypted with them can never be opened
    #[command(after_help = "Examples:
  strongroom key destroy transit/orders --before 2
  strongroom key destroy transit/orders --all")]
    Destroy {
        /// The path of the key
        path: String,
        /// Erase the versions below this one, which must be too old to decrypt already
        #[arg(long, value_name = "N", required_unless_present = "all", conflicts_with = "all")]
        before: Option<u32>,
        /// Erase the whole key
        #[arg(long)]
        all: bool,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// Write the bytes of an exportable key to a file
    Export {
        /// The path of the key
        path: String,
        /// The version; the latest if none is given
        #[arg(long, value_name = "N")]
        version: Option<u32>,
        /// Write to this file, which only you may read; - is standard output
        #[arg(long, value_name = "FILE")]
        out_file: PathBuf,
    },
    /// Encrypt standard input, at most 1 MiB, to a line of text
    #[command(after_help = "Examples:
  strongroom key encrypt transit/orders --associated-data order/7 < card")]
    Encrypt(work::Sealing),
    /// Decrypt a line of standard input
    Decrypt(work::Opening),
    /// Encrypt each line of standard input again with the latest version, without showing what is inside
    Rewrap(work::Rewrap),
    /// Sign standard input, at most 1 MiB
    #[command(after_help = "Examples:
  strongroom key sign transit/releases < release.tar")]
    Sign(work::Sign),
    /// Check a signature of standard input; exit code 1 if it is wrong
    Verify(work::Verify),
    /// Compute a message authentication code of standard input
    Mac(work::Mac),
    /// Check a message authentication code of standard input; exit code 1 if it is wrong
    VerifyMac(work::VerifyMac),
}

pub(crate) async fn run(context: &Context, args: Key) -> Result<(), Failure> {
    let client = context.client().await?;
    let (transit, output) = (client.transit(), &context.output);
    match args.command {
        Command::Create { path, algorithm, derived, exportable, from } => {
            let mut key =
                transit.create_key(&path).algorithm(&algorithm).derived(derived).exportable(exportable);
            if let Some(file) = from {
                key = key.material(content::whole(&file)?);
            }
            key.send().await?;
            output.done(&json!({ "path": path, "version": 1 }), &format!("{path} is there; its version is 1"))
        }
        Command::Show { path } => show(output, &transit.key(&path).await?),
        Command::List { folder } => list(output, &client, folder).await,
        Command::Rotate { path } => {
            let version = transit.rotate_key(&path).await?;
            let text = format!("{path} has version {version}, which encrypts and signs from now on");
            output.done(&json!({ "path": path, "version": version }), &text)
        }
        Command::Update {
            path,
            min_decryption_version,
            min_encryption_version,
            exportable,
            rotate_every,
        } => {
            let mut change = transit.update_key(&path);
            if let Some(version) = min_decryption_version {
                change = change.min_decryption_version(version);
            }
            if let Some(version) = min_encryption_version {
                change = change.min_encryption_version(version);
            }
            if exportable {
                change = change.exportable();
            }
            if let Some(period) = rotate_every {
                change = change.rotation_period(period);
            }
            show(output, &change.send().await?)
        }
        Command::Destroy { path, before, yes, .. } => {
            let (what, question) = match before {
                Some(before) => (
                    format!("the versions of {path} before {before} are gone"),
                    format!(
                        "What was encrypted with versions of {path} before {before} can never be opened. Go on?"
                    ),
                ),
                None => (
                    format!("{path} is gone"),
                    format!("What was encrypted with {path} can never be opened. Go on?"),
                ),
            };
            prompt::confirm_loss(&question, yes)?;
            match before {
                Some(before) => transit.destroy_key_versions(&path, before).await?,
                None => transit.destroy_key(&path).await?,
            }
            output.done(&json!({ "path": path, "before": before, "all": before.is_none() }), &what)
        }
        Command::Export { path, version, out_file } => {
            let bytes = transit.export_key(&path, version).await?;
            export(output, &path, &bytes, &out_file)
        }
        Command::Encrypt(args) => work::encrypt(output, transit, args).await,
        Command::Decrypt(args) => work::decrypt(output, transit, args).await,
        Command::Rewrap(args) => work::rewrap(output, transit, args).await,
        Command::Sign(args) => work::sign(output, transit, args).await,
        Command::Verify(args) => work::verify(output, transit, args).await,
        Command::Mac(args) => work::mac(output, transit, args).await,
        Command::VerifyMac(args) => work::verify_mac(output, transit, args).await,
    }
}

/// To standard output go the bytes alone, or what programs asked for; beside a file, what was done.
fn export(output: &Output, path: &str, bytes: &SecretBytes, to: &Path) -> Result<(), Failure> {
    /// The key, as programs see it.
    #[derive(serde::Serialize)]
    struct Exported<'a> {
        path: &'a str,
        material: JsonValue<'a>,
    }
    match (to == Path::new("-"), output.format()) {
        (true, Format::Table) => output.raw(bytes.expose()),
        (true, format) => output.raw(&structured(&Exported { path, material: JsonValue(bytes) }, format)?),
        (false, _) => {
            output.deliver(to, bytes.expose())?;
            output.done(&json!({ "path": path, "to": to }), &format!("{path} is in {}", to.display()))
        }
    }
}

async fn list(output: &Output, client: &Client, folder: String) -> Result<(), Failure> {
    let keys: Vec<String> = client.transit().keys(folder).boxed().try_collect().await?;
    let rows = keys.iter().map(|key| vec![key.clone()]).collect();
    output.show(&keys, Presentation::Table(vec!["KEY"], rows))
}

fn show(output: &Output, key: &TransitKey) -> Result<(), Failure> {
    let version = |version: &strongroom_client::KeyVersion| {
        json!({
            "version": version.version, "created_at": format!("{:.0}", version.created_at),
            "public_key": version.public_key,
        })
    };
    let value: Value = json!({
        "path": key.path, "algorithm": key.algorithm, "derived": key.derived, "exportable": key.exportable,
        "latest_version": key.latest_version, "min_decryption_version": key.min_decryption_version,
        "min_encryption_version": key.min_encryption_version,
        "rotation_period_seconds": key.rotation_period.map(|period| period.as_secs()),
        "versions": key.versions.iter().map(version).collect::<Vec<_>>(),
    });
    let marks = [(key.derived, "derived"), (key.exportable, "exportable")];
    let marks: Vec<&str> = marks.into_iter().filter(|(is, _)| *is).map(|(_, mark)| mark).collect();
    let encrypts = match key.min_encryption_version {
        0 => key.min_decryption_version,
        version => version,
    };
    let mut pairs = vec![
        ("path", key.path.clone()),
        ("algorithm", [vec![key.algorithm.as_str()], marks].concat().join(", ")),
        ("latest version", key.latest_version.to_string()),
        ("decrypts and verifies", format!("from version {}", key.min_decryption_version)),
        ("encrypts and signs", format!("from version {encrypts}")),
        ("rotates", span::every(key.rotation_period)),
        ("kept", plural(key.versions.len(), "version")),
    ];
    if let Some(public) = key.versions.last().and_then(|version| version.public_key.as_deref()) {
        pairs.push(("public key", public.lines().filter(|line| !line.starts_with("-----")).collect()));
    }
    output.show(&value, Presentation::Pairs(pairs))
}

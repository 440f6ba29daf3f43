//! `init`: the store's first keys, printed once or written to files to be spread.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use strongroom_client::Initialized;

use super::keys::{SealArgs, prepare, text, write_shares};
use crate::{
    context::Context,
    failure::Failure,
    forms::json::JsonValue,
    output::{Output, Presentation, plural},
    private_file,
};

#[derive(Args)]
pub(crate) struct Init {
    #[command(flatten)]
    seal: SealArgs,
    /// Write each share, the root token and the audit key to a file of its own in this folder instead of printing them
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct Keys<'a> {
    shares: Vec<JsonValue<'a>>,
    root_token: JsonValue<'a>,
    audit_public_key: &'a str,
    store_id: &'a str,
}

pub(crate) async fn run(context: &Context, args: Init) -> Result<(), Failure> {
    let seal = args.seal.kind()?;
    let client = context.anonymous().await?;
    // Before anything is made that could be lost: the folder has to be there and writable.
    if let Some(folder) = &args.out_dir {
        prepare(folder)?;
    }
    let keys = client.sys().init(seal).await?;
    match &args.out_dir {
        Some(folder) => {
            if let Err(failure) = write_files(folder, &keys) {
                // The keys exist only here: better on the screen than nowhere.
                context.output.note(&format!("error: {failure}; the keys are printed instead"));
                return print(&context.output, &keys);
            }
            context.output.line(&format!(
                "{}, the root token and the audit key are in {}",
                plural(keys.shares.len(), "share"),
                folder.display()
            ))?;
        }
        None => print(&context.output, &keys)?,
    }
    advise(&context.output, &keys);
    Ok(())
}

fn print(output: &Output, keys: &Initialized) -> Result<(), Failure> {
    let value = Keys {
        shares: keys.shares.iter().map(JsonValue).collect(),
        root_token: JsonValue(&keys.root_token),
        audit_public_key: &keys.audit_public_key,
        store_id: &keys.store_id,
    };
    let mut pairs: Vec<_> = keys.shares.iter().map(|share| ("share", text(share))).collect();
    pairs.extend([
        ("root token", text(&keys.root_token)),
        ("audit key", keys.audit_public_key.clone()),
        ("store", keys.store_id.clone()),
    ]);
    output.show(&value, Presentation::Pairs(pairs))
}

fn advise(output: &Output, keys: &Initialized) {
    if !keys.shares.is_empty() {
        output.note(
            "warning: the shares exist only here, and the server keeps none; give each to a different person",
        );
    }
    output.note(
        "warning: the root token is valid for an hour; create the first admin with it, then revoke it (strongroom logout)",
    );
    output.note("note: keep the audit key apart from the server: strongroom audit verify needs it");
}

fn write_files(folder: &Path, keys: &Initialized) -> Result<(), Failure> {
    write_shares(folder, &keys.shares)?;
    private_file::create(&folder.join("root-token"), keys.root_token.expose())?;
    private_file::create(&folder.join("audit-public-key"), keys.audit_public_key.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use strongroom_client::SecretBytes;

    use super::*;

    #[test]
    fn each_share_has_a_file_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("keys");
        prepare(&folder).unwrap();
        let secret = |text: &str| SecretBytes::from(text.as_bytes());
        let keys = Initialized::new(vec![secret("srs1-a"), secret("srs1-b")], secret("sr1_r"));
        write_files(&folder, &keys).unwrap();
        assert_eq!(std::fs::read(folder.join("share-2")).unwrap(), b"srs1-b");
        for entry in std::fs::read_dir(&folder).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().mode() & 0o777, 0o600);
        }
        assert!(prepare(&folder).is_err(), "a folder with shares in it is not used again");
    }
}

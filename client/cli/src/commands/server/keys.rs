//! The root key and its shares: how it is to be kept, what proves that somebody may decide that, and how what the server
//! gives is handed over.

use std::{
    fs::DirBuilder,
    io::{self, IsTerminal},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use clap::Args;
use strongroom_client::{SealKind, SecretBytes};

use crate::{
    failure::Failure,
    forms::json::JsonValue,
    input::{content, prompt},
    output::{Output, Presentation, plural},
    private_file,
};

/// How the root key is to be kept.
#[derive(Args)]
pub(super) struct SealArgs {
    /// How many shares to split the unseal key into
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=255))]
    shares: u32,
    /// How many shares are needed to unseal the store
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10))]
    threshold: u32,
    /// Keep the key in the file named in the server's configuration, so that the server unseals itself
    #[arg(long, conflicts_with_all = ["shares", "threshold"])]
    file_seal: bool,
}

impl SealArgs {
    pub(super) fn kind(&self) -> Result<SealKind, Failure> {
        if self.file_seal {
            return Ok(SealKind::File);
        }
        if self.threshold > self.shares {
            return Err(Failure::usage(format!(
                "--threshold {} is more than --shares {}: nobody could ever unseal",
                self.threshold, self.shares
            )));
        }
        Ok(SealKind::Shamir { shares: self.shares, threshold: self.threshold })
    }
}

/// What proves that somebody may change how the store is sealed, or have a root token.
#[derive(Args)]
pub(super) struct ProofArgs {
    /// A file with current shares, one on each line, or - for standard input; may be repeated. Without it you are asked for them
    #[arg(long, value_name = "FILE")]
    share_file: Vec<PathBuf>,
    /// With a file seal: the key file that the server's configuration names as seal.key_file, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "share_file")]
    key_file: Option<PathBuf>,
}

impl ProofArgs {
    /// As the store, whose seal opens with so many shares, asks for it. 0: with a file.
    pub(super) fn read(&self, threshold: u32) -> Result<Vec<SecretBytes>, Failure> {
        match (threshold, &self.key_file) {
            (0, Some(file)) => Ok(vec![content::whole(file)?]),
            (0, None) => Err(Failure::usage(
                "the store is sealed with a key file: give its content with --key-file FILE (the server's seal.key_file)",
            )),
            (_, Some(_)) => {
                Err(Failure::usage("the store is sealed with shares: give them with --share-file FILE"))
            }
            (_, None) if !self.share_file.is_empty() || !io::stdin().is_terminal() => {
                content::shares(&self.share_file)
            }
            (threshold, None) => (1..=threshold)
                .map(|n| prompt::hidden(&format!("Current share {n} of {threshold}")).map(content::trimmed))
                .collect(),
        }
    }
}

/// A folder to write keys to: made, empty and writable.
pub(super) fn prepare(folder: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Failure::local(folder.display(), error))?;
    let mut entries = std::fs::read_dir(folder).map_err(|error| Failure::local(folder.display(), error))?;
    if entries.next().is_some() {
        return Err(Failure::usage(format!("{}: is not empty", folder.display())));
    }
    let probe = folder.join(".probe");
    private_file::create(&probe, b"")?;
    private_file::remove(&probe)
}

pub(super) fn write_shares(folder: &Path, shares: &[SecretBytes]) -> Result<(), Failure> {
    for (number, share) in (1_u32..).zip(shares) {
        private_file::create(&folder.join(format!("share-{number}")), share.expose())?;
    }
    Ok(())
}

/// New shares after a rekey: printed, or to files.
pub(super) fn deliver_shares(
    output: &Output,
    folder: Option<&Path>,
    shares: &[SecretBytes],
) -> Result<(), Failure> {
    if let Some(folder) = folder {
        match write_shares(folder, shares) {
            Ok(()) => {
                return output.line(&format!(
                    "{} are in {}",
                    plural(shares.len(), "share"),
                    folder.display()
                ));
            }
            Err(failure) => output.note(&format!("error: {failure}; the shares are printed instead")),
        }
    }
    let value: Vec<_> = shares.iter().map(JsonValue).collect();
    let pairs = shares.iter().map(|share| ("share", text(share))).collect();
    output.show(&value, Presentation::Pairs(pairs))
}

pub(super) fn text(secret: &SecretBytes) -> String {
    secret.expose_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impossible_threshold_is_refused() {
        let seal = |shares, threshold, file_seal| SealArgs { shares, threshold, file_seal }.kind();
        assert!(seal(2, 3, false).is_err());
        assert_eq!(seal(3, 3, false).unwrap(), SealKind::Shamir { shares: 3, threshold: 3 });
        assert_eq!(seal(5, 3, true).unwrap(), SealKind::File);
    }
}

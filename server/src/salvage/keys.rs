//! The keys of a damaged store: the newest seal that opens with what the operator has, and the newest keyring under it.

use std::{
    fs,
    io::{self, Read},
    path::PathBuf,
};

use crate::{
    barrier::Keyring,
    crypto::Key,
    model::{SecretBytes, StoreId},
    seal::{SealError, SealRecord, Seals, ShareRejected},
};

/// Most that is read of standard input: the largest number of shares, and some.
const INPUT: usize = 64 << 10;

/// Where the shares of people are: a file each, or `-`, standard input with a share in each line.
#[derive(Clone, Debug, Default)]
pub struct Shares(pub Vec<PathBuf>);

/// Why the store cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// There is no record that says how the root key is kept.
    #[error(
        "no seal record is left in the damaged store: without it no share and no key file opens anything; restore a backup"
    )]
    NoSeal,
    /// There is no keyring that opens.
    #[error(
        "no keyring is left in the damaged store that opens: its records cannot be read; restore a backup"
    )]
    NoKeyring,
    /// A file with a share.
    #[error("the share in {path}: {1}", path = .0.display())]
    ShareFile(PathBuf, io::Error),
    /// What is needed is not given.
    #[error("the store is sealed with shares: give {0} of them, each with --share-file FILE")]
    NeedShares(u8),
    /// The shares do not fit.
    #[error(transparent)]
    Shares(#[from] ShareRejected),
    /// The key file does not fit.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// What was found.
pub(super) struct Keys {
    pub(super) store_id: StoreId,
    pub(super) keyring: Keyring,
    /// The records as they were stored.
    pub(super) seal: Vec<u8>,
    pub(super) sealed_keyring: Vec<u8>,
}

/// Tries all that is left, the newest first.
pub(super) fn find(
    seals: &[Vec<u8>],
    keyrings: &[Vec<u8>],
    ways: &Seals,
    shares: &Shares,
) -> Result<Keys, KeysError> {
    let shares = shares.read()?;
    let mut refused = KeysError::NoSeal;
    for stored in seals {
        let Ok(record) = SealRecord::decode(stored) else { continue };
        let root = match open(&record, ways, &shares) {
            Ok(root) => root,
            // What the newest seal says is what the operator has to know.
            Err(error) => {
                if matches!(refused, KeysError::NoSeal) {
                    refused = error;
                }
                continue;
            }
        };
        // One of before a rotation opens too, and not what was written since.
        let opened = keyrings.iter().filter_map(|stored| {
            Keyring::open(&root, record.store, stored).ok().map(|keyring| (keyring, stored.clone()))
        });
        match opened.max_by_key(|(keyring, _)| keyring.active_term()) {
            Some((keyring, sealed_keyring)) => {
                return Ok(Keys { store_id: record.store, keyring, seal: stored.clone(), sealed_keyring });
            }
            None => refused = KeysError::NoKeyring,
        }
    }
    Err(refused)
}

fn open(record: &SealRecord, ways: &Seals, shares: &[SecretBytes]) -> Result<Key, KeysError> {
    if let Some(root) = ways.open(record)? {
        return Ok(root);
    }
    if !record.kind.by_shares {
        return Err(SealError::NoKeyFile.into());
    }
    if shares.is_empty() {
        return Err(KeysError::NeedShares(record.threshold));
    }
    Ok(ways.open_with_shares(record, shares)?)
}

impl Shares {
    fn read(&self) -> Result<Vec<SecretBytes>, KeysError> {
        let mut shares = Vec::new();
        for path in &self.0 {
            // Into wiped memory at once; a share is read with white space around it.
            let read = match path.as_os_str() == "-" {
                true => lines_of(io::stdin().lock()),
                false => fs::read(path).map(|share| vec![SecretBytes::new(share)]),
            };
            shares.extend(read.map_err(|error| KeysError::ShareFile(path.clone(), error))?);
        }
        Ok(shares)
    }
}

/// Each line that is not empty.
fn lines_of(input: impl Read) -> io::Result<Vec<SecretBytes>> {
    // As large as it can become, so that no copy is left behind where it has grown.
    let mut text = Vec::with_capacity(INPUT + 1);
    let read = input.take(INPUT as u64 + 1).read_to_end(&mut text);
    let text = SecretBytes::new(text);
    if read? > INPUT {
        return Err(io::Error::other("standard input has more than 64 KiB; expected a share in each line"));
    }
    let lines = text.expose().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    Ok(lines.filter(|line| !line.is_empty()).map(SecretBytes::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_in_each_line() {
        let lines = lines_of(&b"one\r\n\n two \nthree"[..]).unwrap();
        let lines: Vec<_> = lines.iter().map(SecretBytes::expose).collect();
        assert_eq!(lines, [&b"one"[..], b"two", b"three"]);
        assert!(lines_of(&vec![b'x'; INPUT][..]).is_ok());
        assert!(lines_of(io::repeat(b'x')).is_err());
    }
}

//! The mark: the last commit that was acknowledged, in a file of its own. It is written behind every commit and synced
//! only at a start and a stop, so after a power cut it may tell of an earlier commit, never of a later one. After a stop,
//! or a kill, it is exact: what the log lacks then, no crash explains.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

const NAME: &str = "MARK";
const TEXT: &str = "strongroom mark 1 ";

/// The open file; nothing more is written once that failed, for an earlier commit is as true.
pub(super) struct Mark(Option<File>);

/// The commit that the mark of `directory` names. None if there is no mark, or it is damaged.
pub(super) fn read(directory: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(directory.join(NAME)).ok()?;
    let (number, crc) = text.strip_prefix(TEXT)?.strip_suffix('\n')?.split_once(' ')?;
    (crc == check(number)).then(|| number.parse().ok()).flatten()
}

impl Mark {
    /// Makes the file if it is missing. Its first line is durable when this returns.
    pub(super) fn open(directory: &Path, revision: u64) -> io::Result<Self> {
        let path = directory.join(NAME);
        let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mark = Self(Some(file));
        mark.write(revision)?;
        mark.sync()?;
        File::open(directory)?.sync_all()?;
        Ok(mark)
    }

    /// That commit is durable.
    pub(super) fn set(&mut self, revision: u64) {
        if let Err(error) = self.write(revision) {
            tracing::warn!(%error, "the store's mark cannot be written and stays where it is");
            self.0 = None;
        }
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), File::sync_data)
    }

    /// One line of one length in one sector: it is there whole or as it was.
    fn write(&self, revision: u64) -> io::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        let number = format!("{revision:020}");
        file.write_all_at(format!("{TEXT}{number} {}\n", check(&number)).as_bytes(), 0)
    }
}

fn check(number: &str) -> String {
    format!("{:08x}", crc32fast::hash(number.as_bytes()))
}

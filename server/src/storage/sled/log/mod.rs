//! sled's log, read without sled: what is asked before a store is opened, and what is left of one that cannot be.

mod format;
mod pages;
mod survey;
#[cfg(test)]
mod tests;
mod walk;
mod wreck;

use std::{fs, io, path::Path};

use super::mark;

pub(super) use self::format::SEGMENT_BYTES;
use self::{
    format::{Snapshot, are_settings},
    survey::Survey,
};
pub use self::{
    survey::Damage,
    wreck::{Gap, Place, Remains, Wreck},
};

/// A first start writes less than 1 KiB into the log.
const FIRST_START_MOST: u64 = 64 << 10;

/// What a look at a store found, if sled may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// The commit that sled will come to.
    pub(super) revision: u64,
    /// sled does not open beside its snapshot; it makes another one from the log.
    pub(super) snapshot_damaged: bool,
    /// Nor with settings that are damaged; it writes them anew, and ours are always the same.
    pub(super) settings_damaged: bool,
}

/// Reads the log in `directory` and judges it; `snapshot` is the one that sled will go by. What was judged is durable when
/// this returns. `own` and `audit` are commits that are known to have been acknowledged.
pub(super) fn look(
    directory: &Path,
    snapshot: Option<&Path>,
    own: Option<u64>,
    audit: Option<u64>,
) -> io::Result<Result<Look, Damage>> {
    let read = snapshot.map(fs::read).transpose()?.map(|bytes| Snapshot::read(&bytes));
    let snapshot_damaged = matches!(read, Some(None));
    let survey = Survey::of(&directory.join("db"), read.flatten().as_ref())?;
    survey.log.sync()?;
    let settings_damaged = match fs::read(directory.join("conf")) {
        Ok(bytes) => !are_settings(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    Ok(survey.judge(own, audit).map(|revision| Look { revision, snapshot_damaged, settings_damaged }))
}

/// Whether anything was ever committed to the store in `directory`, or may have been.
pub(super) fn holds_commits(directory: &Path) -> io::Result<bool> {
    let marked = mark::read(directory).is_some();
    match Survey::of(&directory.join("db"), None) {
        Ok(survey) => {
            Ok(marked || survey.trail.last_batch().is_some() || survey.log.bytes > FIRST_START_MOST)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(marked),
        Err(error) => Err(error),
    }
}

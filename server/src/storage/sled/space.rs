//! A full disk: stop writing while there is still room to work, and keep a ballast file so that even a full disk opens.

use std::{fs::File, io, os::unix::fs::OpenOptionsExt, path::Path};

use super::Hooks;
use crate::storage::StoreError;

const BALLAST: &str = "BALLAST";

/// Most of a disk that is kept free: sled moves segments of 8 MiB around, and a twentieth of a large disk is a waste.
const FLOOR_MOST: u64 = 256 << 20;

/// Of the floor, what is left to others than those who take rights or data away: half of it is theirs, far more than they need.
const URGENT_PART: u64 = 2;

/// Refuses to write when the file system is nearly full. One statvfs a batch is nothing beside its fdatasync.
pub(super) fn writable(hooks: &Hooks, directory: &Path, urgent: bool) -> Result<(), StoreError> {
    let (free, all) =
        (hooks.space)(directory).map_err(|error| StoreError::Fatal(format!("statvfs: {error}")))?;
    let floor = if urgent { floor(all) / URGENT_PART } else { floor(all) };
    if free < floor {
        let (free, floor, at) = (free >> 20, floor >> 20, directory.display());
        return Err(StoreError::ReadOnly(format!(
            "{free} MiB are free under {at}, {floor} MiB must be: make room"
        )));
    }
    Ok(())
}

/// Whether only urgent batches are written.
pub(super) fn is_full((free, all): (u64, u64)) -> bool {
    free < floor(all)
}

/// Gives the ballast up if there is less room than it has: sled must write to open.
pub(super) fn before_open(hooks: &Hooks, directory: &Path, reserve: u64) -> io::Result<()> {
    let (free, _) = (hooks.space)(directory)?;
    if free < reserve {
        match std::fs::remove_file(directory.join(BALLAST)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => tracing::warn!(free, "the disk is full: the ballast file was given up to open the store"),
        }
    }
    Ok(())
}

/// Takes the ballast (again) if there is plenty of room.
pub(super) fn after_open(hooks: &Hooks, directory: &Path, reserve: u64) -> io::Result<()> {
    let (free, all) = (hooks.space)(directory)?;
    if reserve == 0 || free < floor(all).saturating_add(reserve) {
        return Ok(());
    }
    let ballast =
        File::options().write(true).create(true).truncate(false).mode(0o600).open(directory.join(BALLAST))?;
    if ballast.metadata()?.len() < reserve {
        // Allocated, not only as long: a sparse file would give nothing back.
        rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, reserve)?;
    }
    Ok(())
}

/// What statvfs says of `directory`: bytes free for us, and all.
pub(super) fn of(directory: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}

fn floor(all: u64) -> u64 {
    (all / 20).min(FLOOR_MOST)
}

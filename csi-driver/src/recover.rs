//! What an earlier life of the driver left: volumes that are mounted go on, everything else is cleaned up.

use std::sync::Arc;

use crate::{
    disk::Disk,
    failure::Failure,
    mount::Found,
    state::Record,
    volume::Target,
    volumes::{Mounted, Volumes},
};

/// Puts in order what is on the disk, and fills `volumes` with what is mounted.
///
/// # Errors
/// The state folder or the mount table cannot be read.
pub fn recover(disk: &Disk, volumes: &Arc<Volumes>) -> Result<(), Failure> {
    let mut known = Vec::new();
    for record in disk.known()? {
        let volume = record.volume.clone();
        known.push(record.target.clone());
        if let Err(failure) = recover_one(disk, volumes, record) {
            tracing::warn!(%volume, %failure, "what an earlier start left cannot be put in order");
        }
    }
    for path in disk.mounts()? {
        if !known.contains(&path) {
            tracing::warn!(path = %path.display(), "mounted, but its state file is lost: waiting for the kubelet");
        }
    }
    let (mounted, ..) = volumes.summary();
    tracing::info!(mounted, "recovered");
    Ok(())
}

fn recover_one(disk: &Disk, volumes: &Arc<Volumes>, record: Record) -> Result<(), Failure> {
    let target = Target::parse(disk.kubelet_root(), &record.target.to_string_lossy())?;
    let found = disk.look(&target)?;
    if found == Found::Ours {
        let claim = volumes.claim(&record.volume, &record.target)?;
        let mounted = Mounted::new(record, target);
        disk.sweep(&mounted)?;
        mounted.mark_troubled("the driver was restarted: the kubelet's next call brings the pod's token");
        claim.mounted(Arc::new(mounted));
        return Ok(());
    }
    tracing::info!(volume = %record.volume, "was not mounted when the driver ended: cleaned up");
    if found == Found::Nothing {
        disk.remove_folder(&target)?;
    }
    disk.forget(&record.volume)
}

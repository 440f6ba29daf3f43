//! What an earlier run of the driver left: mounted volumes are taken over, everything else is cleaned up.

use std::sync::Arc;

use crate::{
    disk::Disk,
    failure::Failure,
    mount::Found,
    state::VolumeState,
    volume::Target,
    volumes::{MountedVolume, Volumes},
};

/// Cleans up what is on the disk, and fills `volumes` with what is mounted.
///
/// # Errors
/// The state folder or the mount table cannot be read.
pub fn recover(disk: &Disk, volumes: &Arc<Volumes>) -> Result<(), Failure> {
    let mut known = Vec::new();
    for state in disk.known()? {
        let volume = state.volume.clone();
        known.push(state.target.clone());
        if let Err(failure) = recover_one(disk, volumes, state) {
            tracing::warn!(%volume, %failure, "a volume of an earlier run could not be recovered");
        }
    }
    for path in disk.mounts()? {
        if !known.contains(&path) {
            tracing::warn!(path = %path.display(), "a mounted volume has lost its state file; waiting for the kubelet's next call");
        }
    }
    tracing::info!(mounted = volumes.summary().mounted, "recovered the mounted volumes");
    Ok(())
}

fn recover_one(disk: &Disk, volumes: &Arc<Volumes>, state: VolumeState) -> Result<(), Failure> {
    let target = Target::parse(disk.kubelet_root(), &state.target.to_string_lossy())?;
    let found = disk.look(&target)?;
    if found == Found::Ours {
        let claim = volumes.claim(&state.volume, &state.target)?;
        let mounted = MountedVolume::new(state, target, Vec::new());
        disk.sweep(&mounted)?;
        mounted.mark_troubled(
            "the driver was restarted; the kubelet's next call brings the pod's token",
            "restarted",
        );
        claim.mounted(Arc::new(mounted));
        return Ok(());
    }
    tracing::info!(volume = %state.volume, "a volume was not mounted when the driver stopped; cleaning up");
    if found == Found::Nothing {
        disk.remove_folder(&target)?;
    }
    disk.forget(&state.volume)
}

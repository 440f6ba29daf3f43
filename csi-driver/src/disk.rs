//! The node's disk, as far as the driver touches it: a volume's state file, its mount and its files, in the order that can be
//! undone at any moment. Each step is one closure that runs to its end even if the kubelet hangs up in the middle. It knows
//! no server and no session.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use jiff::Timestamp;
use rustix::fs::{Mode, fstatvfs};
use strongroom_client::volume::{Fetched, File as VolumeFile, Volume};
use tokio::task::spawn_blocking;

use crate::{
    budget::{self, Budget},
    failure::Failure,
    folder::Folder,
    mount::{Found, MountPoint, Mounter, Options},
    state::{StateFolder, VolumeState},
    volume::{Target, VolumeId},
    volumes::MountedVolume,
    writer::{self, Owner, WriteError, WriteResult},
};

/// The mode of the folder that is mounted over; nobody sees it.
const TARGET_MODE: Mode = Mode::RWXU;
/// Mounts over each other at one target; there is one, and more only by accident.
const STACKED: usize = 8;

/// How full a volume is: what there is in all, and what of it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub bytes: (u64, u64),
    /// Files, folders and links.
    pub inodes: (u64, u64),
}

pub struct Disk {
    kubelet_root: PathBuf,
    mounter: Arc<dyn Mounter>,
    states: StateFolder,
    budget: Budget,
}

impl Disk {
    pub fn new(
        kubelet_root: PathBuf,
        mounter: Arc<dyn Mounter>,
        states: StateFolder,
        budget: Budget,
    ) -> Self {
        Self { kubelet_root, mounter, states, budget }
    }

    pub fn kubelet_root(&self) -> &Path {
        &self.kubelet_root
    }

    /// Volumes that have a state file.
    ///
    /// # Errors
    /// The state folder cannot be read.
    pub fn known(&self) -> Result<Vec<VolumeState>, Failure> {
        self.states.load().map_err(Failure::State)
    }

    /// Where volumes of this driver are mounted, known or not.
    ///
    /// # Errors
    /// The mount table cannot be read.
    pub fn mounts(&self) -> Result<Vec<PathBuf>, Failure> {
        self.mounter.all(&self.kubelet_root).map_err(Failure::Mount)
    }

    /// Writes a volume's state file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn remember(&self, state: &VolumeState) -> Result<(), Failure> {
        self.states.save(state).map_err(Failure::State)
    }

    /// Removes a volume's state file, after everything else of it.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget(&self, volume: &VolumeId) -> Result<(), Failure> {
        self.budget.free(volume);
        self.states.remove(volume).map_err(Failure::State)
    }

    /// What is mounted at `target`.
    ///
    /// # Errors
    /// It cannot be found out.
    pub fn look(&self, target: &Target) -> Result<Found, Failure> {
        match self.place(target)? {
            Some(place) => self.mounter.look(&place).map_err(|cause| at(target, cause)),
            None => Ok(Found::Nothing),
        }
    }

    /// Mounts a volume with these files. The state first, so that whatever comes after it can be undone; the mount last, so
    /// that it is whole.
    ///
    /// # Errors
    /// The step that failed. Nothing is left behind then.
    pub fn mount(
        &self,
        state: &VolumeState,
        target: &Target,
        files: &[VolumeFile],
        owner: Owner,
    ) -> Result<(), Failure> {
        self.budget.mount(&state.volume, &state.pod, budget::size(files))?;
        self.remember(state).inspect_err(|_| self.budget.free(&state.volume))?;
        let mounted = self.attach(state, target, files, owner);
        if mounted.is_err() {
            // The error that is told is the first one; what cannot be undone now is undone at the next start.
            let _ = self.remove_folder(target);
            let _ = self.forget(&state.volume);
        }
        mounted
    }

    fn attach(
        &self,
        state: &VolumeState,
        target: &Target,
        files: &[VolumeFile],
        owner: Owner,
    ) -> Result<(), Failure> {
        let place = self.place(target)?.ok_or_else(|| at(target, io::ErrorKind::NotFound.into()))?;
        place.parent.make(&place.name, TARGET_MODE).map_err(|cause| at(target, cause))?;
        let found = place.open().and_then(|folder| folder.entries()).map_err(|cause| at(target, cause))?;
        if !found.is_empty() {
            return Err(Failure::Occupied(target.path.clone()));
        }
        let options = Options { owner, context: state.capability.context.clone() };
        let tmpfs = self.mounter.create(&options).map_err(Failure::Mount)?;
        writer::write(&tmpfs.root, files, owner, state.published_at)?;
        self.mounter.attach(tmpfs, &place).map_err(Failure::Mount)
    }

    /// Takes a volume down, whatever of it is there; its state file stays.
    ///
    /// # Errors
    /// Something of somebody else is mounted there, or the system refuses.
    pub fn take_down(&self, target: &Target) -> Result<(), Failure> {
        let Some(place) = self.place(target)? else { return Ok(()) };
        for _ in 0..STACKED {
            match self.mounter.look(&place).map_err(|cause| at(target, cause))? {
                Found::Nothing => break,
                Found::Foreign => return Err(Failure::Foreign(target.path.clone())),
                Found::Ours => {
                    let emptied = place.open().and_then(|root| writer::empty(&root));
                    if let Err(error) = emptied {
                        tracing::warn!(path = %place.path.display(), %error, "a volume could not be emptied before it was unmounted");
                    }
                    self.mounter.detach(&place).map_err(Failure::Mount)?;
                }
            }
        }
        place.parent.remove_folder(&place.name).map(drop).map_err(|cause| at(target, cause))
    }

    /// Removes the folder a volume was or was to be mounted over, if it is still there and empty.
    ///
    /// # Errors
    /// It is not empty, or the system refuses.
    pub fn remove_folder(&self, target: &Target) -> Result<(), Failure> {
        let Some(place) = self.place(target)? else { return Ok(()) };
        place.parent.remove_folder(&place.name).map(drop).map_err(|cause| at(target, cause))
    }

    /// Makes a mounted volume hold what was fetched.
    ///
    /// # Errors
    /// Rendering or writing failed; what was there is still there.
    pub async fn rewrite(
        self: &Arc<Self>,
        mounted: &Arc<MountedVolume>,
        volume: &Volume,
        fetched: &Fetched,
    ) -> Result<WriteResult, Failure> {
        let (files, owner) = (volume.render(fetched)?, Owner::of(volume));
        let (disk, mounted) = (Arc::clone(self), Arc::clone(mounted));
        let write = move || {
            let outcome = disk.with_files(&mounted, |root| {
                let (id, pod) = (&mounted.state.volume, &mounted.state.pod);
                let taken = disk.mounter.taken(root).map_err(WriteError::Look)?;
                let room = |new: u64| disk.budget.rotate(id, pod, taken.saturating_add(new));
                let written = writer::write_within(root, &files, owner, Timestamp::now(), room);
                // Also where it failed in the middle.
                disk.count(&mounted, root)?;
                written
            });
            Ok::<_, Failure>(outcome?.unwrap_or(WriteResult::Unchanged))
        };
        spawn_blocking(write).await?
    }

    /// Removes files of earlier generations.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn sweep(&self, mounted: &MountedVolume) -> Result<(), Failure> {
        let sweep = |root: &Folder| {
            writer::sweep(root)?;
            self.count(mounted, root)
        };
        self.with_files(mounted, sweep).map(drop)
    }

    /// How full a mounted volume is; `None` if it is on its way out.
    ///
    /// # Errors
    /// It cannot be found out.
    pub fn usage(&self, mounted: &MountedVolume) -> Result<Option<Usage>, Failure> {
        self.with_files(mounted, usage)
    }

    /// Does something with a volume's files, unless it is on its way out. Looks first: where our mount is not, a secret
    /// would be written to the node's disk.
    fn with_files<T>(
        &self,
        mounted: &MountedVolume,
        work: impl FnOnce(&Folder) -> Result<T, WriteError>,
    ) -> Result<Option<T>, Failure> {
        let gone = mounted.gone.lock().unwrap_or_else(PoisonError::into_inner);
        if *gone {
            return Ok(None);
        }
        let target = &mounted.target;
        let place = self.place(target)?.ok_or_else(|| at(target, io::ErrorKind::NotFound.into()))?;
        if self.mounter.look(&place).map_err(|cause| at(target, cause))? != Found::Ours {
            return Err(at(target, io::Error::other("its mount is gone")));
        }
        let root = place.open().map_err(|cause| at(target, cause))?;
        Ok(Some(work(&root)?))
    }

    /// What the volume takes of the budget: what is in it now.
    fn count(&self, mounted: &MountedVolume, root: &Folder) -> Result<(), WriteError> {
        let taken = self.mounter.taken(root).map_err(WriteError::Look)?;
        self.budget.settle(&mounted.state.volume, &mounted.state.pod, taken);
        Ok(())
    }

    /// The way to a target; `None` if the folder it is in is gone.
    pub(crate) fn place(&self, target: &Target) -> Result<Option<MountPoint>, Failure> {
        let root = Folder::open(&self.kubelet_root)
            .map_err(|cause| Failure::Target { path: self.kubelet_root.clone(), cause })?;
        match root.enter(&target.parent) {
            Ok(parent) => {
                Ok(Some(MountPoint { parent, name: target.name.clone(), path: target.path.clone() }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(at(target, cause)),
        }
    }
}

fn usage(root: &Folder) -> Result<Usage, WriteError> {
    let fill = fstatvfs(root).map_err(|error| WriteError::Look(error.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(fill.f_frsize);
    Ok(Usage { bytes: (bytes(fill.f_blocks), bytes(fill.f_bavail)), inodes: (fill.f_files, fill.f_favail) })
}

fn at(target: &Target, cause: io::Error) -> Failure {
    if cause.kind() == io::ErrorKind::DirectoryNotEmpty {
        return Failure::Occupied(target.path.clone());
    }
    Failure::Target { path: target.path.clone(), cause }
}

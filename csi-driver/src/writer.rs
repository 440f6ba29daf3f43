//! The files of a volume, replaced all at once. As the kubelet does it for its own volumes: the files of a generation
//! stand in a folder `..<time>.<random>`, the link `..data` points to it, and the names the pod sees are links through
//! `..data`. A new generation is written beside the old one and `..data` is renamed over: a reader sees the old files or
//! the new ones, never some of both through one path, never half of one. It knows nothing of secrets' origin or of mounts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
};

use jiff::Timestamp;
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, Uid, fchmod, fchown, fstat, linkat, renameat, symlinkat, unlinkat},
    io::Errno,
};
use strongroom_client::volume::{File as VolumeFile, Volume};
use zeroize::Zeroizing;

use crate::{
    budget::{self, OverBudget},
    folder::{Entry, Folder},
    limits,
};

/// Points to the generation that is served.
const DATA: &str = "..data";
/// The next `..data` and the next visible link, which are renamed over the old ones.
const NEXT: &str = "..data_tmp";
const NEXT_LINK: &str = "..link_tmp";

/// Who the files belong to; the driver's own user and group where none is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

impl Owner {
    /// The owner that a volume's description names.
    pub fn of(volume: &Volume) -> Self {
        Self { uid: volume.uid, gid: volume.gid }
    }

    /// The mode of folders: with a group, nobody else has anything to look for there.
    pub fn folder_mode(self) -> Mode {
        if self.gid.is_some() { Mode::from_raw_mode(0o750) } else { Mode::from_raw_mode(0o755) }
    }

    fn give(self, file: impl AsFd) -> io::Result<()> {
        if self.uid.is_some() || self.gid.is_some() {
            fchown(file, self.uid.map(Uid::from_raw), self.gid.map(Gid::from_raw))?;
        }
        Ok(())
    }
}

/// The result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteResult {
    /// Everything was there already; nothing was touched, so that nobody who waits for changes is woken.
    Unchanged,
    /// A new generation is served; the last one is still there for readers on their way, until [`sweep`].
    Written,
}

/// Which step failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The generation that is served cannot be read.
    #[error("reading the volume: {0}")]
    Look(#[source] io::Error),
    /// The folder for the new generation.
    #[error("creating the folder of a new generation: {0}")]
    Stage(#[source] io::Error),
    /// Nothing was written.
    #[error("{0}")]
    Budget(#[from] OverBudget),
    #[error("writing the file {name:?}: {cause}")]
    File { name: String, cause: io::Error },
    #[error("switching to the new generation: {0}")]
    Swap(#[source] io::Error),
    /// The names that the pod sees.
    #[error("linking the files' names: {0}")]
    Links(#[source] io::Error),
    /// What is left of earlier generations.
    #[error("removing earlier generations: {0}")]
    Sweep(#[source] io::Error),
}

/// Makes `root` hold exactly `files`.
///
/// # Errors
/// The step that failed. What was served before is still served, unless only links or the clean-up failed: then the new
/// files are.
pub fn write(
    root: &Folder,
    files: &[VolumeFile],
    owner: Owner,
    now: Timestamp,
) -> Result<WriteResult, WriteError> {
    write_within(root, files, owner, now, |_| Ok(()))
}

/// The same, if there is `room` for the bytes that are new. A file that stays as it is takes none: it is the same file in both
/// generations.
///
/// # Errors
/// As [`write()`], or there is no room; then nothing was touched.
pub fn write_within(
    root: &Folder,
    files: &[VolumeFile],
    owner: Owner,
    now: Timestamp,
    room: impl FnOnce(u64) -> Result<(), OverBudget>,
) -> Result<WriteResult, WriteError> {
    let current = generation(root).map_err(WriteError::Look)?;
    if let Some(current) = &current
        && is_same(root, current, files, owner).map_err(WriteError::Look)?
    {
        link_names(root, files).map_err(WriteError::Links)?;
        return Ok(WriteResult::Unchanged);
    }
    let old = current.as_deref().and_then(|current| root.enter_here(current).ok());
    let kept = kept(old.as_ref(), files, owner).map_err(WriteError::Look)?;
    room(budget::size(files.iter().zip(&kept).filter(|(_, kept)| !**kept).map(|(file, _)| file)))?;
    let stage = stage_name(now);
    root.make(&stage, owner.folder_mode()).map_err(WriteError::Stage)?;
    let staged = root.enter_here(stage.as_str()).map_err(WriteError::Stage)?;
    owner.give(&staged).map_err(WriteError::Stage)?;
    for (file, kept) in files.iter().zip(kept) {
        let name = file.name.as_str();
        let placed = match &old {
            Some(old) if kept => keep(old, &staged, name, owner),
            _ => put(&staged, name, file, owner),
        };
        placed
            .map_err(|cause| WriteError::File { name: name.to_owned(), cause })
            // Not even half of a generation stays behind; the error that is told is the first one.
            .inspect_err(|_| drop(remove_named(root, &stage)))?;
    }
    swap(root, &stage).map_err(WriteError::Swap)?;
    link_names(root, files).map_err(WriteError::Links)?;
    remove_others(root, &[Some(stage), current]).map_err(WriteError::Sweep)?;
    Ok(WriteResult::Written)
}

/// Removes the generations that are no longer served, and what a crash may have left.
///
/// # Errors
/// Something cannot be removed.
pub fn sweep(root: &Folder) -> Result<(), WriteError> {
    let current = generation(root).map_err(WriteError::Look)?;
    remove_others(root, &[current]).map_err(WriteError::Sweep)
}

/// Removes everything.
///
/// # Errors
/// Something cannot be removed.
pub fn empty(root: &Folder) -> io::Result<()> {
    root.entries()?.iter().try_for_each(|entry| root.remove(entry))
}

/// The name of the folder that `..data` points to; `None` if it points to nothing of ours.
fn generation(root: &Folder) -> io::Result<Option<String>> {
    let link = root.link(DATA)?.and_then(|target| target.into_string().ok());
    Ok(link.filter(|name| name.starts_with("..") && !name.contains('/') && name.len() > 2))
}

fn stage_name(now: Timestamp) -> String {
    // The standard library seeds its hash maps from the system: enough noise for a name nobody has yet.
    let random = RandomState::new().build_hasher().finish();
    format!("..{}.{random:016x}", now.strftime("%Y_%m_%d_%H_%M_%S"))
}

/// Which of these files are in the generation that is served, just as they are to be.
fn kept(old: Option<&Folder>, files: &[VolumeFile], owner: Owner) -> io::Result<Vec<bool>> {
    let is_kept = |file: &VolumeFile| match old.map(|old| old.open_file(file.name.as_str())) {
        Some(Ok(open)) => is_same_file(open, file, owner),
        // Whatever is there instead, the new one is written.
        Some(Err(_)) | None => Ok(false),
    };
    files.iter().map(is_kept).collect()
}

/// Gives a file of the old generation to the new one.
fn keep(old: &Folder, staged: &Folder, name: &str, owner: Owner) -> io::Result<()> {
    make_above(staged, name, owner)?;
    match name.rsplit_once('/') {
        Some((above, last)) => {
            let (from, to) = (old.enter_here(above)?, staged.enter_here(above)?);
            Ok(linkat(from, last, to, last, AtFlags::empty())?)
        }
        None => Ok(linkat(old, name, staged, name, AtFlags::empty())?),
    }
}

/// Makes the folders that a file is in.
fn make_above(staged: &Folder, name: &str, owner: Owner) -> io::Result<()> {
    name.match_indices('/')
        .try_for_each(|(at, _)| make_below(staged, name.get(..at).unwrap_or_default(), owner))
}

fn put(staged: &Folder, name: &str, file: &VolumeFile, owner: Owner) -> io::Result<()> {
    make_above(staged, name, owner)?;
    let created = staged.create_file(name)?;
    owner.give(&created)?;
    let mut open = File::from(created);
    open.write_all(file.content.expose())?;
    fchmod(&open, Mode::from_raw_mode(file.mode.bits()))?;
    Ok(())
}

/// Makes the last folder of `path`; those before it are there.
fn make_below(staged: &Folder, path: &str, owner: Owner) -> io::Result<()> {
    let made = match path.rsplit_once('/') {
        Some((above, last)) => staged.enter_here(above)?.make(last, owner.folder_mode())?,
        None => staged.make(path, owner.folder_mode())?,
    };
    if made { owner.give(staged.enter_here(path)?) } else { Ok(()) }
}

fn swap(root: &Folder, stage: &str) -> io::Result<()> {
    replace_symlink(root, stage, NEXT)?;
    Ok(renameat(root, NEXT, root, DATA)?)
}

/// Makes a link, in place of one that a crash may have left.
fn replace_symlink(root: &Folder, target: &str, name: &str) -> io::Result<()> {
    match symlinkat(target, root, name) {
        Err(Errno::EXIST) => {
            unlinkat(root, name, AtFlags::empty())?;
            Ok(symlinkat(target, root, name)?)
        }
        other => Ok(other?),
    }
}

/// Makes the pod see a link for each first segment, and nothing else.
fn link_names(root: &Folder, files: &[VolumeFile]) -> io::Result<()> {
    let wanted: BTreeSet<&str> =
        files.iter().filter_map(|file| file.name.as_str().split('/').next()).collect();
    for name in &wanted {
        let target = format!("{DATA}/{name}");
        let linked = root.link(name)?;
        if linked.is_some_and(|found| found.to_bytes() == target.as_bytes()) {
            continue;
        }
        replace_symlink(root, &target, NEXT_LINK)?;
        renameat(root, NEXT_LINK, root, *name)?;
    }
    for entry in root.entries()? {
        let name = entry.name.to_bytes();
        let stays = name.starts_with(b"..") || wanted.iter().any(|wanted| wanted.as_bytes() == name);
        if !stays {
            root.remove(&entry)?;
        }
    }
    Ok(())
}

/// Removes every hidden entry but `..data` and these.
fn remove_others(root: &Folder, stay: &[Option<String>]) -> io::Result<()> {
    let stays = |name: &[u8]| {
        !name.starts_with(b"..")
            || name == DATA.as_bytes()
            || stay.iter().flatten().any(|stays| stays.as_bytes() == name)
    };
    root.entries()?
        .iter()
        .filter(|entry| !stays(entry.name.to_bytes()))
        .try_for_each(|entry| root.remove(entry))
}

fn remove_named(root: &Folder, name: &str) -> io::Result<()> {
    let entries = root.entries()?;
    entries.iter().filter(|e| e.name.to_bytes() == name.as_bytes()).try_for_each(|entry| root.remove(entry))
}

/// Whether the generation holds these files with these contents, modes and owners, and no others.
fn is_same(root: &Folder, current: &str, files: &[VolumeFile], owner: Owner) -> io::Result<bool> {
    let folder = match root.enter_here(current) {
        Ok(folder) => folder,
        // Not a whole generation of ours: write a new one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut found = BTreeMap::new();
    walk(&folder, "", limits::FOLDER_DEPTH, &mut found)?;
    if found.len() != files.len() {
        return Ok(false);
    }
    for file in files {
        let Some(open) = found.remove(file.name.as_str()) else { return Ok(false) };
        if !is_same_file(open, file, owner)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All files below `folder`, by their names from the generation on.
fn walk(folder: &Folder, above: &str, depth: usize, found: &mut BTreeMap<String, OwnedFd>) -> io::Result<()> {
    let deeper = depth.checked_sub(1).ok_or_else(|| io::Error::other("folders are nested too deeply"))?;
    for Entry { name, kind } in folder.entries()? {
        let Ok(name) = name.into_string() else { continue };
        let path = if above.is_empty() { name.clone() } else { format!("{above}/{name}") };
        if kind == FileType::Directory {
            walk(&folder.enter_here(name.as_str())?, &path, deeper, found)?;
        } else {
            found.insert(path, folder.open_file(&name)?);
        }
    }
    Ok(())
}

fn is_same_file(open: OwnedFd, file: &VolumeFile, owner: Owner) -> io::Result<bool> {
    let stat = fstat(&open)?;
    let wanted = file.content.expose();
    let same = stat.st_mode & 0o7777 == file.mode.bits()
        && owner.uid.is_none_or(|uid| uid == stat.st_uid)
        && owner.gid.is_none_or(|gid| gid == stat.st_gid)
        && u64::try_from(stat.st_size).is_ok_and(|size| size == wanted.len() as u64);
    if !same {
        return Ok(false);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(wanted.len()));
    File::from(open).take(wanted.len() as u64).read_to_end(&mut bytes)?;
    Ok(*bytes == wanted)
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;

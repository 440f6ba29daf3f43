//! The data directory: who may read it, who has it, whether it was ever finished, and what is left of a crash. It knows
//! the names of sled's files and nothing of their contents.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::log::{self, Damage};

const FORMAT: &str = "FORMAT";
const FORMAT_TEXT: &str = "strongroom sled 1\n";

/// File systems whose fsync, locks or renames may promise less than ours need: NFS, SMB (3), FUSE, 9p, Ceph, AFS.
const UNSAFE: [u32; 8] =
    [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x6573_5546, 0x0102_1997, 0x00c3_6400, 0x5346_414f];

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Reading or writing the directory.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// Another process has it.
    #[error("{} is in use by another server: stop it first, or give this one a directory of its own", .0.display())]
    InUse(PathBuf),
    /// Others may read the directory.
    #[error("{} may be read by others (mode {mode:o}): run `chmod {wanted:o} {}`", path.display(), path.display())]
    Permissions {
        /// What is too open.
        path: PathBuf,
        mode: u32,
        /// What it should be.
        wanted: u32,
    },
    /// A file system that may lose what it has acknowledged.
    #[error("{} is on a network or user-space file system (type {kind:#x}), which may lose acknowledged writes: use a local disk, or allow it explicitly", path.display())]
    Filesystem {
        path: PathBuf,
        /// `f_type` of statfs.
        kind: u32,
    },
    /// Made by another version, or not by us.
    #[error("{} holds no format that this version reads: use the version that made it. If that is this one, its file FORMAT was damaged: run `strongroom-server salvage --into NEW-DIRECTORY` with the same configuration", .0.display())]
    Format(PathBuf),
    /// sled would erase what is still whole.
    #[error("the database in {path} is not whole, so it was not opened and not a byte of it was changed: {damage}. Run `strongroom-server salvage --into NEW-DIRECTORY` with the same configuration: it copies everything that is intact and names what is lost", path = path.display())]
    NotWhole {
        /// The directory.
        path: PathBuf,
        /// What is wrong, and how much of it.
        damage: Damage,
    },
    /// sled does not open it.
    #[error("the database in {path} does not open ({reason}): nothing was deleted. Run `strongroom-server salvage --into NEW-DIRECTORY` with the same configuration, or restore the latest backup into an empty directory", path = path.display())]
    Damaged {
        path: PathBuf,
        /// What sled said.
        reason: String,
    },
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { action, path, source }
}

/// Makes the directory if it is missing, or asserts that only we can read it.
pub(super) fn prepare(directory: &Path, allow_unsafe: bool) -> Result<(), OpenError> {
    if !directory.exists() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(io_error("create", directory))?;
    }
    private(directory, 0o700)?;
    let kind = rustix::fs::statfs(directory)
        .map_err(io::Error::from)
        .map_err(io_error("examine", directory))?
        .f_type;
    // The field is signed on some platforms; the magic numbers are 32 bits everywhere.
    let kind = kind as u32;
    durable(directory, kind, allow_unsafe)
}

/// Whether a file system of this `f_type` keeps what it has synced.
pub(super) fn durable(directory: &Path, kind: u32, allow_unsafe: bool) -> Result<(), OpenError> {
    if UNSAFE.contains(&kind) && !allow_unsafe {
        return Err(OpenError::Filesystem { path: directory.to_owned(), kind });
    }
    Ok(())
}

/// Takes the directory for this process. sled has a lock of its own, but it repairs before taking it.
pub(super) fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("LOCK");
    let opened = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(io_error("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse(directory.to_owned())),
        Err(error) => Err(io_error("lock", &path)(error.into())),
    }
}

/// Whether a first start was finished here. If one was interrupted, removes what it left.
pub(super) fn initialised(directory: &Path) -> Result<bool, OpenError> {
    let path = directory.join(FORMAT);
    let damaged = |what: &str| OpenError::Damaged { path: directory.to_owned(), reason: what.to_owned() };
    match fs::read(&path) {
        Ok(text) if text == FORMAT_TEXT.as_bytes() => {
            if !directory.join("db").exists() {
                // sled would make an empty one.
                return Err(damaged("its file db is missing"));
            }
            let files = [FORMAT, "db", "conf"].map(|name| directory.join(name));
            files.iter().filter(|file| file.exists()).try_for_each(|file| private(file, 0o600))?;
            Ok(true)
        }
        Ok(text) if names_another_version(&text) => Err(OpenError::Format(directory.to_owned())),
        Ok(_) => Err(damaged("its file FORMAT is damaged")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A first start writes no commit. What has one is data, of a careless copy, say, and is not ours to delete.
            if log::holds_commits(directory).map_err(io_error("read the log of", directory))? {
                return Err(damaged("its file FORMAT is missing"));
            }
            start_over(directory)?;
            Ok(false)
        }
        Err(error) => Err(io_error("read", &path)(error)),
    }
}

fn names_another_version(text: &[u8]) -> bool {
    let number = text.strip_prefix(b"strongroom sled ").and_then(|rest| rest.strip_suffix(b"\n"));
    number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

fn start_over(directory: &Path) -> Result<(), OpenError> {
    let mut leftovers = snapshots(directory)?;
    leftovers.extend(["conf", "db", "FORMAT.new"].map(|name| directory.join(name)));
    for path in leftovers {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &path)(error));
            }
            _ => {}
        }
    }
    // Only if it is empty, as a first start leaves it.
    let blobs = directory.join("blobs");
    match fs::remove_dir(&blobs) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &blobs)(error)),
        _ => Ok(()),
    }
}

/// Removes the snapshots whose writing was interrupted: sled takes them for finished ones and then refuses to open.
pub(super) fn remove_unfinished_snapshots(directory: &Path) -> Result<(), OpenError> {
    for path in snapshots(directory)? {
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

/// The snapshot that sled goes by.
pub(super) fn last_snapshot(directory: &Path) -> Result<Option<PathBuf>, OpenError> {
    let finished = |path: &PathBuf| path.extension().is_none_or(|extension| extension != "generating");
    Ok(snapshots(directory)?.into_iter().filter(finished).max())
}

/// Puts the snapshots where sled does not look: it rebuilds them from its log, losing nothing.
pub(super) fn set_snapshots_aside(directory: &Path) -> Result<(), OpenError> {
    snapshots(directory)?.iter().try_for_each(|path| set_aside(directory, path))
}

/// Puts sled's settings where sled does not look: it writes them anew.
pub(super) fn set_settings_aside(directory: &Path) -> Result<(), OpenError> {
    set_aside(directory, &directory.join("conf"))
}

fn set_aside(directory: &Path, path: &Path) -> Result<(), OpenError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    fs::rename(path, directory.join(format!("aside.{name}"))).map_err(io_error("move", path))
}

/// Narrows what sled made with the umask of the process. Until then the directory keeps others out.
pub(super) fn narrow(directory: &Path) -> Result<(), OpenError> {
    let mut files = snapshots(directory)?;
    files.extend(["conf", "db"].map(|name| directory.join(name)));
    for path in files {
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(io_error("chmod", &path))?;
    }
    let blobs = directory.join("blobs");
    fs::set_permissions(&blobs, Permissions::from_mode(0o700)).map_err(io_error("chmod", &blobs))
}

/// Makes the files themselves durable, and that they are there: sled syncs neither its directory nor most of its files.
pub(super) fn sync(directory: &Path) -> Result<(), OpenError> {
    let mut paths = snapshots(directory)?;
    paths.extend(["conf", "db", "blobs"].map(|name| directory.join(name)));
    paths.push(directory.to_owned());
    // `.` has an empty parent.
    paths.extend(directory.parent().filter(|parent| !parent.as_os_str().is_empty()).map(Path::to_owned));
    paths.iter().try_for_each(|path| {
        File::open(path).and_then(|file| file.sync_all()).map_err(io_error("sync", path))
    })
}

/// Says for ever that the first start was finished.
pub(super) fn mark_initialised(directory: &Path) -> Result<(), OpenError> {
    replace(directory, FORMAT, FORMAT_TEXT).map_err(io_error("write", &directory.join(FORMAT)))
}

/// A whole file takes the place of the one before: there is never half of one, and it is durable when this returns.
pub(super) fn replace(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let new = directory.join(format!("{name}.new"));
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, directory.join(name))?;
    File::open(directory)?.sync_all()
}

fn private(path: &Path, wanted: u32) -> Result<(), OpenError> {
    let mode = fs::metadata(path).map_err(io_error("examine", path))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(OpenError::Permissions { path: path.to_owned(), mode, wanted });
    }
    Ok(())
}

fn snapshots(directory: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let list = || fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let mut found = list().map_err(io_error("list", directory))?;
    found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap.")));
    Ok(found)
}

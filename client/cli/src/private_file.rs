//! Files that only their owner may read: created whole and with the right mode, refused when others could have read them; and
//! one that lies in memory for a while, and is wiped.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// Largest file that is read: beyond it lies a mistake, not a token or a configuration.
const LARGEST: u64 = 64 << 10;

/// Replaces the file as a whole: a reader sees the old or the new one, never a part, and never with another mode.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let unfinished = Unfinished::create(path)?;
    unfinished.file().write_all(bytes).map_err(|error| Failure::local(path.display(), error))?;
    unfinished.finish()
}

/// A file that takes its place when all of it is written, and is gone if that never happens.
pub(crate) struct Unfinished {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Unfinished {
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let folder = folder(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
        let create = || -> io::Result<File> {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            // Left over by a process of the same number that was killed.
            let _ = fs::remove_file(&temporary);
            new(&temporary)
        };
        let file = create().map_err(|error| Failure::local(path.display(), error))?;
        Ok(Self { file, temporary, path: path.to_owned() })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn finish(self) -> Result<(), Failure> {
        let finish = || -> io::Result<()> {
            self.file.sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            File::open(folder(&self.path))?.sync_all()
        };
        finish().map_err(|error| Failure::local(self.path.display(), error))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Not there any more if it is finished.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// The parent of a bare name is empty, not ".".
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a file that must not exist.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fill(path, bytes).map_err(|error| Failure::local(path.display(), error))
}

fn fill(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// The content; `None` if there is no such file. Refuses one that others may read or write, or that belongs to one of them.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    read_unless(path, 0o077)
}

/// The same of what holds no secret: others may read it.
pub(crate) fn read_open(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    read_unless(path, 0o022)
}

fn read_unless(path: &Path, others: u32) -> Result<Option<Vec<u8>>, Failure> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::local(path.display(), error)),
    };
    let metadata = file.metadata().map_err(|error| Failure::local(path.display(), error))?;
    let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
    if mode & others != 0 {
        let problem = format!(
            "other users can access it (mode {mode:04o}); run chmod {:o} {}",
            mode & !others,
            path.display()
        );
        return Err(Failure::local(path.display(), problem));
    }
    if owner != rustix::process::geteuid().as_raw() && owner != 0 {
        return Err(Failure::local(path.display(), "it belongs to another user"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).map_err(|error| Failure::local(path.display(), error))?;
    Ok(Some(bytes))
}

/// Removes it; not being there is as good.
pub(crate) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::local(path.display(), error)),
        _ => Ok(()),
    }
}

/// A file in memory, in a folder of its own, where an editor may put its copies. All of them are wiped when it is dropped.
pub(crate) struct Scratch {
    folder: PathBuf,
    file: PathBuf,
    keep: bool,
}

impl Scratch {
    pub(crate) fn create(name: &str, bytes: &[u8]) -> Result<Self, Failure> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let folders = runtime.into_iter().chain([PathBuf::from("/dev/shm")]);
        let Some(memory) = folders.into_iter().find(|folder| folder.is_absolute() && is_in_memory(folder))
        else {
            let problem = "neither XDG_RUNTIME_DIR nor /dev/shm is a folder in memory, and a disk keeps what is deleted";
            return Err(Failure::local("there is no place for a private file", problem));
        };
        Self::create_in(&memory, name, bytes)
    }

    fn create_in(parent: &Path, name: &str, bytes: &[u8]) -> Result<Self, Failure> {
        let told = |error: io::Error| Failure::local(parent.display(), error);
        let id = std::process::id();
        // The name may be taken by a process of the same number, whose file was kept.
        let free =
            (0..100).map(|at| parent.join(format!("strongroom-{id}-{at}"))).find(|folder| !folder.exists());
        let folder = free.ok_or_else(|| Failure::local(parent.display(), "has too many kept files in it"))?;
        DirBuilder::new().mode(0o700).create(&folder).map_err(told)?;
        let scratch = Self { file: folder.join(name), folder, keep: false };
        fill(&scratch.file, bytes).map_err(told)?;
        Ok(scratch)
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// It stays; gives its name.
    pub(crate) fn keep(mut self) -> String {
        self.keep = true;
        self.file.display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            // A link is not followed: only what lies in this folder is ours.
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                let _ = wipe(&entry.path());
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Zeros over all that is there: pages of memory that are freed are not cleared before somebody else gets them.
fn wipe(file: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(file)?;
    let length = file.metadata()?.len();
    io::copy(&mut io::repeat(0).take(length), &mut file).map(drop)
}

#[cfg(target_os = "linux")]
fn is_in_memory(folder: &Path) -> bool {
    // Of linux/magic.h: tmpfs and ramfs.
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    rustix::fs::statfs(folder).is_ok_and(|stat| matches!(stat.f_type, TMPFS | RAMFS))
}

/// Only Linux has such folders by themselves.
#[cfg(not(target_os = "linux"))]
fn is_in_memory(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn written_for_the_owner_alone_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/token");
        assert!(read(&path).unwrap().is_none());
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn wider_modes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, b"x").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let sentence = read(&path).unwrap_err().to_string();
            assert!(sentence.contains("chmod 600"), "{sentence}");
            assert_eq!(read_open(&path).is_ok(), mode & 0o022 == 0, "{mode:o}");
        }
    }

    #[test]
    fn a_file_for_a_while_is_wiped_with_its_copies() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::create_in(parent.path(), "s.yaml", b"hunter2").unwrap();
        let (file, copy) = (scratch.file().to_owned(), scratch.file().with_extension("swp"));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        fs::write(&copy, "hunter2").unwrap();
        // Other names of the same files, by which what is left can be seen.
        let seen = [parent.path().join("1"), parent.path().join("2")];
        fs::hard_link(&file, &seen[0]).unwrap();
        fs::hard_link(&copy, &seen[1]).unwrap();
        drop(scratch);
        assert!(!file.parent().unwrap().exists());
        assert!(seen.iter().all(|path| fs::read(path).unwrap() == [0; 7]));

        let kept = Scratch::create_in(parent.path(), "s.yaml", b"x").unwrap().keep();
        assert_eq!(fs::read(kept).unwrap(), b"x");
    }

    #[test]
    fn create_never_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("share");
        create(&path, b"1").unwrap();
        assert!(create(&path, b"2").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"1");
    }
}

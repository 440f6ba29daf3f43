//! Folders as handles. Everything below one is reached through it, without following a symbolic link and without leaving
//! it, so that nobody can turn a path around between a check and its use.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::fs::{
    self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat2, readlinkat, unlinkat,
};

use crate::limits;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// An open folder.
#[derive(Debug)]
pub struct Folder(OwnedFd);

/// Something in a folder.
#[derive(Debug)]
pub struct Entry {
    pub name: CString,
    /// What it is; a symbolic link is a link, wherever it points to.
    pub kind: FileType,
}

impl Folder {
    /// The folder at a path that the operator chose; links in it are followed.
    ///
    /// # Errors
    /// There is none, or it may not be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(fs::open(path, FOLDER, Mode::empty())?))
    }

    /// The root of a mount that is nowhere in the tree yet, by the handle that the system gave out for it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn root_of(mount: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(openat2(mount, ".", FOLDER, Mode::empty(), BENEATH)?))
    }

    /// A folder below this one; `path` may have many segments.
    ///
    /// # Errors
    /// There is none, or a link or something else stands in the way.
    pub fn enter(&self, path: &str) -> io::Result<Self> {
        Ok(Self(openat2(&self.0, path, FOLDER, Mode::empty(), BENEATH)?))
    }

    /// The same for a folder of the same file system: a mount in the way is refused, too.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub fn enter_here(&self, name: impl rustix::path::Arg) -> io::Result<Self> {
        Ok(Self(openat2(&self.0, name, FOLDER, Mode::empty(), BENEATH.union(ResolveFlags::NO_XDEV))?))
    }

    /// Makes a folder in this one, whatever the umask says; `false` if it was there.
    ///
    /// # Errors
    /// It cannot be made, or is something other than a folder.
    pub fn make(&self, name: &str, mode: Mode) -> io::Result<bool> {
        match mkdirat(&self.0, name, Mode::RWXU) {
            Ok(()) => {
                let made = self.enter_here(name)?;
                fchmod(&made.0, mode)?;
                Ok(true)
            }
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A new file, not readable by anybody yet.
    ///
    /// # Errors
    /// It is there already, or cannot be made.
    pub fn create_file(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = BENEATH.union(ResolveFlags::NO_XDEV);
        Ok(openat2(&self.0, path, flags, Mode::RUSR | Mode::WUSR, resolve)?)
    }

    /// A file to read.
    ///
    /// # Errors
    /// There is none.
    pub fn open_file(&self, path: &str) -> io::Result<OwnedFd> {
        let resolve = BENEATH.union(ResolveFlags::NO_XDEV);
        Ok(openat2(&self.0, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }

    /// Where a link in this folder points to; `None` if there is no link of that name.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn link(&self, name: &str) -> io::Result<Option<CString>> {
        match readlinkat(&self.0, name, Vec::new()) {
            Ok(target) => Ok(Some(target)),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What is in it, without `.` and `..`.
    ///
    /// # Errors
    /// It cannot be read, or there is more than any volume of ours can have.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes() == b"." || name.to_bytes() == b".." {
                continue;
            }
            if found.len() >= limits::FOLDER_ENTRIES {
                return Err(io::Error::other("a folder has too many entries"));
            }
            found.push(Entry { name: name.to_owned(), kind: entry.file_type() });
        }
        Ok(found)
    }

    /// Removes an empty folder; `false` if there is none.
    ///
    /// # Errors
    /// It is not empty, or not a folder.
    pub fn remove_folder(&self, name: &str) -> io::Result<bool> {
        match unlinkat(&self.0, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an entry with everything below it. Links are removed, not followed; another file system is not entered.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn remove(&self, entry: &Entry) -> io::Result<()> {
        self.remove_to(entry, limits::FOLDER_DEPTH)
    }

    fn remove_to(&self, entry: &Entry, depth: usize) -> io::Result<()> {
        if entry.kind != FileType::Directory {
            return Ok(unlinkat(&self.0, &entry.name, AtFlags::empty())?);
        }
        let deeper = depth.checked_sub(1).ok_or_else(|| io::Error::other("folders are nested too deeply"))?;
        let folder = self.enter_here(&entry.name)?;
        for below in folder.entries()? {
            folder.remove_to(&below, deeper)?;
        }
        Ok(unlinkat(&self.0, &entry.name, AtFlags::REMOVEDIR)?)
    }

    /// A path of the system's own that leads to `name` in this folder, for calls that take no handle.
    pub fn path_of(&self, name: &str) -> String {
        format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd())
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_leads_out() {
        let home = tempfile::tempdir().unwrap();
        let inside = home.path().join("inside");
        std::fs::create_dir_all(inside.join("a")).unwrap();
        std::fs::create_dir(home.path().join("outside")).unwrap();
        symlink("../outside", inside.join("link")).unwrap();
        symlink("a", inside.join("harmless")).unwrap();
        let folder = Folder::open(&inside).unwrap();
        assert!(folder.enter("a").is_ok());
        for path in ["..", "../outside", "a/../../outside", "/tmp", "link", "harmless", "a/../../inside"] {
            assert!(folder.enter(path).is_err(), "{path}");
            assert!(folder.create_file(&format!("{path}/f")).is_err(), "{path}");
        }
    }

    #[test]
    fn removing_does_not_follow_links() {
        let home = tempfile::tempdir().unwrap();
        let inside = home.path().join("inside");
        std::fs::create_dir_all(inside.join("a/b")).unwrap();
        std::fs::write(home.path().join("precious"), "x").unwrap();
        symlink("../../precious", inside.join("a/link")).unwrap();
        symlink("..", inside.join("a/b/up")).unwrap();
        let folder = Folder::open(&inside).unwrap();
        for entry in folder.entries().unwrap() {
            folder.remove(&entry).unwrap();
        }
        assert!(folder.entries().unwrap().is_empty());
        assert!(home.path().join("precious").exists());
    }
}

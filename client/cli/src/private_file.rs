//! Files that only their owner may read: created whole and with the right mode, refused when others could have read them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use crate::failure::Failure;

/// Largest file that is read: beyond it lies a mistake, not a token or a configuration.
const LARGEST: u64 = 64 << 10;

/// Replaces the file as a whole: a reader sees the old or the new one, never a part, and never with another mode.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    // The parent of a bare name is empty, not ".".
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let write = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // Left over by a process of the same number that was killed.
        let _ = fs::remove_file(&temporary);
        fill(&temporary, bytes)?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| Failure::local(path.display(), error)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Creates a file that must not exist.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fill(path, bytes).map_err(|error| Failure::local(path.display(), error))
}

fn fill(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
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
    fn create_never_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("share");
        create(&path, b"1").unwrap();
        assert!(create(&path, b"2").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"1");
    }
}

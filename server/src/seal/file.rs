//! The file seal: the seal key in a file that only the server can read, so that it unseals by itself. As safe as the
//! place of the file: keep it on another medium than the data, or the seal protects nothing.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use zeroize::Zeroizing;

use crate::{
    config,
    crypto::{CryptoError, Entropy, Key},
};

const PREFIX: &[u8] = b"strongroom-file-key-1 ";
/// Prefix, 64 hex digits, line feed.
const BYTES: usize = 22 + 64 + 1;

/// Where the key file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSeal {
    path: PathBuf,
}

/// Why the key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileSealError {
    #[error("the key file {0} does not exist")]
    Missing(PathBuf),
    /// Others could have replaced or redirected it.
    #[error("the key file {0} is not a plain file; symbolic links are not followed: name the file itself")]
    NotPlain(PathBuf),
    /// Others can read it.
    #[error("the key file {path} has mode {mode:04o}: others may have read it; run `chmod 600 {path}`", path = path.display())]
    TooOpen {
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else can change it.
    #[error("the key file {0} belongs neither to the server's user nor to root")]
    ForeignOwner(PathBuf),
    /// Not what we wrote.
    #[error("the key file {0} does not hold `strongroom-file-key-1` and 64 hex digits")]
    Malformed(PathBuf),
    /// The system said no.
    #[error("the key file {path}: cannot {what}", path = path.display())]
    Io {
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        source: io::Error,
    },
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// Looks at the configured key file. There need not be one: init makes it.
pub fn inspect(settings: &config::Seal) -> Option<FileSealError> {
    let file = FileSeal::new(settings.key_file.as_ref()?);
    file.read().err().filter(|error| !matches!(error, FileSealError::Missing(_)))
}

/// The key in a file's content.
pub(super) fn parse(content: &[u8]) -> Option<Key> {
    let digits = content.strip_prefix(PREFIX)?.strip_suffix(b"\n")?;
    let key = Zeroizing::new(HEXLOWER.decode(digits).ok()?);
    Key::from_slice(&key).ok()
}

impl FileSeal {
    /// The file at `path`; nothing is touched yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key, if the file is a plain one that nobody else can read.
    ///
    /// # Errors
    /// See [`FileSealError`].
    pub fn read(&self) -> Result<Key, FileSealError> {
        let mut file = self.open()?;
        self.check(&file)?;
        // One byte more than expected, so that a longer file is seen.
        let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES + 1));
        let limit = u64::try_from(BYTES + 1).unwrap_or(0);
        Read::by_ref(&mut file).take(limit).read_to_end(&mut bytes).map_err(|e| self.io("read it", e))?;
        parse(&bytes).ok_or_else(|| FileSealError::Malformed(self.path.clone()))
    }

    /// The key in the file, or a new one in a new file.
    ///
    /// # Errors
    /// See [`FileSealError`].
    pub fn read_or_create(&self, entropy: &dyn Entropy) -> Result<Key, FileSealError> {
        match self.read() {
            Err(FileSealError::Missing(_)) => {
                self.create(&Key::random(entropy)?, entropy)?;
                self.read()
            }
            other => other,
        }
    }

    /// Writes a new file, durably, or leaves what is there alone.
    fn create(&self, key: &Key, entropy: &dyn Entropy) -> Result<(), FileSealError> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut unique = [0; 8];
        entropy.fill(&mut unique)?;
        let temporary = directory.join(format!(".strongroom-key-{}", HEXLOWER.encode(&unique)));
        let made = self.write(&temporary, key).and_then(|()| {
            // Unlike rename, this never replaces: two servers that start at once must not overwrite each other's key.
            renameat_with(CWD, &temporary, CWD, &self.path, RenameFlags::NOREPLACE)
                .map_err(|e| self.io("put it in place without replacing another", e.into()))
        });
        if made.is_err() {
            // What cannot be removed is said by the error already under way.
            let _ = std::fs::remove_file(&temporary);
        }
        made?;
        File::open(directory).and_then(|d| d.sync_all()).map_err(|e| self.io("sync its directory", e))
    }

    fn write(&self, temporary: &Path, key: &Key) -> Result<(), FileSealError> {
        let mut text = Zeroizing::new(String::with_capacity(BYTES));
        text.push_str("strongroom-file-key-1 ");
        HEXLOWER.encode_append(key.expose(), &mut text);
        text.push('\n');
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temporary)
            .map_err(|e| self.io("create it", e))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| self.io("write it", e))
    }

    fn open(&self) -> Result<File, FileSealError> {
        // NONBLOCK: a planted FIFO must not hang the start.
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
        OpenOptions::new().read(true).custom_flags(flags).open(&self.path).map_err(|e| {
            match rustix::io::Errno::from_io_error(&e) {
                Some(rustix::io::Errno::NOENT) => FileSealError::Missing(self.path.clone()),
                Some(rustix::io::Errno::LOOP) => FileSealError::NotPlain(self.path.clone()),
                _ => self.io("open it", e),
            }
        })
    }

    /// On the open file, so that nobody can exchange it between the check and the use.
    fn check(&self, file: &File) -> Result<(), FileSealError> {
        let meta = file.metadata().map_err(|e| self.io("look at it", e))?;
        if !meta.is_file() {
            return Err(FileSealError::NotPlain(self.path.clone()));
        }
        let mode = meta.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(FileSealError::TooOpen { path: self.path.clone(), mode });
        }
        if meta.uid() != 0 && meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(FileSealError::ForeignOwner(self.path.clone()));
        }
        Ok(())
    }

    fn io(&self, what: &'static str, source: io::Error) -> FileSealError {
        FileSealError::Io { path: self.path.clone(), what, source }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::crypto::SystemEntropy;

    #[test]
    fn created_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let seal = FileSeal::new(dir.path().join("key"));
        assert!(matches!(seal.read(), Err(FileSealError::Missing(_))));
        let first = seal.read_or_create(&SystemEntropy).unwrap();
        assert_eq!(seal.read_or_create(&SystemEntropy).unwrap().expose(), first.expose());
        assert_eq!(std::fs::metadata(seal.path()).unwrap().mode() & 0o7777, 0o600);
        assert!(seal.create(&first, &SystemEntropy).is_err(), "never replaces");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn refuses_what_others_could_have_touched() {
        let dir = tempfile::tempdir().unwrap();
        let seal = FileSeal::new(dir.path().join("key"));
        seal.read_or_create(&SystemEntropy).unwrap();
        let link = FileSeal::new(dir.path().join("link"));
        symlink(seal.path(), link.path()).unwrap();
        assert!(matches!(link.read(), Err(FileSealError::NotPlain(_))));
        assert!(matches!(FileSeal::new(dir.path()).read(), Err(FileSealError::NotPlain(_))));
        std::fs::set_permissions(seal.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        let sentence = seal.read().err().unwrap().to_string();
        assert!(sentence.contains("mode 0640") && sentence.contains("chmod 600 /"), "{sentence}");
    }

    #[test]
    fn refuses_other_content() {
        let dir = tempfile::tempdir().unwrap();
        let seal = FileSeal::new(dir.path().join("key"));
        seal.read_or_create(&SystemEntropy).unwrap();
        let good = std::fs::read(seal.path()).unwrap();
        let (mut longer, upper) = (good.clone(), good.to_ascii_uppercase());
        longer.push(b'\n');
        for bad in [&good[..good.len() - 1], &longer[..], &upper[..], &b""[..]] {
            std::fs::write(seal.path(), bad).unwrap();
            assert!(matches!(seal.read(), Err(FileSealError::Malformed(_))));
        }
    }
}

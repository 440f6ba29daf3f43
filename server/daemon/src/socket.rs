//! Unix sockets: where they may be, and how a stale one of an earlier process is replaced.

use std::{
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

/// Longest path of a Unix socket: the kernel's `sun_path` has 108 bytes, one of them for the end.
const PATH_BYTES: usize = 107;

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The kernel cuts longer paths off or refuses them.
    #[error(
        "the socket path {path} has {bytes} bytes, the system allows {}: choose a shorter folder",
        PATH_BYTES
    )]
    TooLong { path: PathBuf, bytes: usize },
    /// Something else is there, which is not deleted.
    #[error("{0} exists and is not a socket: remove it, or choose another path")]
    Occupied(PathBuf),
    /// The system said no.
    #[error("the socket {path}: {cause}")]
    Io { path: PathBuf, cause: io::Error },
}

/// A listening socket whose file goes away with it.
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a socket; removed when dropped, unless another process has put its own in that place.
pub struct SocketFile(Seat);

/// Where a socket is found, and which file that is.
#[derive(Clone)]
pub struct Seat {
    path: PathBuf,
    /// Device and number of the file.
    file: (u64, u64),
}

impl Seat {
    fn of(path: &Path) -> io::Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        Ok(Self { path: path.into(), file: (found.dev(), found.ino()) })
    }

    /// Whether whoever connects there reaches the socket that was bound, and not another one or none.
    pub fn is_taken(&self) -> bool {
        Self::of(&self.path).is_ok_and(|now| now.file == self.file)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl SocketFile {
    pub fn seat(&self) -> Seat {
        self.0.clone()
    }
}

impl Socket {
    /// Listens at `path`, in the place of a socket left behind. Only the owner may connect.
    ///
    /// # Errors
    /// See [`SocketError`].
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |cause| SocketError::Io { path: path.into(), cause };
        let bytes = path.as_os_str().len();
        if bytes > PATH_BYTES {
            return Err(SocketError::TooLong { path: path.into(), bytes });
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path).map_err(failed)?,
            Ok(_) => return Err(SocketError::Occupied(path.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let socket = Self { listener, file: SocketFile(Seat::of(path).map_err(failed)?) };
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
        Ok(socket)
    }

    /// The listener, and the file to hold on to while it serves.
    pub fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Already gone is as good, and a successor's is not ours to remove.
        if self.0.is_taken() {
            let _ = std::fs::remove_file(&self.0.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> SocketError {
        Socket::bind(path).err().unwrap()
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_goes_away_at_the_end() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("deep/csi.sock");
        std::mem::forget(Socket::bind(&path).unwrap());
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_stays() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("csi.sock");
        let old = Socket::bind(&path).unwrap();
        let seat = old.file.seat();
        assert!(seat.is_taken());
        let new = Socket::bind(&path).unwrap();
        assert!(!seat.is_taken());
        drop(old);
        assert!(path.exists() && new.file.seat().is_taken());
    }

    #[tokio::test]
    async fn what_is_not_a_socket_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(refusal(&path), SocketError::Occupied(_)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_path_that_is_too_long_is_told() {
        let error = refusal(Path::new(&format!("/tmp/{}/reg.sock", "x".repeat(100))));
        assert!(error.to_string().contains("has 114 bytes, the system allows 107"), "{error}");
    }
}

//! A volume's tmpfs. It is made away from the tree, filled there, and attached whole with one system call: a volume
//! that is mounted is a volume that is complete, and a driver killed before that call leaves no mount, because the
//! system takes a tmpfs back that nobody holds.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, StatxAttributes, StatxFlags, fstatvfs, statx},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
    },
};

use crate::{folder::Folder, limits, writer::Owner};

/// What our mounts are called in the mount table: the way to tell them from others.
pub const SOURCE: &str = "strongroom-csi";
/// The type of our mounts there.
const TYPE: &str = "tmpfs";
const TABLE: &str = "/proc/self/mountinfo";

/// What a new tmpfs is like.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Who its root belongs to; with a group, nobody else may enter.
    pub owner: Owner,
    /// The SELinux context of everything in it, where the kubelet gives one.
    pub context: Option<String>,
}

/// A folder that a volume is, or will be, mounted over.
#[derive(Debug)]
pub struct MountPoint {
    /// The folder it is in.
    pub parent: Folder,
    /// Its name in there.
    pub name: String,
    /// Where that is, for the log and the mount table.
    pub path: PathBuf,
}

/// What is mounted at a mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: an ordinary folder, or no folder at all.
    Nothing,
    /// A volume of this driver.
    Ours,
    /// Something else.
    Foreign,
}

/// A tmpfs that is not in the tree yet. It is gone when dropped.
pub struct Detached {
    pub root: Folder,
    handle: Handle,
}

/// How a mounter finds its own again.
enum Handle {
    Mount(OwnedFd),
    #[cfg(test)]
    Folder(PathBuf),
}

/// Makes, attaches, looks and detaches.
pub trait Mounter: Send + Sync {
    /// A new tmpfs.
    ///
    /// # Errors
    /// The system refuses.
    fn create(&self, options: &Options) -> io::Result<Detached>;

    /// Puts it over the folder at `place`.
    ///
    /// # Errors
    /// The system refuses; then it is gone.
    fn attach(&self, tmpfs: Detached, place: &MountPoint) -> io::Result<()>;

    /// What is uppermost there now.
    ///
    /// # Errors
    /// It cannot be found out.
    fn look(&self, place: &MountPoint) -> io::Result<Found>;

    /// Takes the uppermost mount away from `place`.
    ///
    /// # Errors
    /// The system refuses.
    fn detach(&self, place: &MountPoint) -> io::Result<()>;

    /// How many bytes of memory a volume takes, files that are removed and still open among them.
    ///
    /// # Errors
    /// It cannot be found out.
    fn taken(&self, root: &Folder) -> io::Result<u64>;

    /// Where below `root` volumes of this driver are mounted.
    ///
    /// # Errors
    /// The mount table cannot be read.
    fn all(&self, root: &Path) -> io::Result<Vec<PathBuf>>;
}

impl MountPoint {
    /// The folder itself, or the root of what is mounted there.
    ///
    /// # Errors
    /// There is none, or it is a link.
    pub fn open(&self) -> io::Result<Folder> {
        self.parent.enter(&self.name)
    }
}

/// Real mounts.
pub struct Linux {
    noswap: bool,
}

impl Linux {
    /// Tries out what the system can do, without leaving anything.
    ///
    /// # Errors
    /// It is too old, or this process may not mount.
    pub fn probe() -> io::Result<Self> {
        let explain = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!(
                    "{error}: this driver needs Linux 5.8 or later and the right to mount (a privileged container)"
                ),
            )
        };
        let noswap = Self { noswap: true };
        if noswap.create(&Options::default()).is_ok() {
            return Ok(noswap);
        }
        let plain = Self { noswap: false };
        plain.create(&Options::default()).map_err(explain)?;
        tracing::warn!(
            "this system cannot keep a tmpfs out of swap (Linux 6.4 or later can); secrets may be swapped out"
        );
        Ok(plain)
    }
}

impl Mounter for Linux {
    fn create(&self, options: &Options) -> io::Result<Detached> {
        let tmpfs = fsopen(TYPE, FsOpenFlags::FSOPEN_CLOEXEC)?;
        let set = |key: &str, value: &str| fsconfig_set_string(&tmpfs, key, value);
        set("source", SOURCE)?;
        set("size", &limits::TMPFS_BYTES.to_string())?;
        set("nr_inodes", &limits::TMPFS_INODES.to_string())?;
        set("mode", &format!("{:o}", options.owner.folder_mode().bits()))?;
        if let Some(uid) = options.owner.uid {
            set("uid", &uid.to_string())?;
        }
        if let Some(gid) = options.owner.gid {
            set("gid", &gid.to_string())?;
        }
        if let Some(context) = &options.context {
            set("context", context)?;
        }
        if self.noswap {
            fsconfig_set_flag(&tmpfs, "noswap")?;
        }
        fsconfig_create(&tmpfs)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        Ok(Detached { root: Folder::root_of(mount.as_fd())?, handle: Handle::Mount(mount) })
    }

    fn attach(&self, tmpfs: Detached, place: &MountPoint) -> io::Result<()> {
        let target = place.open()?;
        match tmpfs.handle {
            Handle::Mount(mount) => {
                let both_by_handle =
                    MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                Ok(move_mount(mount, "", target, "", both_by_handle)?)
            }
            #[cfg(test)]
            Handle::Folder(_) => Err(io::Error::other("not of this mounter")),
        }
    }

    fn look(&self, place: &MountPoint) -> io::Result<Found> {
        let folder = match place.open() {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        // STATX_MNT_ID, which rustix does not name.
        let with_mount = StatxFlags::from_bits_retain(0x1000);
        let stat = statx(&folder, "", AtFlags::EMPTY_PATH, with_mount)?;
        if !stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Ok(Found::Nothing);
        }
        let ours = find_line(|line| (line.id == stat.stx_mnt_id).then(|| line.is_ours()))?;
        Ok(if ours == Some(true) { Found::Ours } else { Found::Foreign })
    }

    fn detach(&self, place: &MountPoint) -> io::Result<()> {
        // By the parent's handle and not through a link; detached, because a volume that is empty need not wait for
        // a process that has it open.
        Ok(unmount(place.parent.path_of(&place.name), UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?)
    }

    fn taken(&self, root: &Folder) -> io::Result<u64> {
        let fill = fstatvfs(root)?;
        Ok(fill.f_blocks.saturating_sub(fill.f_bfree).saturating_mul(fill.f_frsize))
    }

    fn all(&self, root: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        find_line(|line| {
            if line.is_ours() {
                found.push(unescape(line.at));
            }
            None::<()>
        })?;
        found.retain(|path| path.starts_with(root));
        Ok(found)
    }
}

/// Goes through the mount table until `look` has an answer. Line by line: on a full node it is a large file, and it is
/// looked at for every change of a secret.
fn find_line<T>(mut look: impl FnMut(Line<'_>) -> Option<T>) -> io::Result<Option<T>> {
    let mut table = BufReader::new(File::open(TABLE)?);
    let mut line = String::new();
    while table.read_line(&mut line)? > 0 {
        if let Some(answer) = Line::parse(line.trim_end_matches('\n')).and_then(&mut look) {
            return Ok(Some(answer));
        }
        line.clear();
    }
    Ok(None)
}

/// A line of the mount table: proc_pid_mountinfo(5).
struct Line<'a> {
    id: u64,
    at: &'a str,
    kind: &'a str,
    source: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ');
        let mut system = system.split(' ');
        Some(Self {
            id: mount.next()?.parse().ok()?,
            at: mount.nth(3)?,
            kind: system.next()?,
            source: system.next()?,
        })
    }

    fn is_ours(&self) -> bool {
        self.kind == TYPE && self.source == SOURCE
    }
}

/// The mount table writes space, tab, line break and backslash as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, after.get(3..)) {
            (Some(code), Some(left)) => {
                plain.push(char::from(code));
                rest = left;
            }
            _ => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain.into()
}

#[cfg(test)]
pub(crate) mod fake {
    //! Mounts for tests without the right to mount: a tmpfs is a folder, attaching is a rename over the empty one.

    use std::{
        collections::{BTreeMap, VecDeque},
        sync::{Mutex, MutexGuard},
    };

    use super::*;

    #[derive(Default)]
    struct State {
        made: u32,
        mounted: BTreeMap<PathBuf, Found>,
        errors: VecDeque<io::Error>,
    }

    pub(crate) struct Fake {
        home: PathBuf,
        state: Mutex<State>,
    }

    impl Fake {
        /// `home` is on the file system of the places.
        pub(crate) fn new(home: &Path) -> Self {
            std::fs::create_dir_all(home).unwrap();
            Self { home: home.into(), state: Mutex::default() }
        }

        /// The next attaching fails.
        pub(crate) fn fail(&self, error: io::Error) {
            self.state().errors.push_back(error);
        }

        /// Somebody else has mounted something there.
        pub(crate) fn occupy(&self, path: &Path) {
            self.state().mounted.insert(path.into(), Found::Foreign);
        }

        pub(crate) fn mounted(&self) -> Vec<PathBuf> {
            self.state().mounted.keys().cloned().collect()
        }

        fn state(&self) -> MutexGuard<'_, State> {
            self.state.lock().unwrap()
        }
    }

    impl Mounter for Fake {
        fn create(&self, _options: &Options) -> io::Result<Detached> {
            let mut state = self.state();
            state.made += 1;
            let path = self.home.join(state.made.to_string());
            std::fs::create_dir(&path)?;
            Ok(Detached { root: Folder::open(&path)?, handle: Handle::Folder(path) })
        }

        fn attach(&self, tmpfs: Detached, place: &MountPoint) -> io::Result<()> {
            let mut state = self.state();
            if let Some(error) = state.errors.pop_front() {
                return Err(error);
            }
            place.open()?;
            let Handle::Folder(path) = tmpfs.handle else {
                return Err(io::Error::other("not of this mounter"));
            };
            std::fs::rename(path, &place.path)?;
            state.mounted.insert(place.path.clone(), Found::Ours);
            Ok(())
        }

        fn look(&self, place: &MountPoint) -> io::Result<Found> {
            Ok(self.state().mounted.get(&place.path).copied().unwrap_or(Found::Nothing))
        }

        fn detach(&self, place: &MountPoint) -> io::Result<()> {
            let mut state = self.state();
            state.made += 1;
            std::fs::rename(&place.path, self.home.join(state.made.to_string()))?;
            std::fs::create_dir(&place.path)?;
            state.mounted.remove(&place.path);
            Ok(())
        }

        /// A folder takes no memory.
        fn taken(&self, _: &Folder) -> io::Result<u64> {
            Ok(0)
        }

        fn all(&self, root: &Path) -> io::Result<Vec<PathBuf>> {
            let state = self.state();
            let ours =
                state.mounted.iter().filter(|(path, found)| **found == Found::Ours && path.starts_with(root));
            Ok(ours.map(|(path, _)| path.clone()).collect())
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// Whether real mounts can be tried. In CI they must be.
    pub(crate) fn may_mount() -> bool {
        let root = rustix::process::geteuid().is_root();
        assert!(root || std::env::var_os("CI").is_none(), "CI runs the mount tests, so it runs them as root");
        root
    }

    fn place(home: &Path) -> MountPoint {
        std::fs::create_dir_all(home.join("pod/mount")).unwrap();
        MountPoint {
            parent: Folder::open(&home.join("pod")).unwrap(),
            name: "mount".into(),
            path: home.join("pod/mount"),
        }
    }

    #[test]
    fn a_tmpfs_appears_whole_and_goes_away() {
        if !may_mount() {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let (place, linux) = (place(home.path()), Linux::probe().unwrap());
        assert_eq!(linux.look(&place).unwrap(), Found::Nothing);
        let owner = Owner { uid: None, gid: Some(2000) };
        let tmpfs = linux.create(&Options { owner, context: None }).unwrap();
        drop(tmpfs.root.create_file("f").unwrap());
        assert!(linux.all(home.path()).unwrap().is_empty());
        linux.attach(tmpfs, &place).unwrap();

        assert_eq!(linux.look(&place).unwrap(), Found::Ours);
        assert_eq!(linux.all(home.path()).unwrap(), std::slice::from_ref(&place.path));
        assert!(place.path.join("f").exists());
        let root = std::fs::metadata(&place.path).unwrap();
        assert_eq!((root.mode() & 0o7777, root.gid()), (0o750, 2000));
        let table = std::fs::read_to_string(TABLE).unwrap();
        let line = table.lines().find(|line| line.contains(&*place.path.display().to_string())).unwrap();
        for option in ["nosuid", "nodev", "noexec", "size=16384k", "gid=2000"] {
            assert!(line.contains(option), "{option} is missing in {line}");
        }
        linux.detach(&place).unwrap();
        assert_eq!(linux.look(&place).unwrap(), Found::Nothing);
        assert!(!place.path.join("f").exists());
    }

    #[test]
    fn a_tmpfs_that_is_not_attached_leaves_nothing() {
        if !may_mount() {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let place = place(home.path());
        drop(Linux::probe().unwrap().create(&Options::default()).unwrap());
        assert_eq!(Linux::probe().unwrap().look(&place).unwrap(), Found::Nothing);
    }

    #[test]
    fn a_foreign_mount_is_told_apart_and_a_link_is_no_place() {
        if !may_mount() {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let (place, linux) = (place(home.path()), Linux::probe().unwrap());
        rustix::mount::mount("other", &place.path, "tmpfs", rustix::mount::MountFlags::empty(), None)
            .unwrap();
        assert_eq!(linux.look(&place).unwrap(), Found::Foreign);
        linux.detach(&place).unwrap();

        std::os::unix::fs::symlink("mount", home.path().join("pod/link")).unwrap();
        let link = MountPoint { name: "link".into(), path: home.path().join("pod/link"), ..place };
        assert!(linux.attach(linux.create(&Options::default()).unwrap(), &link).is_err());
        assert!(linux.all(home.path()).unwrap().is_empty());
    }

    #[test]
    fn lines_of_the_table_are_read() {
        let line = Line::parse(
            "42 27 0:39 / /k/a\\040b rw,nosuid shared:7 master:1 - tmpfs strongroom-csi rw,size=4096k",
        )
        .unwrap();
        assert_eq!((line.id, line.is_ours()), (42, true));
        assert_eq!(unescape(line.at), Path::new("/k/a b"));
        assert_eq!(unescape("a\\"), Path::new("a\\"));
        assert!(Line::parse("garbage").is_none());
    }
}

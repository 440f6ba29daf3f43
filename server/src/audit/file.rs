//! The log on disk: a directory of segments `audit-<first seq, 20 digits>.jsonl`, written by one process. Knows files,
//! not what is in them.
//!
//! Where records are synced, zeros stand behind the end of the current segment, and the next lines overwrite them: a sync has then
//! neither a new length nor new blocks to write down. They are gone as soon as the segment is closed. After a crash they are
//! still there, and whoever reads the log takes the first of them for its end. Only file systems that overwrite in place gain by
//! it; on others an overwritten block would need another one, which a full disk does not have.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

/// Where the writer puts lines. A trait, so that tests can make it slow or let it fail.
pub(super) trait Log: Send {
    /// Appends all of it to the current segment; the operating system has it then.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when everything appended is on the disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Continues in a new segment. What was appended before is synced already.
    fn start_segment(&mut self, first_seq: u64) -> io::Result<()>;
    /// Makes sure, as far as the file system lets it, that [`RESERVE`] bytes can still be appended, whatever others do with it.
    fn reserve(&mut self) -> io::Result<Room>;
    /// Whether what was appended stands where the log is looked for. An error says that somebody took it away: nothing that
    /// is written from then on would ever be found.
    fn in_place(&self) -> io::Result<()>;
    /// Bytes in the current segment.
    fn segment_bytes(&self) -> u64;
    /// How full the file system is.
    fn usage(&self) -> io::Result<Usage>;
    /// The current segment becomes a plain file that holds lines and nothing else.
    fn close(&mut self) -> io::Result<()>;
}

/// Bytes that are kept free for the current segment: all that may wait in the queue, and the ends of all that is let in.
const RESERVE: u64 = 16 << 20;
/// On a small file system, no more than this part of it.
const RESERVE_PART: u64 = 16;
/// Zeros that are written at a time; half as many are left when more are due.
const AHEAD: u64 = 1 << 20;
const ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// File systems that overwrite in place, by their numbers in statfs(2): ext2 to ext4, XFS.
const IN_PLACE: [u64; 2] = [0xef53, 0x5846_5342];

/// What can be appended for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) bytes: u64,
    /// As much as there should be. If not, it is for the ends of what was let in before.
    pub(super) is_enough: bool,
}

/// How full a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub used: u64,
    /// Blocks that can still be had.
    pub available: u64,
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Most likely another server uses it.
    #[error(
        "the audit directory {0} is in use by another server: stop it first, or give this one a directory of its own"
    )]
    Locked(PathBuf),
    /// The system refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        what: &'static str,
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// One file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first_seq: u64,
    pub(super) path: PathBuf,
}

/// The locked directory. The lock ends with the value, also when the process is killed.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    handle: File,
}

/// The segment that is written to.
pub(super) struct SegmentFile {
    directory: Directory,
    path: PathBuf,
    file: File,
    /// Up to there stand lines.
    bytes: u64,
    /// Up to there stand zeros.
    length: u64,
    /// Up to there the file system has given blocks to the file, or would have to.
    allocated: u64,
    writes_ahead: bool,
}

impl FileError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

impl Usage {
    /// Above 98 %: nothing more is let in.
    pub(super) fn is_full(self) -> bool {
        u128::from(self.used) * 100 > u128::from(self.used.saturating_add(self.available)) * 98
    }
}

impl Directory {
    /// Makes it if needed, for the owner only, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        make(path).map_err(FileError::io("make", path))?;
        std::fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(FileError::io("restrict access to", path))?;
        let handle = File::open(path).map_err(FileError::io("open", path))?;
        match handle.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), handle }),
            Err(TryLockError::WouldBlock) => Err(FileError::Locked(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(FileError::io("lock", path)(source)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a block that is written again stays where it is.
    pub(super) fn overwrites_in_place(&self) -> bool {
        rustix::fs::fstatfs(&self.handle)
            .is_ok_and(|figures| u64::try_from(figures.f_type).is_ok_and(|kind| IN_PLACE.contains(&kind)))
    }
}

/// Durably: a power cut must not take the whole log away with its directory.
fn make(path: &Path) -> io::Result<()> {
    let there = path.ancestors().skip(1).find(|above| above.exists());
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let is_new = |above: &&Path| there.is_none_or(|there| above.starts_with(there));
    // `.` has an empty parent.
    let made = path.ancestors().skip(1).take_while(is_new).filter(|above| !above.as_os_str().is_empty());
    made.map(File::open).try_for_each(|above| above?.sync_all())
}

/// All segments of a directory, oldest first. Other files are none of our business.
pub(super) fn segments(directory: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(first_seq) = entry.file_name().to_str().and_then(first_seq) {
            segments.push(Segment { first_seq, path: entry.path() });
        }
    }
    segments.sort_unstable_by_key(|segment| segment.first_seq);
    Ok(segments)
}

fn first_seq(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

impl SegmentFile {
    /// Goes on in the segment that starts with `first_seq`, or makes it. It writes zeros ahead if each line is synced.
    pub(super) fn open(directory: Directory, first_seq: u64, writes_ahead: bool) -> Result<Self, FileError> {
        let path = segment_path(directory.path(), first_seq);
        let (file, bytes) = open_segment(&directory, &path).map_err(FileError::io("open", &path))?;
        Ok(Self { directory, path, file, bytes, length: bytes, allocated: bytes, writes_ahead })
    }

    /// Zeros for the next lines to overwrite, if they are due. They only take blocks that are the file's already, and the sync of
    /// the lines that were appended last makes them durable, so no line waits for them a second time.
    fn write_ahead(&mut self) -> io::Result<()> {
        if !self.writes_ahead || self.length >= self.bytes + AHEAD / 2 {
            return Ok(());
        }
        let end = self.allocated.min(self.length + AHEAD);
        while self.length < end {
            let part = ZEROS.len().min(usize::try_from(end - self.length).unwrap_or(usize::MAX));
            match self.file.write_at(ZEROS.get(..part).unwrap_or(&ZEROS), self.length) {
                Ok(written) => self.length += written as u64,
                // They are there for speed only: a file system that promised nothing may be full.
                Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Where the lines of a segment end: behind them may stand zeros, or the beginning of a line that is being written.
pub(super) fn end_of_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut part = Vec::with_capacity(ZEROS.len());
    while end > 0 {
        let from = end.saturating_sub(ZEROS.len() as u64);
        file.seek(SeekFrom::Start(from))?;
        part.clear();
        Read::by_ref(file).take(end - from).read_to_end(&mut part)?;
        if let Some(last) = part.iter().rposition(|byte| *byte != 0) {
            return Ok(from + last as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

fn segment_path(directory: &Path, first_seq: u64) -> PathBuf {
    directory.join(format!("audit-{first_seq:020}.jsonl"))
}

fn open_segment(directory: &Directory, path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.sync_all()?;
    // The name must be as durable as the lines that will stand under it.
    directory.handle.sync_all()?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

impl Log for SegmentFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.bytes)?;
        self.bytes += bytes.len() as u64;
        self.length = self.length.max(self.bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn start_segment(&mut self, first_seq: u64) -> io::Result<()> {
        // Only the last segment may end in zeros, also after a power cut: first this one, then the next.
        self.close()?;
        let path = segment_path(self.directory.path(), first_seq);
        let (file, bytes) = open_segment(&self.directory, &path)?;
        (self.file, self.path) = (file, path);
        (self.bytes, self.length, self.allocated) = (bytes, bytes, bytes);
        Ok(())
    }

    fn reserve(&mut self) -> io::Result<Room> {
        let figures = rustix::fs::fstatvfs(&self.directory.handle)?;
        let wanted = match figures.f_blocks.saturating_mul(figures.f_frsize) / RESERVE_PART {
            // A file system that does not say how large it is.
            0 => RESERVE,
            part => part.min(RESERVE),
        };
        if self.allocated.saturating_sub(self.bytes) < wanted / 2 {
            match fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.bytes, wanted) {
                Ok(()) => self.allocated = self.bytes + wanted,
                // What is there already is kept.
                Err(Errno::NOSPC | Errno::DQUOT) => {}
                // A file system that cannot promise anything. What is free now is the best that is known.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    let free = figures.f_bavail.saturating_mul(figures.f_frsize);
                    self.allocated = self.bytes + wanted.min(free / 2);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.write_ahead()?;
        let bytes = self.allocated.saturating_sub(self.bytes);
        Ok(Room { bytes, is_enough: bytes >= wanted / 2 })
    }

    fn in_place(&self) -> io::Result<()> {
        let ours = self.file.metadata()?;
        // Not through a link: that would be somebody else's way to say where the log is.
        let there = std::fs::symlink_metadata(&self.path)
            .map_err(|error| taken(&self.path, &format!("is not there any more ({error})")))?;
        if (there.dev(), there.ino()) != (ours.dev(), ours.ino()) || ours.nlink() == 0 {
            return Err(taken(&self.path, "is another file now"));
        }
        if ours.len() != self.length {
            let lengths = format!("has {} bytes, but {} were written", ours.len(), self.length);
            return Err(taken(&self.path, &lengths));
        }
        Ok(())
    }

    fn segment_bytes(&self) -> u64 {
        self.bytes
    }

    fn usage(&self) -> io::Result<Usage> {
        let figures = rustix::fs::fstatvfs(&self.directory.handle)?;
        let used = figures.f_blocks.saturating_sub(figures.f_bfree);
        Ok(Usage { used, available: figures.f_bavail })
    }

    fn close(&mut self) -> io::Result<()> {
        // What was kept free behind the end is free again.
        self.file.set_len(self.bytes)?;
        self.file.sync_all()?;
        (self.length, self.allocated) = (self.bytes, self.bytes);
        Ok(())
    }
}

fn taken(path: &Path, what: &str) -> io::Error {
    io::Error::other(format!("somebody took it away or changed it: {} {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn open(root: &Path, writes_ahead: bool) -> SegmentFile {
        SegmentFile::open(Directory::open(&root.join("audit")).unwrap(), 1, writes_ahead).unwrap()
    }

    #[test]
    fn one_process_at_a_time_and_only_the_owner() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("audit");
        let first = Directory::open(&path).unwrap();
        assert!(matches!(Directory::open(&path), Err(FileError::Locked(_))));
        let file = SegmentFile::open(first, 1, true).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&segments(&path).unwrap()[0].path), 0o600);
        drop(file);
        Directory::open(&path).unwrap();
    }

    #[test]
    fn what_was_taken_away_is_not_in_place() {
        type Taken = fn(&Path);
        let ways: [(&str, Taken); 6] = [
            ("renamed", |path| std::fs::rename(path, path.with_extension("old")).unwrap()),
            ("deleted", |path| std::fs::remove_file(path).unwrap()),
            ("cut", |path| File::options().write(true).open(path).unwrap().set_len(3).unwrap()),
            ("longer", |path| {
                File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
            }),
            ("replaced by its copy", |path| {
                std::fs::copy(path, path.with_extension("new")).unwrap();
                std::fs::rename(path.with_extension("new"), path).unwrap();
            }),
            ("with its folder", |path| {
                let folder = path.parent().unwrap();
                std::fs::rename(folder, folder.with_extension("old")).unwrap();
            }),
        ];
        for (way, take) in ways {
            let root = tempfile::tempdir().unwrap();
            for writes_ahead in [false, true] {
                let root = root.path().join(writes_ahead.to_string());
                let mut file = open(&root, writes_ahead);
                file.append(b"line\n").unwrap();
                file.reserve().unwrap();
                file.in_place().unwrap();
                take(&file.path);
                assert!(file.in_place().is_err(), "{way}");
            }
        }
    }

    #[test]
    fn room_is_kept_behind_the_end_and_given_back() {
        let root = tempfile::tempdir().unwrap();
        let mut file = open(root.path(), true);
        let blocks = |file: &SegmentFile| file.file.metadata().unwrap().blocks() * 512;
        let room = file.reserve().unwrap();
        assert!(room.is_enough && room.bytes > 0);
        file.append(b"line\n").unwrap();
        file.in_place().unwrap();
        assert_eq!(file.reserve().unwrap().bytes, room.bytes - 5);
        let (kept, first) = (blocks(&file), file.file.try_clone().unwrap());
        file.start_segment(2).unwrap();
        let given_back = first.metadata().unwrap().blocks() * 512;
        assert!(given_back <= kept && given_back < room.bytes, "{given_back} of {kept}");
    }

    #[test]
    fn lines_overwrite_zeros_and_a_closed_segment_has_none() {
        let root = tempfile::tempdir().unwrap();
        let mut file = open(root.path(), true);
        let path = file.path.clone();
        let line = [b'x'; 1000];
        let (mut written, mut lengths) = (0, Vec::new());
        while lengths.len() < 3 {
            file.append(&line).unwrap();
            file.reserve().unwrap();
            file.sync().unwrap();
            file.in_place().unwrap();
            written += line.len();
            let length = std::fs::metadata(&path).unwrap().len();
            assert!(length >= written as u64 + AHEAD / 2);
            if lengths.last() == Some(&length) {
                continue;
            }
            lengths.push(length);
            let content = std::fs::read(&path).unwrap();
            assert_eq!(content.iter().position(|byte| *byte != b'x'), Some(written));
            assert!(content[written..].iter().all(|byte| *byte == 0));
            assert_eq!(end_of_lines(&mut File::open(&path).unwrap()).unwrap(), written as u64);
        }
        // Longer than all zeros that are left.
        let long = vec![b'x'; 2 * AHEAD as usize];
        file.append(&long).unwrap();
        file.in_place().unwrap();
        file.start_segment(2).unwrap();
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content.len(), written + long.len());
        assert!(content.iter().all(|byte| *byte == b'x'));
        file.reserve().unwrap();
        file.close().unwrap();
        assert_eq!(std::fs::metadata(&file.path).unwrap().len(), 0);
        assert_eq!(end_of_lines(&mut File::open(&file.path).unwrap()).unwrap(), 0);
    }

    #[test]
    fn who_syncs_nothing_writes_nothing_ahead() {
        let root = tempfile::tempdir().unwrap();
        let mut file = open(root.path(), false);
        file.append(b"line\n").unwrap();
        assert!(file.reserve().unwrap().is_enough);
        assert_eq!(std::fs::read(&file.path).unwrap(), b"line\n");
    }

    #[test]
    fn only_proper_names_are_segments() {
        let directory = tempfile::tempdir().unwrap();
        for name in
            ["audit-1.jsonl", "audit-0000000000000000000x.jsonl", "audit-00000000000000000002.jsonl.gz", "x"]
        {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        assert_eq!(segments(directory.path()).unwrap(), vec![]);
    }

    #[test]
    fn full_at_98_percent() {
        assert!(!Usage { used: 98, available: 2 }.is_full());
        assert!(Usage { used: 981, available: 19 }.is_full());
        assert!(!Usage { used: 0, available: 0 }.is_full());
    }
}

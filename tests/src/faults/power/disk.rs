//! A disk with a volatile cache, played from a trace: what was synced is there after a power cut, of the rest any part.
//!
//! Stricter than most file systems: a file's name is durable only when its folder was synced, and of what was written
//! since the last sync any writes may be missing, whatever their order, or torn at a sector. Only names keep their order.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::super::dice::Dice;

/// What a disk writes at once or not at all.
const SECTOR: usize = 512;
const O_CREAT: u64 = 0o100;
const O_TRUNC: u64 = 0o1000;

/// One call of the recorded process.
pub(super) struct Call {
    op: u8,
    fd: i32,
    number: u64,
    bytes: Vec<u8>,
    /// Where it ends in the trace.
    pub(super) end: usize,
}

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Disk {
    nodes: Vec<Node>,
    /// By descriptor, of the process that is running.
    open: HashMap<i32, usize>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<Naming>,
    /// Syncs do nothing: a disk that lies, to show that it would be noticed.
    pub(super) lies: bool,
}

#[derive(Clone, Default)]
struct Node {
    path: PathBuf,
    is_folder: bool,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone)]
enum Naming {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

/// Takes a trace apart. What the end of the recorder left of a last record is no call.
pub(super) fn calls(trace: &[u8]) -> Vec<Call> {
    let (mut calls, mut rest) = (Vec::new(), trace);
    while let Some((call, after)) = call(rest) {
        rest = after;
        calls.push(Call { end: trace.len() - rest.len(), ..call });
    }
    calls
}

fn call(bytes: &[u8]) -> Option<(Call, &[u8])> {
    let (op, rest) = bytes.split_first()?;
    let (fd, rest) = rest.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (bytes, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let (fd, number) = (i32::from_le_bytes(*fd), u64::from_le_bytes(*number));
    Some((Call { op: *op, fd, number, bytes: bytes.to_vec(), end: 0 }, rest))
}

impl Disk {
    /// All that is in a folder, and durable.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn of(folder: &Path) -> io::Result<Disk> {
        let mut disk = Disk::default();
        disk.add(folder)?;
        disk.durable_names.clone_from(&disk.names);
        Ok(disk)
    }

    fn add(&mut self, path: &Path) -> io::Result<()> {
        let is_folder = path.is_dir();
        let durable = if is_folder { Vec::new() } else { fs::read(path)? };
        self.make(Node { path: path.to_owned(), is_folder, durable, pending: Vec::new() });
        if is_folder {
            for entry in fs::read_dir(path)? {
                self.add(&entry?.path())?;
            }
        }
        Ok(())
    }

    fn make(&mut self, node: Node) -> usize {
        let number = self.nodes.len();
        self.names.insert(node.path.clone(), number);
        self.nodes.push(node);
        number
    }

    /// The process was killed: what it had open is closed, what it wrote is with the kernel.
    pub(super) fn process_ended(&mut self) {
        self.open.clear();
    }

    pub(super) fn play(&mut self, call: &Call) {
        let path = || PathBuf::from(String::from_utf8_lossy(&call.bytes).trim_end_matches('/'));
        let place = usize::try_from(call.number).unwrap_or(usize::MAX);
        match call.op {
            b'O' => self.opened(call.fd, path(), call.number),
            b'C' => drop(self.open.remove(&call.fd)),
            b'W' => self.change(call.fd, Change::Write(place, call.bytes.clone())),
            b'T' => self.change(call.fd, Change::Truncate(place)),
            b'S' if self.lies => {}
            b'S' => self.synced(call.fd),
            b'M' => {
                let number = self.make(Node { path: path(), is_folder: true, ..Node::default() });
                self.pending_names.push(Naming::Link(path(), number));
            }
            b'U' => {
                self.names.remove(&path());
                self.pending_names.push(Naming::Unlink(path()));
            }
            b'R' => {
                let text = String::from_utf8_lossy(&call.bytes);
                let (from, to) = text.split_once('\0').unwrap_or_default();
                let (from, to) = (PathBuf::from(from), PathBuf::from(to));
                rename(&mut self.names, &from, &to);
                self.pending_names.push(Naming::Rename(from, to));
            }
            _ => {}
        }
    }

    fn opened(&mut self, fd: i32, path: PathBuf, flags: u64) {
        let number = match self.names.get(&path) {
            Some(number) => *number,
            None if flags & O_CREAT == 0 => return,
            None => {
                let number = self.make(Node { path: path.clone(), ..Node::default() });
                self.pending_names.push(Naming::Link(path, number));
                number
            }
        };
        self.open.insert(fd, number);
        if flags & O_TRUNC != 0 {
            self.change(fd, Change::Truncate(0));
        }
    }

    fn change(&mut self, fd: i32, change: Change) {
        let node = self.open.get(&fd).and_then(|number| self.nodes.get_mut(*number));
        if let Some(node) = node {
            node.pending.push(change);
        }
    }

    fn synced(&mut self, fd: i32) {
        let Some(node) = self.open.get(&fd).and_then(|number| self.nodes.get_mut(*number)) else { return };
        for change in node.pending.drain(..) {
            apply(&mut node.durable, &change);
        }
        if node.is_folder {
            let folder = node.path.clone();
            let (here, elsewhere) =
                std::mem::take(&mut self.pending_names).into_iter().partition(|naming| naming.is_in(&folder));
            self.pending_names = elsewhere;
            for naming in here {
                naming.apply(&mut self.durable_names);
            }
        }
    }

    /// The power goes: writes what `from` is afterwards to `to`.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn cut(&self, from: &Path, to: &Path, dice: &mut Dice) -> io::Result<()> {
        let mut names = self.durable_names.clone();
        let kept = dice.below(self.pending_names.len() as u64 + 1);
        for naming in self.pending_names.iter().take(usize::try_from(kept).unwrap_or(0)) {
            naming.apply(&mut names);
        }
        // All of the rest is lost, or none, or any part of it.
        let mood = dice.below(3);
        // In order, so that folders come before what is in them; what is in a folder that is gone is gone.
        for (path, number) in &names {
            let (Ok(inner), Some(node)) = (path.strip_prefix(from), self.nodes.get(*number)) else {
                continue;
            };
            let target = to.join(inner);
            if node.is_folder {
                if target.parent().is_some_and(Path::exists) {
                    fs::create_dir_all(&target)?;
                    fs::set_permissions(&target, fs::Permissions::from_mode(0o700))?;
                }
                continue;
            }
            let mut content = node.durable.clone();
            for change in &node.pending {
                match (mood, change) {
                    (0, _) => {}
                    (1, change) => apply(&mut content, change),
                    (_, change) => apply_in_part(&mut content, change, dice),
                }
            }
            if target.parent().is_some_and(Path::exists) {
                let mut file =
                    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
                io::Write::write_all(&mut file, &content)?;
            }
        }
        Ok(())
    }
}

impl Naming {
    fn is_in(&self, folder: &Path) -> bool {
        match self {
            Naming::Link(path, _) | Naming::Unlink(path) | Naming::Rename(_, path) => {
                path.parent() == Some(folder)
            }
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Naming::Link(path, number) => drop(names.insert(path.clone(), *number)),
            Naming::Unlink(path) => drop(names.remove(path)),
            Naming::Rename(from, to) => rename(names, from, to),
        }
    }
}

fn rename(names: &mut BTreeMap<PathBuf, usize>, from: &Path, to: &Path) {
    if let Some(number) = names.remove(from) {
        names.insert(to.to_owned(), number);
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Truncate(length) => content.resize(*length, 0),
        Change::Write(at, bytes) => {
            let end = at + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            if let Some(place) = content.get_mut(*at..end) {
                place.copy_from_slice(bytes);
            }
        }
    }
}

/// All, nothing, or a beginning of it up to a sector.
fn apply_in_part(content: &mut Vec<u8>, change: &Change, dice: &mut Dice) {
    match (dice.below(3), change) {
        (0, _) => {}
        (1, Change::Write(at, bytes)) if bytes.len() > SECTOR => {
            let sectors = dice.below((bytes.len() / SECTOR) as u64 + 1);
            let kept = usize::try_from(sectors).unwrap_or(0) * SECTOR;
            apply(content, &Change::Write(*at, bytes.get(..kept).unwrap_or_default().to_vec()));
        }
        (_, change) => apply(content, change),
    }
}

//! What the last run left: where the chain goes on, what the last checkpoint says, which writes have no outcome.
//!
//! Reads the last segment, and the one before it only while the last is short: a segment starts with a checkpoint and
//! with the intents that were open then. A torn end is cut off, but only behind the last good line, only if it can be
//! one unfinished write, and never if a checkpoint stands behind the damage: the writer writes a checkpoint only when
//! everything before it is durable, so that would not be a crash. Zeros behind the last line are its end and no damage: the
//! writer puts them there (`file.rs`). Where a write was torn, they may also stand before or within what it wrote.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    chain::{CHECKPOINT_DOMAIN, CHECKPOINT_RECORDS, LineParts, StoreState},
    file::{self, FileError, Segment},
};
use crate::{
    crypto::{CryptoError, Digest, PublicKey},
    model::{LogPoint, RequestId},
};

/// Most lines that can be torn at once: one group of the writer, and what it writes while it has no fsync to wait for.
const TORN_LINES: u64 = 2 * CHECKPOINT_RECORDS;
/// Records that make a segment long enough to hold all intents that can still be open.
const ENOUGH_RECORDS: u64 = 4 * CHECKPOINT_RECORDS;
/// Longest line read; the longest one written has a few thousand bytes.
pub(super) const LINE_BYTES: usize = 256 << 10;

/// What was found at the start.
#[derive(Debug)]
pub struct RecoveredLog {
    /// Number of the next record.
    pub next_seq: u64,
    /// Hash of the last one.
    pub head: [u8; 32],
    /// The last checkpoint, if any was ever made. Its signature is not checked yet: the key comes with the unseal.
    pub last_checkpoint: Option<LastCheckpoint>,
    /// Writes whose outcome is not known, oldest first.
    pub open_intents: Vec<OpenIntent>,
    /// Bytes cut off a torn end.
    pub cut: u64,
    /// Where the writer goes on.
    pub(super) segment: u64,
    /// Time of that segment's first record.
    pub(super) segment_began: Option<String>,
}

/// A write that was about to happen when the last run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenIntent {
    /// Number of its record; of the copy, when it was carried into a new segment.
    pub seq: u64,
    pub request_id: RequestId,
    pub operation: String,
    /// Of a log of before, several of them are one text, joined by spaces.
    pub paths: Vec<String>,
}

/// An end without its lists: kind, id, principal, session, pod, decision, reason.
const LONGEST_END: u64 = 2048;
/// What a word about an object grows by from intent to outcome, quotes and comma included.
const LONGER_WORD: usize = 16;

impl OpenIntent {
    /// Bytes of the record that will close it, at most; `objects` are the lengths of those that it names.
    pub(super) fn longest_end(&self, objects: impl Iterator<Item = usize>) -> u64 {
        let paths = self.paths.iter().map(String::len);
        let lists: usize = paths.chain(objects).map(|length| length + LONGER_WORD).sum();
        LONGEST_END + lists as u64
    }
}

/// The last checkpoint of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCheckpoint {
    /// Number of its record.
    pub seq: u64,
    /// The state of the store it attests.
    pub state: StoreState,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

/// Why the log cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The file system.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not what a crash leaves.
    #[error(
        "the audit log {path} is damaged at line {line} ({problem}), which no crash explains; keep the directory as \
         evidence and start with a restored or an empty one"
    )]
    Damaged {
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        problem: &'static str,
    },
}

impl RecoveredLog {
    /// Its last record.
    pub fn end(&self) -> LogPoint {
        LogPoint { seq: self.next_seq - 1, head: self.head }
    }

    /// Of an empty directory.
    pub(super) fn fresh() -> Self {
        Self {
            next_seq: 1,
            head: [0; 32],
            last_checkpoint: None,
            open_intents: vec![],
            cut: 0,
            segment: 1,
            segment_began: None,
        }
    }
}

impl LastCheckpoint {
    /// Whether the store's own key signed it: to be asked before its state is believed.
    ///
    /// # Errors
    /// It did not.
    pub fn verify(&self, key: &PublicKey) -> Result<(), CryptoError> {
        key.verify(&self.signed, &self.signature)
    }

    /// What that line says, if it is a checkpoint.
    pub(super) fn of(parts: &LineParts<'_>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Checkpoint<'a> {
            batch_seq: u64,
            set_digest: &'a str,
            signature: &'a str,
        }
        let json = format!("{{{}}}", parts.body);
        let checkpoint: Checkpoint<'_> = serde_json::from_str(&json).ok()?;
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
        let (signed, _) = parts.canonical.rsplit_once(",\"signature\":\"")?;
        let set_digest = hex(checkpoint.set_digest)?.try_into().ok()?;
        Some(Self {
            seq: parts.seq,
            state: StoreState { batch_seq: checkpoint.batch_seq, set_digest },
            signed: [CHECKPOINT_DOMAIN, signed.as_bytes()].concat(),
            signature: hex(checkpoint.signature)?,
        })
    }
}

/// Reads what is there, cuts a torn end, and says where to go on.
pub(super) fn recover(directory: &file::Directory) -> Result<RecoveredLog, RecoverError> {
    let segments = file::segments(directory.path()).map_err(FileError::io("list", directory.path()))?;
    let Some(last) = segments.last() else { return Ok(RecoveredLog::fresh()) };
    let mut scans: Vec<Scan> = Vec::new();
    let mut records = 0;
    for segment in segments.iter().rev() {
        let mut scan = Scan::new(segment);
        scan.read(segment, segment == last)?;
        if let Some(newer) = scans.last() {
            newer.follows(&scan)?;
        }
        records += scan.next_seq - segment.first_seq;
        scans.push(scan);
        if records >= ENOUGH_RECORDS && scans.iter().any(|scan| scan.checkpoint.is_some()) {
            break;
        }
    }
    if let Some(oldest) = scans.last().filter(|scan| scan.head.is_none()) {
        return Err(oldest.damaged("its first record is not whole and the segment before is missing"));
    }
    let cut = cut(last, scans.first())?;
    Ok(join(scans, last.first_seq, cut))
}

/// Cuts the last segment behind its last good line. What stands there is kept in a file of its own if a line of it ends: a
/// crash leaves the beginning of a line, damage leaves what people may want to read.
fn cut(last: &Segment, scan: Option<&Scan>) -> Result<u64, FileError> {
    let Some(Scan { good_bytes, torn_bytes, torn_lines, .. }) = scan else { return Ok(0) };
    let length = std::fs::metadata(&last.path).map_err(FileError::io("look at", &last.path))?.len();
    if length > *good_bytes {
        if *torn_lines {
            let kept = last.path.with_extension(format!("jsonl.cut-at-{good_bytes}"));
            keep(&last.path, *good_bytes, *torn_bytes, &kept)
                .map_err(FileError::io("keep the torn end in", &kept))?;
            tracing::warn!(kept = %kept.display(), "the audit log was torn before its end: what stood there is kept");
        }
        let shorten = || {
            let file = File::options().write(true).open(&last.path)?;
            file.set_len(*good_bytes)?;
            file.sync_all()
        };
        shorten().map_err(FileError::io("cut the torn end of", &last.path))?;
    }
    Ok(*torn_bytes)
}

/// Copies what stands behind `from`, durably, and behind what was kept of that place before.
fn keep(path: &Path, from: u64, bytes: u64, kept: &Path) -> io::Result<()> {
    let mut log = File::open(path)?;
    log.seek(SeekFrom::Start(from))?;
    let mut file = File::options().append(true).create(true).mode(0o600).open(kept)?;
    io::copy(&mut log.take(bytes), &mut file)?;
    file.sync_all()?;
    kept.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Puts together what the segments hold; `scans` has the newest first.
fn join(mut scans: Vec<Scan>, segment: u64, cut: u64) -> RecoveredLog {
    let last_checkpoint = scans.iter_mut().find_map(|scan| scan.checkpoint.take());
    let head = scans.iter().find_map(|scan| scan.head).unwrap_or([0; 32]);
    let next_seq = scans.first().map_or(1, |scan| scan.next_seq);
    let segment_began = scans.first_mut().and_then(|scan| scan.first_time.take());
    let mut open: HashMap<RequestId, OpenIntent> = HashMap::new();
    for scan in scans.into_iter().rev() {
        open.retain(|id, _| !scan.closed.contains(id));
        open.extend(scan.open);
    }
    let mut open_intents: Vec<_> = open.into_values().collect();
    open_intents.sort_unstable_by_key(|intent| intent.seq);
    RecoveredLog { next_seq, head, last_checkpoint, open_intents, cut, segment, segment_began }
}

/// What one segment holds.
struct Scan {
    path: PathBuf,
    first_seq: u64,
    next_seq: u64,
    first_prev: Option<Digest>,
    first_time: Option<String>,
    head: Option<Digest>,
    good_bytes: u64,
    torn_bytes: u64,
    /// A line ends among them.
    torn_lines: bool,
    checkpoint: Option<LastCheckpoint>,
    open: HashMap<RequestId, OpenIntent>,
    /// Closed here, wherever opened.
    closed: HashSet<RequestId>,
}

impl Scan {
    fn new(segment: &Segment) -> Self {
        Self {
            path: segment.path.clone(),
            first_seq: segment.first_seq,
            next_seq: segment.first_seq,
            first_prev: None,
            first_time: None,
            head: (segment.first_seq == 1).then_some([0; 32]),
            good_bytes: 0,
            torn_bytes: 0,
            torn_lines: false,
            checkpoint: None,
            open: HashMap::new(),
            closed: HashSet::new(),
        }
    }

    fn damaged(&self, problem: &'static str) -> RecoverError {
        RecoverError::Damaged { path: self.path.clone(), line: self.next_seq - self.first_seq + 1, problem }
    }

    /// Checks that this segment starts where `older` ends.
    fn follows(&self, older: &Scan) -> Result<(), RecoverError> {
        if self.first_seq != older.next_seq {
            return Err(older.damaged("the next segment does not start with the next record"));
        }
        match (self.first_prev, older.head) {
            (Some(prev), Some(head)) if prev != head => {
                Err(self.damaged("it does not follow the segment before"))
            }
            _ => Ok(()),
        }
    }

    fn read(&mut self, segment: &Segment, may_be_torn: bool) -> Result<(), RecoverError> {
        let read = FileError::io("read", &segment.path);
        let file = match File::open(&segment.path) {
            Ok(file) => file,
            Err(error) => return Err(read(error).into()),
        };
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        loop {
            match read_line(&mut reader, &mut line) {
                Ok(0) => return Ok(()),
                Ok(_) if self.take(&line).is_some() => self.good_bytes += line.len() as u64,
                Ok(_) if !may_be_torn => return Err(self.damaged("it does not fit the line before")),
                Ok(_) => return self.torn(&mut reader),
                Err(error) => return Err(read(error).into()),
            }
        }
    }

    /// Takes a line in; `None` if it does not fit.
    fn take(&mut self, line: &[u8]) -> Option<()> {
        let parts = LineParts::of(std::str::from_utf8(line).ok()?.strip_suffix('\n')?)?;
        let follows = self.head.is_none_or(|head| head == parts.prev);
        if parts.seq != self.next_seq || !follows || !parts.fits() {
            return None;
        }
        if parts.is_checkpoint() {
            self.checkpoint = Some(LastCheckpoint::of(&parts)?);
        } else {
            self.intents(&parts)?;
        }
        if self.first_prev.is_none() {
            self.first_prev = Some(parts.prev);
            self.first_time = Some(parts.time.to_owned());
        }
        self.head = Some(parts.hash);
        self.next_seq += 1;
        Some(())
    }

    fn intents(&mut self, parts: &LineParts<'_>) -> Option<()> {
        #[derive(Deserialize)]
        struct Intent {
            request_id: String,
            operation: String,
            path: Option<String>,
            #[serde(default)]
            paths: Vec<String>,
        }
        let kind = parts.body.strip_prefix("\"kind\":\"")?.split_once('"')?.0;
        // A quote inside of a text is escaped, so this is found only where it is meant.
        let opens = matches!(kind, "request" | "carried") && parts.body.contains(",\"status\":\"pending\"");
        let closes = matches!(kind, "outcome" | "recovered");
        if !opens && !closes {
            return Some(());
        }
        let intent: Intent = serde_json::from_str(&format!("{{{}}}", parts.body)).ok()?;
        let request_id = RequestId::parse(&intent.request_id)?;
        if opens {
            let Intent { operation, path, mut paths, .. } = intent;
            paths.extend(path);
            self.open.insert(request_id, OpenIntent { seq: parts.seq, request_id, operation, paths });
        } else {
            self.open.remove(&request_id);
            self.closed.insert(request_id);
        }
        Some(())
    }

    /// Takes in what stands behind the last good line: zeros, or what can be one torn write.
    fn torn(&mut self, reader: &mut BufReader<File>) -> Result<(), RecoverError> {
        let path = self.path.clone();
        let read = |error| FileError::io("read", &path)(error);
        let (mut place, mut lines, mut piece) = (0, 0, Vec::new());
        reader.seek(SeekFrom::Start(self.good_bytes)).map_err(read)?;
        loop {
            let hole = skip_zeros(reader).map_err(read)?;
            match read_piece(reader, &mut piece).map_err(read)? {
                0 => return Ok(()),
                bytes => place += hole + bytes as u64,
            }
            self.torn_bytes = place;
            self.torn_lines |= piece.ends_with(b"\n");
            lines += u64::from(piece.ends_with(b"\n") || piece.len() == LINE_BYTES);
            if proves_history(&piece) {
                return Err(self.damaged("a checkpoint stands behind it"));
            }
            if lines > TORN_LINES {
                return Err(self.damaged("too many lines stand behind it"));
            }
        }
    }
}

/// Goes on to the next byte that is not zero, and tells how far that was.
fn skip_zeros(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let zeros = reader.fill_buf()?.iter().take_while(|byte| **byte == 0).count();
        if zeros == 0 {
            return Ok(skipped);
        }
        reader.consume(zeros);
        skipped += zeros as u64;
    }
}

/// Reads a line with its line break, or what there is of it before a zero: what stands behind a hole is a piece of its own. At
/// most [`LINE_BYTES`]. Returns the bytes read; 0 is the end.
fn read_piece(reader: &mut impl BufRead, piece: &mut Vec<u8>) -> io::Result<usize> {
    piece.clear();
    while piece.len() < LINE_BYTES {
        let part = reader.fill_buf()?;
        let part = part.get(..LINE_BYTES - piece.len()).unwrap_or(part);
        let end = part.iter().position(|byte| matches!(byte, b'\n' | 0));
        let ends_line = end.is_some_and(|at| part.get(at) == Some(&b'\n'));
        let taken = end.map_or(part.len(), |at| at + usize::from(ends_line));
        piece.extend_from_slice(part.get(..taken).unwrap_or_default());
        let over = part.is_empty() || end.is_some();
        reader.consume(taken);
        if over {
            break;
        }
    }
    Ok(piece.len())
}

/// Whether the line is a whole checkpoint, wherever it belongs.
fn proves_history(line: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(line) else { return false };
    text.strip_suffix('\n').and_then(LineParts::of).is_some_and(|parts| parts.is_checkpoint() && parts.fits())
}

/// Reads a line with its line break, at most [`LINE_BYTES`] of it. Returns the bytes read; 0 is the end.
pub(super) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    reader.take(LINE_BYTES as u64).read_until(b'\n', line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Event, EventKind, Status, chain::Chain},
        crypto::{Key, SigningKey},
    };

    const NAME: &str = "audit-00000000000000000001.jsonl";

    /// Ten records, a checkpoint, an intent and its outcome.
    fn log() -> Vec<u8> {
        let (mut chain, mut out) = (Chain::new(1, [0; 32]), Vec::new());
        let time = "2026-11-23T00:00:00.000Z";
        for n in 0..10 {
            let event = Event::new(EventKind::Request, RequestId([n; 16]), "Secrets.Get", Status::Ok);
            chain.append(time, &event.body(), &mut out);
        }
        let key = SigningKey::from_seed(&Key::from_bytes(&[1; 32])).unwrap();
        chain.checkpoint(time, &key, StoreState::default(), &mut out);
        for (kind, status) in [(EventKind::Request, Status::Pending), (EventKind::Outcome, Status::Ok)] {
            let event = Event::new(kind, RequestId([99; 16]), "Secrets.Put", status);
            chain.append(time, &event.body(), &mut out);
        }
        out
    }

    fn recover_bytes(bytes: &[u8]) -> (Result<RecoveredLog, RecoverError>, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        std::fs::write(&path, bytes).unwrap();
        let opened = recover(&file::Directory::open(directory.path()).unwrap());
        (opened, std::fs::read(path).unwrap())
    }

    fn line_ends(log: &[u8]) -> Vec<usize> {
        log.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect()
    }

    #[test]
    fn cut_at_every_byte_of_the_last_lines() {
        let log = log();
        let ends = line_ends(&log);
        for length in ends[9]..=log.len() {
            let (opened, left) = recover_bytes(&log[..length]);
            let opened = opened.unwrap();
            let good = ends.iter().filter(|end| **end <= length).count();
            assert_eq!(opened.next_seq, good as u64 + 1);
            assert_eq!(left, &log[..ends[good - 1]], "cut behind the last good line");
            assert_eq!(opened.cut, (length - ends[good - 1]) as u64);
            assert_eq!(opened.last_checkpoint.is_some(), good >= 11);
            assert_eq!(opened.open_intents.len(), usize::from(good == 12));
        }
    }

    #[test]
    fn damage_behind_the_last_checkpoint_is_cut() {
        let log = log();
        let ends = line_ends(&log);
        for at in ends[10]..log.len() {
            let mut damaged = log.clone();
            damaged[at] ^= 1;
            let (opened, left) = recover_bytes(&damaged);
            let good = if at < ends[11] { 11 } else { 12 };
            assert_eq!(opened.unwrap().next_seq, good + 1, "byte {at}");
            assert_eq!(left, &log[..ends[good as usize - 1]]);
        }
    }

    #[test]
    fn whole_lines_behind_damage_are_kept_beside_the_log() {
        let (log, directory) = (log(), tempfile::tempdir().unwrap());
        let ends = line_ends(&log);
        let path = directory.path().join(NAME);
        let mut damaged = log.clone();
        damaged[ends[10] + 9] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        recover(&file::Directory::open(directory.path()).unwrap()).unwrap();
        let kept = path.with_extension(format!("jsonl.cut-at-{}", ends[10]));
        assert_eq!(std::fs::read(&kept).unwrap(), &damaged[ends[10]..]);
        assert_eq!(std::fs::read(&path).unwrap(), &log[..ends[10]]);
    }

    #[test]
    fn damage_below_a_checkpoint_is_refused_and_left_as_it_is() {
        let log = log();
        let ends = line_ends(&log);
        for at in (0..ends[9]).step_by(7) {
            let mut damaged = log.clone();
            damaged[at] ^= 1;
            let (opened, left) = recover_bytes(&damaged);
            let error = opened.unwrap_err().to_string();
            assert!(error.contains("no crash explains"), "{error}");
            assert_eq!(left, damaged);
        }
    }

    /// What a crash leaves of a segment that is written ahead.
    #[test]
    fn zeros_are_the_end_wherever_the_last_write_stopped() {
        let log = log();
        let ends = line_ends(&log);
        for length in ends[10]..=log.len() {
            let mut ahead = log[..length].to_vec();
            ahead.resize(length + if ends.contains(&length) { 3 * LINE_BYTES / 2 } else { 5000 }, 0);
            let (opened, left) = recover_bytes(&ahead);
            let opened = opened.unwrap();
            let good = ends.iter().rev().find(|end| **end <= length).unwrap();
            assert_eq!(left, &log[..*good], "cut behind the last good line");
            assert_eq!(opened.cut, (length - good) as u64, "zeros are nothing that was lost");
        }
        let (opened, left) = recover_bytes(&[0; 100_000]);
        assert_eq!((opened.unwrap().next_seq, left.len()), (1, 0), "nothing was ever written to it");
    }

    /// A torn write can leave a hole before what it wrote, and within: it is cut. A checkpoint behind the hole was signed when all
    /// before it was durable, so that hole is damage, however long it is.
    #[test]
    fn a_hole_is_cut_unless_a_checkpoint_stands_behind_it() {
        let log = log();
        let ends = line_ends(&log);
        for (from, to) in [(ends[10], ends[11]), (ends[10], ends[10] + 9), (ends[10] + 9, ends[11] + 9)] {
            let mut torn = log.clone();
            torn[from..to].fill(0);
            torn.resize(log.len() + 5000, 0);
            let (opened, left) = recover_bytes(&torn);
            let opened = opened.unwrap();
            assert_eq!((opened.next_seq, opened.cut), (12, (log.len() - ends[10]) as u64));
            assert_eq!(left, &log[..ends[10]]);
        }
        for hole in [1, 100, LINE_BYTES - 100, LINE_BYTES, 3 * LINE_BYTES + 7] {
            for begun in [0, 9] {
                let history = [&log[..ends[4] + begun], &vec![0; hole], &log[ends[9]..]].concat();
                let (opened, left) = recover_bytes(&history);
                let error = opened.unwrap_err().to_string();
                assert!(error.contains("a checkpoint stands behind it"), "{hole} {begun}: {error}");
                assert_eq!(left, history);
            }
        }
    }

    #[test]
    fn a_missing_line_is_not_followed() {
        let log = log();
        let ends = line_ends(&log);
        let dropped = [&log[..ends[10]], &log[ends[11]..]].concat();
        assert_eq!(recover_bytes(&dropped).0.unwrap().next_seq, 12);
    }

    #[test]
    fn an_empty_last_segment_goes_on_behind_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let log = log();
        std::fs::write(directory.path().join(NAME), &log).unwrap();
        std::fs::write(directory.path().join("audit-00000000000000000014.jsonl"), b"{\"seq\":14").unwrap();
        let opened = recover(&file::Directory::open(directory.path()).unwrap()).unwrap();
        assert_eq!((opened.next_seq, opened.segment, opened.cut), (14, 14, 9));
        assert_ne!(opened.head, [0; 32]);
        std::fs::remove_file(directory.path().join(NAME)).unwrap();
        let alone = recover(&file::Directory::open(directory.path()).unwrap());
        assert!(alone.is_err() || alone.unwrap().next_seq != 14, "its head is unknown");
    }
}

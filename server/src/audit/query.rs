//! Reading the log while it is written: from the files, and only what is durable. A follower keeps its place in the file
//! and is woken by the number of the last durable record, so it can be slow without losing lines or holding up anybody.

use std::{
    borrow::Cow,
    collections::VecDeque,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::{
    chain::LineParts,
    file::{self, Segment},
    recover::{LINE_BYTES, read_line},
};
use crate::{crypto::Digest, model::Timestamp};

/// Lines in one message: a few hundred KiB, far below the largest response.
const CHUNK: usize = 64;
/// Messages that wait for a slow reader.
const WAITING: usize = 4;
/// Queries at once; each reads whole segments.
const QUERIES: usize = 2;
/// Followers at once.
const FOLLOWERS: usize = 16;
/// Most lines of the past a follower is given.
const LAST: u64 = 10_000;

/// Lines of the log, without line breaks, in order; ends after an error.
pub type Lines = mpsc::Receiver<Result<Vec<String>, QueryError>>;

/// Why the log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Too many at once.
    #[error("too many queries of the audit log at once; try again later")]
    Busy,
    /// Somebody took a part of it away. What is left would look like an answer, and is none.
    #[error(
        "the audit log has a hole: records {from} to {to} are missing. Put their file back, or ask only for what is newer"
    )]
    Hole { from: u64, to: u64 },
    /// The file system.
    #[error("cannot read the audit log: {0}")]
    Io(#[from] io::Error),
}

/// Selects lines; all given fields must match.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Exactly this one.
    pub principal: Option<String>,
    /// This path, or a folder with all below it; one of the record's paths is enough.
    pub path: Option<String>,
    /// Exactly this one.
    pub operation: Option<String>,
    /// Exactly this one.
    pub request_id: Option<String>,
    /// `ok`, `denied`, `error`, `pending`.
    pub status: Option<String>,
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// Reads the log of a running broker. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    directory: PathBuf,
    durable: watch::Receiver<u64>,
    queries: Arc<Semaphore>,
    followers: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(directory: PathBuf, durable: watch::Receiver<u64>) -> Self {
        let (queries, followers) = (Semaphore::new(QUERIES), Semaphore::new(FOLLOWERS));
        Self { directory, durable, queries: Arc::new(queries), followers: Arc::new(followers) }
    }

    /// The last lines, at most 10,000 of them, then every new one if `follow`. Needs a tokio runtime.
    ///
    /// # Errors
    /// Too many followers.
    pub fn tail(&self, last: u32, follow: bool) -> Result<Lines, QueryError> {
        let slot = self.followers.clone().try_acquire_owned().map_err(|_| QueryError::Busy)?;
        let (sender, lines) = mpsc::channel(WAITING);
        let first = (*self.durable.borrow() + 1).saturating_sub(u64::from(last).min(LAST));
        tokio::spawn(tail(self.directory.clone(), self.durable.clone(), first.max(1), follow, sender, slot));
        Ok(lines)
    }

    /// The hash of that record; `None` if the log begins after it, because older segments were moved away.
    ///
    /// # Errors
    /// The log has a hole there, or cannot be read.
    pub async fn hash_of(&self, seq: u64) -> Result<Option<Digest>, QueryError> {
        let directory = self.directory.clone();
        let read = tokio::task::spawn_blocking(move || hash_of(&directory, seq));
        read.await.map_err(io::Error::other)?
    }

    /// The newest lines that match, at most `limit`, oldest first. Needs a tokio runtime.
    ///
    /// # Errors
    /// Too many queries.
    pub fn query(&self, filter: Filter, limit: u32) -> Result<Lines, QueryError> {
        let slot = self.queries.clone().try_acquire_owned().map_err(|_| QueryError::Busy)?;
        let (sender, lines) = mpsc::channel(WAITING);
        let limit = limit.min(strongroom_proto::limits::AUDIT_LINES) as usize;
        let query =
            Query { directory: self.directory.clone(), durable: *self.durable.borrow(), filter, limit };
        tokio::task::spawn_blocking(move || {
            if let Err(error) = query.run(&sender) {
                // The reader may be gone.
                let _ = sender.blocking_send(Err(error));
            }
            drop(slot);
        });
        Ok(lines)
    }
}

type Sender = mpsc::Sender<Result<Vec<String>, QueryError>>;

async fn tail(
    directory: PathBuf,
    mut durable: watch::Receiver<u64>,
    first: u64,
    follow: bool,
    sender: Sender,
    _slot: OwnedSemaphorePermit,
) {
    let mut cursor = Cursor { directory, next_seq: first, file: None };
    loop {
        let until = *durable.borrow_and_update();
        while cursor.next_seq <= until {
            let read = tokio::task::spawn_blocking(move || {
                let lines = cursor.read(until);
                (cursor, lines)
            });
            let Ok((back, lines)) = read.await else { return };
            cursor = back;
            let failed = lines.is_err();
            if sender.send(lines).await.is_err() || failed {
                return;
            }
        }
        if !follow {
            return;
        }
        tokio::select! {
            changed = durable.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
    }
}

/// A place in the log.
struct Cursor {
    directory: PathBuf,
    next_seq: u64,
    file: Option<BufReader<File>>,
}

impl Cursor {
    /// Some lines more, none of them beyond `durable`. Everything up to there is whole, so no line is read half.
    fn read(&mut self, durable: u64) -> Result<Vec<String>, QueryError> {
        let (mut lines, mut line) = (Vec::new(), Vec::new());
        while lines.len() < CHUNK && self.next_seq <= durable {
            let mut file = match self.file.take() {
                Some(file) => file,
                None => self.open()?,
            };
            if read_line(&mut file, &mut line)? == 0 {
                // The next segment starts with the next record; if it does not, opening it says so.
                continue;
            }
            self.file = Some(file);
            self.next_seq += 1;
            lines.push(text(&line)?);
        }
        if let Some(file) = &mut self.file {
            // What was read beyond the last line is not kept: lines will be written there.
            let place = file.stream_position()?;
            file.seek(SeekFrom::Start(place))?;
        }
        Ok(lines)
    }

    /// The file in which the next record stands, at its line. If older segments were removed, the oldest that is left.
    fn open(&mut self) -> Result<BufReader<File>, QueryError> {
        let segments = file::segments(&self.directory)?;
        let segment = segments
            .iter()
            .rev()
            .find(|segment| segment.first_seq <= self.next_seq)
            .or(segments.first())
            .ok_or(QueryError::Hole { from: self.next_seq, to: self.next_seq })?;
        self.next_seq = self.next_seq.max(segment.first_seq);
        let mut reader = BufReader::new(File::open(&segment.path)?);
        let place = locate(&mut reader, self.next_seq)?;
        reader.seek(SeekFrom::Start(place))?;
        Ok(reader)
    }
}

fn hash_of(directory: &Path, seq: u64) -> Result<Option<Digest>, QueryError> {
    let segments = file::segments(directory)?;
    let Some(segment) = segments.iter().rev().find(|segment| segment.first_seq <= seq) else {
        return Ok(None);
    };
    let mut reader = BufReader::new(File::open(&segment.path)?);
    let place = locate(&mut reader, seq)?;
    reader.seek(SeekFrom::Start(place))?;
    let mut line = Vec::new();
    read_line(&mut reader, &mut line)?;
    Ok(LineParts::of(&text(&line)?).map(|parts| parts.hash))
}

/// Where the line of `seq` starts, by halving the file. An error if it is not there.
fn locate(reader: &mut BufReader<File>, seq: u64) -> Result<u64, QueryError> {
    let (mut low, mut high) = (0, reader.get_ref().metadata()?.len());
    let mut line = Vec::new();
    while high - low > 1 << 16 {
        let middle = low + (high - low) / 2;
        reader.seek(SeekFrom::Start(middle))?;
        let rest = read_line(reader, &mut line)? as u64;
        read_line(reader, &mut line)?;
        match seq_of(&line) {
            Some(found) if found <= seq => low = middle + rest,
            _ => high = middle,
        }
    }
    reader.seek(SeekFrom::Start(low))?;
    loop {
        match read_line(reader, &mut line)? as u64 {
            0 => return Err(QueryError::Hole { from: seq, to: seq }),
            _ if seq_of(&line) == Some(seq) => return Ok(low),
            length => low += length,
        }
    }
}

fn seq_of(line: &[u8]) -> Option<u64> {
    let rest = std::str::from_utf8(line).ok()?.strip_prefix("{\"seq\":")?;
    rest.split_once(',')?.0.parse().ok()
}

fn text(line: &[u8]) -> io::Result<String> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    String::from_utf8(line.to_vec()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

struct Query {
    directory: PathBuf,
    durable: u64,
    filter: Filter,
    limit: usize,
}

/// Where a matching line starts.
type LineOffsets = VecDeque<u64>;

impl Query {
    /// Looks from the newest segment back until there is enough, remembers places only, then sends in order.
    fn run(&self, sender: &Sender) -> Result<(), QueryError> {
        let mut found: Vec<(Segment, LineOffsets)> = Vec::new();
        let mut left = self.limit;
        // What the next older segment has to reach, so that nothing is missing in between.
        let mut reaches = self.durable;
        let segments = file::segments(&self.directory)?;
        if segments.is_empty() && reaches > 0 {
            return Err(QueryError::Hole { from: 1, to: reaches });
        }
        for segment in segments.into_iter().rev() {
            if left == 0 || sender.is_closed() {
                break;
            }
            let last = last_seq(&segment)?;
            if last < reaches {
                return Err(QueryError::Hole { from: last + 1, to: reaches });
            }
            reaches = segment.first_seq.saturating_sub(1);
            let Some(began) = began(&segment)? else { continue };
            if self.filter.until.is_none_or(|until| began.as_str() < until.to_string().as_str()) {
                let places = self.search(&segment, left, sender)?;
                left -= places.len();
                found.push((segment, places));
            }
            if self.filter.from.is_some_and(|from| began < from.to_string()) {
                break;
            }
        }
        for (segment, places) in found.into_iter().rev() {
            if !send(&segment, places, sender)? {
                break;
            }
        }
        Ok(())
    }

    fn search(&self, segment: &Segment, most: usize, sender: &Sender) -> io::Result<LineOffsets> {
        let bounds = Bounds::of(&self.filter);
        let mut reader = BufReader::with_capacity(1 << 20, File::open(&segment.path)?);
        let (mut places, mut place, mut seq, mut line) =
            (LineOffsets::new(), 0, segment.first_seq, Vec::new());
        while seq <= self.durable {
            let length = read_line(&mut reader, &mut line)? as u64;
            if length == 0 || (seq % 4096 == 0 && sender.is_closed()) {
                break;
            }
            if self.filter.matches(&line, &bounds) {
                if places.len() == most {
                    places.pop_front();
                }
                places.push_back(place);
            }
            place += length;
            seq += 1;
        }
        Ok(places)
    }
}

/// Number of the last whole record; of an empty segment, of the one before its first.
fn last_seq(segment: &Segment) -> io::Result<u64> {
    let mut file = File::open(&segment.path)?;
    let from = file::end_of_lines(&mut file)?.saturating_sub(LINE_BYTES as u64 + 1);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    // The writer may append at this moment.
    file.take(2 * LINE_BYTES as u64).read_to_end(&mut end)?;
    let lines = end.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    Ok(lines.rev().find_map(seq_of).unwrap_or(segment.first_seq.saturating_sub(1)))
}

/// Time of the first record; `None` for a segment without one.
fn began(segment: &Segment) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    read_line(&mut BufReader::new(File::open(&segment.path)?), &mut line)?;
    Ok(serde_json::from_slice::<Row<'_>>(&line).ok().map(|row| row.time.to_owned()))
}

/// Sends the lines that start at `places`. Whether anybody is still there.
fn send(segment: &Segment, places: LineOffsets, sender: &Sender) -> io::Result<bool> {
    let mut reader = BufReader::new(File::open(&segment.path)?);
    let (mut lines, mut line, mut at) = (Vec::new(), Vec::new(), 0_u64);
    for place in places {
        // Relative, so that what is in the buffer already is not read again.
        reader.seek_relative(i64::try_from(place - at).unwrap_or(i64::MAX))?;
        at = place + read_line(&mut reader, &mut line)? as u64;
        lines.push(text(&line)?);
        if lines.len() == CHUNK && sender.blocking_send(Ok(std::mem::take(&mut lines))).is_err() {
            return Ok(false);
        }
    }
    Ok(lines.is_empty() || sender.blocking_send(Ok(lines)).is_ok())
}

#[derive(Deserialize)]
struct Row<'a> {
    time: &'a str,
    request_id: Option<&'a str>,
    #[serde(borrow)]
    principal: Option<Cow<'a, str>>,
    #[serde(borrow)]
    operation: Option<Cow<'a, str>>,
    #[serde(borrow)]
    path: Option<Cow<'a, str>>,
    /// Where there are several.
    #[serde(borrow, default)]
    paths: Vec<Cow<'a, str>>,
    status: Option<&'a str>,
}

impl Row<'_> {
    /// Each of them. Lines of before have several in one text; no path contains a space.
    fn paths(&self) -> impl Iterator<Item = &str> {
        let one = self.path.iter().flat_map(|path| path.split(' '));
        one.chain(self.paths.iter().map(|path| &**path))
    }
}

/// The times of a filter as the log writes them; RFC 3339 in UTC sorts like text.
struct Bounds {
    from: Option<String>,
    until: Option<String>,
}

impl Bounds {
    fn of(filter: &Filter) -> Self {
        Self { from: filter.from.map(|t| t.to_string()), until: filter.until.map(|t| t.to_string()) }
    }
}

impl Filter {
    /// What is asked for, for the record of the question.
    pub fn describe(&self) -> String {
        let texts = [
            ("principal", self.principal.clone()),
            ("path", self.path.clone()),
            ("operation", self.operation.clone()),
            ("request", self.request_id.clone()),
            ("status", self.status.clone()),
            ("from", self.from.map(|time| time.to_string())),
            ("until", self.until.map(|time| time.to_string())),
        ];
        let given: Vec<_> =
            texts.into_iter().filter_map(|(name, text)| Some(format!("{name} {}", text?))).collect();
        if given.is_empty() { "everything".to_owned() } else { given.join(", ") }
    }

    fn matches(&self, line: &[u8], bounds: &Bounds) -> bool {
        let Ok(row) = serde_json::from_slice::<Row<'_>>(line) else { return false };
        let same = |want: &Option<String>, is: Option<&str>| want.is_none() || want.as_deref() == is;
        same(&self.request_id, row.request_id)
            && same(&self.status, row.status)
            && same(&self.principal, row.principal.as_deref())
            && same(&self.operation, row.operation.as_deref())
            && self.path.as_ref().is_none_or(|folder| row.paths().any(|path| is_within(path, folder)))
            && bounds.from.as_ref().is_none_or(|from| row.time >= from.as_str())
            && bounds.until.as_ref().is_none_or(|until| row.time < until.as_str())
    }
}

fn is_within(path: &str, folder: &str) -> bool {
    let folder = folder.strip_suffix('/').unwrap_or(folder);
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;

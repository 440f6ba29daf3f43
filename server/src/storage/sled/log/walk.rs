//! The log as it is on the disk: which segments there are, and what can be read of each. Reads only, and goes on behind
//! damage: a message is known by its checksum and by the number of the segment it was written for.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt, path::Path};

use super::format::{
    Kind, Message, RED_ZONE, SEGMENT, SEGMENT_BYTES, SEGMENT_HEADER, SegmentHeader, may_begin,
};

/// A log with its segments in the order they were written in.
pub(super) struct Log {
    file: File,
    /// Length of the file.
    pub(super) bytes: u64,
    pub(super) segments: Vec<Segment>,
}

/// One life of a place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// In the file.
    pub(super) at: u64,
    /// In the endless log.
    pub(super) number: u64,
    /// Its header; none if that is damaged, and the number is what its messages say.
    pub(super) header: Option<SegmentHeader>,
}

/// What a walk through a segment saw.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Walk {
    /// Stretches that cannot be read, with messages behind them.
    pub(super) holes: Vec<(usize, usize)>,
    /// Where the messages end.
    pub(super) end: usize,
    /// It was filled up: nothing was to follow.
    pub(super) sealed: bool,
    /// Behind the end stands the beginning of something.
    pub(super) torn: bool,
    /// A later segment was being written over this one, which sled had given up.
    pub(super) given_up: bool,
}

impl Log {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut log = Self { file, bytes, segments: Vec::new() };
        let mut headless = Vec::new();
        for at in (0..bytes).step_by(SEGMENT_BYTES) {
            let mut head = [0; SEGMENT_HEADER];
            let read = log.fill(&mut head, at)?;
            let header = SegmentHeader::read(head.get(..read).unwrap_or_default());
            // A place is never used for an earlier part of the log than it had when the file grew to it.
            match header.filter(|header| header.number >= at / SEGMENT) {
                Some(header) => {
                    log.segments.push(Segment { at, number: header.number, header: Some(header) })
                }
                None => headless.push(at),
            }
        }
        for at in headless {
            let bytes = log.read(at)?;
            let found = find(&bytes, 0..bytes.len(), |_| true).map(|(_, message)| message.number);
            // Else it is what sled leaves of a segment that it has given up, or a copy of one that has its header.
            let free = |number: &u64| log.segments.iter().all(|segment| segment.number != *number);
            if let Some(number) = found.filter(free) {
                log.segments.push(Segment { at, number, header: None });
            }
        }
        log.segments.sort_unstable_by_key(|segment| segment.number);
        Ok(log)
    }

    /// The segment with that number.
    pub(super) fn segment(&self, number: u64) -> Option<&Segment> {
        let index = self.segments.binary_search_by_key(&number, |segment| segment.number).ok()?;
        self.segments.get(index)
    }

    /// All bytes of the segment at that place.
    pub(super) fn read(&self, at: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; SEGMENT_BYTES];
        let read = self.fill(&mut bytes, at)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Some bytes anywhere.
    pub(super) fn slice(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// Makes what the kernel has of the file durable: what is judged must be what is there after a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn fill(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, at + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

impl Segment {
    /// Where it begins in the endless log.
    pub(super) const fn lsn(&self) -> u64 {
        self.number * SEGMENT
    }

    /// Shows `visit` every message that can be read, with its place in the segment. `begun` says of a number whether a
    /// segment of it was begun whose header is nowhere.
    pub(super) fn walk<'a>(
        &self,
        bytes: &'a [u8],
        begun: impl Fn(u64) -> bool + Copy,
        mut visit: impl FnMut(usize, &Message<'a>),
    ) -> Walk {
        let own = |number: u64| number == self.number;
        let later = |number: u64| number > self.number && begun(number);
        let mut walk = Walk { end: SEGMENT_HEADER, ..Walk::default() };
        while walk.end <= SEGMENT_BYTES - RED_ZONE {
            let rest = bytes.get(walk.end..).unwrap_or_default();
            if let Some(message) = Message::read(rest).filter(|message| own(message.number)) {
                visit(walk.end, &message);
                walk.end += message.bytes();
                if message.kind == Kind::Cap {
                    walk.sealed = true;
                    return walk;
                }
                continue;
            }
            if walk.end == SEGMENT_BYTES - RED_ZONE {
                // A short message might have begun here; none had to.
                break;
            }
            let next = find(bytes, walk.end + 1..bytes.len(), own).map(|(next, _)| next);
            // The header of a segment that is begun may be the last of it that reaches the disk.
            if find(bytes, walk.end..next.unwrap_or(bytes.len()), later).is_some() {
                (walk.given_up, walk.torn) = (true, true);
                return walk;
            }
            let Some(next) = next else {
                walk.torn = may_begin(rest, own);
                return walk;
            };
            walk.holes.push((walk.end, next));
            walk.end = next;
        }
        walk.sealed = true;
        walk
    }
}

/// The first message that begins there and was written for a segment with such a number.
fn find(
    bytes: &[u8],
    mut within: Range<usize>,
    number: impl Fn(u64) -> bool + Copy,
) -> Option<(usize, Message<'_>)> {
    // Most of a segment that is not full is zeros.
    within.end = bytes.get(..within.end)?.iter().rposition(|byte| *byte != 0)?;
    within.find_map(|at| {
        let rest = bytes.get(at..)?;
        may_begin(rest, number).then(|| Message::read(rest)).flatten().map(|message| (at, message))
    })
}

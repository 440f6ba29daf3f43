//! A look at a store before sled gets it: is everything there that was acknowledged? sled takes damage in its log for the
//! torn end that a crash leaves, and zeroes what stands behind. The two are told apart by how far the store is known to
//! have been: one commit at a time is on its way to the disk, so all but the last one that the log shows any trace of
//! were acknowledged, and the mark of the store and the audit log name more.

use std::{fmt, io, path::Path};

use super::{
    format::{Pointer, SEGMENT, SEGMENT_HEADER, Snapshot},
    pages::{Pages, Trail},
    walk::{Log, Segment},
};

/// See the module.
pub(super) struct Survey {
    pub(super) log: Log,
    /// Up to where sled takes its snapshot's word; 0 without one.
    snapshot: u64,
    pages: Pages,
    pub(super) trail: Trail,
    /// What cannot be read, in the order of the log.
    pub(super) holes: Vec<Hole>,
    /// Where the messages of the last segment end, in the log and in the file.
    tip: u64,
    tip_at: u64,
    /// Behind the tip stands the beginning of something.
    torn: bool,
    /// What sled has noted as written, in the headers of its segments.
    stable: Option<u64>,
    /// Stretches without a hole: where each ends, and the bytes of its messages.
    read: Vec<(u64, u64)>,
}

/// A stretch of the log that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) lsn: u64,
    /// In the file.
    pub(super) at: u64,
    pub(super) bytes: u64,
}

/// Why sled must not have it. A sentence for somebody who was woken up by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where in the file the first of it is.
    pub at: u64,
    /// How much cannot be read.
    pub bytes: u64,
    /// In how many places.
    pub places: usize,
    /// Whole messages behind the first place.
    pub intact: u64,
    /// The commit that sled would go back to, if there is one.
    pub recovers: Option<u64>,
    /// The last one that is known to have been acknowledged.
    pub known: u64,
    /// Nothing is unreadable: something is not there.
    pub cut: bool,
}

impl Survey {
    /// Reads all of the log. `snapshot`: the one sled would go by.
    pub(super) fn of(log: &Path, snapshot: Option<&Snapshot>) -> io::Result<Self> {
        let log = Log::open(log)?;
        let mut survey = Self {
            snapshot: snapshot.map_or(0, |snapshot| snapshot.stable),
            pages: Pages::of(snapshot),
            trail: Trail::default(),
            holes: Vec::new(),
            tip: 0,
            tip_at: 0,
            torn: false,
            stable: None,
            read: Vec::new(),
            log,
        };
        for segment in survey.log.segments.clone() {
            survey.walk(segment)?;
        }
        survey.missing();
        survey.holes.sort_unstable_by_key(|hole| hole.lsn);
        Ok(survey)
    }

    fn walk(&mut self, segment: Segment) -> io::Result<()> {
        let bytes = self.log.read(segment.at)?;
        let mut read = 0;
        let mut end = SEGMENT_HEADER;
        let (walked_from, log) = (self.walked_from(), &self.log);
        let mut torn = self.holes.last().is_some_and(|hole| hole.lsn >= walked_from);
        let begun = |number| log.segment(number).is_none();
        let walk = segment.walk(&bytes, begun, |at, message| {
            let (lsn, length) = (segment.lsn() + at as u64, message.bytes() as u64);
            if at != end {
                torn |= segment.lsn() + end as u64 >= walked_from;
                self.read.push((segment.lsn() + end as u64, read));
                read = 0;
            }
            read += length;
            end = at + message.bytes();
            self.trail.see(lsn, message);
            // Behind a hole sled reads nothing, if it goes on at all.
            if lsn >= self.snapshot && !torn {
                self.pages.apply(message, Pointer { lsn, at: segment.at + at as u64, bytes: length });
            }
        });
        self.read.push((segment.lsn() + end as u64, read));
        let hole = |from: usize, to: usize| Hole {
            lsn: segment.lsn() + from as u64,
            at: segment.at + from as u64,
            bytes: to.saturating_sub(from) as u64,
        };
        if segment.header.is_none() {
            self.holes.push(hole(0, SEGMENT_HEADER));
        }
        self.holes.extend(walk.holes.iter().map(|(from, to)| hole(*from, *to)));
        self.stable = self.stable.max(segment.header.and_then(|header| header.stable));
        // Behind a segment that was filled up sled goes on in the next one, even before it has written any of that.
        let length = if walk.sealed { SEGMENT } else { walk.end as u64 };
        self.tip = segment.lsn() + length;
        self.tip_at = segment.at + walk.end as u64;
        self.torn = walk.torn;
        let newest = self.log.segments.last().is_some_and(|last| last.number == segment.number);
        if !walk.sealed && !walk.given_up && !newest {
            self.holes.push(hole(walk.end, bytes.len().max(walk.end + 1)));
        }
        Ok(())
    }

    /// The last segments must follow each other without a gap; further back some were given up.
    fn missing(&mut self) {
        let from = self.snapshot.max(self.relied_on()) / SEGMENT;
        let newest = self.log.segments.last().map_or(0, |segment| segment.number);
        for number in from..newest {
            if self.log.segment(number).is_none() {
                self.holes.push(Hole { lsn: number * SEGMENT, at: self.log.bytes, bytes: 0 });
            }
        }
    }

    /// In front of this sled may have given up older copies of pages: it relies on a segment once a later one has noted that
    /// all of it was written.
    fn relied_on(&self) -> u64 {
        self.stable.unwrap_or(0) / SEGMENT * SEGMENT
    }

    /// Segments before this one sled does not walk through; it reads what the snapshot names in them.
    fn walked_from(&self) -> u64 {
        self.snapshot / SEGMENT * SEGMENT
    }

    /// The first place that tells of a page of today that sled would not find whole: it stands in the old part and cannot be
    /// read, or only changes of it are left, or nothing.
    fn lost_page(&self) -> Option<Hole> {
        let old = self.pages.live().filter(|pointer| pointer.lsn < self.snapshot);
        let lost = old.filter_map(|pointer| {
            let segment = self.log.segment(pointer.lsn / SEGMENT);
            if segment.is_none_or(|segment| segment.at != pointer.at / SEGMENT * SEGMENT) {
                return Some(Hole { lsn: pointer.lsn, at: pointer.at, bytes: pointer.bytes });
            }
            let (from, to) = (pointer.lsn, pointer.lsn + pointer.bytes);
            self.holes.iter().find(|hole| hole.lsn < to && from < hole.lsn + hole.bytes).copied()
        });
        // What the last batch changed does not count if the batch does not.
        let unfinished = self.trail.last_batch().filter(|(head, end)| !self.is_whole(*head, *end));
        let sure = |pointer: &&Pointer| unfinished.is_none_or(|(head, _)| pointer.lsn < head);
        let adrift = self.pages.adrift().filter(sure);
        let adrift = adrift.map(|Pointer { lsn, at, bytes }| Hole { lsn: *lsn, at: *at, bytes: *bytes });
        let gap = Hole { lsn: self.tip, at: self.log.bytes, bytes: 0 };
        let gap = self.pages.have_a_gap().then_some(gap);
        lost.chain(adrift).chain(gap).min_by_key(|hole| hole.lsn)
    }

    /// Whether all of a batch is there.
    pub(super) fn is_whole(&self, head: u64, end: u64) -> bool {
        end < self.tip
            && !self.holes.iter().any(|hole| hole.lsn <= end && head < hole.lsn + hole.bytes.max(1))
    }

    /// Bytes of whole messages behind a place.
    fn intact_behind(&self, lsn: u64) -> u64 {
        self.read.iter().filter(|(end, _)| *end > lsn).map(|(_, bytes)| *bytes).sum()
    }

    /// Whether sled will find all that was acknowledged: the commit it comes to, or why not. `own` and `audit` are the
    /// commits that the store's mark and the audit log name.
    pub(super) fn judge(&self, own: Option<u64>, audit: Option<u64>) -> Result<u64, Damage> {
        let first = self.holes.iter().find(|hole| hole.lsn >= self.walked_from()).copied();
        let end = first.map_or(self.tip, |hole| hole.lsn);
        let recovers = self.trail.before(end);
        let shown = self.trail.newest().map_or(0, |newest| newest.saturating_sub(1));
        let known = shown.max(own.unwrap_or(0)).max(audit.unwrap_or(0));
        let damage = |hole: Hole, cut: bool| Damage {
            at: hole.at,
            bytes: self.holes.iter().map(|hole| hole.bytes).sum::<u64>().max(hole.bytes),
            places: self.holes.len().max(1),
            intact: self.intact_behind(hole.lsn),
            recovers,
            known,
            cut,
        };
        if let Some(hole) = self.lost_page() {
            return Err(damage(hole, false));
        }
        let tip = Hole { lsn: self.tip, at: self.tip_at, bytes: 0 };
        let Some(recovers) = recovers else { return Err(damage(first.unwrap_or(tip), first.is_none())) };
        match first {
            Some(hole) => {
                let relied_on = hole.lsn < self.relied_on().max(self.snapshot);
                if recovers < known || relied_on { Err(damage(hole, false)) } else { Ok(recovers) }
            }
            // A whole log that is only older than the audit log is an old copy, and it is the unseal that says so.
            None => {
                let asked = if self.torn { known } else { shown.max(own.unwrap_or(0)) };
                if recovers < asked || self.tip < self.snapshot {
                    Err(damage(tip, true))
                } else {
                    Ok(recovers)
                }
            }
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cut {
            write!(f, "its file db ends too early, at byte {}", self.at)?;
        } else {
            write!(f, "its file db is damaged at byte {}", self.at)?;
            match self.places {
                1 => write!(f, " ({} bytes)", self.bytes)?,
                places => write!(f, " and in {} more places ({} bytes)", places - 1, self.bytes)?,
            }
        }
        match self.recovers {
            Some(commit) => write!(f, "; in front of that it holds commit {commit}")?,
            None => write!(f, "; in front of that it holds nothing")?,
        }
        write!(f, ", and commit {} was acknowledged", self.known)?;
        write!(f, "; behind it {} bytes are intact and would be erased by opening it", self.intact)
    }
}

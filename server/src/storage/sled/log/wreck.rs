//! What can still be read of a store that is not opened any more. Nothing in its folder is touched.
//!
//! The messages of the log are played in their order, as sled does, but over the keys and not over the pages, and going
//! on behind damage: a page tells all there is between its first and its last key at that moment, a change tells one key.
//! A key of a change is written without what all keys of its page begin with. If the page was lost, what it began with is
//! tried out of what other pages say of it: whoever can open records tells which key is the right one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io,
    ops::Bound,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use super::{
    format::{Kind, Link, Message, Node, whole},
    survey::{Damage, Survey},
};
use crate::storage::{
    MAX_KEY_BYTES, Record, Revision, StoreKey,
    sled::{copies, decode, mark},
};

/// See the module.
pub struct Wreck {
    survey: Survey,
    own: Option<u64>,
    audit: Option<u64>,
    copies: BTreeMap<StoreKey, Vec<u8>>,
    /// Held, not read: no server may go on writing meanwhile.
    _lock: Option<File>,
}

/// A place where a value stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    at: u64,
    length: usize,
    /// In the order of the log.
    pub lsn: u64,
}

/// All that was found.
#[derive(Default)]
pub struct Remains {
    /// The newest of each key.
    pub records: BTreeMap<StoreKey, Place>,
    /// Every value that the keys of one byte ever had, as far as it is still there, oldest first.
    pub history: HashMap<StoreKey, Vec<Place>>,
    /// Records that are there and open under no key that can be thought of.
    pub homeless: u64,
}

/// Something that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// In the file.
    pub at: u64,
    /// How much.
    pub bytes: u64,
    /// The part of the log whose commits may have lost something.
    pub commits: (u64, u64),
}

impl Wreck {
    /// Looks at the store in `directory`. `audit`: a commit it is known to have had, 0 for none.
    ///
    /// # Errors
    /// Its log cannot be read at all, or a server has it.
    pub fn open(directory: &Path, audit: Revision) -> io::Result<Self> {
        let lock = lock(directory)?;
        let survey = Survey::of(&directory.join("db"), None)?;
        let audit = (audit > Revision(0)).then_some(audit.0);
        let (own, copies) = (mark::read(directory), copies::read(directory));
        Ok(Self { survey, own, audit, copies, _lock: lock })
    }

    /// Why sled must not have it; none if it could.
    pub fn damage(&self) -> Option<Damage> {
        self.survey.judge(self.own, self.audit).err()
    }

    /// The last commit that was acknowledged, as far as anything tells.
    pub fn acknowledged(&self) -> Revision {
        let trail = &self.survey.trail;
        let traced = self.unfinished().map_or_else(|| trail.newest(), |(head, _)| trail.before(head));
        Revision(traced.max(self.own).max(self.audit).unwrap_or(0))
    }

    /// The last commit there is any trace of. A new store goes on behind it.
    pub fn last(&self) -> Revision {
        Revision(self.survey.trail.newest().unwrap_or(0)).max(self.acknowledged())
    }

    /// What cannot be read, in the order of the log.
    pub fn gaps(&self) -> Vec<Gap> {
        let gap = |hole: &super::survey::Hole| Gap {
            at: hole.at,
            bytes: hole.bytes,
            commits: self.survey.trail.around(hole.lsn, hole.lsn + hole.bytes),
        };
        self.survey.holes.iter().map(gap).collect()
    }

    /// Whether places of the log were used again: older copies of a page may be gone then, and a damaged page takes records
    /// with it that were written at any time.
    pub fn has_forgotten(&self) -> bool {
        (0..).zip(&self.survey.log.segments).any(|(number, segment)| segment.number != number)
    }

    /// The copy of a record that was kept beside the log.
    pub fn copy(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.copies.get(key).cloned()
    }

    /// Where the last batch begins, if something of it is missing.
    pub fn torn(&self) -> Option<u64> {
        let (head, end) = self.survey.trail.last_batch()?;
        (!self.survey.is_whole(head, end)).then_some(head)
    }

    /// What stands there: a value and the commit that wrote it.
    ///
    /// # Errors
    /// Reading the file.
    pub fn record(&self, place: Place) -> io::Result<Record> {
        let stored = self.survey.log.slice(place.at, place.length)?;
        decode(&stored).map_err(io::Error::other)
    }

    /// Plays the log. `fits` says whether a value opens under a key.
    ///
    /// # Errors
    /// Reading the file.
    pub fn remains(&self, fits: impl Fn(&[u8], &[u8]) -> bool) -> io::Result<Remains> {
        let mut play = Play { fits, pages: HashMap::new(), remains: Remains::default(), lost: Vec::new() };
        let unfinished = self.unfinished();
        let log = &self.survey.log;
        for segment in &log.segments {
            let bytes = log.read(segment.at)?;
            let begun = |number| log.segment(number).is_none();
            segment.walk(&bytes, begun, |at, message| {
                let lsn = segment.lsn() + at as u64;
                if unfinished.is_none_or(|(head, end)| lsn <= head || lsn > end) {
                    play.message(message, lsn, segment.at + (at + message.head) as u64);
                }
            });
        }
        play.house();
        Ok(play.remains)
    }

    /// The last batch, if it is not whole and nothing says that it was acknowledged: the crash came before its end.
    fn unfinished(&self) -> Option<(u64, u64)> {
        let (head, end) = self.survey.trail.last_batch()?;
        let before = self.survey.trail.before(head).unwrap_or(0);
        let acknowledged = self.own.max(self.audit).is_some_and(|known| known > before);
        (!acknowledged && !self.survey.is_whole(head, end)).then_some((head, end))
    }
}

fn lock(directory: &Path) -> io::Result<Option<File>> {
    let file = match File::open(directory.join("LOCK")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(_) => Err(io::Error::other("a server has it: stop that first")),
    }
}

/// What a page spans, as far as anything says so.
#[derive(Clone, Default)]
struct Span {
    low: Vec<u8>,
    /// Empty: no end.
    high: Vec<u8>,
    /// So many bytes of `low` are left out of its keys.
    prefix: usize,
    /// Where its last whole copy stands; 0 if only another page tells of it.
    lsn: u64,
}

/// A change of a key that is not known.
struct Lost {
    page: u64,
    key: Vec<u8>,
    value: Vec<u8>,
    place: Place,
}

struct Play<F> {
    fits: F,
    pages: HashMap<u64, Span>,
    remains: Remains,
    lost: Vec<Lost>,
}

impl<F: Fn(&[u8], &[u8]) -> bool> Play<F> {
    /// A message whose body stands at `at` of the file.
    fn message<'a>(&mut self, message: &Message<'a>, lsn: u64, at: u64) {
        // A value is a part of the body: where it is in there, is where it is in the file.
        let place = |value: &'a [u8]| {
            let inside = (value.as_ptr() as usize).saturating_sub(message.body.as_ptr() as usize);
            Place { at: at + inside as u64, length: value.len(), lsn }
        };
        match message.kind {
            Kind::Node => {
                if let Some(node) = Node::read(message.body) {
                    self.page(message.page, &node, lsn, place);
                }
            }
            Kind::Link => match Link::read(message.body) {
                Some(Link::Set(key, value)) => self.set(message.page, key, value, place(value)),
                Some(Link::Delete(key)) => self.delete(message.page, key),
                _ => {}
            },
            _ => {}
        }
    }

    fn page<'a>(&mut self, page: u64, node: &Node<'a>, lsn: u64, place: impl Fn(&'a [u8]) -> Place) {
        if let Some(next) = node.next.filter(|_| !node.high.is_empty()) {
            let low = node.high.to_vec();
            // How much of it the keys leave out is not said here; all lengths are tried.
            self.pages.entry(next).or_insert(Span { prefix: low.len(), low, ..Span::default() });
        }
        let Some(leaf) = &node.leaf else { return };
        let (low, high) = (node.low.to_vec(), node.high.to_vec());
        self.pages.insert(page, Span { low, high, prefix: node.prefix, lsn });
        // What was changed before stands in this copy.
        self.lost.retain(|lost| lost.page != page);
        let end = if node.high.is_empty() { Bound::Unbounded } else { Bound::Excluded(node.high.to_vec()) };
        let range = (Bound::Included(node.low.to_vec()), end);
        let before: Vec<_> = self.remains.records.range(range).map(|(key, _)| key.clone()).collect();
        for key in before {
            self.remains.records.remove(&key);
        }
        for (key, value) in leaf {
            self.found(node.whole(key), place(value));
        }
    }

    fn set(&mut self, page: u64, key: &[u8], value: &[u8], place: Place) {
        // That of the revision is no record.
        if key.len() > MAX_KEY_BYTES {
            return;
        }
        let content = value.get(8..).unwrap_or_default();
        match self.keys(page, key).find(|key| (self.fits)(key, content)) {
            Some(key) => self.found(key, place),
            None => self.lost.push(Lost { page, key: key.to_vec(), value: content.to_vec(), place }),
        }
    }

    fn delete(&mut self, page: u64, key: &[u8]) {
        let there = self.keys(page, key).find(|key| self.remains.records.contains_key(key));
        if let Some(key) = there {
            self.remains.records.remove(&key);
        }
    }

    /// What a key of that page can be, the likeliest first.
    fn keys(&self, page: u64, key: &[u8]) -> impl Iterator<Item = StoreKey> + use<F> {
        let Span { low, prefix, .. } = self.pages.get(&page).cloned().unwrap_or_default();
        let key = key.to_vec();
        let others = (0..=low.len()).filter(move |other| *other != prefix);
        std::iter::once(prefix).chain(others).map(move |prefix| whole(&low, prefix, &key))
    }

    fn found(&mut self, key: StoreKey, place: Place) {
        if key.len() > MAX_KEY_BYTES {
            return;
        }
        if key.len() == 1 {
            self.remains.history.entry(key.clone()).or_default().push(place);
        }
        self.remains.records.insert(key, place);
    }

    /// Tries what every page begins with for what has no key yet.
    fn house(&mut self) {
        for Lost { key, value, place, .. } in std::mem::take(&mut self.lost) {
            let starts: BTreeSet<&[u8]> = self
                .pages
                .values()
                .flat_map(|page| (0..=page.low.len()).filter_map(|length| page.low.get(..length)))
                .collect();
            let mut keys = starts.into_iter().map(|start| [start, key.as_slice()].concat());
            match keys.find(|key| (self.fits)(key, &value)) {
                Some(home) if self.is_newest(&home, place.lsn) => {
                    self.remains.records.insert(home, place);
                }
                Some(_) => {}
                None => self.remains.homeless += 1,
            }
        }
    }

    /// Whether nothing later tells of that key: neither a record nor a page that would hold it.
    fn is_newest(&self, key: &StoreKey, lsn: u64) -> bool {
        let spans = |page: &Span| page.low <= *key && (page.high.is_empty() || *key < page.high);
        self.remains.records.get(key).is_none_or(|there| there.lsn < lsn)
            && !self.pages.values().any(|page| page.lsn > lsn && spans(page))
    }
}

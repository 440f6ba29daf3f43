//! Two things that a walk through the log adds up: where the pages stand that sled would read, and how far our own
//! commits came, which each of them writes into itself.

use std::collections::HashMap;

use super::format::{Kind, Link, Message, Node, Pointer, Snapshot};
use crate::storage::sled::REVISION_KEY;

/// Where every page is, as sled works it out: its last whole copy, and the changes behind that.
#[derive(Default)]
pub(super) struct Pages {
    /// None of a page that is free.
    places: HashMap<u64, Vec<Pointer>>,
    /// The first change of each page behind which no whole copy of it was found yet, nor before.
    adrift: HashMap<u64, Pointer>,
}

/// The revisions that the log tells of.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// Every batch: where its head stands, and its last byte.
    batches: Vec<(u64, u64)>,
    /// A revision, and the last byte that must be there for it to count. In the order of the log.
    steps: Vec<(u64, u64)>,
}

impl Pages {
    /// As they were.
    pub(super) fn of(snapshot: Option<&Snapshot>) -> Self {
        let pages = snapshot.map_or(&[][..], |snapshot| &snapshot.pages).iter();
        let places = (0..).zip(pages).map(|(page, pointers)| (page, pointers.clone())).collect();
        Self { places, adrift: HashMap::new() }
    }

    pub(super) fn apply(&mut self, message: &Message<'_>, pointer: Pointer) {
        match message.kind {
            Kind::Node | Kind::Counter | Kind::Meta | Kind::Blob => {
                self.adrift.remove(&message.page);
                self.places.insert(message.page, vec![pointer]);
            }
            Kind::Link => {
                match self.places.get_mut(&message.page).map(|places| (places.last().copied(), places)) {
                    Some((Some(last), places)) if last.lsn < pointer.lsn => places.push(pointer),
                    Some((Some(_), _)) => {}
                    // It belongs to a life of the page that is over, unless nothing tells of that.
                    _ => drop(self.adrift.entry(message.page).or_insert(pointer)),
                }
            }
            Kind::Free => {
                self.adrift.remove(&message.page);
                self.places.insert(message.page, Vec::new());
            }
            Kind::Canceled | Kind::Cap | Kind::Batch => {}
        }
    }

    /// All that sled may read.
    pub(super) fn live(&self) -> impl Iterator<Item = &Pointer> {
        self.places.values().flatten()
    }

    /// Changes of pages that are nowhere.
    pub(super) fn adrift(&self) -> impl Iterator<Item = &Pointer> {
        self.adrift.values()
    }

    /// Whether a page is missing among the others: sled gives out their numbers one by one, and gives up at such a gap.
    pub(super) fn have_a_gap(&self) -> bool {
        self.places.keys().max().is_some_and(|last| self.places.len() as u64 <= *last)
    }
}

impl Trail {
    pub(super) fn see(&mut self, lsn: u64, message: &Message<'_>) {
        let revision = match message.kind {
            Kind::Batch => {
                self.batches.push((lsn, message.batch_end().unwrap_or(lsn)));
                return;
            }
            Kind::Link => match Link::read(message.body) {
                Some(Link::Set(key, value)) if key == REVISION_KEY => revision(value),
                _ => None,
            },
            Kind::Node => in_page(message.body),
            _ => None,
        };
        if let Some(revision) = revision {
            let own_end = lsn + message.bytes() as u64 - 1;
            let batch_end = self.batches.last().map_or(0, |(_, end)| *end);
            self.steps.push((own_end.max(batch_end), revision));
        }
    }

    /// The newest revision that is whole in front of `lsn`.
    pub(super) fn before(&self, lsn: u64) -> Option<u64> {
        self.steps.iter().filter(|(end, _)| *end < lsn).map(|(_, revision)| *revision).max()
    }

    /// The last batch, if any.
    pub(super) fn last_batch(&self) -> Option<(u64, u64)> {
        self.batches.last().copied()
    }

    /// The part of the log whose batches a stretch of it may belong to.
    pub(super) fn around(&self, from: u64, to: u64) -> (u64, u64) {
        let begins = self.batches.partition_point(|(head, _)| *head <= from);
        let before = begins.checked_sub(1).and_then(|index| self.batches.get(index));
        let start = before.map_or(0, |(head, end)| if *end >= from { *head } else { end + 1 });
        let last = self.batches.partition_point(|(head, _)| *head < to);
        let within = last.checked_sub(1).and_then(|index| self.batches.get(index));
        let next = self.batches.get(last).map_or(u64::MAX, |(head, _)| *head);
        (start, within.filter(|(_, end)| *end >= to).map_or(next, |(_, end)| *end + 1))
    }

    /// The newest revision there is any trace of.
    pub(super) fn newest(&self) -> Option<u64> {
        self.steps.iter().map(|(_, revision)| *revision).max()
    }
}

/// The revision that a page holds: its key is the greatest of all, so only the last page can.
fn in_page(body: &[u8]) -> Option<u64> {
    let node = Node::read(body)?;
    let (key, value) = node.leaf.as_ref().filter(|_| node.high.is_empty())?.last()?;
    (node.whole(key) == REVISION_KEY).then(|| revision(value)).flatten()
}

fn revision(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

//! When which lease is to be ended, and which one next. It knows neither a clock nor a store nor how anything is ended: it is
//! told what time it is and how attempts went, and says what to do.
//!
//! Each mount is a lane of its own, so that a database that is away holds nobody up but those of its own. Within a lane they
//! go in the order they were due. What failed is tried again after a while that doubles; a lane where one after the other
//! fails is tried with a single one, now and then, until that succeeds: when the database is back nothing storms it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::model::{RequestId, Timestamp};

/// Most attempts at a time in one lane: what a database bears beside its work.
pub(super) const PER_LANE: usize = 8;
/// Most attempts at a time.
pub(super) const AT_ONCE: usize = 32;
/// After the first failure; doubled with each one that follows.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait: what is mended is noticed by then.
const LAST_RETRY: Duration = Duration::from_secs(300);
/// So many failures in a row mean that it is not the lease but what is behind the lane.
const SUSPICIOUS: u32 = 3;

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    items: HashMap<RequestId, Item>,
    lanes: HashMap<Arc<str>, Lane>,
    running: usize,
}

struct Item {
    lane: Arc<str>,
    due: Timestamp,
    failures: u32,
    running: bool,
}

#[derive(Default)]
struct Lane {
    waiting: BTreeSet<(Timestamp, RequestId)>,
    running: usize,
    /// In a row.
    failures: u32,
    /// Not before that, unless it did not fail of late.
    opens: Timestamp,
}

impl Queue {
    /// Makes it due at `due`. While an attempt is running that one decides what comes next.
    pub(super) fn set(&mut self, lane: &str, id: RequestId, due: Timestamp) {
        let failures = match self.items.get(&id) {
            Some(item) if item.running => return,
            Some(item) => item.failures,
            None => 0,
        };
        self.remove(id);
        let lane = match self.lanes.get_key_value(lane) {
            Some((name, _)) => Arc::clone(name),
            None => lane.into(),
        };
        self.lanes.entry(Arc::clone(&lane)).or_default().waiting.insert((due, id));
        self.items.insert(id, Item { lane, due, failures, running: false });
    }

    /// It is not to be ended any more, or not for now.
    pub(super) fn remove(&mut self, id: RequestId) {
        let Some(item) = self.items.remove(&id) else { return };
        let Some(lane) = self.lanes.get_mut(&item.lane) else { return };
        if item.running {
            lane.running -= 1;
            self.running -= 1;
        }
        lane.waiting.remove(&(item.due, id));
        if lane.waiting.is_empty() && lane.running == 0 {
            self.lanes.remove(&item.lane);
        }
    }

    /// The next one to be ended now. From here on an attempt is running, until it is told that it [`Queue::failed`] or that
    /// the lease is [removed](Queue::remove).
    pub(super) fn take(&mut self, now: Timestamp) -> Option<RequestId> {
        if self.running >= AT_ONCE {
            return None;
        }
        let first = |lane: &Lane| lane.first(now);
        let (due, id) = self.lanes.values().filter_map(first).min()?;
        let item = self.items.get_mut(&id)?;
        let lane = self.lanes.get_mut(&item.lane)?;
        lane.waiting.remove(&(due, id));
        lane.running += 1;
        self.running += 1;
        item.running = true;
        Some(id)
    }

    /// The attempt came to nothing.
    pub(super) fn failed(&mut self, id: RequestId, now: Timestamp) {
        let Some(item) = self.items.get_mut(&id) else { return };
        let Some(lane) = self.lanes.get_mut(&item.lane) else { return };
        if !std::mem::take(&mut item.running) {
            return;
        }
        lane.running -= 1;
        self.running -= 1;
        item.failures = item.failures.saturating_add(1);
        item.due = now.plus(wait(item.failures, id));
        lane.waiting.insert((item.due, id));
        lane.failures = lane.failures.saturating_add(1);
        if lane.failures >= SUSPICIOUS {
            lane.opens = now.plus(wait(lane.failures - SUSPICIOUS + 1, id));
        }
    }

    /// It was ended: its lane works.
    pub(super) fn succeeded(&mut self, id: RequestId) {
        let lane = self.items.get(&id).map(|item| Arc::clone(&item.lane));
        self.remove(id);
        if let Some(lane) = lane.and_then(|lane| self.lanes.get_mut(&lane)) {
            lane.failures = 0;
        }
    }

    /// How often it failed, and when it is due.
    pub(super) fn of(&self, id: RequestId) -> Option<(u32, Timestamp)> {
        self.items.get(&id).map(|item| (item.failures, item.due))
    }
}

impl Lane {
    /// The first that is due, if one may go.
    fn first(&self, now: Timestamp) -> Option<(Timestamp, RequestId)> {
        let failing = self.failures >= SUSPICIOUS;
        let most = if failing { 1 } else { PER_LANE };
        if self.running >= most || failing && now < self.opens {
            return None;
        }
        self.waiting.first().copied().filter(|(due, _)| *due <= now)
    }
}

/// How long to wait after so many failures. Those that failed together do not come back together.
fn wait(failures: u32, id: RequestId) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let wait = doubled.min(LAST_RETRY);
    let [spread, ..] = id.0;
    wait + wait * u32::from(spread) / 1024
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

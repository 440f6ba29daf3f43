//! Which pods, or which service accounts, a cluster has at the moment. Filled by the watch (`watch.rs`), asked at each
//! login and each request. No IO here.
//!
//! Only uids are kept, and when each was seen last, by a clock that nobody sets: a list would sweep what is there if the time of
//! day were set back meanwhile. What a list that began at some time does not bring was gone by then, so
//! a complete list sweeps away whatever was not seen since it began. One that logs in is remembered as well, for the
//! watch may be a moment behind; then its deletion is noticed even if it comes between two lists.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use super::{api::WATCH, identity::Uid};
use crate::clock::Steady;

/// Most objects of a kind: three times the largest cluster that Kubernetes supports (150,000 pods), about 20 MB. A cluster
/// with more is not watched, and says so.
const OBJECTS: usize = 500_000;
/// Without a word from the API server for so long (a watch is opened again every 30 s), what is known is old.
const CURRENT: Duration = Duration::from_secs(4 * WATCH.as_secs());

/// See the module. The lock is held for one look-up or one change, except at the end of a list.
#[derive(Default)]
pub(super) struct Presence(RwLock<State>);

#[derive(Default)]
struct State {
    known: HashMap<Uid, Sighting>,
    /// A list was complete once; before that nothing can be said of what is not known.
    synced: bool,
    /// When the API server answered last.
    heard: Option<Steady>,
}

#[derive(Clone, Copy)]
struct Sighting {
    at: Steady,
    /// Whether it is there, or whether somebody is asking about it.
    here: bool,
}

/// What is known of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Here,
    Gone,
    /// There was no complete list yet.
    Nothing,
}

/// More than [`OBJECTS`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Presence {
    pub(super) fn of(&self, uid: Uid) -> Known {
        let state = self.read();
        match state.known.get(&uid) {
            Some(seen) if seen.here => Known::Here,
            _ if state.synced => Known::Gone,
            _ => Known::Nothing,
        }
    }

    /// Whether what is known is of now, more or less.
    pub(super) fn is_current(&self, now: Steady) -> bool {
        let state = self.read();
        state.synced && state.heard.is_some_and(|heard| now.since(heard) < CURRENT)
    }

    /// It was in a list, or appeared.
    pub(super) fn appeared(&self, uid: Uid, at: Steady) -> Result<(), TooMany> {
        let mut state = self.write();
        if state.known.len() >= OBJECTS && !state.known.contains_key(&uid) {
            return Err(TooMany);
        }
        state.heard = Some(at);
        state.known.insert(uid, Sighting { at, here: true });
        Ok(())
    }

    /// It was deleted.
    pub(super) fn deleted(&self, uid: Uid, at: Steady) {
        let mut state = self.write();
        state.heard = Some(at);
        state.known.remove(&uid);
    }

    /// The API server answered.
    pub(super) fn heard(&self, at: Steady) {
        self.write().heard = Some(at);
    }

    /// A list that began then is complete.
    pub(super) fn listed(&self, began: Steady, now: Steady) {
        let mut state = self.write();
        state.known.retain(|_, seen| seen.at >= began);
        state.known.shrink_to_fit();
        (state.synced, state.heard) = (true, Some(now));
    }

    /// Nothing is known any more.
    pub(super) fn forget(&self) {
        *self.write() = State::default();
    }

    /// Somebody is about to ask the API server about one that the watch does not know. Only an answer to this is taken
    /// for true: if the watch sees a deletion in between, the answer is older than that.
    pub(super) fn ask(&self, uid: Uid, at: Steady) {
        let mut state = self.write();
        if state.known.len() < OBJECTS {
            state.known.entry(uid).or_insert(Sighting { at, here: false });
        }
    }

    /// What the API server said, and whether it is so.
    pub(super) fn answer(&self, uid: Uid, exists: bool) -> bool {
        let mut state = self.write();
        match state.known.get_mut(&uid) {
            // The watch has told of it meanwhile.
            Some(seen) if seen.here => true,
            Some(seen) => {
                seen.here = exists;
                if !exists {
                    state.known.remove(&uid);
                }
                exists
            }
            None => false,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Steady {
        Steady::at(Duration::from_secs(seconds))
    }

    fn uid(name: &str) -> Uid {
        Uid::of(name)
    }

    #[test]
    fn nothing_is_known_before_the_first_list() {
        let pods = Presence::default();
        assert_eq!(pods.of(uid("a")), Known::Nothing);
        pods.appeared(uid("a"), at(1)).unwrap();
        assert_eq!((pods.of(uid("a")), pods.of(uid("b"))), (Known::Here, Known::Nothing));
        pods.listed(at(0), at(2));
        assert_eq!((pods.of(uid("a")), pods.of(uid("b"))), (Known::Here, Known::Gone));
        pods.forget();
        assert_eq!(pods.of(uid("b")), Known::Nothing);
    }

    #[test]
    fn a_deletion_counts_at_once_and_for_good() {
        let pods = Presence::default();
        pods.appeared(uid("a"), at(1)).unwrap();
        pods.listed(at(0), at(2));
        pods.deleted(uid("a"), at(3));
        assert_eq!(pods.of(uid("a")), Known::Gone);
    }

    #[test]
    fn what_a_list_does_not_bring_is_gone() {
        let pods = Presence::default();
        for name in ["a", "b"] {
            pods.appeared(uid(name), at(1)).unwrap();
        }
        pods.listed(at(0), at(2));
        pods.appeared(uid("b"), at(11)).unwrap();
        assert_eq!(pods.of(uid("a")), Known::Here, "the list is not complete");
        pods.listed(at(10), at(12));
        assert_eq!((pods.of(uid("a")), pods.of(uid("b"))), (Known::Gone, Known::Here));
    }

    #[test]
    fn one_that_logs_in_during_a_list_survives_it() {
        let pods = Presence::default();
        pods.listed(at(0), at(1));
        pods.ask(uid("new"), at(11));
        assert_eq!(pods.of(uid("new")), Known::Gone, "not before it is answered");
        assert!(pods.answer(uid("new"), true));
        pods.listed(at(10), at(12));
        assert_eq!(pods.of(uid("new")), Known::Here);
    }

    #[test]
    fn an_answer_that_a_deletion_overtook_is_not_believed() {
        let pods = Presence::default();
        pods.listed(at(0), at(1));
        pods.ask(uid("a"), at(2));
        pods.deleted(uid("a"), at(3));
        assert!(!pods.answer(uid("a"), true));
        assert_eq!(pods.of(uid("a")), Known::Gone);
    }

    #[test]
    fn an_answer_that_says_no_leaves_nothing() {
        let pods = Presence::default();
        pods.listed(at(0), at(1));
        pods.ask(uid("a"), at(2));
        assert!(!pods.answer(uid("a"), false));
        assert!(pods.read().known.is_empty());
    }

    #[test]
    fn what_was_heard_long_ago_is_not_current() {
        let pods = Presence::default();
        assert!(!pods.is_current(at(0)));
        pods.listed(at(0), at(1));
        assert!(pods.is_current(at(100)) && !pods.is_current(at(121)));
        pods.heard(at(120));
        assert!(pods.is_current(at(121)));
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let pods = Presence::default();
        for n in 0..OBJECTS {
            pods.appeared(uid(&n.to_string()), at(1)).unwrap();
        }
        assert_eq!(pods.appeared(uid("one more"), at(1)), Err(TooMany));
        assert_eq!(pods.appeared(uid("7"), at(2)), Ok(()));
        pods.ask(uid("one more"), at(2));
        assert_eq!(pods.read().known.len(), OBJECTS);
    }
}

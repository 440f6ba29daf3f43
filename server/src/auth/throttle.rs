//! Slows down who tries passwords: after a few failures each further try has to wait, twice as long each time.
//!
//! A pause belongs to a source, and to a name *from that source*; never to a name alone. So nobody can keep somebody else
//! out by failing in their name from elsewhere. It is kept in memory and ends by itself: there is no lock to be undone.
//!
//! A try counts as a failure from the moment it is admitted until it is known to be none, so of many that come at once only
//! as many are judged as may fail. Somebody behind the same address can fail in a user's name all the time; so where a user
//! has logged in before, their name never has to wait long, and not at all for the failures of others.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::model::{Source, Timestamp};

/// Failures of one name from one source without a pause: people mistype.
const FREE: u32 = 5;
/// The same of all names from one source: an office or a cluster may stand behind one address.
const FREE_OF_SOURCE: u32 = 50;
/// The first pause; the next are twice as long each.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// The longest for a name where it has logged in before: 17,000 tries a day are not many against 12 characters, and a person
/// waits so long.
const LONGEST_AT_HOME: Duration = Duration::from_secs(5);
/// Without a further failure all is forgotten.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// Most sources and names remembered, about 1 MiB, and as many where somebody has logged in; beyond them the one that was
/// quiet longest is forgotten.
const MOST: usize = 8192;

/// See the module.
#[derive(Default)]
pub(super) struct Throttle(Mutex<State>);

#[derive(Default)]
struct State {
    tries: HashMap<Key, Tries>,
    /// Where names have logged in, and when last.
    homes: HashMap<Key, Timestamp>,
}

/// A source, or a name from it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    source: Source,
    name: Option<Box<str>>,
}

#[derive(Clone, Copy, Default)]
struct Tries {
    failed: u32,
    /// Admitted, and not yet known to be right or wrong.
    open: u32,
    last: Timestamp,
}

/// A try that may be judged. Without a word it was none, as when there was no room to judge it.
#[must_use = "a try that is dropped counts as none"]
pub(super) struct Try<'a> {
    throttle: &'a Throttle,
    of_name: Key,
    of_source: Key,
    now: Timestamp,
}

impl Throttle {
    /// Admits a try, which counts as a failure until it is known to be none.
    ///
    /// # Errors
    /// How long it has to wait.
    pub(super) fn admit(&self, source: IpAddr, name: &str, now: Timestamp) -> Result<Try<'_>, Duration> {
        let (of_name, of_source) = keys(source, name);
        let mut state = self.lock();
        let at_home = state.homes.contains_key(&of_name);
        let longest = if at_home { LONGEST_AT_HOME } else { LONGEST };
        let by_name = state.tries.get_mut(&of_name).map(|tries| tries.wait(FREE, longest, now));
        let by_source = match at_home {
            true => None,
            false => state.tries.get_mut(&of_source).map(|tries| tries.wait(FREE_OF_SOURCE, LONGEST, now)),
        };
        let wait = by_name.max(by_source).unwrap_or_default();
        if !wait.is_zero() {
            return Err(wait);
        }
        for key in [&of_name, &of_source] {
            let is_over = |tries: &Tries| tries.is_over(now);
            make_room(&mut state.tries, key, is_over, |tries| tries.last);
            let tries = state.tries.entry(key.clone()).or_insert(Tries { last: now, ..Tries::default() });
            tries.open = tries.open.saturating_add(1);
        }
        Ok(Try { throttle: self, of_name, of_source, now })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Try<'_> {
    /// A wrong password, or no such name.
    pub(super) fn failed(self) {
        let mut state = self.throttle.lock();
        for key in [&self.of_name, &self.of_source] {
            if let Some(tries) = state.tries.get_mut(key) {
                let before = if tries.is_over(self.now) { 0 } else { tries.failed };
                (tries.failed, tries.last) = (before.saturating_add(1), tries.last.max(self.now));
            }
        }
    }

    /// The right password: the name's failures from there are forgotten, and it is at home there. Those of the source are
    /// not, or whoever has one account could continue with the others.
    pub(super) fn succeeded(self) {
        let mut state = self.throttle.lock();
        if let Some(tries) = state.tries.get_mut(&self.of_name) {
            tries.failed = 0;
        }
        make_room(&mut state.homes, &self.of_name, |_| false, |last| *last);
        state.homes.insert(self.of_name.clone(), self.now);
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let mut state = self.throttle.lock();
        for key in [&self.of_name, &self.of_source] {
            if let Some(tries) = state.tries.get_mut(key) {
                tries.open = tries.open.saturating_sub(1);
                if tries.open == 0 && tries.failed == 0 {
                    state.tries.remove(key);
                }
            }
        }
    }
}

impl Tries {
    /// While something is free, as many at once as are left of it; then one at a time, each after its pause.
    fn wait(&mut self, free: u32, longest: Duration, now: Timestamp) -> Duration {
        // A clock that was set back must not make a pause of the rest of the day.
        self.last = self.last.min(now);
        let failed = if self.is_over(now) { 0 } else { self.failed };
        if failed.saturating_add(self.open) < free {
            return Duration::ZERO;
        }
        if self.open > 0 {
            return FIRST;
        }
        let doubled = 1_u32.checked_shl(failed.saturating_sub(free)).filter(|doubled| *doubled > 0);
        let pause = doubled.and_then(|doubled| FIRST.checked_mul(doubled)).unwrap_or(longest).min(longest);
        pause.saturating_sub(now.since(self.last))
    }

    fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.last) >= MEMORY
    }
}

/// The name from there, and the source.
fn keys(source: IpAddr, name: &str) -> (Key, Key) {
    let source = Source::from(source);
    (Key { source, name: Some(name.into()) }, Key { source, name: None })
}

fn make_room<V>(
    all: &mut HashMap<Key, V>,
    key: &Key,
    is_over: impl Fn(&V) -> bool,
    last: impl Fn(&V) -> Timestamp,
) {
    if all.len() < MOST || all.contains_key(key) {
        return;
    }
    all.retain(|_, entry| !is_over(entry));
    if all.len() >= MOST {
        let quietest = all.iter().min_by_key(|(_, entry)| last(entry)).map(|(key, _)| key.clone());
        quietest.map(|key| all.remove(&key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_795_000_000_000 + seconds * 1000)
    }

    /// A try that fails, if it is judged.
    fn fail(throttle: &Throttle, source: IpAddr, name: &str, seconds: i64) -> Result<(), Duration> {
        throttle.admit(source, name, at(seconds))?.failed();
        Ok(())
    }

    /// What one would have to wait, that is not judged after all.
    fn look(throttle: &Throttle, source: IpAddr, name: &str, seconds: i64) -> Result<(), Duration> {
        throttle.admit(source, name, at(seconds)).map(drop)
    }

    #[test]
    fn pauses_grow_end_by_themselves_and_keep_nobody_else_out() {
        let throttle = Throttle::default();
        for _ in 0..FREE {
            fail(&throttle, HERE, "alice", 0).unwrap();
        }
        assert_eq!(fail(&throttle, HERE, "alice", 0), Err(Duration::from_secs(1)));
        assert_eq!(look(&throttle, ELSEWHERE, "alice", 0), Ok(()), "alice herself, from elsewhere");
        assert_eq!(look(&throttle, HERE, "bob", 0), Ok(()), "her neighbour");
        let mut now = 0;
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(fail(&throttle, HERE, "alice", now), Err(Duration::from_secs(pause)));
            now += i64::try_from(pause).unwrap();
            fail(&throttle, HERE, "alice", now).unwrap();
        }
        for _ in 0..FREE {
            assert_eq!(fail(&throttle, HERE, "alice", now + 900), Ok(()), "forgotten");
        }
        assert!(fail(&throttle, HERE, "alice", now + 900).is_err());
    }

    /// All are admitted before the first of them is judged, which takes a slow hash.
    #[test]
    fn of_a_burst_only_as_many_are_judged_as_may_fail() {
        let throttle = Throttle::default();
        let burst = |seconds| {
            let admitted: Vec<_> =
                (0..30).filter_map(|_| throttle.admit(HERE, "alice", at(seconds)).ok()).collect();
            let judged = admitted.len();
            admitted.into_iter().for_each(Try::failed);
            judged
        };
        assert_eq!(burst(0), 5);
        assert_eq!(burst(0), 0, "a pause");
        assert_eq!(burst(1), 1, "after it, one");
        assert_eq!(burst(3), 1);
        assert_eq!(burst(3 + 900), 5, "all is forgotten");
        let names = (0..90).filter_map(|n| throttle.admit(ELSEWHERE, &format!("user{n}"), at(0)).ok());
        assert_eq!(names.collect::<Vec<_>>().len(), 50, "many names from one source");
    }

    #[test]
    fn a_try_that_is_not_judged_is_none() {
        let throttle = Throttle::default();
        for _ in 0..100 {
            look(&throttle, HERE, "alice", 0).unwrap();
        }
        assert!(throttle.lock().tries.is_empty());
        for _ in 0..FREE {
            fail(&throttle, HERE, "alice", 0).unwrap();
        }
        for _ in 0..100 {
            look(&throttle, HERE, "alice", 1).unwrap();
        }
    }

    /// Somebody behind her address fails in her name once a minute, for a day.
    #[test]
    fn where_the_owner_has_logged_in_nobody_keeps_her_out() {
        let throttle = Throttle::default();
        throttle.admit(HERE, "alice", at(0)).unwrap().succeeded();
        for minute in 0..24 * 60 {
            let now = minute * 60;
            for guess in 0..20 {
                let _ = fail(&throttle, HERE, "alice", now);
                let _ = fail(&throttle, HERE, &format!("user{guess}"), now);
            }
            assert!(fail(&throttle, HERE, "bob", now).is_err() || minute < 2, "the source has to wait");
            if let Err(wait) = look(&throttle, HERE, "alice", now + 1) {
                assert!(wait <= LONGEST_AT_HOME, "{wait:?}");
            }
            assert_eq!(look(&throttle, HERE, "alice", now + 5), Ok(()));
        }
        assert!(look(&throttle, HERE, "bob", 24 * 3600 - 59).is_err(), "who never logged in there waits");
    }

    #[test]
    fn success_forgets_the_name_and_not_the_source() {
        let throttle = Throttle::default();
        for _ in 0..FREE_OF_SOURCE {
            fail(&throttle, HERE, "alice", 0).unwrap();
            throttle.admit(HERE, "alice", at(0)).unwrap().succeeded();
        }
        assert!(look(&throttle, HERE, "bob", 0).is_err());
    }

    #[test]
    fn many_names_from_one_source_are_one_attack() {
        let throttle = Throttle::default();
        for number in 0..FREE_OF_SOURCE {
            fail(&throttle, HERE, &format!("user{number}"), 0).unwrap();
        }
        assert_eq!(look(&throttle, HERE, "alice", 0), Err(Duration::from_secs(1)));
        assert_eq!(look(&throttle, ELSEWHERE, "alice", 0), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_pause_of_a_day() {
        let throttle = Throttle::default();
        for _ in 0..FREE {
            fail(&throttle, HERE, "alice", 24 * 3600).unwrap();
        }
        assert_eq!(look(&throttle, HERE, "alice", 0), Err(Duration::from_secs(1)));
        assert_eq!(look(&throttle, HERE, "alice", 1), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        for number in 0..2 * MOST {
            let source = IpAddr::V4(u32::try_from(number).unwrap().into());
            fail(&throttle, source, "alice", 0).unwrap();
            throttle.admit(source, "bob", at(0)).unwrap().succeeded();
        }
        let state = throttle.lock();
        assert!(state.tries.len() <= MOST && state.homes.len() <= MOST);
    }

    #[test]
    fn one_ipv6_network_is_one_source() {
        let throttle = Throttle::default();
        for number in 0..FREE {
            fail(&throttle, format!("2001:db8::{number}").parse().unwrap(), "alice", 0).unwrap();
        }
        assert!(look(&throttle, "2001:db8::ffff".parse().unwrap(), "alice", 0).is_err());
        assert!(look(&throttle, "2001:db8:0:1::".parse().unwrap(), "alice", 0).is_ok());
    }
}

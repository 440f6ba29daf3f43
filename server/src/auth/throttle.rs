//! Slows down who tries passwords: after a few failures each further try has to wait, twice as long each time.
//!
//! A pause belongs to a source, and to a name *from that source*; never to a name alone. So nobody can keep somebody else
//! out by failing in their name from elsewhere. It is kept in memory and ends by itself: there is no lock to be undone.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::model::Timestamp;

/// Failures of one name from one source without a pause: people mistype.
const FREE: u32 = 5;
/// The same of all names from one source: an office or a cluster may stand behind one address.
const FREE_OF_SOURCE: u32 = 50;
/// The first pause; the next are twice as long each.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Without a further failure all is forgotten.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// Most sources and names remembered, about 1 MiB; beyond them the one that was quiet longest is forgotten.
const MOST: usize = 8192;

/// See the module.
#[derive(Default)]
pub(super) struct Throttle(Mutex<HashMap<Key, Tries>>);

/// A source, or a name from it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    name: Option<Box<str>>,
}

#[derive(Clone, Copy)]
struct Tries {
    failed: u32,
    last: Timestamp,
}

impl Throttle {
    /// Whether a try is judged now.
    ///
    /// # Errors
    /// How long it has to wait.
    pub(super) fn check(&self, source: IpAddr, name: &str, now: Timestamp) -> Result<(), Duration> {
        let tries = self.lock();
        let wait = |(key, free): (Key, u32)| tries.get(&key).map(|tries| tries.wait(free, now));
        match keys(source, name).into_iter().filter_map(wait).max() {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(()),
        }
    }

    /// A wrong password, or no such name.
    pub(super) fn failed(&self, source: IpAddr, name: &str, now: Timestamp) {
        let mut tries = self.lock();
        for (key, _) in keys(source, name) {
            make_room(&mut tries, &key, now);
            let entry = tries.entry(key).or_insert(Tries { failed: 0, last: now });
            let before = if entry.is_over(now) { 0 } else { entry.failed };
            *entry = Tries { failed: before.saturating_add(1), last: now };
        }
    }

    /// The right password: the name's failures from there are forgotten. Those of the source are not, or whoever has one
    /// account could continue with the others.
    pub(super) fn succeeded(&self, source: IpAddr, name: &str) {
        let [(of_name, _), _] = keys(source, name);
        self.lock().remove(&of_name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Tries>> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tries {
    fn wait(&self, free: u32, now: Timestamp) -> Duration {
        if self.failed < free || self.is_over(now) {
            return Duration::ZERO;
        }
        let doubled = 1_u32.checked_shl(self.failed - free).filter(|doubled| *doubled > 0);
        let pause =
            doubled.and_then(|doubled| FIRST.checked_mul(doubled)).map_or(LONGEST, |p| p.min(LONGEST));
        pause.saturating_sub(now.since(self.last))
    }

    fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.last) >= MEMORY
    }
}

fn keys(source: IpAddr, name: &str) -> [(Key, u32); 2] {
    // One IPv6 host usually owns a /64.
    let source = match source.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    };
    [(Key { source, name: Some(name.into()) }, FREE), (Key { source, name: None }, FREE_OF_SOURCE)]
}

fn make_room(tries: &mut HashMap<Key, Tries>, key: &Key, now: Timestamp) {
    if tries.len() < MOST || tries.contains_key(key) {
        return;
    }
    tries.retain(|_, entry| !entry.is_over(now));
    if tries.len() >= MOST {
        let quietest = tries.iter().min_by_key(|(_, entry)| entry.last).map(|(key, _)| key.clone());
        quietest.map(|key| tries.remove(&key));
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
        throttle.check(source, name, at(seconds))?;
        throttle.failed(source, name, at(seconds));
        Ok(())
    }

    #[test]
    fn pauses_grow_end_by_themselves_and_keep_nobody_else_out() {
        let throttle = Throttle::default();
        for _ in 0..FREE {
            fail(&throttle, HERE, "alice", 0).unwrap();
        }
        assert_eq!(fail(&throttle, HERE, "alice", 0), Err(Duration::from_secs(1)));
        assert_eq!(throttle.check(ELSEWHERE, "alice", at(0)), Ok(()), "alice herself, from elsewhere");
        assert_eq!(throttle.check(HERE, "bob", at(0)), Ok(()), "her neighbour");
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

    #[test]
    fn success_forgets_the_name_and_not_the_source() {
        let throttle = Throttle::default();
        for _ in 0..FREE_OF_SOURCE {
            fail(&throttle, HERE, "alice", 0).unwrap();
            throttle.succeeded(HERE, "alice");
        }
        assert!(throttle.check(HERE, "alice", at(0)).is_err());
    }

    #[test]
    fn many_names_from_one_source_are_one_attack() {
        let throttle = Throttle::default();
        for number in 0..FREE_OF_SOURCE {
            fail(&throttle, HERE, &format!("user{number}"), 0).unwrap();
        }
        assert_eq!(throttle.check(HERE, "alice", at(0)), Err(Duration::from_secs(1)));
        assert_eq!(throttle.check(ELSEWHERE, "alice", at(0)), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        for number in 0..2 * MOST {
            let source = IpAddr::V4(u32::try_from(number).unwrap().into());
            fail(&throttle, source, "alice", 0).unwrap();
        }
        assert!(throttle.lock().len() <= MOST);
    }

    #[test]
    fn one_ipv6_network_is_one_source() {
        let throttle = Throttle::default();
        for number in 0..FREE {
            fail(&throttle, format!("2001:db8::{number}").parse().unwrap(), "alice", 0).unwrap();
        }
        assert!(throttle.check("2001:db8::ffff".parse().unwrap(), "alice", at(0)).is_err());
        assert!(throttle.check("2001:db8:0:1::".parse().unwrap(), "alice", at(0)).is_ok());
    }
}

//! Which refusals of unknown callers are written one by one, and which are counted: anybody can cause them, and nobody shall
//! fill the disk with them or hide one refusal among others. So each source has a share of its own for each operation, and
//! what is not written is told by source and operation.

use std::{collections::HashMap, net::IpAddr};

use super::{Event, EventKind, Status};
use crate::model::{Source, Timestamp};

/// Written one by one in a second, of one operation of one source: a person who mistypes makes a few.
const OF_ONE: u32 = 10;
/// Written in a second beyond the first of each source and operation. About 50 KB.
const OF_ALL: u32 = 100;
/// Sources and operations that are told apart in a second; each of them has its first refusal written. At 100 bytes, 100 KiB.
/// Those that come later in that second are counted together.
const TOLD_APART: usize = 1024;
/// Records in a second about what was not written: those that were refused most. One more tells the rest.
const COUNTS: usize = 16;

/// A source and what it asked for; both are unknown for the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Origin {
    source: Option<Source>,
    operation: Box<str>,
}

/// Refusals that were counted instead of written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suppressed {
    origin: Origin,
    count: u64,
}

/// See the module.
#[derive(Default)]
pub(super) struct Sampler {
    second: i64,
    /// Written in this second, the first of each apart.
    written: u32,
    seen: HashMap<Origin, Tally>,
    /// Of this second and earlier ones, and not told yet.
    rest: u64,
}

#[derive(Default)]
struct Tally {
    written: u32,
    /// Not told yet.
    suppressed: u64,
}

impl Sampler {
    /// Whether that refusal is to be written; otherwise it is counted.
    pub(super) fn admit(&mut self, now: Timestamp, peer: Option<IpAddr>, operation: &str) -> bool {
        let second = now.as_millis() / 1000;
        if second != self.second {
            self.second = second;
            self.written = 0;
            self.seen.retain(|_, tally| {
                tally.written = 0;
                tally.suppressed > 0
            });
        }
        let origin = Origin { source: peer.map(Source::from), operation: operation.into() };
        if self.seen.len() >= TOLD_APART && !self.seen.contains_key(&origin) {
            self.rest = self.rest.saturating_add(1);
            return false;
        }
        let tally = self.seen.entry(origin).or_default();
        let first = tally.written == 0;
        let admit = first || (tally.written < OF_ONE && self.written < OF_ALL);
        if admit {
            tally.written += 1;
            self.written += u32::from(!first);
        } else {
            tally.suppressed = tally.suppressed.saturating_add(1);
        }
        admit
    }

    /// What was counted since the last time: the most frequent, and the rest as one.
    pub(super) fn take(&mut self) -> Vec<Suppressed> {
        let mut counted: Vec<Suppressed> = Vec::new();
        for (origin, tally) in &mut self.seen {
            let count = std::mem::take(&mut tally.suppressed);
            if count > 0 {
                counted.push(Suppressed { origin: origin.clone(), count });
            }
        }
        counted.sort_unstable_by_key(|suppressed| std::cmp::Reverse(suppressed.count));
        let few = counted.split_off(counted.len().min(COUNTS));
        let rest =
            few.iter().map(|suppressed| suppressed.count).sum::<u64>() + std::mem::take(&mut self.rest);
        if rest > 0 {
            counted.push(Suppressed { origin: Origin::default(), count: rest });
        }
        counted
    }
}

impl Suppressed {
    pub(super) fn event(&self) -> Event<'_> {
        Event {
            peer: self.origin.source.map(Source::address),
            operation: &self.origin.operation,
            status: Status::Denied,
            ..Event::own(EventKind::Suppressed(self.count))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(5_000);
    const LATER: Timestamp = Timestamp::from_millis(6_000);

    fn address(n: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(n.to_be_bytes().into()))
    }

    #[test]
    fn a_failed_login_is_not_hidden_by_others_nor_by_its_own_source() {
        let mut sampler = Sampler::default();
        for n in 0..100_000 {
            sampler.admit(NOW, address(n % 500), "Secrets.Get");
        }
        assert!(sampler.admit(NOW, address(1), "Auth.Login"), "of the same source");
        assert!(sampler.admit(NOW, address(9_999), "Auth.Login"), "of another");
        let told: u64 = sampler.take().iter().map(|suppressed| suppressed.count).sum();
        assert_eq!(told, 100_000 - 500 - u64::from(OF_ALL));
        assert_eq!(sampler.take(), []);
    }

    #[test]
    fn what_is_not_written_is_told_by_source() {
        let mut sampler = Sampler::default();
        let written = (0..300).filter(|_| sampler.admit(NOW, address(7), "Secrets.Get")).count();
        assert_eq!(written, OF_ONE as usize);
        for n in 0..2 * COUNTS as u32 {
            (0..OF_ONE + 1).for_each(|_| _ = sampler.admit(NOW, address(100 + n), "Auth.Login"));
        }
        let counted = sampler.take();
        assert_eq!(counted.len(), COUNTS + 1);
        let first = counted.first().unwrap();
        assert_eq!(
            (first.origin.source.map(Source::address), &*first.origin.operation, first.count),
            (address(7), "Secrets.Get", 290)
        );
        assert_eq!(counted.last().unwrap().origin, Origin::default());
        assert!(sampler.admit(LATER, address(7), "Secrets.Get"), "a new second");
    }

    #[test]
    fn memory_has_a_bound_and_ipv6_networks_are_one_source() {
        let mut sampler = Sampler::default();
        for n in 0..5_000 {
            sampler.admit(NOW, address(n), "Secrets.Get");
        }
        assert_eq!(sampler.seen.len(), TOLD_APART);
        let one = "2001:db8::1".parse().ok();
        let other = "2001:db8::2:1".parse().ok();
        let mut sampler = Sampler::default();
        (0..OF_ONE).for_each(|_| _ = sampler.admit(NOW, one, "X"));
        assert!(!sampler.admit(NOW, other, "X"));
        // As a listener for both shows IPv4.
        let mapped = |host: u8| format!("::ffff:192.0.2.{host}").parse().ok();
        (0..OF_ONE).for_each(|_| _ = sampler.admit(NOW, mapped(1), "X"));
        assert!(!sampler.admit(NOW, mapped(1), "X"));
        assert!(sampler.admit(NOW, mapped(2), "X"), "another source");
    }
}

//! When to try again and how long to wait: full jitter, a budget for the whole client, and only where a repetition does
//! no harm. It sends nothing itself.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use strongroom_proto::Reason;

use crate::error::{Error, ErrorKind};

/// Whether a request may be sent again when it is not known if the server has acted on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Safety {
    /// A read, or a write with an operation id.
    Repeatable,
    /// A write whose repetition could do something else.
    Once,
}

/// Attempts of one call, the first included: more rarely help within one deadline.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Pauses of a watch, which never gives up: what was missed in an outage is told within this time after it. Half of it on
/// average, so 10,000 watches that wait are 4,000 attempts a second, most of them on connections that they share.
const LONGEST_WATCH_PAUSE: Duration = Duration::from_secs(5);

/// Retries that may be spent before successes earn new ones, so that many clients do not hold an ailing server down.
/// In tenths: a retry costs ten, a success earns one (the figures of gRPC's own retry throttling).
const BUDGET_TENTHS: u32 = 100;
const RETRY_TENTHS: u32 = 10;

/// How many retries all calls of a client together may still make.
#[derive(Debug)]
pub(crate) struct Budget(AtomicU32);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(BUDGET_TENTHS))
    }
}

impl Budget {
    pub(crate) fn earn(&self) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
            (n < BUDGET_TENTHS).then_some(n.saturating_add(1))
        });
    }

    fn spend(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(RETRY_TENTHS)).is_ok()
    }
}

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Attempts {
    safety: Safety,
    /// How many there may be.
    most: u32,
    made: u32,
}

impl Attempts {
    /// `repeats` is whether there may be more than one.
    pub(crate) fn new(safety: Safety, repeats: bool) -> Self {
        Self { safety, most: if repeats { ATTEMPTS } else { 1 }, made: 0 }
    }

    /// How long to wait before the next attempt; `None` to give up.
    pub(crate) fn after(&mut self, error: &Error, budget: &Budget) -> Option<Duration> {
        self.made = self.made.saturating_add(1);
        if self.made >= self.most || !may_repeat(self.safety, error) || !budget.spend() {
            return None;
        }
        let pause = jittered(self.made, LONGEST_PAUSE);
        Some(error.retry_after().map_or(pause, |asked| asked.saturating_add(pause)))
    }
}

fn may_repeat(safety: Safety, error: &Error) -> bool {
    match error.reason() {
        Some(reason) => reason.is_retryable(),
        None => safety == Safety::Repeatable && *error.kind() == ErrorKind::Connection,
    }
}

/// The pause before a watch is opened again.
pub(crate) fn watch_pause(failures: u32, error: Option<&Error>) -> Duration {
    let pause = match error.and_then(Error::reason) {
        // What ended it ended those of others, too: they do not all come back at once.
        Some(Reason::WatchEnded) => LONGEST_WATCH_PAUSE.mul_f64(unit()),
        _ => jittered(failures, LONGEST_WATCH_PAUSE),
    };
    error.and_then(Error::retry_after).map_or(pause, |asked| asked.saturating_add(pause))
}

/// Whether a watch continues after this error.
pub(crate) fn watch_goes_on(error: &Error) -> bool {
    error.is_transient() || error.reason() == Some(Reason::Internal)
}

/// Anything from zero to the exponential bound ("full jitter").
fn jittered(failures: u32, longest: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let bound = FIRST_PAUSE.saturating_mul(1_u32 << doublings).min(longest);
    bound.mul_f64(unit())
}

/// A number in [0, 1) for spreading load; not for keys.
pub(crate) fn unit() -> f64 {
    f64::from(u32::try_from(noise() >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

/// 128 bits that do not repeat, for operation ids. Not secret.
pub(crate) fn unique_id() -> String {
    format!("{:016x}{:016x}", noise(), noise())
}

/// The standard library seeds its hash maps from the system and never twice alike: enough noise for jitter and names.
fn noise() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use tonic::Status;

    use super::*;
    use crate::error::tests::status;

    #[test]
    fn only_what_is_safe_is_repeated() {
        for reason in Reason::ALL {
            let error = Error::of(status(*reason, "m", &[]));
            for safety in [Safety::Repeatable, Safety::Once] {
                let goes_on = Attempts::new(safety, true).after(&error, &Budget::default()).is_some();
                assert_eq!(goes_on, reason.is_retryable(), "{reason}");
            }
        }
        let broken = || Error::of(Status::unavailable("gone"));
        assert!(Attempts::new(Safety::Repeatable, true).after(&broken(), &Budget::default()).is_some());
        assert!(Attempts::new(Safety::Once, true).after(&broken(), &Budget::default()).is_none());
    }

    #[test]
    fn the_budget_ends_and_is_earned_back() {
        let budget = Budget::default();
        for _ in 0..BUDGET_TENTHS / RETRY_TENTHS {
            assert!(budget.spend());
        }
        assert!(!budget.spend());
        for _ in 0..RETRY_TENTHS {
            budget.earn();
        }
        assert!(budget.spend() && !budget.spend());
    }

    #[test]
    fn attempts_end() {
        let (mut attempts, budget) = (Attempts::new(Safety::Repeatable, true), Budget::default());
        let error = Error::of(status(Reason::Overloaded, "m", &[("retry_after_ms", "700")]));
        for _ in 1..ATTEMPTS {
            assert!(attempts.after(&error, &budget).unwrap() >= Duration::from_millis(700));
        }
        assert_eq!(attempts.after(&error, &budget), None);
        assert_eq!(Attempts::new(Safety::Repeatable, false).after(&error, &budget), None);
    }

    #[test]
    fn ids_differ() {
        let ids: HashSet<_> = (0..10_000).map(|_| unique_id()).collect();
        assert_eq!(ids.len(), 10_000);
    }

    proptest! {
        #[test]
        fn pauses_stay_within_bounds(failures in 0_u32..200) {
            prop_assert!(watch_pause(failures, None) <= LONGEST_WATCH_PAUSE);
            let ended = Error::of(status(Reason::WatchEnded, "m", &[]));
            prop_assert!(watch_pause(1, Some(&ended)) <= LONGEST_WATCH_PAUSE);
            prop_assert!((0.0..=1.0).contains(&unit()));
        }
    }
}

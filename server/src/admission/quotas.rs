//! How many requests one caller may make over time, by what they ask for. Each leaves a record or two, so without a quota
//! one client that loops fills the disk of the audit log, and then nobody is answered. A minute's worth can be used at
//! once: whoever starts up or catches up is not held back, whoever never stops is.
//!
//! For each caller there is one point in time: when all that they used up is there again. The rate is never exceeded in the
//! long run, and nothing has to be counted or filled up. (`governor` does the same, but keeps every key it has ever seen
//! until it is told to tidy up; that strangers cannot make it grow would still be ours to see to.)

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::shares::Caller;
use crate::{config::Rates, limits};

/// What is counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asks {
    Read,
    Write,
    Admin,
    Login,
    /// Hashes of values as they stand in the log: whoever asks for one after the other tries out what a value is.
    Hash,
}

impl Asks {
    /// The label of the metric.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Asks::Read => "reads",
            Asks::Write => "writes",
            Asks::Admin => "admin",
            Asks::Login => "logins",
            Asks::Hash => "hashes",
        }
    }
}

pub(super) struct Quotas {
    rates: Rates,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    /// When all is there again.
    until: HashMap<(Caller, Asks), Instant>,
    /// When it was last looked for callers who have all of theirs again.
    tidied: Option<Instant>,
}

impl Quotas {
    pub(super) fn new(rates: Rates) -> Self {
        Self { rates, used: Mutex::default() }
    }

    /// Uses up one request.
    ///
    /// # Errors
    /// None is left: how long until there is one.
    pub(super) fn take(&self, caller: &Caller, asks: Asks, now: Instant) -> Result<(), Duration> {
        let each = |rate: u32| Duration::from_secs(1) / rate.max(1);
        let one = match asks {
            Asks::Read => each(self.rates.reads),
            Asks::Write => each(self.rates.writes),
            Asks::Admin => each(self.rates.admin),
            Asks::Login => each(self.rates.logins),
            Asks::Hash => limits::HASH_EVERY,
        };
        let mut used = self.lock();
        let key = used.key(caller, asks, now);
        let until = used.until.get(&key).map_or(now, |until| (*until).max(now)) + one;
        let ahead = until.duration_since(now);
        if ahead > limits::QUOTA_BURST {
            return Err(ahead.saturating_sub(limits::QUOTA_BURST).max(limits::QUEUE_WAIT));
        }
        used.until.insert(key, until);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        // Nothing panics under this lock.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    /// Under what it counts. When too many callers are remembered, all further ones share one quota.
    fn key(&mut self, caller: &Caller, asks: Asks, now: Instant) -> (Caller, Asks) {
        let key = (caller.clone(), asks);
        if self.until.len() < limits::QUOTA_CALLERS || self.until.contains_key(&key) {
            return key;
        }
        let due = self.tidied.is_none_or(|tidied| now.duration_since(tidied) >= Duration::from_secs(1));
        if due {
            self.tidied = Some(now);
            self.until.retain(|_, until| *until > now);
        }
        if self.until.len() < limits::QUOTA_CALLERS { key } else { (Caller::From(None), asks) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates { reads: 10, writes: 2, admin: 1, logins: 1 };

    fn known(name: &str) -> Caller {
        Caller::Known(name.into())
    }

    #[test]
    fn a_minute_is_there_at_once_and_afterwards_the_rate_is_kept() {
        let (quotas, start) = (Quotas::new(RATES), Instant::now());
        let all = |name: &'static str, asks, now| {
            let quotas = &quotas;
            (0..).take_while(move |_| quotas.take(&known(name), asks, now).is_ok())
        };
        assert_eq!(all("a", Asks::Read, start).count(), 600);
        let wait = quotas.take(&known("a"), Asks::Read, start).unwrap_err();
        assert!(wait >= limits::QUEUE_WAIT && wait < Duration::from_secs(1), "{wait:?}");
        assert_eq!(all("a", Asks::Read, start + Duration::from_secs(5)).count(), 50);
        assert_eq!(all("a", Asks::Write, start).count(), 120, "what is asked otherwise is counted otherwise");
        assert_eq!(all("b", Asks::Read, start).count(), 600, "and so is another caller");
        assert_eq!(all("a", Asks::Hash, start).count(), 6, "a PIN of four digits takes a day");
    }

    #[test]
    fn memory_is_bounded_and_those_who_are_remembered_keep_their_quota() {
        let (quotas, start) = (Quotas::new(RATES), Instant::now());
        for number in 0..3 * limits::QUOTA_CALLERS {
            // A refusal is one as good as the other.
            let _ = quotas.take(&known(&number.to_string()), Asks::Admin, start);
        }
        assert!(quotas.lock().until.len() <= limits::QUOTA_CALLERS + 1);
        assert!(quotas.take(&known("new"), Asks::Admin, start).is_err(), "all further ones share one");
        assert!(quotas.take(&known("1"), Asks::Admin, start).is_ok());
        assert!(quotas.take(&known("new"), Asks::Admin, start + limits::QUOTA_BURST).is_ok(), "forgotten");
    }
}

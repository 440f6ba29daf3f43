//! The one place that asks what time it is.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::model::Timestamp;

/// Where "now" comes from.
pub trait Clock: Send + Sync {
    /// The current time, as the machine believes it: somebody may set it, so it is no order.
    fn now(&self) -> Timestamp;

    /// The time since some moment in the past, for what comes before what and how long ago: nobody sets it.
    fn steady(&self) -> Steady;
}

/// A moment of this process that only grows; means nothing elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Steady(Duration);

impl Steady {
    /// So long after the beginning.
    pub const fn at(since: Duration) -> Self {
        Self(since)
    }

    /// How long after `earlier`; zero if it is before.
    pub fn since(self, earlier: Steady) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn steady(&self) -> Steady {
        static BEGINNING: OnceLock<Instant> = OnceLock::new();
        Steady(BEGINNING.get_or_init(Instant::now).elapsed())
    }
}

/// A clock for tests: stands still until it is moved.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: AtomicI64,
    steady: AtomicU64,
}

impl ManualClock {
    /// Stands at `start`.
    pub fn at(start: Timestamp) -> Self {
        Self { now: AtomicI64::new(start.as_millis()), steady: AtomicU64::default() }
    }

    /// Time passes.
    pub fn advance(&self, span: Duration) {
        self.set_by(i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
        self.steady.fetch_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Somebody sets it, by milliseconds.
    pub fn set_by(&self, millis: i64) {
        self.now.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::SeqCst))
    }

    fn steady(&self) -> Steady {
        Steady(Duration::from_millis(self.steady.load(Ordering::SeqCst)))
    }
}

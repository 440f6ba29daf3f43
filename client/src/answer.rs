//! Types that the answers of all calls share: points in time, and streams.

use std::{pin::Pin, time::Duration};

use futures_util::Stream;
use jiff::Timestamp;

use crate::error::Error;

/// A stream of results; it ends after an error.
pub type ResultStream<T> = Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>;

/// A point in time from the wire's milliseconds; what no calendar holds becomes its last or first day.
pub(crate) fn timestamp(millis: i64) -> Timestamp {
    let nearest = if millis < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(millis).unwrap_or(nearest)
}

/// The same where 0 means "never".
pub(crate) fn optional_timestamp(millis: i64) -> Option<Timestamp> {
    (millis != 0).then(|| timestamp(millis))
}

/// Seconds after which something happens by itself; 0 = never.
pub(crate) fn period(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

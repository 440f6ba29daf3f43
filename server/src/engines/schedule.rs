//! How often something of an engine changes by itself.

use std::time::Duration;

use crate::model::{Invalid, Timestamp};

/// What is due is looked at every minute.
pub(super) const SHORTEST: u64 = 60;
/// Ten years.
const LONGEST: u64 = 10 * 366 * 24 * 3600;

/// A period in seconds, as the field `rotation_period_seconds` has it; 0 = never.
pub(super) fn period(seconds: u64, shortest: u64) -> Result<u64, Invalid> {
    if seconds == 0 || (shortest..=LONGEST).contains(&seconds) {
        return Ok(seconds);
    }
    let problem = format!("is {seconds}; expected 0, for never, or {shortest} to {LONGEST}");
    Err(Invalid::new("rotation_period_seconds", problem))
}

/// Whether what has changed at `since` is to change by now.
pub(super) fn is_due(period: u64, since: Timestamp, now: Timestamp) -> bool {
    period > 0 && since.plus(Duration::from_secs(period)) <= now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_none_or_long_enough() {
        let of = |seconds| period(seconds, SHORTEST).map_err(|error| error.to_string());
        assert_eq!((of(0), of(60), of(316_224_000)), (Ok(0), Ok(60), Ok(316_224_000)));
        let told = "rotation_period_seconds: is 59; expected 0, for never, or 60 to 316224000";
        assert_eq!(of(59).unwrap_err(), told);
        assert!(of(u64::MAX).is_err());
    }

    #[test]
    fn it_is_due_when_its_time_has_come() {
        let (start, later) = (Timestamp::from_millis(0), Timestamp::from_millis(60_000));
        assert!(is_due(60, start, later) && !is_due(61, start, later) && !is_due(0, start, later));
    }
}

//! Spans of time as people write them.

use std::time::Duration;

/// A number and a unit.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number and a unit: 90s, 15m, 8h, 30d or 4w".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    let number: u64 = text.strip_suffix(unit).and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
    number.checked_mul(seconds).filter(|s| *s > 0).map(Duration::from_secs).ok_or_else(wrong)
}

/// The same, or `never`, which is no time at all.
pub(crate) fn or_never(text: &str) -> Result<Duration, String> {
    if text == "never" {
        return Ok(Duration::ZERO);
    }
    parse(text).map_err(|wrong| format!("{wrong}; or never"))
}

/// How often something happens by itself.
pub(crate) fn every(period: Option<Duration>) -> String {
    period.map_or("when somebody says so".to_owned(), |period| format!("every {} s", period.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit() {
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("2d"), Ok(Duration::from_secs(172_800)));
        for text in ["", "5", "h", "0s", "-1h", "1y", "99999999999999999w", "1é"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert_eq!((or_never("never"), or_never("1m")), (Ok(Duration::ZERO), Ok(Duration::from_secs(60))));
        assert!(or_never("0s").unwrap_err().ends_with("30d or 4w; or never"));
    }
}

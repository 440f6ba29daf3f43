//! A session as it is shown.

use jiff::Timestamp;
use serde_json::{Value, json};
use strongroom_client::Session;

pub(super) fn structured(session: &Session) -> Value {
    json!({
        "session": session.id,
        "principal": session.principal,
        "method": session.method,
        "groups": session.groups,
        "pod": session.pod.as_ref().map(|pod| json!({"name": pod.name, "uid": pod.uid, "node": pod.node})),
        "issued_at": session.issued_at.to_string(),
        "expires_at": session.expires_at.to_string(),
        "max_expires_at": session.max_expires_at.to_string(),
    })
}

/// "2026-01-01T00:00:00Z (in 7h 59m)".
pub(in crate::commands) fn until(time: Timestamp, now: Timestamp) -> String {
    let minutes = time.as_second().saturating_sub(now.as_second()).div_euclid(60);
    let span = match minutes {
        ..0 => "expired".to_owned(),
        0..60 => format!("in {minutes}m"),
        60..2880 => format!("in {}h {}m", minutes / 60, minutes % 60),
        _ => format!("in {} days", minutes / 1440),
    };
    format!("{time:.0} ({span})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_for_people() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let now = at(0);
        assert_eq!(until(at(59 * 60), now), "1970-01-01T00:59:00Z (in 59m)");
        assert!(until(at(8 * 3600), now).ends_with("(in 8h 0m)"));
        assert!(until(at(30 * 86_400), now).ends_with("(in 30 days)"));
        assert!(until(now, at(61)).ends_with("(expired)"));
    }
}

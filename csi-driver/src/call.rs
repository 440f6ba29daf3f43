//! A call on one of our sockets, from its first to its last moment. However it ends, it has one line in the log and one count:
//! answered, refused, or given up by the caller in the middle.

use std::time::Duration;

use strongroom_proto::grpc_timeout;
use tonic::{Status, metadata::MetadataMap};

use crate::{
    failure::Failure,
    limits,
    telemetry::{Doing, Metrics},
};

/// The header in which a caller says how long it waits.
const TIMEOUT: &str = "grpc-timeout";

/// A call that has no answer yet.
pub struct Call<'a> {
    metrics: &'a Metrics,
    doing: Doing,
    /// The volume's id, or the pod.
    whose: String,
    is_answered: bool,
}

impl<'a> Call<'a> {
    /// A call has come in.
    pub fn begin(metrics: &'a Metrics, doing: Doing, whose: impl Into<String>) -> Self {
        Self { metrics, doing, whose: whose.into(), is_answered: false }
    }

    /// It is answered.
    ///
    /// # Errors
    /// The failure, as the caller is told.
    pub fn end<T>(mut self, outcome: Result<T, Failure>) -> Result<T, Status> {
        self.is_answered = true;
        outcome.map_err(|failure| {
            let (doing, reason) = (self.doing.as_str(), failure.reason());
            self.metrics.failed(self.doing, reason);
            let decision = failure.decision();
            tracing::warn!(volume = self.whose, reason, decision, %failure, "{doing} refused");
            failure.into()
        })
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.metrics.failed(self.doing, "cancelled");
            tracing::warn!(
                volume = self.whose,
                reason = "cancelled",
                "{} given up by the caller before it was done",
                self.doing.as_str()
            );
        }
    }
}

/// How long the caller's patience lasts for us, if it has said so: long enough before its end that it hears what we say.
pub fn patience(metadata: &MetadataMap) -> Option<Duration> {
    let timeout = grpc_timeout(metadata.get(TIMEOUT)?.to_str().ok()?)?;
    Some(timeout.saturating_sub(limits::LAST_WORD).max(timeout / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_nobody_waits_for_any_more_is_counted() {
        let metrics = Metrics::new().unwrap();
        drop(Call::begin(&metrics, Doing::Publish, "csi-1"));
        assert!(Call::begin(&metrics, Doing::Publish, "csi-1").end(Ok(())).is_ok());
        let refused = Call::begin(&metrics, Doing::Publish, "csi-1").end::<()>(Err(Failure::Full(7)));
        assert!(refused.unwrap_err().message().contains("7 mounted volumes"));
        let text = metrics.render();
        for (reason, count) in [("cancelled", 1), ("full", 1)] {
            let line =
                format!("strongroom_csi_failures_total{{doing=\"publish\",reason=\"{reason}\"}} {count}");
            assert!(text.contains(&line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn the_caller_hears_the_answer_before_it_hangs_up() {
        let said = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert(TIMEOUT, text.parse().unwrap());
            patience(&metadata)
        };
        assert_eq!(said("120S"), Some(Duration::from_secs(120) - limits::LAST_WORD));
        assert_eq!(said("2M"), said("120000m"));
        assert_eq!(said("1S"), Some(Duration::from_millis(500)));
        for odd in ["", "S", "-1S", "1", "1d", "123456789S"] {
            assert_eq!(said(odd), None, "{odd:?}");
        }
        assert_eq!(patience(&MetadataMap::new()), None);
    }
}

//! Lets answers gather before they are written. While more than a few requests are at work, a connection that wants to write
//! lets the others run once first: those whose answers are nearly ready hand them over, and one system call sends them all. It
//! changes only when bytes are written, and by one turn of the runtime at most: which bytes, and in which order, is decided
//! above it.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use crate::telemetry::Metrics;

/// So few have nothing to gain: each would only be answered later.
const FEW: i64 = 4;

/// See the module. One for each connection.
pub(super) struct Cork {
    metrics: Arc<Metrics>,
    /// The others have had their turn since the last write.
    waited: bool,
}

impl Cork {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, waited: false }
    }

    /// Ready when it is time to write.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.waited || self.metrics.requests_at_work() <= FEW {
            return Poll::Ready(());
        }
        self.waited = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Something was written.
    pub(super) fn written(&mut self) {
        self.waited = false;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker_ref;

    use super::*;

    #[test]
    fn it_waits_once_before_each_write_and_only_among_many() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (mut cork, cx) = (Cork::new(Arc::clone(&metrics)), Context::from_waker(noop_waker_ref()));
        for _ in 0..FEW {
            metrics.request_started();
            assert!(cork.poll(&cx).is_ready());
            cork.written();
        }
        metrics.request_started();
        for _ in 0..3 {
            assert!(cork.poll(&cx).is_pending());
            assert!(cork.poll(&cx).is_ready(), "once");
            assert!(cork.poll(&cx).is_ready(), "also if the peer has no room");
            cork.written();
        }
        metrics.request_ended();
        assert!(cork.poll(&cx).is_ready());
    }

    /// Nobody else wakes a connection that has something to write.
    #[tokio::test]
    async fn it_comes_back_by_itself() {
        let metrics = Arc::new(Metrics::new().unwrap());
        (0..=FEW).for_each(|_| metrics.request_started());
        let mut cork = Cork::new(metrics);
        std::future::poll_fn(|cx| cork.poll(cx)).await;
    }
}

//! The keeper of leases: it ends those that are due, several at a time, for as long as the server runs. What it may do at once
//! and when it tries again is the queue's business.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::state::{Core, Unsealed};

/// How exactly leases expire.
const TICK: Duration = Duration::from_millis(500);
/// How soon the end of a session or a pod is noticed.
const REVIEW: Duration = Duration::from_secs(2);

impl Core {
    /// Until `stop`. What is being ended then is ended by the next start.
    pub async fn keep_leases(self: Arc<Self>, stop: CancellationToken) {
        let (mut tick, mut review) = (tokio::time::interval(TICK), tokio::time::interval(REVIEW));
        for interval in [&mut tick, &mut review] {
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        let (mut attempts, mut phase) = (JoinSet::new(), self.watch_phase());
        loop {
            let Ok(unsealed) = self.unsealed() else {
                tokio::select! { () = stop.cancelled() => return, _ = tick.tick() => continue }
            };
            while let Some(lease) = unsealed.leases.take() {
                attempts.spawn(Arc::clone(&self).attempt(Arc::clone(&unsealed), lease));
            }
            tokio::select! {
                () = stop.cancelled() => return,
                // One that is sealed keeps no keys because of this.
                _ = phase.changed() => {}
                _ = tick.tick() => {}
                () = unsealed.leases.woken() => {}
                Some(_) = attempts.join_next() => {}
                _ = review.tick() => self.review_leases(&unsealed).await,
            }
        }
    }

    async fn review_leases(&self, unsealed: &Unsealed) {
        let (revocations, methods) = (unsealed.tokens.revocations(), &unsealed.methods);
        let is_over = |session: &_| revocations.covers(session) || methods.check(&session.principal).is_err();
        let ended = unsealed.leases.review(is_over).await;
        if ended > 0 {
            tracing::info!(leases = ended, "ending leases of sessions that are over");
        }
    }
}

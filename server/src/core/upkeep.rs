//! What the server does that no caller asked for. It takes the way of a request as far as there is one: it is written down,
//! done on a permit of its own, and its outcome is written down.

use std::{panic::AssertUnwindSafe, sync::PoisonError, time::Duration};

use futures_util::FutureExt;

use super::{error::Error, record, state::Core};
use crate::{
    model::Timestamp,
    permit::{Chore, Errand, Upkeep},
};

/// What a clock may be off: time services correct by less, in small steps.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

impl Core {
    /// Does what is due: to be asked now and then.
    pub async fn hourly(&self) {
        let Ok(unsealed) = self.unsealed() else { return };
        // No act but tidiness, and so without a record: what is forgotten covers no session any more.
        if let Err(error) = unsealed.tokens.revocations().prune(self.clock.now(), self.clock.steady()).await {
            tracing::warn!(%error, "old revocations could not be removed; retrying in an hour");
        }
        if unsealed.barrier.rotation_due() {
            self.attend_to(Chore::RotateKeys).await;
        }
    }

    /// Forgets what people began and nobody ended. Notes in the store how far the audit log is, if nothing else did lately:
    /// reads leave records too, and an older copy of the log is to be noticed by them.
    pub async fn minutely(&self) {
        self.look_at_clock();
        self.expire().await;
        let Ok(unsealed) = self.unsealed() else { return };
        // No act but tidiness: what is forgotten opens no more.
        if let Err(error) = unsealed.wrapping.sweep(self.clock.now()).await {
            tracing::warn!(%error, "wrapped answers whose time is over could not be removed; retrying in a minute");
        }
        if self.applied.log().seq > unsealed.barrier.log().seq
            && let Err(error) = unsealed.barrier.note_log().await
        {
            tracing::debug!(%error, "how far the audit log is could not be noted in the store");
        }
    }

    /// Compares the clock with the time that has passed since the last look. One that was set is an alarm: expiry, conditions
    /// of bindings and revocations of principals go by it.
    fn look_at_clock(&self) {
        let (now, steady) = (self.clock.now(), self.clock.steady());
        let mut seen = self.clock_seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, at)) = seen.replace((now, steady)) {
            let expected = then.plus(steady.since(at));
            let off = now.since(expected).max(expected.since(now));
            if off > CLOCK_TOLERANCE {
                self.metrics.clock_jumped();
                tracing::error!(
                    %expected, %now, "the clock was set, or the machine slept: what expires goes by it; check the time"
                );
            }
        }
    }

    /// The store has this time; a clock that is before it is wrong, or was.
    pub(super) fn doubt_clock(&self, latest: Timestamp) {
        let now = self.clock.now();
        if latest > now.plus(CLOCK_TOLERANCE) {
            self.metrics.clock_jumped();
            tracing::error!(%now, %latest, "the clock is behind the newest revocation in the store; check the time");
        }
    }

    async fn attend_to(&self, chore: Chore) {
        let name = chore.name();
        if let Err(error) = self.act(chore).await {
            tracing::error!(chore = name, %error, "a chore failed; retrying in an hour");
        }
    }

    /// One act, from its intent to its outcome.
    pub(super) async fn act(&self, chore: Chore) -> Result<(), Error> {
        let errand = Errand::new(chore, &*self.entropy)?;
        let began = self.clock.now();

        // Write it down. No record, no act.
        let recorded = record::errand_intent(self, &errand).await?;
        let permit =
            Upkeep::join(&errand, &recorded).map_err(|mismatch| Error::Internal(mismatch.to_string()))?;

        // Do it. A panic has an outcome too.
        let doing = AssertUnwindSafe(self.carry_out(permit)).catch_unwind();
        let result = doing.await.unwrap_or_else(|_| Err(Error::Internal("a chore panicked".to_owned())));

        // Write the outcome down.
        let ended = record::Ended::with(result.as_ref().err());
        let told = record::errand_outcome(self, &errand, began, ended).await;
        result.and_then(|()| told.map_err(|_| Error::Unrecorded))
    }

    /// The permit says what.
    async fn carry_out(&self, permit: Upkeep) -> Result<(), Error> {
        match permit.chore() {
            Chore::RotateKeys => {
                let term = self.rotate(permit.id()).await?;
                tracing::info!(term, "a new key term began because the last one expired");
                Ok(())
            }
            Chore::EndLease(end) => self.end_lease(end.id, permit.id()).await,
            Chore::Attend(attention) => self.attend_at(&attention.path, permit.id()).await,
        }
    }
}

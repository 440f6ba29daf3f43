//! Collects shares until there are enough. No clock and no IO: time is a parameter. There is no way to reset it from
//! outside, because unsealing is unauthenticated (CVE-2025-4656, CVE-2025-52894): it ends by success, by a wrong
//! combination or by time.

use std::time::Duration;

use super::{SealRecord, Seals, Share, ShareRejected, accept};
use crate::{
    crypto::Key,
    model::{SecretBytes, Timestamp},
};

/// How long shares wait for the others, counted from the first.
pub const PARTIAL_SHARES_LIVE: Duration = Duration::from_secs(600);

/// Shares given so far: at most the threshold, that is ten.
#[derive(Default)]
pub struct Progress {
    shares: Vec<Share>,
    first: Timestamp,
}

/// What a good share led to.
pub enum Step {
    /// More are needed.
    More { given: u8, threshold: u8 },
    /// The root key. The shares are forgotten.
    Complete(Key),
}

impl Progress {
    pub fn new() -> Self {
        Self::default()
    }

    /// One more share.
    ///
    /// # Errors
    /// It is refused by name and the others stay; only a wrong combination forgets them all.
    pub fn submit(
        &mut self,
        seals: &Seals,
        text: &SecretBytes,
        record: &SealRecord,
        now: Timestamp,
    ) -> Result<Step, ShareRejected> {
        self.expire(now);
        // What was given for a set that a rekey has replaced meanwhile is of no use.
        self.shares.retain(|share| share.set == record.set);
        let share = accept(text, record, &self.shares)?;
        if self.shares.is_empty() {
            self.first = now;
        }
        self.shares.push(share);
        if self.shares.len() < usize::from(record.threshold) {
            return Ok(Step::More { given: self.given(), threshold: record.threshold });
        }
        let shares = std::mem::take(&mut self.shares);
        seals.combine(record, &shares).map(Step::Complete)
    }

    /// Whether a share would be taken, without taking it.
    ///
    /// # Errors
    /// See [`Progress::submit`].
    pub fn judge(&self, text: &SecretBytes, record: &SealRecord) -> Result<(), ShareRejected> {
        accept(text, record, &self.shares).map(drop)
    }

    /// How many shares wait.
    pub fn given(&self) -> u8 {
        u8::try_from(self.shares.len()).unwrap_or(u8::MAX)
    }

    /// Wipes shares whose time is over. `submit` does so too; call it now and then, so that they do not stay in memory
    /// of a server that nobody unseals. A clock set back before the first share ends the wait as well.
    pub fn expire(&mut self, now: Timestamp) {
        if now < self.first || now.since(self.first) >= PARTIAL_SHARES_LIVE {
            self.shares.clear();
        }
    }
}

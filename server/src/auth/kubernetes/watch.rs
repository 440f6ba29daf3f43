//! Keeps a [`Presence`] true: a list of all objects of a kind, then a watch from there on, a list again when the API
//! server cannot tell any more what happened since (410), and once an hour in any case.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;

use super::{
    api::{Api, ApiError, Event, Resource, WATCH},
    identity::Uid,
    presence::{Presence, TooMany},
};
use crate::{clock::Clock, telemetry::ClusterMetrics};

/// After so long everything is listed again, so that nothing that was missed stays missed.
const RELIST: Duration = Duration::from_secs(3600);
/// A watch that has said nothing for so long is dead: the API server should have ended it.
const SILENCE: Duration = Duration::from_secs(WATCH.as_secs() + 5);
/// Pauses after a failure: the first, doubled up to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Between two watches: something on the way may end each at once.
const BREATH: Duration = Duration::from_millis(100);
/// A refusal counts only after it has been the only answer for so long: a role that is being replaced, or an API server that
/// has just started, refuses for a moment.
const FORBIDDEN_FOR: Duration = Duration::from_secs(60);
/// When it is not allowed: somebody may grant it one day.
const FORBIDDEN_PAUSE: Duration = Duration::from_secs(30);
/// Most pages of a list; presence has its own limit on what is in them.
const PAGES: usize = 10_000;

/// Watches one kind of objects of one cluster.
pub(super) struct Watcher {
    pub(super) api: Arc<dyn Api>,
    pub(super) what: Resource,
    pub(super) presence: Arc<Presence>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: ClusterMetrics,
}

/// Why it has to begin again.
enum Failure {
    Api(ApiError),
    TooMany,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<TooMany> for Failure {
    fn from(_: TooMany) -> Self {
        Self::TooMany
    }
}

impl Watcher {
    /// Lists and watches for as long as it is polled.
    pub(super) async fn run(&self) {
        let (mut pause, mut told, mut forbidden) = (PAUSES.0, false, None);
        loop {
            let began = self.clock.steady();
            let Err(failure) = self.list_and_watch().await else {
                forbidden = None;
                continue;
            };
            let now = self.clock.steady();
            // After it worked for a while, a failure is a new one and not the one before over again.
            if now.since(began) > PAUSES.1 {
                (pause, told, forbidden) = (PAUSES.0, false, None);
            }
            if !told {
                self.tell(&failure);
                told = true;
            }
            let refused = matches!(failure, Failure::Api(ApiError::Forbidden));
            forbidden = refused.then(|| forbidden.unwrap_or(now));
            let persists = forbidden.is_some_and(|since| now.since(since) >= FORBIDDEN_FOR);
            tokio::time::sleep(self.pause_after(&failure, persists, &mut pause)).await;
        }
    }

    /// Returns when it is time for another list.
    async fn list_and_watch(&self) -> Result<(), Failure> {
        let began = self.clock.steady();
        let mut version = self.list().await?;
        self.presence.listed(began, self.clock.steady());
        self.metrics.set_watching(self.what.as_str(), true);
        tracing::debug!(cluster = self.metrics.cluster(), what = self.what.as_str(), "listed");
        let mut pause = PAUSES.0;
        while self.clock.steady().since(began) < RELIST {
            match self.follow(&mut version).await {
                Ok(()) => {
                    pause = PAUSES.0;
                    tokio::time::sleep(BREATH).await;
                }
                Err(Failure::Api(ApiError::Expired)) => {
                    tokio::time::sleep(next(&mut pause)).await;
                    return Ok(());
                }
                // A hiccup: what is known stays known, and so does where it was. Longer ones are told.
                Err(Failure::Api(error)) if self.is_hiccup(&error) => {
                    tracing::debug!(cluster = self.metrics.cluster(), %error, "a watch ended");
                    tokio::time::sleep(next(&mut pause)).await;
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    async fn list(&self) -> Result<String, Failure> {
        let mut more = None;
        for _ in 0..PAGES {
            let page = self.api.list(self.what, more.as_deref()).await?;
            for uid in &page.uids {
                self.presence.appeared(Uid::of(uid), self.clock.steady())?;
            }
            more = page.more;
            if more.is_none() {
                return Ok(page.version);
            }
        }
        Err(Failure::TooMany)
    }

    /// Follows one watch to its end.
    async fn follow(&self, version: &mut String) -> Result<(), Failure> {
        let mut events = self.api.watch(self.what, version).await?;
        self.presence.heard(self.clock.steady());
        self.metrics.set_watching(self.what.as_str(), true);
        loop {
            let Ok(next) = tokio::time::timeout(SILENCE, events.next()).await else {
                return Err(ApiError::TimedOut.into());
            };
            let Some(event) = next else { return Ok(()) };
            let now = self.clock.steady();
            let reached = match event? {
                Event::Present { uid, version } => {
                    self.presence.appeared(Uid::of(&uid), now)?;
                    version
                }
                Event::Gone { uid, version } => {
                    self.presence.deleted(Uid::of(&uid), now);
                    version
                }
                Event::Bookmark { version } => {
                    self.presence.heard(now);
                    version
                }
            };
            *version = reached;
        }
    }

    fn is_hiccup(&self, error: &ApiError) -> bool {
        let passes = matches!(error, ApiError::TimedOut | ApiError::Unreachable | ApiError::Status(_));
        passes && self.presence.is_current(self.clock.steady())
    }

    fn pause_after(&self, failure: &Failure, persists: bool, pause: &mut Duration) -> Duration {
        match failure {
            Failure::Api(ApiError::Forbidden) if !persists => {
                self.metrics.set_watching(self.what.as_str(), false);
                next(pause)
            }
            Failure::Api(ApiError::Forbidden) | Failure::TooMany => {
                // Nothing can be said any more, and nobody is refused for what was true once.
                self.presence.forget();
                self.metrics.set_watching(self.what.as_str(), false);
                FORBIDDEN_PAUSE
            }
            Failure::Api(_) => {
                self.metrics.set_watching(self.what.as_str(), self.presence.is_current(self.clock.steady()));
                next(pause)
            }
        }
    }

    fn tell(&self, failure: &Failure) {
        let (cluster, what) = (self.metrics.cluster(), self.what.as_str());
        match failure {
            Failure::Api(error) => tracing::warn!(
                cluster, what, %error,
                "the watch failed: sessions of deleted pods and accounts last until they expire; retrying"
            ),
            Failure::TooMany => tracing::warn!(
                cluster,
                what,
                "there are too many to watch: sessions of deleted pods and accounts last until they expire"
            ),
        }
    }
}

fn next(pause: &mut Duration) -> Duration {
    let now = *pause;
    *pause = (now * 2).min(PAUSES.1);
    now
}

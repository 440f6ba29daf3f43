//! Looking after a mounted volume: one task per volume holds the pod's session and its watch, and brings a changed secret
//! to the disk at once. What cannot be renewed stays as it is: a pod keeps its last content whatever happens here.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use strongroom_client::{Change, ChangeKind, SecretBytes, volume::Volume};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    disk::Disk,
    failure::Failure,
    fetch::{Question, Reader, Session, Touch, chance, pause},
    follower::{Follower, Inbox},
    limits,
    telemetry::{Doing, Metrics},
    volumes::MountedVolume,
    writer::WriteResult,
};

/// The tasks of all volumes, and what they share.
#[derive(Clone)]
pub struct Refresh {
    reader: Arc<Reader>,
    disk: Arc<Disk>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
}

impl Refresh {
    pub fn new(reader: Arc<Reader>, disk: Arc<Disk>, metrics: Arc<Metrics>) -> Self {
        Self { reader, disk, metrics, tasks: TaskTracker::new() }
    }

    /// Starts to look after `mounted`; without a touch, as after a restart, it waits for a token first.
    pub fn follow(&self, mounted: &Arc<MountedVolume>, volume: Volume, touch: Option<Touch>) -> Follower {
        let following = Following {
            shared: self.clone(),
            mounted: Arc::clone(mounted),
            volume,
            sweep_at: touch.as_ref().map(|_| Instant::now() + limits::SWEEP_AFTER),
            lost_since: None,
        };
        Follower::start(|inbox, stop| self.tasks.spawn(following.run(touch, inbox, stop)))
    }

    /// Waits for the ends of sessions that are under way, but not for long: they end by themselves, too.
    pub async fn stop(&self) {
        self.tasks.close();
        if timeout(limits::LOGOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("some sessions did not end in time");
        }
    }
}

struct Following {
    shared: Refresh,
    mounted: Arc<MountedVolume>,
    volume: Volume,
    /// When the files of the last generation are to go.
    sweep_at: Option<Instant>,
    /// Since when the watch is down.
    lost_since: Option<Instant>,
}

/// What woke the task.
enum Woken {
    Stop,
    Token(SecretBytes),
    Change(Change),
    /// The watch has ended, with the server's reason if it gave one.
    Ended(Option<strongroom_client::Error>),
    Sweep,
}

impl Following {
    async fn run(mut self, mut touch: Option<Touch>, inbox: Arc<Inbox>, stop: CancellationToken) {
        if let Some(Touch { is_watching: false, session, .. }) = &touch
            && !self.reconcile(&**session, None, &stop).await
        {
            touch = None;
        }
        loop {
            match self.wait(&mut touch, &inbox, &stop).await {
                Woken::Stop => break,
                Woken::Sweep => self.sweep().await,
                Woken::Token(token) => {
                    if self.wants_login(touch.as_ref())
                        && let Some(new) = self.log_in(&token, &stop).await
                    {
                        touch = Some(new);
                    }
                }
                Woken::Change(change) => {
                    if let Some(held) = &mut touch
                        && !self.on(change, held, &stop).await
                    {
                        touch = None;
                    }
                }
                Woken::Ended(error) => {
                    let why =
                        error.map_or_else(|| "the server ended it".to_owned(), |error| error.to_string());
                    self.trouble(&format!("the watch of its secrets ended: {why}"), "watch");
                    touch = None;
                }
            }
        }
        if let Some(Touch { session, changes, .. }) = touch
            && inbox.is_to_log_out()
        {
            drop(changes);
            // The session ends by itself if the server does not answer.
            let _: Result<(), _> = timeout(limits::LOGOUT, session.log_out()).await;
        }
    }

    async fn wait(&self, touch: &mut Option<Touch>, inbox: &Inbox, stop: &CancellationToken) -> Woken {
        let sweep = async {
            match self.sweep_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let change = async {
            match touch {
                Some(touch) => touch.changes.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Woken::Stop,
            change = change => match change {
                Some(Ok(change)) => Woken::Change(change),
                Some(Err(error)) => Woken::Ended(Some(error)),
                None => Woken::Ended(None),
            },
            token = inbox.token() => Woken::Token(token),
            () = sweep => Woken::Sweep,
        }
    }

    /// No login while the session is good: the kubelet brings a token every minute or so.
    fn wants_login(&self, touch: Option<&Touch>) -> bool {
        let Some(touch) = touch else { return true };
        let ends_soon = touch.session.ends_at().is_some_and(|end| {
            let left = end.as_second().saturating_sub(Timestamp::now().as_second());
            left < i64::try_from(limits::SESSION_REMAINDER.as_secs()).unwrap_or(i64::MAX)
        });
        ends_soon || self.lost_since.is_some_and(|since| since.elapsed() > limits::NEW_LOGIN_AFTER)
    }

    fn question(&self) -> Question<'_> {
        self.shared.reader.question(&self.mounted.state.pod, &self.volume)
    }

    /// A new session, and whatever changed while there was none.
    async fn log_in(&mut self, token: &SecretBytes, stop: &CancellationToken) -> Option<Touch> {
        let touch = match self.question().log_in(token).await {
            Ok(touch) => touch,
            Err(failure) => {
                self.trouble(&failure.to_string(), failure.reason());
                return None;
            }
        };
        self.shared.metrics.logged_in();
        self.lost_since = None;
        self.reconcile(&*touch.session, None, stop).await.then_some(touch)
    }

    /// `false` if the session is over.
    async fn on(&mut self, change: Change, touch: &mut Touch, stop: &CancellationToken) -> bool {
        match change.kind {
            ChangeKind::Metadata | ChangeKind::Other => true,
            ChangeKind::Interrupted => {
                self.lost_since.get_or_insert_with(Instant::now);
                self.trouble("the connection to the server is lost; the content may be outdated", "watch");
                true
            }
            // Everybody on this node, and on all others, may have had the same gap.
            ChangeKind::Started | ChangeKind::Resync => {
                self.lost_since = None;
                let spread = limits::RESYNC_SPREAD.mul_f64(chance());
                tokio::select! {
                    () = stop.cancelled() => return true,
                    () = sleep(spread) => {}
                }
                self.reconcile(&*touch.session, None, stop).await
            }
            _ => {
                let heard = Instant::now();
                self.skip_ready(touch);
                self.reconcile(&*touch.session, Some(heard), stop).await
            }
        }
    }

    /// One read covers all changes reported so far. What ends or interrupts the watch is reported again later.
    fn skip_ready(&mut self, touch: &mut Touch) {
        let Touch { changes, .. } = touch;
        for _ in 0..limits::FETCHES {
            let told = changes.next().now_or_never();
            match told {
                Some(Some(Ok(Change { kind: ChangeKind::Interrupted, .. }))) => {
                    self.lost_since.get_or_insert_with(Instant::now);
                    return;
                }
                Some(Some(Ok(_))) => {}
                _ => return,
            }
        }
    }

    /// Reads everything and writes what is new; tries again while the server is away. `false` if the session is over.
    async fn reconcile(
        &mut self,
        session: &dyn Session,
        heard: Option<Instant>,
        stop: &CancellationToken,
    ) -> bool {
        let mut failures = 0;
        loop {
            let failure = match self.refresh(session, heard).await {
                Ok(()) => return true,
                Err(failure) => failure,
            };
            self.trouble(&failure.to_string(), failure.reason());
            if failure.is_session_over() {
                return false;
            }
            failures += 1;
            let pause = if failure.is_transient() {
                pause(failures)
            } else if failure.is_of_this_node() {
                // Old files that a pod has open take the room; it comes back when they are closed.
                write_pause(failures)
            } else {
                return true;
            };
            tokio::select! {
                () = stop.cancelled() => return true,
                () = sleep(pause) => {}
            }
            if self.sweep_at.is_some_and(|at| at <= Instant::now()) {
                self.sweep().await;
            }
        }
    }

    async fn refresh(&mut self, session: &dyn Session, heard: Option<Instant>) -> Result<(), Failure> {
        let answer = self.question().read(session).await?;
        let outcome = self.shared.disk.rewrite(&self.mounted, &self.volume, &answer.fetched).await?;
        let changed = outcome == WriteResult::Written;
        self.shared.metrics.refreshed(changed);
        if self.lost_since.is_none() {
            self.mounted.mark_current();
        }
        if changed {
            self.sweep_at = Some(Instant::now() + limits::SWEEP_AFTER);
            let took = heard.map(|heard| heard.elapsed());
            if let Some(took) = took {
                self.shared.metrics.change_on_disk(took);
            }
            tracing::info!(
                volume = %self.mounted.state.volume,
                pod = %self.mounted.state.pod,
                milliseconds = took.map(|took| took.as_millis()),
                "refreshed"
            );
        }
        Ok(())
    }

    async fn sweep(&mut self) {
        self.sweep_at = None;
        let (disk, mounted) = (Arc::clone(&self.shared.disk), Arc::clone(&self.mounted));
        let swept = spawn_blocking(move || disk.sweep(&mounted)).await.map_err(Failure::from);
        if let Err(failure) = swept.and_then(|swept| swept) {
            self.shared.metrics.failed(Doing::Refresh, failure.reason());
            tracing::warn!(volume = %self.mounted.state.volume, %failure, "old files could not be removed");
        }
    }

    /// Keeps the content and notes the trouble. The log says it once, because an outage is many attempts of many volumes.
    fn trouble(&self, why: &str, reason: &'static str) {
        self.shared.metrics.failed(Doing::Refresh, reason);
        if self.mounted.mark_troubled(why) {
            tracing::warn!(
                volume = %self.mounted.state.volume,
                pod = %self.mounted.state.pod,
                reason,
                why,
                "the volume keeps its last content"
            );
        }
    }
}

/// Doubles from a second; what does not fit now rarely fits a moment later.
fn write_pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    Duration::from_secs(1).saturating_mul(1 << doublings).min(limits::LONGEST_WRITE_PAUSE)
}

//! Looking after a mounted volume: one task per volume holds the pod's session and its watch, and brings a changed secret
//! to the disk at once. What cannot be renewed stays as it is: a pod keeps its last content whatever happens here.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use strongroom_client::{
    Change, ChangeKind, Current, ErrorKind, SecretBytes,
    volume::{Fetched, Volume},
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    disk::Disk,
    failure::Failure,
    fetch::{Question, Reader, Touch, chance, pause},
    follower::{Follower, Inbox},
    issued::{Held, Lent, give_back},
    limits,
    pod_events::{Notice, PodEvents},
    session::Session,
    telemetry::{Doing, Metrics},
    volumes::MountedVolume,
    writer::WriteResult,
};

/// The tasks of all volumes, and what they share.
#[derive(Clone)]
pub struct Refresh {
    reader: Arc<Reader>,
    disk: Arc<Disk>,
    events: PodEvents,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
}

impl Refresh {
    pub fn new(reader: Arc<Reader>, disk: Arc<Disk>, events: PodEvents, metrics: Arc<Metrics>) -> Self {
        Self { reader, disk, events, metrics, tasks: TaskTracker::new() }
    }

    /// Starts to look after `mounted`; without a touch, as after a restart, it waits for a token first.
    pub fn follow(
        &self,
        mounted: &Arc<MountedVolume>,
        volume: Volume,
        fresh: Option<(Touch, Vec<Held>)>,
    ) -> Follower {
        let (touch, issued) = fresh.unzip();
        let following = Following {
            issued: issued.unwrap_or_else(|| left(&volume, mounted.leases())),
            former: Vec::new(),
            attend_at: None,
            attempts: 0,
            shared: self.clone(),
            mounted: Arc::clone(mounted),
            volume,
            sweep_at: touch.as_ref().map(|_| Instant::now() + limits::SWEEP_AFTER),
            lost_since: None,
            token: None,
            refusals: 0,
            ask_at: None,
            told: false,
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
    /// The pod's newest token. It is needed when something has changed after the session's own has ended.
    token: Option<SecretBytes>,
    /// How often in a row the server refused, and until when it is not asked again.
    refusals: u32,
    ask_at: Option<Instant>,
    /// What was issued, in the order of [`Volume::issues`].
    issued: Vec<Held>,
    /// The leases of what was replaced, until they end.
    former: Vec<(String, Instant)>,
    /// Not before this is what was issued looked after again, and how often in a row that failed.
    attend_at: Option<Instant>,
    attempts: u32,
    /// Whether trouble was handed on to the pod's owner, and its end is to be.
    told: bool,
}

/// What is known after the server was asked.
enum Asked {
    /// The content is current.
    Current,
    /// The session is of no use any more.
    SessionOver,
    /// It said no, or the task is to stop.
    Refused,
}

/// What woke the task.
enum Woken {
    Stop,
    Token(SecretBytes),
    Change(Change),
    /// The watch has ended, with the server's reason if it gave one.
    Ended(Option<strongroom_client::Error>),
    Sweep,
    /// Something that was issued is to be renewed or replaced.
    Due,
}

impl Following {
    async fn run(mut self, mut touch: Option<Touch>, inbox: Arc<Inbox>, stop: CancellationToken) {
        if let Some(Touch { current: None, session, .. }) = &touch
            && let Asked::SessionOver = self.reconcile(session, None, &stop).await
        {
            touch = None;
        }
        loop {
            match self.wait(&mut touch, &inbox, &stop).await {
                Woken::Stop => break,
                Woken::Sweep => self.sweep().await,
                Woken::Due => self.attend(&mut touch, &stop).await,
                Woken::Token(token) => {
                    self.token = Some(token);
                    if self.wants_login(touch.as_ref())
                        && let Some(new) = self.log_in(None, &stop).await
                    {
                        touch = Some(new);
                    }
                }
                Woken::Change(change) => {
                    if let Some(held) = &mut touch {
                        let heard = Instant::now();
                        if let Asked::SessionOver = self.on(change, heard, held, &stop).await {
                            touch = self.log_in(Some(heard), &stop).await;
                        }
                    }
                }
                Woken::Ended(error) => {
                    let was_usable = touch.take().is_some_and(|touch| touch.session.is_usable());
                    if was_usable || self.token.is_none() {
                        self.ended(error);
                    } else {
                        // It broke, and could not be opened again with the token that it began with.
                        touch = self.log_in(None, &stop).await;
                    }
                }
            }
        }
        if inbox.is_to_log_out() {
            // The session ends by itself if the server does not answer.
            let _: Result<(), _> = timeout(limits::LOGOUT, self.part(touch)).await;
        }
    }

    /// Gives back what was issued and ends the session, as the volume is gone.
    async fn part(&mut self, touch: Option<Touch>) {
        let current = self.issued.iter().filter_map(|held| held.lease().map(str::to_owned));
        let leases: Vec<_> = current.chain(self.former.drain(..).map(|(lease, _)| lease)).collect();
        let session = match touch {
            Some(Touch { session, .. }) if session.is_usable() || leases.is_empty() => Some(session),
            _ if leases.is_empty() => None,
            _ => match &self.token {
                Some(token) => self.question().once().log_in(token).await.ok().map(|touch| touch.session),
                None => None,
            },
        };
        if let Some(session) = session {
            give_back(&*session, leases).await;
            session.log_out().await;
        }
    }

    /// The watch is over. Why it was refused is said already, and stays.
    fn ended(&mut self, error: Option<strongroom_client::Error>) {
        let failure = error.map(|error| self.question().refused(error));
        match failure {
            Some(failure @ Failure::Denied { .. }) => self.failed(&failure),
            _ if self.refusals > 0 => {}
            failure => {
                let why = failure.map_or_else(|| "the server ended it".to_owned(), |failure| failure.cause());
                self.trouble(&format!("the watch of its secrets ended: {why}"), "watch", None);
            }
        }
    }

    async fn wait(&self, touch: &mut Option<Touch>, inbox: &Inbox, stop: &CancellationToken) -> Woken {
        let sweep = async {
            match self.sweep_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let due = self.due(touch.is_some());
        let due = async {
            match due {
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
            () = due => Woken::Due,
        }
    }

    /// No login while the watch goes on: the kubelet brings a token every minute or so. Nor soon after a refusal.
    fn wants_login(&self, touch: Option<&Touch>) -> bool {
        let Some(touch) = touch else { return self.ask_at.is_none_or(|at| at <= Instant::now()) };
        let ends_soon =
            touch.session.ends_at().is_some_and(|end| end < Instant::now() + limits::SESSION_REMAINDER);
        ends_soon || self.lost_since.is_some_and(|since| since.elapsed() > limits::NEW_LOGIN_AFTER)
    }

    /// When what was issued wants to be looked after, if there is a way to ask for it.
    fn due(&self, has_session: bool) -> Option<Instant> {
        let first = self.issued.iter().map(Held::due).min()?;
        (has_session || self.token.is_some()).then(|| self.attend_at.map_or(first, |at| at.max(first)))
    }

    /// Renews what is due, and has another one issued for what cannot be renewed any more.
    async fn attend(&mut self, touch: &mut Option<Touch>, stop: &CancellationToken) {
        self.former.retain(|(_, ends)| *ends > Instant::now());
        let usable = touch.as_ref().map(|touch| &touch.session).filter(|session| session.is_usable());
        let session = match usable {
            Some(session) => Arc::clone(session),
            None => {
                let Some(new) = self.log_in(None, stop).await else { return self.attend_later() };
                Arc::clone(&touch.insert(new).session)
            }
        };
        if let Err(failure) = self.renew(&*session).await {
            self.failed(&failure);
            if failure.is_session_over() {
                *touch = None;
            }
            return self.attend_later();
        }
        if self.issued.iter().any(Held::is_to_be_replaced) {
            match self.reconcile(&session, None, stop).await {
                Asked::Current => {}
                Asked::SessionOver => {
                    *touch = None;
                    return self.attend_later();
                }
                Asked::Refused => return self.attend_later(),
            }
        }
        (self.attempts, self.attend_at) = (0, None);
        self.mark_current();
    }

    fn attend_later(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
        let longest = match self.refusals {
            0 => pause(self.attempts),
            _ => limits::REFUSED_RENEWAL_PAUSE,
        };
        self.attend_at = Some(Instant::now() + longest.max(limits::RENEWAL_PAUSE));
    }

    /// Of what is due, what the server does not know any more is marked.
    async fn renew(&mut self, session: &dyn Session) -> Result<(), Failure> {
        for at in 0..self.issued.len() {
            let Some(held) = self.issued.get(at).filter(|held| held.is_due()) else { continue };
            let Some(lease) = held.lease().filter(|_| !held.is_to_be_replaced()) else { continue };
            let renewed = match session.renew(lease).await {
                Ok(times) => Some(times),
                Err(error) if error.is_not_found() || *error.kind() == ErrorKind::LeaseEnding => None,
                Err(error) => return Err(self.question().not_renewed(held.source(), error)),
            };
            let Some(held) = self.issued.get_mut(at) else { continue };
            match renewed {
                Some(times) => held.is_good_for(times),
                None => held.lost(),
            }
            tracing::debug!(volume = %self.mounted.state.volume, path = held.source().path(), ?renewed, "renewed what was issued");
        }
        Ok(())
    }

    fn question(&self) -> Question<'_> {
        self.shared.reader.question(&self.mounted.state.pod, &self.volume)
    }

    /// A new session with the newest token, if there is one, and whatever changed while there was none.
    async fn log_in(&mut self, heard: Option<Instant>, stop: &CancellationToken) -> Option<Touch> {
        let token = self.token.take()?;
        let logged_in = self.question().log_in(&token).await;
        self.token = Some(token);
        let touch = match logged_in {
            Ok(touch) => touch,
            Err(failure) => {
                self.failed(&failure);
                return None;
            }
        };
        self.shared.metrics.logged_in();
        self.lost_since = None;
        if touch.current.as_ref().is_some_and(|current| self.is_current(current)) {
            return Some(touch);
        }
        match self.reconcile(&touch.session, heard, stop).await {
            Asked::SessionOver => None,
            Asked::Current | Asked::Refused => Some(touch),
        }
    }

    /// Whether nothing has changed: then there is nothing to read. A version that was asked for by its number is read again,
    /// because the server tells of the latest ones.
    fn is_current(&mut self, current: &[Current]) -> bool {
        let paths = self.volume.paths();
        let same = self.volume.sources().into_iter().all(|source| source.version().is_none())
            && (paths.is_empty() || self.mounted.has_all(current, paths.into_iter()));
        if same {
            self.mark_current();
        }
        same
    }

    fn mark_current(&mut self) {
        (self.refusals, self.ask_at) = (0, None);
        if self.lost_since.is_none() {
            self.mounted.mark_current();
            if self.told && self.shared.events.tell(&self.mounted.state.pod, Notice::current()) {
                self.told = false;
            }
        }
    }

    async fn on(
        &mut self,
        change: Change,
        heard: Instant,
        touch: &mut Touch,
        stop: &CancellationToken,
    ) -> Asked {
        match change.kind {
            ChangeKind::Metadata | ChangeKind::Other => return Asked::Current,
            ChangeKind::Interrupted => {
                self.lost_since.get_or_insert_with(Instant::now);
                let why = "the connection to the server is lost; the content may be outdated";
                self.trouble(why, "watch", None);
                return Asked::Current;
            }
            ChangeKind::Started | ChangeKind::Resync => {
                self.lost_since = None;
                if self.is_current(&change.current) {
                    return Asked::Current;
                }
                // Everybody on this node, and on all others, may have had the same gap.
                let spread = limits::RESYNC_SPREAD.mul_f64(chance());
                tokio::select! {
                    () = stop.cancelled() => return Asked::Refused,
                    () = sleep(spread) => {}
                }
                if !touch.session.is_usable() {
                    return Asked::SessionOver;
                }
                return self.reconcile(&touch.session, None, stop).await;
            }
            _ => {}
        }
        if !touch.session.is_usable() {
            return Asked::SessionOver;
        }
        self.skip_ready(touch);
        self.reconcile(&touch.session, Some(heard), stop).await
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

    /// Reads everything and writes what is new; tries again while the server is away.
    async fn reconcile(
        &mut self,
        session: &Arc<dyn Session>,
        heard: Option<Instant>,
        stop: &CancellationToken,
    ) -> Asked {
        let mut failures = 0;
        loop {
            let failure = match self.refresh(session, heard).await {
                Ok(()) => return Asked::Current,
                Err(failure) => failure,
            };
            self.failed(&failure);
            if failure.is_session_over() {
                return Asked::SessionOver;
            }
            failures += 1;
            let pause = if failure.is_transient() {
                pause(failures)
            } else if failure.is_of_this_node() {
                // Old files that a pod has open take the room; it comes back when they are closed.
                write_pause(failures)
            } else {
                return Asked::Refused;
            };
            tokio::select! {
                () = stop.cancelled() => return Asked::Refused,
                () = sleep(pause) => {}
            }
            if self.sweep_at.is_some_and(|at| at <= Instant::now()) {
                self.sweep().await;
            }
        }
    }

    async fn refresh(&mut self, session: &Arc<dyn Session>, heard: Option<Instant>) -> Result<(), Failure> {
        let mut answer = self.question().read(&**session).await?;
        let mut issued = Vec::new();
        for held in &self.issued {
            // What an earlier process had issued cannot be written again, so whatever is written needs another one.
            let other = match held.is_to_be_replaced() || !held.is_known() {
                true => Some(self.question().issue(session, held.source()).await?),
                false => None,
            };
            let values = other.as_ref().map_or_else(|| held.values(), Lent::values);
            answer.fetched.insert(held.source().clone(), values);
            issued.push(other);
        }
        let outcome = self.write(&answer.fetched, issued).await?;
        let changed = outcome == WriteResult::Written;
        self.shared.metrics.refreshed(changed);
        self.mounted.holds(answer.versions);
        self.mark_current();
        if changed {
            self.sweep_at = Some(Instant::now() + limits::SWEEP_AFTER);
            let took = heard.map(|heard| heard.elapsed());
            if let Some(took) = took {
                self.shared.metrics.change_on_disk(took);
            }
            tracing::info!(
                volume = %self.mounted.state.volume,
                pod = %self.mounted.state.pod,
                versions = self.mounted.versions(),
                milliseconds = took.map(|took| took.as_millis()),
                "refreshed"
            );
        }
        Ok(())
    }

    /// Brings it to the disk, and takes over what was issued for it. A driver that is killed in between finds no leases and has
    /// others issued: it cannot know which are those of the files.
    async fn write(&mut self, fetched: &Fetched, issued: Vec<Option<Lent>>) -> Result<WriteResult, Failure> {
        let disk = Arc::clone(&self.shared.disk);
        if issued.iter().all(Option::is_none) {
            return disk.rewrite(&self.mounted, &self.volume, fetched).await;
        }
        let before = self.mounted.leases();
        disk.remember(&self.mounted.has_leases(Vec::new()))?;
        let outcome = match disk.rewrite(&self.mounted, &self.volume, fetched).await {
            Ok(outcome) => outcome,
            Err(failure) => {
                disk.remember(&self.mounted.has_leases(before))?;
                return Err(failure);
            }
        };
        for (held, other) in self.issued.iter_mut().zip(issued) {
            let Some(other) = other.and_then(Lent::keep) else { continue };
            let former = std::mem::replace(held, other);
            tracing::info!(
                volume = %self.mounted.state.volume,
                pod = %self.mounted.state.pod,
                path = held.source().path(),
                lease = held.lease(),
                former = former.lease(),
                "replaced what was issued"
            );
            self.former.extend(former.lease().map(|lease| (lease.to_owned(), former.ends())));
        }
        let leases = self.issued.iter().map(|held| held.lease().map(str::to_owned)).collect();
        disk.remember(&self.mounted.has_leases(leases))?;
        Ok(outcome)
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

    /// Notes why the content is not known to be current, and if it was refused, that it is not asked for at once.
    fn failed(&mut self, failure: &Failure) {
        self.trouble(&failure.to_string(), failure.reason(), failure.decision());
        let stale = self.mounted.health().stale_since.map(|since| since.elapsed()).unwrap_or_default();
        if let Some(notice) = Notice::of(failure, stale) {
            self.told |= self.shared.events.tell(&self.mounted.state.pod, notice);
        }
        if !failure.is_transient() && !failure.is_session_over() && !failure.is_of_this_node() {
            self.refusals = self.refusals.saturating_add(1);
            self.ask_at = Some(Instant::now() + refusal_pause(self.refusals));
        }
    }

    /// Keeps the content and notes the trouble. The log says it once, because an outage is many attempts of many volumes.
    fn trouble(&self, why: &str, reason: &'static str, decision: Option<&str>) {
        self.shared.metrics.failed(Doing::Refresh, reason);
        if self.mounted.mark_troubled(why, reason) {
            tracing::warn!(
                volume = %self.mounted.state.volume,
                pod = %self.mounted.state.pod,
                reason,
                why,
                decision,
                "the volume keeps its last content"
            );
        }
    }
}

/// What an earlier process had issued for the volume, as far as that is known.
fn left(volume: &Volume, leases: Vec<Option<String>>) -> Vec<Held> {
    let sources = volume.issues();
    let leases = if leases.len() == sources.len() { leases } else { vec![None; sources.len()] };
    sources.into_iter().zip(leases).map(|(source, lease)| Held::left(source, lease)).collect()
}

/// None after the first refusal, which may have come from a moment between two changes of the policy.
fn refusal_pause(refusals: u32) -> Duration {
    let Some(doublings) = refusals.checked_sub(2) else { return Duration::ZERO };
    limits::FIRST_REFUSAL_PAUSE.saturating_mul(1 << doublings.min(16)).min(limits::LONGEST_REFUSAL_PAUSE)
}

/// Doubles from a second; what does not fit now rarely fits a moment later.
fn write_pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    Duration::from_secs(1).saturating_mul(1 << doublings).min(limits::LONGEST_WRITE_PAUSE)
}

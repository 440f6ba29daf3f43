//! A small real server for the driver's tests: secrets with versions, refusals by name, an off switch, and watches. A
//! token is good if it begins with `good`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use strongroom_client::{Change, ChangeKind, Current, Error, Reason, ResultStream, Secret, SecretBytes};
use tokio::{sync::broadcast, time::Instant};

use crate::session::{Given, Server, Session, Times};

#[derive(Default)]
struct State {
    secrets: BTreeMap<String, (u64, String)>,
    denied: BTreeSet<String>,
    down: bool,
    silent: bool,
    sessions_over: bool,
    tokens_over: bool,
    ends_soon: bool,
    /// How long sessions last.
    span: Option<Duration>,
    watches: u32,
    logins: u32,
    goodbyes: u32,
    reads: u32,
    /// By lease: what was issued, and until when it lives.
    issued: BTreeMap<String, (String, Instant)>,
    /// How long what is issued lives, and with all renewals.
    life: Option<(Duration, Duration)>,
    ends: BTreeMap<String, Instant>,
    issues: u32,
    renewals: u32,
}

/// The server, seen from a test.
#[derive(Clone)]
pub(crate) struct FakeServer {
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<Result<Change, Reason>>,
    /// Of a session: when it ends.
    ends_at: Option<Instant>,
}

impl Default for FakeServer {
    fn default() -> Self {
        Self { state: Arc::default(), changes: broadcast::channel(64).0, ends_at: None }
    }
}

/// An error as the real server makes it.
pub(crate) fn refusal(reason: Reason, details: &[(&str, &str)]) -> Error {
    Error::answered(reason, "refused", details)
}

impl FakeServer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A new version of a secret that has one key, `value`.
    pub(crate) fn put(&self, path: &str, value: &str) {
        let version = {
            let mut state = self.state();
            let secret = state.secrets.entry(path.to_owned()).or_default();
            *secret = (secret.0 + 1, value.to_owned());
            secret.0
        };
        self.tell(ChangeKind::Written, path, version);
    }

    pub(crate) fn delete(&self, path: &str) {
        self.state().secrets.remove(path);
        self.tell(ChangeKind::Deleted, path, 0);
    }

    /// A change that nobody is told of.
    pub(crate) fn put_silently(&self, path: &str, value: &str) {
        let mut state = self.state();
        let secret = state.secrets.entry(path.to_owned()).or_default();
        *secret = (secret.0 + 1, value.to_owned());
    }

    pub(crate) fn tell(&self, kind: ChangeKind, path: &str, version: u64) {
        let _ = self.changes.send(Ok(Change::new(kind, path, version)));
    }

    /// Every watch ends with this.
    pub(crate) fn end_watches(&self, reason: Reason) {
        let _ = self.changes.send(Err(reason));
    }

    pub(crate) fn deny(&self, path: &str, denied: bool) {
        let mut state = self.state();
        if denied {
            state.denied.insert(path.to_owned())
        } else {
            state.denied.remove(path)
        };
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.state().down = down;
    }

    /// Logins are accepted and not answered.
    pub(crate) fn set_silent(&self, silent: bool) {
        self.state().silent = silent;
    }

    pub(crate) fn end_sessions(&self, over: bool) {
        self.state().sessions_over = over;
    }

    /// The tokens of all sessions end; their watches go on. Those of later sessions are good.
    pub(crate) fn end_tokens(&self) {
        self.state().tokens_over = true;
    }

    pub(crate) fn sessions_end_soon(&self) {
        self.state().ends_soon = true;
    }

    pub(crate) fn sessions_last(&self, span: Duration) {
        self.state().span = Some(span);
    }

    pub(crate) fn watches(&self) -> u32 {
        self.state().watches
    }

    pub(crate) fn logins(&self) -> u32 {
        self.state().logins
    }

    pub(crate) fn goodbyes(&self) -> u32 {
        self.state().goodbyes
    }

    /// From now on something is issued, whatever is asked for, that lives so long, and with renewals so long at most.
    pub(crate) fn issue_for(&self, life: Duration, at_most: Duration) {
        self.state().life = Some((life, at_most));
    }

    /// The names of what was issued and lives.
    pub(crate) fn users(&self) -> Vec<String> {
        let now = Instant::now();
        let state = self.state();
        state.issued.values().filter(|(_, ends)| *ends > now).map(|(name, _)| name.clone()).collect()
    }

    /// How often something was issued, and renewed.
    pub(crate) fn issues(&self) -> (u32, u32) {
        let state = self.state();
        (state.issues, state.renewals)
    }

    /// What was issued is not known any more.
    pub(crate) fn forget_issued(&self) {
        self.state().issued.clear();
    }

    pub(crate) fn reads(&self) -> u32 {
        self.state().reads
    }

    fn reachable(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.state();
        if state.down { Err(Error::unreachable("connection refused")) } else { Ok(state) }
    }
}

#[async_trait]
impl Server for FakeServer {
    async fn log_in(&self, token: &SecretBytes) -> Result<Box<dyn Session>, Error> {
        let silent = self.state().silent;
        if silent {
            std::future::pending::<()>().await;
        }
        let mut state = self.reachable()?;
        if !token.expose().starts_with(b"good") {
            return Err(refusal(Reason::LoginRejected, &[]));
        }
        state.logins += 1;
        state.tokens_over = false;
        let ends_at = state.span.map(|span| Instant::now() + span);
        Ok(Box::new(Self { ends_at, ..self.clone() }))
    }
}

#[async_trait]
impl Session for FakeServer {
    async fn read(&self, path: &str, _version: Option<u64>) -> Result<Secret, Error> {
        let mut state = self.reachable()?;
        state.reads += 1;
        if state.sessions_over || state.tokens_over {
            return Err(refusal(Reason::TokenExpired, &[]));
        }
        if state.denied.contains(path) {
            return Err(refusal(
                Reason::PermissionDenied,
                &[("decision_id", "01j"), ("verb", "read"), ("path", path)],
            ));
        }
        let (version, value) = state.secrets.get(path).ok_or_else(|| refusal(Reason::NotFound, &[]))?;
        let values = BTreeMap::from([("value".to_owned(), SecretBytes::from(value.as_str()))]);
        Ok(Secret::new(path, *version, values))
    }

    async fn issue(&self, path: &str) -> Result<Given, Error> {
        let mut state = self.reachable()?;
        if state.sessions_over || state.tokens_over {
            return Err(refusal(Reason::TokenExpired, &[]));
        }
        if state.denied.contains(path) {
            let details = [("decision_id", "01j"), ("verb", "use"), ("path", path)];
            return Err(refusal(Reason::PermissionDenied, &details));
        }
        let (lifetime, at_most) = state.life.ok_or_else(|| refusal(Reason::NotFound, &[]))?;
        state.issues += 1;
        let lease = format!("{:032x}", state.issues);
        let name = format!("user{}", state.issues);
        let now = Instant::now();
        state.issued.insert(lease.clone(), (name.clone(), now + lifetime));
        state.ends.insert(lease.clone(), now + at_most);
        let fields = [("username", name), ("password", "secret".to_owned())];
        let fields = fields.map(|(key, value)| (key.to_owned(), SecretBytes::from(value.as_str())));
        Ok(Given { fields: fields.into(), lease: Some(lease), times: Times { lifetime, at_most } })
    }

    async fn renew(&self, lease: &str) -> Result<Times, Error> {
        let mut state = self.reachable()?;
        if state.tokens_over {
            return Err(refusal(Reason::TokenExpired, &[]));
        }
        state.renewals += 1;
        let (now, (life, _)) = (Instant::now(), state.life.unwrap_or_default());
        let last = state.ends.get(lease).copied().unwrap_or(now);
        let (_, ends) = state.issued.get_mut(lease).ok_or_else(|| refusal(Reason::NotFound, &[]))?;
        *ends = last.min(now + life);
        Ok(Times { lifetime: *ends - now, at_most: last - now })
    }

    async fn revoke(&self, lease: &str) -> Result<(), Error> {
        let mut state = self.reachable()?;
        state.issued.remove(lease).map(drop).ok_or_else(|| refusal(Reason::NotFound, &[]))
    }

    fn watch(&self, paths: Vec<String>) -> ResultStream<Change> {
        let mut started = Change::new(ChangeKind::Started, "", 0);
        {
            let mut state = self.state();
            state.watches += 1;
            if let Some(path) = paths.iter().find(|path| state.denied.contains(*path)) {
                let details = [("decision_id", "01k"), ("verb", "read"), ("path", path.as_str())];
                return stream::iter([Err(refusal(Reason::PermissionDenied, &details))]).boxed();
            }
            let current = paths.iter().filter_map(|path| {
                let (version, _) = state.secrets.get(path)?;
                Some(Current::new(path, *version, Timestamp::UNIX_EPOCH))
            });
            started.current = current.collect();
        }
        let changes = stream::unfold((self.changes.subscribe(), paths), |(mut changes, paths)| async {
            loop {
                match changes.recv().await.ok()? {
                    Ok(change) if change.path.is_empty() || paths.contains(&change.path) => {
                        return Some((Ok(change), (changes, paths)));
                    }
                    Ok(_) => {}
                    Err(reason) => return Some((Err(refusal(reason, &[])), (changes, Vec::new()))),
                }
            }
        });
        stream::iter([Ok(started)]).chain(changes).boxed()
    }

    fn ends_at(&self) -> Option<Instant> {
        let state = self.state();
        state.ends_soon.then(Instant::now).or(self.ends_at)
    }

    fn is_usable(&self) -> bool {
        !self.state().tokens_over
    }

    async fn log_out(&self) {
        self.state().goodbyes += 1;
    }
}

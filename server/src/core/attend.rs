//! What engines have to do although nobody asks for it, such as passwords that are due for another. Each mount goes its own
//! way, one thing after the other, so that a database that is away holds up nobody else; what failed waits longer each time.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    error::Error,
    run::engine_error,
    state::{Core, Postponed, Unsealed},
};
use crate::{
    engines::Due,
    model::{Path, RequestId},
    permit::{Attention, Chore},
};

/// How often engines are asked.
const LOOK: Duration = Duration::from_secs(60);
/// How long one thing may take. Engines have time-outs of their own; this one is for when they fail.
const ATTEMPT: Duration = Duration::from_secs(60);
/// After the first failure; doubled with each one that follows.
const FIRST_RETRY: Duration = Duration::from_secs(60);
/// The longest wait.
const LAST_RETRY: Duration = Duration::from_secs(3600);
/// So many failures one after the other are not those of the things but of what is behind their mount.
const SUSPICIOUS: usize = 3;

impl Core {
    /// Until `stop`. What is being done then is due still.
    pub async fn attend_engines(self: Arc<Self>, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! { () = stop.cancelled() => return, _ = look.tick() => {} }
            tokio::select! { () = stop.cancelled() => return, () = self.attend_once() => {} }
        }
    }

    /// Asks all engines, and has them do what is due.
    pub(super) async fn attend_once(self: &Arc<Self>) {
        let mounts = self.unsealed().map(|unsealed| unsealed.mounts.mounted()).unwrap_or_default();
        let mut rounds = JoinSet::new();
        for mount in mounts {
            let core = Arc::clone(self);
            rounds.spawn(async move { core.attend_mount(&mount).await });
        }
        let due = rounds.join_all().await.concat();
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.retain(|path, _| due.contains(path));
        self.metrics.set_overdue(failing.len());
    }

    /// Does what is due at one mount, and returns where that was.
    async fn attend_mount(&self, mount: &str) -> Vec<Path> {
        let due = match self.unsealed() {
            Ok(unsealed) => self.overdue(&unsealed, mount).await,
            Err(_) => Vec::new(),
        };
        let (paths, mut failures) = (due.iter().map(|one| one.path.clone()).collect(), 0);
        for attention in due.into_iter().filter(|one| self.may_try(&one.path)) {
            match self.attend(attention).await {
                true => failures = 0,
                false => failures += 1,
            }
            if failures == SUSPICIOUS {
                break;
            }
        }
        paths
    }

    async fn overdue(&self, unsealed: &Unsealed, mount: &str) -> Vec<Attention> {
        let Some(entered) = unsealed.mounts.enter(mount) else { return Vec::new() };
        let due = entered.engine().overdue(self.clock.now()).await.unwrap_or_else(|error| {
            tracing::error!(mount, %error, "what is due here cannot be read; retrying in a minute");
            Vec::new()
        });
        let attention = |Due { name, what }: Due| {
            Some(Attention { path: Path::parse(&format!("{mount}/{name}")).ok()?, objects: vec![what] })
        };
        due.into_iter().filter_map(attention).collect()
    }

    fn may_try(&self, path: &Path) -> bool {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.get(path).is_none_or(|failed| failed.again <= self.clock.now())
    }

    /// One attempt, with its records. Whether it succeeded.
    async fn attend(&self, attention: Attention) -> bool {
        let (path, what) = (attention.path.clone(), attention.objects.concat());
        let done = self.act(Chore::Attend(attention)).await;
        let now = self.clock.now();
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(error) = done else {
            failing.remove(&path);
            return true;
        };
        let times = failing.get(&path).map_or(0, |failed| failed.times).saturating_add(1);
        let again = now.plus(wait(times));
        tracing::warn!(%path, what, %error, %again, "what is due could not be done; it is tried again");
        failing.insert(path, Postponed { times, again });
        false
    }

    /// The engine does it. `by`: the act of the server's own.
    pub(super) async fn attend_at(&self, path: &Path, by: RequestId) -> Result<(), Error> {
        let unsealed = self.unsealed()?;
        let entered = unsealed.enter(path)?;
        let attempt = entered.engine().attend(path, by, self.clock.now());
        let done = tokio::time::timeout(ATTEMPT, attempt).await;
        let done = done.map_err(|_| Error::Internal("the engine did not answer in time".to_owned()))?;
        done.map_err(|error| engine_error(error, path.as_str()))
    }
}

fn wait(times: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << times.saturating_sub(1).min(16)).min(LAST_RETRY)
}

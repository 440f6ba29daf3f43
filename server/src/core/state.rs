//! What state the server is in. The state is a type, not a flag: whoever needs keys asks for [`Unsealed`] and cannot
//! continue without it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{error::Error, phase::Phase};
use crate::{
    audit::{AuditError, Broker, LastCheckpoint, OpenIntent, Redactor},
    auth::Methods,
    barrier::{Applied, Barrier, BarrierError, Derived, Failed, StoredKeyring},
    clock::{Clock, Steady},
    config::InitFrom,
    crypto::{Entropy, Key, Unique},
    engines::{Entered, Mounts},
    leases::Leases,
    model::{LogPoint, Path, StoreId, Timestamp},
    policy::store::PolicyStore,
    seal::{Progress, SealRecord, Seals},
    storage::{Store, StoreError},
    telemetry::Metrics,
    tokens::Tokens,
    wrapping::Wrapping,
};

/// What the configuration decides about keys.
pub struct Options {
    /// The ways to keep the root key.
    pub seals: Seals,
    /// Break-glass: start although the data is older than the audit log.
    pub accept_rollback: bool,
    /// How far the audit log was, as it was noted down elsewhere; all zeros for nothing.
    pub anchor: LogPoint,
    pub init_from: InitFrom,
}

/// Everything a server is made of that does not depend on keys.
pub struct Core {
    pub(super) store: Arc<dyn Store>,
    pub(super) audit: Arc<Broker>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    /// What decisions are called.
    pub(super) decisions: Unique,
    pub(super) metrics: Arc<Metrics>,
    /// Those that need no keys; but nobody logs in without them.
    pub(super) methods: Methods,
    pub(super) options: Options,
    pub(super) phase: ArcSwap<Phase>,
    pub(super) phase_changes: watch::Sender<()>,
    /// Requests that changed the store and are not settled in the log yet.
    pub(super) applied: Arc<Applied>,
    /// That the store failed, if it did.
    pub(super) failed: Arc<Failed>,
    /// Init and unseal at once, by anybody.
    pub(super) attempts: Arc<Semaphore>,
    pub(super) draining: AtomicBool,
    /// Shares given so far. Held for microseconds, never across an await.
    pub(super) progress: Mutex<Progress>,
    /// One init, unseal, seal, rotate or rekey at a time.
    pub(super) lifecycle: tokio::sync::Mutex<Held>,
    /// How far the store was, by the audit log as it was found at the start.
    pub(super) last_checkpoint: Option<LastCheckpoint>,
    /// There was a store at the start and not a line of its log.
    pub(super) log_missing: bool,
    /// What engines had due by themselves and could not do, when it was tried last.
    pub(super) failing: Mutex<Failing>,
    /// Where the clock stood when it was looked at last, and when that was.
    pub(super) clock_seen: Mutex<Option<(Timestamp, Steady)>>,
    /// The end of the audit log as it was found at the start.
    pub(super) log_found: LogPoint,
}

/// What exists only while the server has its keys. Dropped as a whole at seal.
pub struct Unsealed {
    pub(super) seal: ArcSwap<SealRecord>,
    pub(super) barrier: Arc<Barrier>,
    /// Has the root key.
    pub(super) keyring: StoredKeyring,
    pub(super) tokens: Tokens,
    pub(super) redactor: Redactor,
    pub(super) methods: Methods,
    pub(super) policy: PolicyStore,
    pub(super) mounts: Mounts,
    pub(super) leases: Leases,
    pub(super) wrapping: Wrapping,
}

impl Unsealed {
    /// All that is held in memory and derived from the store.
    fn derived(&self) -> [&dyn Derived; 5] {
        [&self.keyring, self.tokens.revocations(), &self.policy, &self.mounts, &self.leases]
    }

    /// The engine that has this path.
    pub(super) fn enter(&self, path: &Path) -> Result<Entered, Error> {
        let entered = self.mounts.enter(path.mount());
        entered.ok_or_else(|| Error::NoSuch(format!("the mount {}/", path.mount())))
    }
}

/// The last request that had the keys is done. Whoever still holds a part of it, a stream for example, holds nothing
/// derived from the store.
impl Drop for Unsealed {
    fn drop(&mut self) {
        for part in self.derived() {
            part.forget();
        }
    }
}

/// What could not be done, and what is to be said of it.
pub(super) type Failing = HashMap<Path, Postponed>;

/// How often, and when to try again.
#[derive(Clone, Copy)]
pub(super) struct Postponed {
    pub(super) times: u32,
    pub(super) again: Timestamp,
}

/// What the lifecycle lock guards.
#[derive(Default)]
pub(super) struct Held {
    /// A new seal that waits for the proof that its shares have arrived.
    pub(super) pending: Option<PendingRekey>,
    /// Intents that the last run left without an outcome; none any more once the store was asked.
    pub(super) unresolved: Vec<OpenIntent>,
    /// This process has signed the log already: it is that of the store, and has its checkpoint.
    pub(super) signed: bool,
}

/// A seal that is made and not yet the one that counts.
pub(super) struct PendingRekey {
    pub(super) root: Key,
    pub(super) record: SealRecord,
    pub(super) since: Timestamp,
}

/// How long a rekey waits for its new shares to be shown: an hour is enough to hand them out, and little for somebody who
/// finds the session that began it.
const PENDING_REKEY_LIVES: Duration = Duration::from_secs(3600);

impl Held {
    /// Forgets a rekey whose time is over. A clock that was set back ends it too.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let over = |pending: &mut PendingRekey| {
            now < pending.since || now.since(pending.since) >= PENDING_REKEY_LIVES
        };
        if self.pending.take_if(over).is_some() {
            tracing::warn!(
                "a rekey was not confirmed within an hour and is forgotten; the older shares still count"
            );
        }
    }
}

/// What anybody may know.
pub struct Status {
    /// Whether there was an init.
    pub initialized: bool,
    /// Whether there are no keys.
    pub sealed: bool,
    /// How the root key is kept.
    pub seal: Option<SealSummary>,
    /// Shares given so far.
    pub progress: u8,
    pub store_id: Option<StoreId>,
    /// Active key term.
    pub key_term: Option<u32>,
}

/// What can be told of a seal, without anything that matters to a thief.
pub struct SealSummary {
    /// `shamir` or `file`.
    pub kind: &'static str,
    /// How many there are.
    pub shares: u8,
    /// How many are needed.
    pub threshold: u8,
}

impl Core {
    /// What anybody may know.
    pub fn status(&self) -> Status {
        let phase = self.phase.load();
        let (record, unsealed) = (phase.seal(), phase.unsealed());
        Status {
            initialized: record.is_some(),
            sealed: unsealed.is_none(),
            progress: self.shares_given(),
            store_id: record.as_ref().map(|record| record.store),
            seal: record.map(|record| SealSummary {
                kind: record.kind.name,
                shares: record.shares,
                threshold: record.threshold,
            }),
            key_term: unsealed.map(|unsealed| unsealed.barrier.active_term()),
        }
    }

    /// Whether secrets can be served at this moment.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), Error> {
        if let Some(cause) = self.failed.cause() {
            return Err(BarrierError::Store(StoreError::Fatal(cause.to_owned())).into());
        }
        self.unsealed()?;
        let health = self.audit.health();
        match health.failed {
            Some(cause) => Err(AuditError::Unavailable { cause }.into()),
            None if health.full => {
                Err(AuditError::Unavailable { cause: "its file system is full".into() }.into())
            }
            None => Ok(()),
        }
    }

    /// Whether the store only takes what takes rights or data away.
    pub fn is_full(&self) -> bool {
        self.store.is_full()
    }

    /// Waits until the store fails, and says how. Whoever hears of it ends the process.
    pub async fn store_failed(&self) -> String {
        self.failed.happened().await
    }

    /// Sets what is measured only when somebody asks.
    pub fn measure(&self, metrics: &Metrics) {
        let health = self.audit.health();
        let writable = health.failed.is_none() && !health.full;
        metrics.set_audit(health.records, health.groups, health.suppressed, writable);
        if let Some(unsealed) = self.phase.load().unsealed() {
            metrics.set_store_batches(unsealed.barrier.state().batch_seq);
            metrics.set_quotas(unsealed.mounts.quotas());
            let leases = unsealed.leases.counts();
            metrics.set_leases(leases.live, leases.ending, leases.stuck);
        }
        metrics.set_store_writable(self.failed.cause().is_none() && !self.store.is_full());
    }

    /// Woken at every change of phase.
    pub fn watch_phase(&self) -> watch::Receiver<()> {
        self.phase_changes.subscribe()
    }

    /// From here on auth methods notice what happens elsewhere, such as the end of a pod.
    pub fn start_methods(&self, stop: &CancellationToken) {
        self.methods.start(stop);
    }

    /// The server is about to stop: long streams end.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The keys, or why there are none.
    pub(super) fn unsealed(&self) -> Result<Arc<Unsealed>, Error> {
        self.phase.load().keys(|| self.shares_given())
    }

    fn shares_given(&self) -> u8 {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.expire(self.clock.now());
        progress.given()
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.metrics.set_sealed(phase.unsealed().is_none());
        self.phase.store(Arc::new(phase));
        self.phase_changes.send_replace(());
    }
}

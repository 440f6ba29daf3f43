//! Init, unseal, seal, rotate, rekey: the ways between the phases. One at a time, under the lifecycle lock.

use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwap;

use super::{
    error::Error,
    phase::Phase,
    record,
    state::{Core, Held, Options, PendingRekey, Unsealed},
};
use crate::{
    audit::{Broker, RecoveredLog, Recovery, Redactor, StoreState},
    auth::Methods,
    barrier::{
        self, Applied, Barrier, BarrierError, Derived, KEYRING_KEY, Keyring, Purpose, SEAL_KEY, StoredKeyring,
    },
    clock::Clock,
    crypto::{Entropy, Key, PublicKey, SigningKey, Unique},
    engines::Mounts,
    leases::{Cause, Leases},
    limits,
    model::{RequestId, SecretBytes, StoreId},
    policy::store::PolicyStore,
    seal::{Progress, SealConfig, SealRecord, Step},
    storage::{Batch, Condition, Store},
    telemetry::Metrics,
    tokens::{Revocations, Tokens},
    wrapping::Wrapping,
};

/// What init gives out, once.
pub struct Initialized {
    /// To be spread among people.
    pub shares: Vec<SecretBytes>,
    /// For the first hour.
    pub root_token: SecretBytes,
    /// For `audit verify`.
    pub audit_public_key: PublicKey,
    /// The id of the new store.
    pub store_id: StoreId,
}

impl Core {
    /// Looks at the store and enters the phase it is in; a seal that opens by itself opens it at once.
    ///
    /// # Errors
    /// The store cannot be read, or the key of such a seal does not fit.
    pub async fn start(
        store: Arc<dyn Store>,
        audit: (Broker, RecoveredLog),
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: Arc<Metrics>,
        methods: Methods,
        options: Options,
    ) -> Result<Arc<Core>, Error> {
        let record = read_seal(&*store).await?;
        let (audit, found) = audit;
        let log_found = found.end();
        let applied = Arc::new(Applied::default());
        let settling = Arc::clone(&applied);
        audit.on_settled(move |requests, durable| settling.settle(requests, durable));
        let decisions = Unique::new(&*entropy)?;
        let core = Arc::new(Core {
            store,
            audit: Arc::new(audit),
            clock,
            entropy,
            decisions,
            metrics,
            methods,
            options,
            phase: ArcSwap::from_pointee(Phase::Uninitialized),
            phase_changes: tokio::sync::watch::Sender::new(()),
            progress: std::sync::Mutex::new(Progress::new()),
            lifecycle: tokio::sync::Mutex::new(Held { unresolved: found.open_intents, ..Held::default() }),
            applied,
            failed: Arc::default(),
            failing: std::sync::Mutex::default(),
            clock_seen: std::sync::Mutex::default(),
            attempts: Arc::new(tokio::sync::Semaphore::new(limits::UNSEAL_ATTEMPTS)),
            draining: std::sync::atomic::AtomicBool::new(false),
            log_missing: record.is_some() && found.next_seq == 1,
            log_found,
            last_checkpoint: found.last_checkpoint,
        });
        if let Some(record) = record {
            core.enter(Phase::Sealed(record.clone()));
            if let Some(root) = core.options.seals.open(&record)? {
                core.open(&mut *core.lifecycle.lock().await, record, root).await?;
            }
        } else {
            core.enter(Phase::Uninitialized);
        }
        Ok(core)
    }

    pub(super) async fn initialize(&self, config: SealConfig, by: RequestId) -> Result<Initialized, Error> {
        let mut held = self.lifecycle.lock().await;
        self.phase.load().may_init()?;
        if self.last_checkpoint.is_some() {
            return Err(Error::ForeignLog);
        }
        let entropy = &*self.entropy;
        let now = self.clock.now();
        let mut id = [0; 16];
        entropy.fill(&mut id)?;
        let store_id = StoreId(id);
        let root = Key::random(entropy)?;
        let keyring = Keyring::create(entropy, now)?;
        let first = barrier::first_records(&keyring, &root, store_id, by, entropy)?;
        let (record, shares) = self.options.seals.create(config, &root, store_id, entropy)?;
        let batch = Batch {
            conditions: vec![
                (SEAL_KEY.to_vec(), Condition::Absent),
                (KEYRING_KEY.to_vec(), Condition::Absent),
            ],
            puts: [(SEAL_KEY.to_vec(), record.encode())].into_iter().chain(first).collect(),
            deletes: Vec::new(),
            urgent: false,
        };
        self.store.commit(batch).await.map_err(BarrierError::from)?;
        self.applied.add(&[by]);

        // Open it once whatever the seal: the default mount and the root token need the keys, and what cannot be opened
        // should be found out now. One with shares closes again, so that they are tried out by the first unseal.
        self.open(&mut held, record.clone(), root).await?;
        let unsealed = self.unsealed()?;
        let (root_token, _) = unsealed.tokens.mint_root(now)?;
        let audit_public_key = unsealed.audit_signer()?.public_key();
        if record.kind.by_shares {
            self.close(&mut held).await;
        }
        let shares = shares.into_iter().map(|share| share.to_text()).collect();
        Ok(Initialized { shares, root_token, audit_public_key, store_id })
    }

    /// Whether a share could be one of those that are missing: of this seal, and not given yet. Whoever has none of them
    /// learns that here, and takes no place from those who have.
    pub(super) fn judge_share(&self, share: &SecretBytes) -> Result<(), Error> {
        let phase = self.phase.load();
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.expire(self.clock.now());
        Ok(progress.judge(share, phase.sealed()?)?)
    }

    pub(super) async fn submit_share(&self, share: &SecretBytes) -> Result<(), Error> {
        let mut held = self.lifecycle.lock().await;
        let record = self.phase.load().sealed()?.clone();
        let step = {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.submit(&self.options.seals, share, &record, self.clock.now())?
        };
        match step {
            Step::More { .. } => Ok(()),
            Step::Complete(root) => self.open(&mut held, record, root).await,
        }
    }

    /// Forgets the keys. Requests that have them already finish.
    pub(super) async fn seal(&self) -> Result<(), Error> {
        let mut held = self.lifecycle.lock().await;
        self.unsealed()?;
        self.close(&mut held).await;
        Ok(())
    }

    /// A new key term. `by`: the request, or the act of the server's own, that it is part of.
    pub(super) async fn rotate(&self, by: RequestId) -> Result<u32, Error> {
        let _one = self.lifecycle.lock().await;
        Ok(self.unsealed()?.keyring.rotate(by).await?)
    }

    /// Prepares another seal with another root key. Nothing is switched before [`Core::confirm_rekey`] has seen that the
    /// new shares arrived: shares that got lost on their way would be the end of the store at the next restart. A seal
    /// without shares needs no confirmation: it was opened already.
    pub(super) async fn rekey(
        &self,
        config: SealConfig,
        proof: &[SecretBytes],
        by: RequestId,
    ) -> Result<Vec<SecretBytes>, Error> {
        let mut held = self.lifecycle.lock().await;
        let unsealed = self.unsealed()?;
        let current = unsealed.seal.load_full();
        self.options.seals.prove_right(&current, proof)?;

        let new_root = Key::random(&*self.entropy)?;
        let seals = &self.options.seals;
        let (record, shares) = seals.create(config, &new_root, current.store, &*self.entropy)?;
        if record.kind.by_shares {
            held.pending = Some(PendingRekey { root: new_root, record, since: self.clock.now() });
        } else {
            self.switch(&mut held, new_root, record, by).await?;
        }
        Ok(shares.into_iter().map(|share| share.to_text()).collect())
    }

    /// Switches to the prepared seal once enough of its shares were shown.
    pub(super) async fn confirm_rekey(&self, shares: &[SecretBytes], by: RequestId) -> Result<(), Error> {
        let mut held = self.lifecycle.lock().await;
        held.expire(self.clock.now());
        let Some(pending) = &held.pending else {
            return Err(Error::NoSuch("a rekey to confirm; one ends by itself after an hour".to_owned()));
        };
        self.options.seals.open_with_shares(&pending.record, shares)?;
        match held.pending.take() {
            Some(PendingRekey { root, record, .. }) => self.switch(&mut held, root, record, by).await,
            None => Ok(()),
        }
    }

    /// What people began and nobody ended: shares towards an unseal, a rekey that was not confirmed.
    pub(super) async fn expire(&self) {
        let now = self.clock.now();
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).expire(now);
        self.lifecycle.lock().await.expire(now);
    }

    async fn switch(
        &self,
        held: &mut Held,
        new_root: Key,
        record: SealRecord,
        by: RequestId,
    ) -> Result<(), Error> {
        let unsealed = self.unsealed()?;
        unsealed.keyring.rekey(new_root, record.encode(), by).await?;
        unsealed.seal.store(Arc::new(record));
        held.pending = None;
        Ok(())
    }

    /// From a root key to a serving core. On any error the server stays sealed.
    async fn open(&self, held: &mut Held, record: SealRecord, root: Key) -> Result<(), Error> {
        let store_id = record.store;
        let bytes = self.store.get(KEYRING_KEY).await.map_err(BarrierError::from)?;
        let bytes = bytes.ok_or_else(|| Error::Internal("the keyring is missing".to_owned()))?;
        let keyring = Keyring::open(&root, store_id, &bytes.value)?;
        let (store, applied) = (Arc::clone(&self.store), Arc::clone(&self.applied));
        let failed = Arc::clone(&self.failed);
        let (entropy, clock) = (Arc::clone(&self.entropy), Arc::clone(&self.clock));
        let barrier = Barrier::open(
            store,
            store_id,
            keyring,
            Arc::clone(&entropy),
            Arc::clone(&clock),
            applied,
            failed,
        )
        .await?;
        let signer = SigningKey::from_seed(&barrier.purpose(Purpose::AuditSign))?;
        let note = self.refuse_rollback(held, &barrier, &signer.public_key()).await?;

        let revocations = Revocations::load(barrier.view("sys/tokens"), clock.steady()).await?;
        self.doubt_clock(revocations.latest());
        let token_key = barrier.purpose(Purpose::Token);
        let unsealed = Arc::new(Unsealed {
            seal: ArcSwap::from_pointee(record),
            tokens: Tokens::new(token_key, store_id, revocations, Arc::clone(&entropy)),
            redactor: Redactor::new(&barrier.purpose(Purpose::AuditMac)),
            methods: self.methods.open(&barrier, &entropy)?,
            policy: PolicyStore::load(barrier.view("sys/policy")).await?,
            mounts: Mounts::load(&barrier, &clock, &entropy).await?,
            wrapping: Wrapping::new(barrier.view("sys/wrapping"), Arc::clone(&entropy)),
            leases: Leases::load(barrier.view("sys/leases"), Arc::clone(&clock)).await?,
            keyring: StoredKeyring::new(Arc::clone(&barrier), root),
            barrier,
        });
        end_undelivered(held, &unsealed.leases).await?;
        self.resolve_intents(held, &unsealed.barrier).await?;
        let loss_accepted = !note.is_empty();
        self.start_signing(&unsealed.barrier, signer, note).await;
        held.signed = true;
        if loss_accepted {
            // Once is enough: from here on this log is the one that the store knows.
            unsealed.barrier.note_log().await?;
        }
        self.enter(Phase::Unsealed(unsealed));
        tracing::info!(%store_id, "unsealed");
        Ok(())
    }

    /// Gives each write that the last run left without an outcome its end, from the store. A crash in here does no harm:
    /// who has a line is settled, who has none is asked for again, and the store keeps the answer until the line is durable.
    async fn resolve_intents(&self, held: &mut Held, barrier: &Barrier) -> Result<(), Error> {
        self.applied.keep_inherited(|id| held.unresolved.iter().any(|intent| intent.request_id == *id));
        while let Some(intent) = held.unresolved.first() {
            let recovery = match barrier.was_applied(&intent.request_id) {
                true => Recovery::Applied,
                false => Recovery::NotApplied,
            };
            record::recovered(self, intent, recovery).await?;
            tracing::info!(
                request_id = %intent.request_id, operation = intent.operation, recovered = recovery.as_str(),
                "the last run ended before the outcome of this request was recorded"
            );
            held.unresolved.remove(0);
        }
        Ok(())
    }

    /// From here on the log is signed, and its checkpoints say how far the data is.
    async fn start_signing(&self, barrier: &Arc<Barrier>, signer: SigningKey, note: String) {
        // Weak: the log must not keep the keys alive after a seal.
        let barrier = Arc::downgrade(barrier);
        let last = std::sync::Mutex::new(StoreState::default());
        let state = move || {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(barrier) = barrier.upgrade() {
                let state = barrier.state();
                *last = StoreState { batch_seq: state.batch_seq, set_digest: state.digest };
            }
            *last
        };
        self.audit.unsealed(signer, Box::new(state), note).await;
    }

    /// To sealed, whatever happens.
    async fn close(&self, held: &mut Held) {
        let Ok(unsealed) = self.unsealed() else { return };
        held.pending = None;
        // The root key at once; the rest with the last request that has it.
        unsealed.keyring.forget();
        let record = unsealed.seal.load_full();
        self.enter(Phase::Sealed(SealRecord::clone(&record)));
        // What is on record by now stays known, also if nothing is written after it.
        if let Err(error) = unsealed.barrier.note_log().await {
            tracing::warn!(%error, "how far the audit log is could not be noted in the store");
        }
        unsealed.barrier.stop().await;
        self.audit.sealed().await;
        tracing::info!("sealed");
    }

    /// The way out: everything acknowledged is durable, the log ends with a checkpoint.
    pub async fn stop(&self) {
        let mut held = self.lifecycle.lock().await;
        self.close(&mut held).await;
        self.audit.close().await;
    }
}

impl Unsealed {
    fn audit_signer(&self) -> Result<SigningKey, Error> {
        Ok(SigningKey::from_seed(&self.barrier.purpose(Purpose::AuditSign))?)
    }
}

/// Requests that the last run left without an outcome were not answered: what they issued nobody has. It is marked before
/// they get their end in the log, after which nobody would look for it any more.
async fn end_undelivered(held: &Held, leases: &Leases) -> Result<(), BarrierError> {
    let ids = held.unresolved.iter().map(|intent| intent.request_id);
    let undelivered: Vec<RequestId> = ids.filter(|id| leases.find(*id).is_ok()).collect();
    if !undelivered.is_empty() {
        tracing::info!(leases = undelivered.len(), "ending what the last run issued and could not deliver");
    }
    leases.end(&undelivered, Cause::Undelivered, None).await
}

async fn read_seal(store: &dyn Store) -> Result<Option<SealRecord>, Error> {
    let found = store.get(SEAL_KEY).await.map_err(BarrierError::from)?;
    found
        .map(|record| SealRecord::decode(&record.value))
        .transpose()
        .map_err(|error| Error::Internal(error.to_string()))
}

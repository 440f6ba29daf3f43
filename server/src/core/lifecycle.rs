//! Init, unseal, seal, rotate, rekey: the ways between the three states. One at a time, under the lifecycle lock.

use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwap;

use super::{Core, Error, Phase, Unsealed};
use crate::{
    audit::Broker,
    auth::userpass::Userpass,
    barrier::{Barrier, Keyring, Kind, Purpose},
    clock::Clock,
    crypto::{Entropy, Key, MacKey, PublicKey, SigningKey},
    engines::Mounts,
    model::{Invalid, SecretBytes, StoreId},
    policy::store::PolicyStore,
    seal::{self, FileSeal, Progress, SealConfig, SealRecord, Step},
    storage::{Batch, Condition, Store, StoreKey},
    telemetry::Metrics,
    tokens::{Revocations, Tokens},
};

/// What the configuration decides about keys.
pub struct Options {
    /// Where a file seal keeps its key.
    pub key_file: Option<FileSeal>,
    /// Break-glass: start although the data is older than the audit log.
    pub accept_rollback: bool,
}

/// What init gives out, once.
pub struct Initialized {
    /// To be spread among people.
    pub shares: Vec<SecretBytes>,
    /// For the first hour.
    pub root_token: SecretBytes,
    /// For `audit verify`.
    pub audit_public_key: PublicKey,
    /// Of the new store.
    pub store_id: StoreId,
}

impl Core {
    /// Looks at the store and enters the phase it is in; a file seal opens it at once.
    ///
    /// # Errors
    /// The store cannot be read, or a file seal's key does not fit.
    pub async fn start(
        store: Arc<dyn Store>,
        audit: Arc<Broker>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: Arc<Metrics>,
        options: Options,
    ) -> Result<Arc<Core>, Error> {
        let record = read_seal(&*store).await?;
        let core = Arc::new(Core {
            store,
            audit,
            clock,
            entropy,
            metrics,
            options,
            phase: ArcSwap::from_pointee(Phase::Uninitialized),
            phase_changes: tokio::sync::watch::Sender::new(()),
            progress: std::sync::Mutex::new(Progress::new()),
            lifecycle: tokio::sync::Mutex::new(()),
        });
        if let Some(record) = record {
            core.enter(Phase::Sealed(record.clone()));
            if let (SealConfig::File, Some(file)) = (record.config(), &core.options.key_file) {
                let root = seal::open_with_file(&record, file)?;
                core.open(record, root).await?;
            }
        } else {
            core.enter(Phase::Uninitialized);
        }
        Ok(core)
    }

    pub(super) async fn initialize(&self, config: SealConfig) -> Result<Initialized, Error> {
        let _one = self.lifecycle.lock().await;
        if !matches!(**self.phase.load(), Phase::Uninitialized) {
            return Err(Error::AlreadyInitialized);
        }
        let entropy = &*self.entropy;
        let now = self.clock.now();
        let mut id = [0; 16];
        entropy.fill(&mut id).map_err(internal)?;
        let store_id = StoreId(id);
        let root = Key::random(entropy).map_err(internal)?;
        let keyring = Keyring::create(entropy, now)?;
        let (record, shares) = seal::create(config, &root, store_id, self.options.key_file.as_ref(), entropy)?;

        let (seal_key, keyring_key) = (vec![Kind::Seal as u8], vec![Kind::Keyring as u8]);
        let batch = Batch {
            conditions: vec![(seal_key.clone(), Condition::Absent), (keyring_key.clone(), Condition::Absent)],
            puts: vec![(seal_key, record.encode()), (keyring_key, keyring.seal(&root, store_id, entropy)?)],
            deletes: Vec::new(),
        };
        self.store.commit(batch).await.map_err(|error| Error::Internal(error.to_string()))?;

        // Open it once whatever the seal: the default mount and the root token need the keys, and what cannot be opened
        // should be found out now. A Shamir seal closes again, so that the shares are tried out by the first unseal.
        self.open(record.clone(), root).await?;
        let unsealed = self.unsealed()?;
        let (root_token, _) = unsealed.tokens.mint_root(now)?;
        let audit_public_key = unsealed.audit_signer()?.public_key();
        if !matches!(record.config(), SealConfig::File) {
            self.close().await;
        }
        let shares = shares.into_iter().map(|share| share.into_text()).collect();
        Ok(Initialized { shares, root_token, audit_public_key, store_id })
    }

    pub(super) async fn submit_share(&self, share: &SecretBytes) -> Result<(), Error> {
        let _one = self.lifecycle.lock().await;
        let record = match &**self.phase.load() {
            Phase::Uninitialized => return Err(Error::NotInitialized),
            Phase::Unsealed(_) => return Err(Error::NotSealed),
            Phase::Sealed(record) => record.clone(),
        };
        let step = {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.submit(share, &record, self.clock.now())?
        };
        match step {
            Step::More { .. } => Ok(()),
            Step::Complete(root) => self.open(record, root).await,
        }
    }

    /// Forgets the keys. Requests that have them already finish.
    pub(super) async fn seal(&self) -> Result<(), Error> {
        let _one = self.lifecycle.lock().await;
        self.unsealed()?;
        self.close().await;
        Ok(())
    }

    pub(super) async fn rotate(&self) -> Result<u32, Error> {
        let _one = self.lifecycle.lock().await;
        let unsealed = self.unsealed()?;
        Ok(unsealed.barrier.rotate(&unsealed.root).await?)
    }

    /// Moves to another seal. The root key and everything below it stay; only how it is kept changes.
    pub(super) async fn rekey(&self, config: SealConfig, shares: &[SecretBytes]) -> Result<Vec<SecretBytes>, Error> {
        let _one = self.lifecycle.lock().await;
        let unsealed = self.unsealed()?;
        let current = unsealed.seal.load_full();
        self.prove_right_to_rekey(&current, shares)?;

        let file = self.options.key_file.as_ref();
        let (record, shares) = seal::create(config, &unsealed.root, current.store_id(), file, &*self.entropy)?;
        unsealed.barrier.replace_seal_record(record.encode()).await?;
        unsealed.seal.store(Arc::new(record));
        Ok(shares.into_iter().map(|share| share.into_text()).collect())
    }

    /// A Shamir seal is moved only by as many shares as open it; of a file seal the running server has the key.
    fn prove_right_to_rekey(&self, current: &SealRecord, shares: &[SecretBytes]) -> Result<(), Error> {
        match current.config() {
            SealConfig::Shamir { .. } => seal::open_with_shares(current, shares, self.clock.now()).map(drop)?,
            SealConfig::File if shares.is_empty() => {}
            SealConfig::File => {
                let problem = "are given, but the present seal is a key file; expected none";
                return Err(Invalid::new("current_shares", problem).into());
            }
        }
        Ok(())
    }

    /// From a root key to a serving core. On any error the server stays sealed.
    async fn open(&self, record: SealRecord, root: Key) -> Result<(), Error> {
        let store_id = record.store_id();
        let bytes = self.store.get(&[Kind::Keyring as u8]).await.map_err(|error| Error::Internal(error.to_string()))?;
        let bytes = bytes.ok_or_else(|| Error::Internal("the keyring is missing".to_owned()))?;
        let keyring = Keyring::open(&root, store_id, &bytes.value)?;
        let (store, entropy, clock) = (Arc::clone(&self.store), Arc::clone(&self.entropy), Arc::clone(&self.clock));
        let barrier = Barrier::open(store, store_id, keyring, Arc::clone(&entropy), Arc::clone(&clock)).await?;
        self.refuse_rollback(&barrier)?;

        let revocations = Revocations::load(barrier.view("sys/tokens"), clock.now()).await?;
        let token_key = barrier.purpose(Purpose::Token)?;
        let unsealed = Arc::new(Unsealed {
            seal: ArcSwap::from_pointee(record),
            root,
            tokens: Tokens::new(token_key, store_id, revocations, Arc::clone(&entropy)),
            userpass: Userpass::new(barrier.view("sys/auth/userpass"), entropy)?,
            policy: PolicyStore::load(barrier.view("sys/policy")).await?,
            mounts: Mounts::load(&barrier).await?,
            barrier,
        });
        self.start_signing(&unsealed).await?;
        self.enter(Phase::Unsealed(unsealed));
        tracing::info!(%store_id, "unsealed");
        Ok(())
    }

    /// From here on the log is signed, and its checkpoints say how far the data is.
    async fn start_signing(&self, unsealed: &Unsealed) -> Result<(), Error> {
        let barrier = Arc::clone(&unsealed.barrier);
        let mac = MacKey::new(&barrier.purpose(Purpose::AuditMac)?);
        self.audit.unsealed(unsealed.audit_signer()?, mac, Box::new(move || barrier.state())).await?;
        Ok(())
    }

    fn refuse_rollback(&self, barrier: &Barrier) -> Result<(), Error> {
        let data = barrier.state().batch_seq;
        match self.audit.last_checkpoint() {
            Some(log) if log.batch_seq > data && self.options.accept_rollback => {
                tracing::warn!(log = log.batch_seq, data, "the data is older than the audit log; accepted by --accept-rollback");
                Ok(())
            }
            Some(log) if log.batch_seq > data => Err(Error::RolledBack { log: log.batch_seq, data }),
            _ => Ok(()),
        }
    }

    /// To sealed, whatever happens.
    async fn close(&self) {
        let Ok(unsealed) = self.unsealed() else { return };
        let record = unsealed.seal.load_full();
        self.enter(Phase::Sealed(SealRecord::clone(&record)));
        unsealed.barrier.stop().await;
        self.audit.sealed().await;
        tracing::info!("sealed");
    }

    /// The way out: everything acknowledged is durable, the log ends with a checkpoint.
    pub async fn stop(&self) {
        let _one = self.lifecycle.lock().await;
        self.close().await;
        self.audit.stop().await;
    }
}

impl Unsealed {
    fn audit_signer(&self) -> Result<SigningKey, Error> {
        SigningKey::from_seed(&self.barrier.purpose(Purpose::AuditSign)?).map_err(internal)
    }
}

async fn read_seal(store: &dyn Store) -> Result<Option<SealRecord>, Error> {
    let key: StoreKey = vec![Kind::Seal as u8];
    let found = store.get(&key).await.map_err(|error| Error::Internal(error.to_string()))?;
    Ok(found.map(|record| SealRecord::decode(&record.value)).transpose()?)
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(error.to_string())
}

//! Password hashes: argon2id (RFC 9106) in PHC strings. The only user of `argon2`. A hash costs 19 MiB and tens of ms of
//! a core, so at most one a core runs at a time and a bounded number waits; knows nothing of users.

use std::{num::NonZero, sync::Arc, thread::available_parallelism, time::Duration};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version,
    password_hash::phc::{Output, ParamsString, PasswordHash, Salt},
};
use tokio::{sync::Semaphore, task::spawn_blocking};
use zeroize::Zeroizing;

use crate::{
    crypto::{CryptoError, Entropy},
    model::SecretBytes,
};

/// Memory in KiB and passes on one lane: what OWASP's Password Storage Cheat Sheet asks of argon2id at least.
const COST: Cost = Cost { memory: 19 << 10, passes: 2 };
const SALT: usize = 16;
const HASH: usize = 32;
/// Hashes that may wait for each core: the last of them waits for about a second.
const WAITING_PER_CORE: usize = 16;
/// Hashes at once on a large machine: with those that wait, an eighth of the requests that may be in progress.
const MOST_AT_ONCE: usize = 4;
/// When a queue that is full now has room again, most likely.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
pub(super) struct Cost {
    pub(super) memory: u32,
    pub(super) passes: u32,
}

/// Hashes and verifies, on half of the cores at most.
pub(super) struct Hasher {
    argon2: Argon2<'static>,
    running: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    #[cfg(test)]
    runs: std::sync::atomic::AtomicUsize,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum HashError {
    /// Too many wait already.
    Busy { retry_after: Duration },
    /// No randomness, no memory, or the hash of a future version.
    Failed(CryptoError),
}

impl From<CryptoError> for HashError {
    fn from(error: CryptoError) -> Self {
        Self::Failed(error)
    }
}

impl Hasher {
    pub(super) fn new() -> Result<Self, CryptoError> {
        Self::with_cost(COST)
    }

    pub(super) fn with_cost(cost: Cost) -> Result<Self, CryptoError> {
        let params = Params::new(cost.memory, cost.passes, 1, Some(HASH)).map_err(|_| CryptoError)?;
        // Half of the machine at most: anybody can ask for a hash, and reads must continue meanwhile.
        let cores = available_parallelism().map_or(1, NonZero::get).div_ceil(2).min(MOST_AT_ONCE);
        Ok(Self {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            running: Arc::new(Semaphore::new(cores)),
            queue: Arc::new(Semaphore::new(cores * (1 + WAITING_PER_CORE))),
            #[cfg(test)]
            runs: Default::default(),
        })
    }

    /// The PHC string of a password, with a fresh salt.
    pub(super) async fn hash(
        &self,
        password: SecretBytes,
        entropy: &dyn Entropy,
    ) -> Result<Zeroizing<String>, HashError> {
        let mut salt = [0; SALT];
        entropy.fill(&mut salt)?;
        let hash = self.run(move |argon2| argon2.hash_password_with_salt(password.expose(), &salt)).await?;
        Ok(Zeroizing::new(hash.map_err(|_| CryptoError)?.to_string()))
    }

    /// Whether `password` is the one of `hash`. Costs what `hash` says it costs.
    pub(super) async fn fits(
        &self,
        password: SecretBytes,
        hash: Zeroizing<String>,
    ) -> Result<bool, HashError> {
        let parsed = PasswordHash::new(&hash).map_err(|_| CryptoError)?;
        match self.run(move |argon2| argon2.verify_password(password.expose(), &parsed)).await? {
            Ok(()) => Ok(true),
            Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
            Err(_) => Err(CryptoError.into()),
        }
    }

    /// A hash that looks like any other and is that of no password: both its halves are random.
    pub(super) fn of_nothing(&self, entropy: &dyn Entropy) -> Result<Zeroizing<String>, CryptoError> {
        let (mut salt, mut hash) = ([0; SALT], [0; HASH]);
        entropy.fill(&mut salt)?;
        entropy.fill(&mut hash)?;
        let phc = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(self.argon2.params()).map_err(|_| CryptoError)?,
            salt: Some(Salt::new(&salt).map_err(|_| CryptoError)?),
            hash: Some(Output::new(&hash).map_err(|_| CryptoError)?),
        };
        Ok(Zeroizing::new(phc.to_string()))
    }

    /// Runs `work` off the async threads. A caller who goes away does not give up the slot: the work continues without
    /// them, and 19 MiB with it.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'static>) -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let busy = |_| HashError::Busy { retry_after: RETRY_AFTER };
        let place = Arc::clone(&self.queue).try_acquire_owned().map_err(busy)?;
        let slot = Arc::clone(&self.running).acquire_owned().await.map_err(|_| CryptoError)?;
        let argon2 = self.argon2.clone();
        #[cfg(test)]
        self.runs.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let done = spawn_blocking(move || {
            let answer = work(&argon2);
            drop((slot, place));
            answer
        });
        done.await.map_err(|_| CryptoError.into())
    }

    /// No hash begins for as long as it is held.
    #[cfg(test)]
    pub(super) async fn hold(&self) -> tokio::sync::OwnedSemaphorePermit {
        let all = u32::try_from(self.running.available_permits()).unwrap();
        Arc::clone(&self.running).acquire_many_owned(all).await.unwrap()
    }

    /// How many hashes were made.
    #[cfg(test)]
    pub(super) fn runs(&self) -> usize {
        self.runs.load(std::sync::atomic::Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemEntropy;

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::from(text.as_bytes())
    }

    #[tokio::test]
    async fn the_right_password_fits_and_no_other() {
        let hasher = Hasher::new().unwrap();
        let hash = hasher.hash(secret("correct horse"), &SystemEntropy).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", *hash);
        assert!(hasher.fits(secret("correct horse"), hash.clone()).await.unwrap());
        assert!(!hasher.fits(secret("correct horsf"), hash.clone()).await.unwrap());
        assert!(!hasher.fits(secret(""), hash).await.unwrap());
    }

    #[tokio::test]
    async fn the_hash_of_nothing_looks_like_any_other() {
        let hasher = Hasher::with_cost(Cost { memory: 64, passes: 1 }).unwrap();
        let nothing = hasher.of_nothing(&SystemEntropy).unwrap();
        let real = hasher.hash(secret("password"), &SystemEntropy).await.unwrap();
        let shape = |phc: &str| phc.split('$').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(shape(&nothing)[..4], shape(&real)[..4]);
        assert_eq!(nothing.len(), real.len());
        assert!(!hasher.fits(secret("password"), nothing).await.unwrap());
    }

    /// The hash of the reference implementation: `echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1 -l 32`.
    #[tokio::test]
    async fn hashes_of_others_are_read() {
        let phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let hasher = Hasher::new().unwrap();
        assert!(hasher.fits(secret("password"), Zeroizing::new(phc.to_owned())).await.unwrap());
    }

    /// Whoever comes when the queue is full is sent away at once, and room is made again.
    #[tokio::test]
    async fn the_queue_is_bounded() {
        let hasher = Hasher::with_cost(Cost { memory: 64, passes: 1 }).unwrap();
        let all = hasher.queue.available_permits();
        let held = Arc::clone(&hasher.queue).acquire_many_owned(u32::try_from(all).unwrap()).await.unwrap();
        let refused = hasher.hash(secret("password"), &SystemEntropy).await;
        assert!(matches!(refused, Err(HashError::Busy { retry_after }) if !retry_after.is_zero()));
        drop(held);
        hasher.hash(secret("password"), &SystemEntropy).await.unwrap();
        assert_eq!(hasher.queue.available_permits(), all);
    }
}

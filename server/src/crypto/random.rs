//! Randomness as a parameter, so that formats can have reproducible vectors.

use ring::rand::{SecureRandom, SystemRandom};

use super::CryptoError;

/// Where random bytes come from.
pub trait Entropy: Send + Sync {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// There is none to be had.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), CryptoError>;
}

/// getrandom(2).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), CryptoError> {
        SystemRandom::new().fill(bytes).map_err(|_| CryptoError)
    }
}

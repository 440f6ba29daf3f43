//! 16 bytes that nobody else has had, without a system call each: eight random ones of this process, and a counter.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{CryptoError, Entropy};

/// See the module. They are names: whoever knows one can tell others.
pub struct Unique {
    process: [u8; 8],
    next: AtomicU64,
}

impl Unique {
    /// # Errors
    /// No randomness.
    pub fn new(entropy: &dyn Entropy) -> Result<Self, CryptoError> {
        let mut process = [0; 8];
        entropy.fill(&mut process)?;
        Ok(Self { process, next: AtomicU64::new(1) })
    }

    pub fn make(&self) -> [u8; 16] {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        (u128::from(u64::from_be_bytes(self.process)) << 64 | u128::from(count)).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::crypto::SystemEntropy;

    #[test]
    fn neither_a_process_nor_another_one_makes_the_same_again() {
        let processes = [(); 2].map(|()| Unique::new(&SystemEntropy).unwrap());
        let made = processes.iter().flat_map(|process| (0..100).map(|_| process.make()));
        assert_eq!(made.collect::<HashSet<_>>().len(), 200);
    }
}

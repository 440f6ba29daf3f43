//! What requests are called: unique without a system call each, eight random bytes of this process and a counter.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    crypto::{CryptoError, Entropy},
    model::RequestId,
};

pub(super) struct RequestIds {
    process: [u8; 8],
    next: AtomicU64,
}

impl RequestIds {
    pub(super) fn new(entropy: &dyn Entropy) -> Result<Self, CryptoError> {
        let mut process = [0; 8];
        entropy.fill(&mut process)?;
        Ok(Self { process, next: AtomicU64::new(1) })
    }

    pub(super) fn make(&self) -> RequestId {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        RequestId((u128::from(u64::from_be_bytes(self.process)) << 64 | u128::from(count)).to_be_bytes())
    }
}

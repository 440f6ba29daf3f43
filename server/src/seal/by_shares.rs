//! The seal that people open: the seal key is split into shares, a threshold of which gives it back. It needs no settings.

use super::{
    Kind, Seal, SealConfig, SealError, SealRecord, Share, ShareRejected, new_set, same, shamir, unwrap, wrap,
};
use crate::{
    crypto::{Entropy, Key},
    model::StoreId,
};

/// The line of `KINDS`.
pub(super) const KIND: Kind = Kind {
    name: "shamir",
    description: "shares held by people; a threshold of them unseals",
    number: 1,
    by_shares: true,
    build: |_| Box::new(ByShares),
};

/// How often all new shares are tried in random groups before they are given out.
const PROOF_ROUNDS: usize = 3;

struct ByShares;

impl Seal for ByShares {
    fn kind(&self) -> Kind {
        KIND
    }

    fn wrap(
        &self,
        config: SealConfig,
        root: &Key,
        store: StoreId,
        entropy: &dyn Entropy,
    ) -> Result<(SealRecord, Vec<Share>), SealError> {
        let SealConfig::Shamir { shares, threshold } = config else {
            return Err(SealError::OtherKind(KIND.name));
        };
        let (key, set) = (Key::random(entropy)?, new_set(entropy)?);
        let wrapped = wrap(&key, root, store, entropy)?;
        let record = SealRecord { kind: KIND, shares, threshold, set, store, wrapped };
        let points = shamir::split(key.expose(), shares, threshold, entropy)?;
        Ok((record, points.into_iter().map(|point| Share { set, threshold, point }).collect()))
    }

    fn combine(&self, record: &SealRecord, shares: &[Share]) -> Result<Key, ShareRejected> {
        let points: Vec<_> = shares.iter().map(|share| &share.point).collect();
        let key = Key::from_bytes(&shamir::combine(&points));
        unwrap(&key, record).map_err(|_| ShareRejected::WrongCombination)
    }

    /// Tries every share at least once a round, in random groups of exactly the threshold.
    fn prove(
        &self,
        record: &SealRecord,
        shares: &mut [Share],
        root: &Key,
        entropy: &dyn Entropy,
    ) -> Result<(), SealError> {
        let group = usize::from(record.threshold);
        for _ in 0..PROOF_ROUNDS {
            shamir::shuffle(shares, entropy)?;
            let last = shares.get(shares.len().saturating_sub(group)..).unwrap_or_default();
            for chosen in shares.chunks_exact(group).chain([last]) {
                same(&self.combine(record, chosen).map_err(|_| SealError::ProofFailed)?, root)?;
            }
        }
        Ok(())
    }
}

//! The ledger: where the store stands. Number of the last batch, digest of the records after it, what was sealed under
//! which term, which requests are applied, and how far the audit log was. Each batch carries it as one more record. No queue
//! and no task: what is written, and when, is the committer's business.

use std::collections::HashSet;

use super::{BarrierError, DIGEST, DIGEST_KEY, Records, digest::SetDigest};
use crate::{
    crypto::{CryptoError, Digest},
    model::{LogPoint, RequestId},
    storage::{Record, Revision},
};

/// Where the store stands: enough to notice that it was taken back to an earlier state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestState {
    /// Number of the last batch; 0 before the first.
    pub batch_seq: u64,
    /// Keyed sum over all records after it.
    pub digest: Digest,
}

/// The commit that wrote a batch: before its first one a store has one more, its init.
pub fn commit_of(batch_seq: u64) -> Revision {
    Revision(batch_seq.saturating_add(1))
}

/// What the digest's record holds: `version u8 | batch_seq u64 | digest 32 | term u32 | records sealed under it u64 | number
/// of a record of the audit log u64 | its hash 32 | request ids 16 each`. The ids are those of [`Applied`], and not kept in
/// here.
///
/// Before it had a version it had nothing of the log either. Its first byte was the highest of a batch number then, so 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) state: DigestState,
    term: u32,
    sealed: u64,
    /// The log was durable up to there when this was written: a log without that record is not the whole one.
    pub(super) log: LogPoint,
    /// The revision of the digest's record; none before the first batch.
    pub(super) revision: Option<Revision>,
}

/// The first byte of a ledger that knows of the log.
const WITH_LOG: u8 = 1;

/// How a group changes sums of records.
#[derive(Clone, Copy, Default)]
pub(super) struct Delta {
    pub(super) minus: SetDigest,
    pub(super) plus: SetDigest,
}

impl Ledger {
    /// The ledger of a store that is being created: there is no batch yet, but the request that made it is applied.
    pub(super) fn first(term: u32) -> Self {
        Self { state: DigestState::default(), term, sealed: 1, log: LogPoint::default(), revision: None }
    }

    /// Reads it from the store. An empty store has none yet; if it is missing elsewhere, somebody removed it.
    pub(super) async fn read(records: &Records) -> Result<(Self, HashSet<RequestId>), BarrierError> {
        let corrupt = || BarrierError::Corrupt { kind: DIGEST, namespace: String::from("the store") };
        match records.store.get(DIGEST_KEY).await? {
            Some(Record { value, revision }) => {
                let content = records.open(DIGEST_KEY, &value).map_err(|_| corrupt())?.into_content();
                let (ledger, applied) = Self::decode(content.expose()).map_err(|_| corrupt())?;
                Ok((Self { revision: Some(revision), ..ledger }, applied))
            }
            None if records.store.scan(&[], Some(DIGEST_KEY), 1).await?.is_empty() => {
                Ok((Self { sealed: 0, ..Self::first(0) }, HashSet::new()))
            }
            None => Err(corrupt()),
        }
    }

    /// The same elsewhere.
    pub(super) fn in_state(self, state: DigestState) -> Self {
        Self { state, ..self }
    }

    pub(super) fn digest(&self) -> SetDigest {
        SetDigest::from_bytes(&self.state.digest)
    }

    /// How many records were written under `term`.
    pub(super) fn sealed_under(&self, term: u32) -> u64 {
        if term == self.term { self.sealed } else { 0 }
    }

    /// After one more batch with `puts` records and its own, with the log as far as `log`, if that is known.
    pub(super) fn after(&self, delta: Delta, term: u32, puts: usize, log: LogPoint) -> Self {
        let puts = u64::try_from(puts).unwrap_or(u64::MAX).saturating_add(1);
        Self {
            state: DigestState {
                batch_seq: self.state.batch_seq.saturating_add(1),
                digest: self.digest().minus(delta.minus).plus(delta.plus).to_bytes(),
            },
            term,
            sealed: self.sealed_under(term).saturating_add(puts),
            log: if log == LogPoint::default() { self.log } else { log },
            revision: self.revision,
        }
    }

    pub(super) fn encode(&self, applied: &HashSet<RequestId>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + 8 + 32 + 4 + 8 + 8 + 32 + 16 * applied.len());
        bytes.push(WITH_LOG);
        bytes.extend_from_slice(&self.state.batch_seq.to_be_bytes());
        bytes.extend_from_slice(&self.state.digest);
        bytes.extend_from_slice(&self.term.to_be_bytes());
        bytes.extend_from_slice(&self.sealed.to_be_bytes());
        bytes.extend_from_slice(&self.log.seq.to_be_bytes());
        bytes.extend_from_slice(&self.log.head);
        applied.iter().for_each(|id| bytes.extend_from_slice(&id.0));
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, HashSet<RequestId>), CryptoError> {
        let (bytes, with_log) = match bytes {
            [0, ..] => (bytes, false),
            [WITH_LOG, rest @ ..] => (rest, true),
            _ => return Err(CryptoError),
        };
        let (batch_seq, rest) = bytes.split_first_chunk::<8>().ok_or(CryptoError)?;
        let (digest, rest) = rest.split_first_chunk::<32>().ok_or(CryptoError)?;
        let (term, rest) = rest.split_first_chunk::<4>().ok_or(CryptoError)?;
        let (sealed, rest) = rest.split_first_chunk::<8>().ok_or(CryptoError)?;
        let (log, rest) = if with_log { log_point(rest)? } else { (LogPoint::default(), rest) };
        let (applied, []) = rest.as_chunks::<16>() else { return Err(CryptoError) };
        let ledger = Self {
            state: DigestState { batch_seq: u64::from_be_bytes(*batch_seq), digest: *digest },
            term: u32::from_be_bytes(*term),
            sealed: u64::from_be_bytes(*sealed),
            log,
            revision: None,
        };
        Ok((ledger, applied.iter().copied().map(RequestId).collect()))
    }
}

impl Delta {
    pub(super) fn and(self, minus: SetDigest, plus: SetDigest) -> Self {
        Self { minus: self.minus.plus(minus), plus: self.plus.plus(plus) }
    }
}

fn log_point(bytes: &[u8]) -> Result<(LogPoint, &[u8]), CryptoError> {
    let (seq, rest) = bytes.split_first_chunk::<8>().ok_or(CryptoError)?;
    let (head, rest) = rest.split_first_chunk::<32>().ok_or(CryptoError)?;
    Ok((LogPoint { seq: u64::from_be_bytes(*seq), head: *head }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file is a promise: stores of every version open.
    #[test]
    fn the_vectors_open_and_the_newest_is_made_again() {
        let vector: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/ledger.json")).unwrap();
        let bytes = |name: &str| data_encoding::HEXLOWER.decode(vector[name].as_str().unwrap().as_bytes());
        let applied = HashSet::from([RequestId([3; 16])]);
        let ledger = Ledger {
            state: DigestState { batch_seq: 258, digest: [9; 32] },
            term: 2,
            sealed: 77,
            log: LogPoint { seq: 4099, head: [5; 32] },
            revision: None,
        };
        let newest = bytes("with_log").unwrap();
        assert_eq!(Ledger::decode(&newest).unwrap(), (ledger, applied.clone()));
        assert_eq!(ledger.encode(&applied), newest);
        let of_before = Ledger { log: LogPoint::default(), ..ledger };
        assert_eq!(Ledger::decode(&bytes("without_log").unwrap()).unwrap(), (of_before, applied));
        for cut in 0..newest.len() {
            let whole = cut >= 93 && (cut - 93) % 16 == 0;
            assert_eq!(Ledger::decode(&newest[..cut]).is_ok(), whole, "{cut}");
        }
        assert!(Ledger::decode(&[&[2], &newest[1..]].concat()).is_err(), "a later version");
    }

    #[test]
    fn each_batch_says_how_far_the_log_is_known_to_be() {
        let known = LogPoint { seq: 7, head: [3; 32] };
        let after = |ledger: Ledger, log| ledger.after(Delta::default(), 1, 0, log);
        let first = after(Ledger::first(1), LogPoint::default());
        assert_eq!(first.log, LogPoint::default());
        let next = after(first, known);
        assert_eq!(next.log, known);
        assert_eq!(after(next, LogPoint::default()).log, known, "nobody has told yet: what is known stays");
    }
}

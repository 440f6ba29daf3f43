//! The scrub: a walk over the whole store that opens every record and adds up the set digest anew. The committer takes
//! its steps between two groups, so that it is exact although writes go on.

use data_encoding::HEXLOWER;
use tokio::sync::oneshot;

use super::{
    BarrierError, Records,
    digest::{SetDigest, SetMac, is_covered},
    ledger::Ledger,
    record::STORE_KEY,
};
use crate::storage::{Page, StoreKey};

/// Records of one step: 8 MiB at most, which bounds both memory and how long a commit waits.
pub(super) const PAGE: usize = 128;
/// Problems told one by one; the first are what matters.
const MAX_PROBLEMS: usize = 100;

/// What a scrub found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubReport {
    pub records: u64,
    /// The batch up to which the report holds.
    pub batch_seq: u64,
    /// What is wrong, a sentence each, at most 100. Empty = all is well.
    pub problems: Vec<String>,
}

pub(super) type Reply = oneshot::Sender<Result<ScrubReport, BarrierError>>;

/// A walk on its way.
pub(super) struct Scrub {
    reply: Reply,
    /// The last key read.
    cursor: Option<StoreKey>,
    /// Sum over all records up to the cursor.
    sum: SetDigest,
    records: u64,
    problems: Vec<String>,
}

impl Scrub {
    pub(super) fn new(reply: Reply) -> Self {
        Self { reply, cursor: None, sum: SetDigest::default(), records: 0, problems: Vec::new() }
    }

    /// Nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    pub(super) fn cursor(&self) -> Option<&[u8]> {
        self.cursor.as_deref()
    }

    /// Whether the record under `key` has been read; a write to it has to be given to [`Self::adjust`].
    pub(super) fn has_passed(&self, key: &[u8]) -> bool {
        self.cursor().is_some_and(|cursor| key <= cursor)
    }

    /// A group was written that changed the sum over the records already read.
    pub(super) fn adjust(&mut self, minus: SetDigest, plus: SetDigest) {
        self.sum = self.sum.minus(minus).plus(plus);
    }

    pub(super) fn step(&mut self, page: Page, records: &Records, mac: &SetMac) {
        for (key, record) in page {
            self.records += 1;
            self.sum = self.sum.plus(mac.of_value(&key, &record.value));
            self.check(&key, &record.value, records);
            self.cursor = Some(key);
        }
    }

    pub(super) fn finish(mut self, ledger: &Ledger) {
        if self.sum != ledger.digest() {
            self.problem(String::from(
                "the records are not those of the set digest: some are missing, stale or added",
            ));
        }
        let Self { reply, records, problems, .. } = self;
        // The caller may have gone; the report is for nobody else.
        let _gone = reply.send(Ok(ScrubReport { records, batch_seq: ledger.state.batch_seq, problems }));
    }

    pub(super) fn fail(self, error: BarrierError) {
        let _gone = self.reply.send(Err(error));
    }

    fn check(&mut self, key: &[u8], value: &[u8], records: &Records) {
        // Seal and keyring are under the root key, which is not here; the digest's record the committer checks itself.
        if !is_covered(key) {
            return;
        }
        match key {
            [kind, ..] if key.len() == STORE_KEY => {
                if records.open(key, value).is_err() {
                    self.problem(format!("a record of kind {kind} does not open: {}", HEXLOWER.encode(key)));
                }
            }
            _ => self.problem(format!("a record that nobody wrote: {}", HEXLOWER.encode(key))),
        }
    }

    pub(super) fn problem(&mut self, sentence: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(sentence);
        }
    }
}

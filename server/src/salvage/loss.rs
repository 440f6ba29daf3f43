//! What is missing. The digest says whether anything is; which writes it can have been, the store and the audit log say
//! together: each batch holds the ids of its requests, and the log holds what they were about.

use std::{
    collections::{BTreeMap, HashSet},
    io,
};

use super::{Found, report::Lost};
use crate::{
    audit::{Glance, Write},
    barrier::{Account, DIGEST_KEY, DigestState, commit_of},
    crypto::Digest,
    model::RequestId,
    storage::{Revision, sled::Wreck},
};

/// A digest's record that was found.
pub(super) struct Entry {
    pub(super) account: Account,
    /// The commit that wrote it.
    revision: Revision,
    /// Where it stands in the log for the first time.
    lsn: u64,
}

/// All digest's records that are left, by batch.
pub(super) fn accounts(found: &Found<'_>) -> io::Result<Vec<Entry>> {
    let mut entries: BTreeMap<u64, Entry> = BTreeMap::new();
    for place in found.remains.history.get(DIGEST_KEY).into_iter().flatten() {
        let record = found.wreck.record(*place)?;
        if let Some(account) = found.assay.account(&record.value) {
            let entry = Entry { revision: record.revision, lsn: place.lsn, account };
            entries.entry(entry.account.state.batch_seq).or_insert(entry);
        }
    }
    Ok(entries.into_values().collect())
}

/// The state of which these records are all, if it is the last one there was.
pub(super) fn complete(
    digest: Digest,
    newest: Option<&Entry>,
    log: Option<DigestState>,
    acknowledged: Revision,
) -> Option<DigestState> {
    let own = newest.filter(|newest| newest.revision >= acknowledged).map(|newest| newest.account.state);
    let last = own.into_iter().chain(log).max_by_key(|state| state.batch_seq)?;
    // The store may have been a commit or more ahead of the log's last checkpoint.
    let reaches = own.is_some() || commit_of(last.batch_seq) >= acknowledged;
    (reaches && last.digest == digest).then_some(last)
}

/// The writes that can be missing.
pub(super) fn names(wreck: &Wreck, accounts: &[Entry], log: &Glance) -> Vec<Lost> {
    let mut suspects: Vec<Lost> = Vec::new();
    let mut tell = |lost: Lost| {
        if !suspects.contains(&lost) {
            suspects.push(lost);
        }
    };
    let known: HashSet<RequestId> =
        accounts.iter().flat_map(|entry| &entry.account.applied).copied().collect();
    let gaps = wreck.gaps();
    let end = accounts.last().map_or(0, |entry| entry.lsn + 1);
    // What was acknowledged behind the last digest that is left is a gap without an end, and so is what is missing of the
    // last batch: its digest may be there and a record of it not.
    let behind = accounts.last().is_none_or(|entry| entry.revision < wreck.acknowledged());
    let from = wreck.torn().into_iter().chain(behind.then_some(end)).min();
    let windows = gaps.iter().map(|gap| gap.commits).chain(from.map(|from| (from, u64::MAX)));
    for (from, to) in windows {
        let first = accounts.partition_point(|entry| entry.lsn < from);
        let last = accounts.partition_point(|entry| entry.lsn < to);
        let before = first.checked_sub(1).and_then(|index| accounts.get(index));
        let within = accounts.get(first..last).unwrap_or_default();
        let mut previous = before;
        for entry in within {
            let seq = entry.account.state.batch_seq;
            let expected = previous.map_or(seq, |previous| previous.account.state.batch_seq + 1);
            if expected < seq {
                between(previous, Some(entry), &known, log).into_iter().for_each(&mut tell);
            }
            let before = previous.map(|previous| &previous.account.applied);
            let own = entry.account.applied.iter().filter(|id| before.is_none_or(|ids| !ids.contains(id)));
            own.map(|id| named(Some(seq), *id, log)).for_each(&mut tell);
            previous = Some(entry);
        }
        let after = accounts.get(last);
        let seq = previous.map_or(0, |previous| previous.account.state.batch_seq);
        if after.is_none_or(|after| after.account.state.batch_seq > seq + 1) {
            between(previous, after, &known, log).into_iter().for_each(&mut tell);
        }
    }
    suspects
}

fn named(batch: Option<u64>, id: RequestId, log: &Glance) -> Lost {
    match log.writes.iter().find(|write| write.request_id == id) {
        Some(write) => of(batch, write),
        None => Lost { batch, request: id, operation: None, path: None, time: None },
    }
}

fn of(batch: Option<u64>, write: &Write) -> Lost {
    Lost {
        batch,
        request: write.request_id,
        operation: Some(write.operation.clone()),
        path: write.path.clone(),
        time: Some(write.time.clone()),
    }
}

/// Writes of batches whose digest's record is lost too: the log has them between those of the batches around them, and no
/// other batch knows them.
fn between(
    before: Option<&Entry>,
    after: Option<&Entry>,
    known: &HashSet<RequestId>,
    log: &Glance,
) -> Vec<Lost> {
    let from = before.and_then(|entry| places(entry, log).min()).unwrap_or(0);
    let to = after.and_then(|entry| places(entry, log).max()).unwrap_or(usize::MAX);
    let unknown =
        log.writes.iter().enumerate().filter(|(at, write)| {
            (from..=to).contains(at) && write.done && !known.contains(&write.request_id)
        });
    unknown.map(|(_, write)| of(None, write)).collect()
}

/// Where the log has the writes that a digest's record knows.
fn places<'a>(entry: &'a Entry, log: &'a Glance) -> impl Iterator<Item = usize> + use<'a> {
    let own = |(_, write): &(usize, &Write)| entry.account.applied.contains(&write.request_id);
    log.writes.iter().enumerate().filter(own).map(|(at, _)| at)
}

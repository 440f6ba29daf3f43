//! What the operator is told, in sentences: what was read, what came back, what is lost, what to do next.

use std::{fmt, path::PathBuf};

use crate::{
    model::RequestId,
    storage::sled::{Damage, Gap},
};

/// Places told one by one; the first are what matters.
const MOST_GAPS: usize = 10;

/// See the module.
pub struct Report {
    pub(super) from: PathBuf,
    pub(super) into: PathBuf,
    pub(super) damage: Option<Damage>,
    pub(super) gaps: Vec<Gap>,
    pub(super) records: u64,
    pub(super) damaged_records: u64,
    pub(super) homeless: u64,
    /// The batch whose records these are, all of them.
    pub(super) complete: Option<u64>,
    /// The last batch of which the store itself tells.
    pub(super) batch_seq: Option<u64>,
    /// The last batch of which the audit log tells.
    pub(super) log: Option<u64>,
    pub(super) log_unreadable: u64,
    /// Older copies of what is lost may have been written over long ago.
    pub(super) forgotten: bool,
    pub(super) lost: Vec<Lost>,
}

/// A write that can be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Its batch, if that is known.
    pub batch: Option<u64>,
    /// Its request.
    pub request: RequestId,
    /// RPC, if the log has it.
    pub operation: Option<String>,
    /// On what.
    pub path: Option<String>,
    /// When.
    pub time: Option<String>,
}

impl Report {
    /// Whether everything came back.
    pub fn is_complete(&self) -> bool {
        self.complete.is_some()
    }

    /// The writes that can be missing.
    pub fn lost(&self) -> &[Lost] {
        &self.lost
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "read {}; nothing in there was changed", self.from.display())?;
        match &self.damage {
            Some(damage) => writeln!(f, "found: {damage}")?,
            None => writeln!(f, "found: nothing that stands in the way of a start")?,
        }
        for gap in self.gaps.iter().take(MOST_GAPS) {
            writeln!(f, "  {} bytes at {} cannot be read", gap.bytes, gap.at)?;
        }
        if self.gaps.len() > MOST_GAPS {
            writeln!(f, "  and {} more places", self.gaps.len() - MOST_GAPS)?;
        }
        writeln!(f, "brought back: {} records, each opened, into {}", self.records, self.into.display())?;
        self.checks(f)?;
        match self.complete {
            Some(batch) => {
                writeln!(f, "nothing is lost: by the set digest these are all the records of batch {batch}")?;
            }
            None => self.losses(f)?,
        }
        self.next(f)
    }
}

impl Report {
    fn checks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.batch_seq.map_or("no batch".to_owned(), |batch| format!("batch {batch}"));
        match self.log {
            Some(log) => {
                writeln!(
                    f,
                    "checked: the store tells of {own}, the audit log's last checkpoint of batch {log}"
                )?;
            }
            None => writeln!(
                f,
                "checked: the store tells of {own}; the audit log holds no checkpoint of this store to compare with"
            )?,
        }
        if self.log_unreadable > 0 {
            writeln!(f, "{} lines of the audit log cannot be read", self.log_unreadable)?;
        }
        Ok(())
    }

    fn losses(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "LOST: by the set digest something is missing, or older than it was.")?;
        if self.damaged_records > 0 {
            writeln!(f, "  {} records are there and do not open", self.damaged_records)?;
        }
        if self.homeless > 0 {
            writeln!(f, "  {} records are there, and what they belong to is lost", self.homeless)?;
        }
        if self.lost.is_empty() {
            writeln!(f, "  which writes it was, neither the store nor the audit log can tell")?;
        } else {
            writeln!(
                f,
                "  It was written by one or more of these; look at each, and write it again if it is not right:"
            )?;
        }
        self.lost.iter().try_for_each(|lost| writeln!(f, "  {lost}"))?;
        if self.forgotten {
            writeln!(
                f,
                "  Older parts of the log were used again, as is usual. A damaged page then takes up to 16 neighbouring \
                 records with it, whenever they were written: list what you expect to be there."
            )?;
        }
        Ok(())
    }

    fn next(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, into) = (self.from.display(), self.into.display());
        writeln!(f, "next: keep the damaged directory and put the new one in its place:")?;
        writeln!(f, "  mv {from} {from}.damaged && mv {into} {from}")?;
        if self.is_complete() {
            writeln!(f, "  then start the server as usual, unseal, and run `strongroom operator scrub`")
        } else {
            writeln!(
                f,
                "  then start the server ONCE with --accept-rollback, which puts the loss on record, and unseal; from \
                 then on start it as usual"
            )
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.operation, &self.path) {
            (Some(operation), Some(path)) => write!(f, "{operation} {path}")?,
            (Some(operation), None) => write!(f, "{operation}")?,
            (None, _) => write!(f, "a request that the audit log does not hold")?,
        }
        if let Some(time) = &self.time {
            write!(f, " at {time}")?;
        }
        if let Some(batch) = self.batch {
            write!(f, ", batch {batch}")?;
        }
        write!(f, ", request {}", self.request)
    }
}

//! The log of a store that cannot be opened, read without touching either: how far the store was, and what was written to
//! it. Lines that cannot be read are passed over and counted.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::{self, BufReader},
    path::Path,
};

use serde::Deserialize;

use super::{LastCheckpoint, chain::LineParts, file, recover::read_line};
use crate::model::RequestId;

/// Most writes kept, the last ones: what can be missing from a store is what was written lately, and a log has no end.
const MOST_WRITES: usize = 1 << 20;

/// See the module.
#[derive(Debug, Default)]
pub struct Glance {
    /// The last one that is whole. Its signature is not checked.
    pub checkpoint: Option<LastCheckpoint>,
    /// In the order of their intents.
    pub writes: VecDeque<Write>,
    /// Lines that are none.
    pub unreadable: u64,
}

/// A write as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Its request.
    pub request_id: RequestId,
    /// RPC.
    pub operation: String,
    /// On what.
    pub path: Option<String>,
    /// When, as it stands there.
    pub time: String,
    /// The log says that it was done.
    pub done: bool,
}

#[derive(Deserialize)]
struct Line {
    time: String,
    kind: String,
    request_id: Option<String>,
    operation: Option<String>,
    path: Option<String>,
    paths: Option<Vec<String>>,
    status: Option<String>,
    recovered: Option<String>,
}

impl Glance {
    /// Reads all of the log in `directory`; an empty or missing one says nothing.
    ///
    /// # Errors
    /// A file of it cannot be read.
    pub fn at(directory: &Path) -> io::Result<Self> {
        let mut glance = Self::default();
        let segments = match file::segments(directory) {
            Ok(segments) => segments,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(glance),
            Err(error) => return Err(error),
        };
        // By number since the first one, so that the oldest can be forgotten.
        let mut pending: HashMap<RequestId, usize> = HashMap::new();
        let mut forgotten = 0;
        for segment in segments {
            let mut reader = BufReader::with_capacity(1 << 20, File::open(&segment.path)?);
            let mut line = Vec::new();
            while read_line(&mut reader, &mut line)? > 0 {
                // Behind the last line of a log that was not closed stand zeros.
                let is_line = line.iter().any(|byte| *byte != 0);
                if is_line && glance.take(&line, &mut pending, &mut forgotten).is_none() {
                    glance.unreadable += 1;
                }
            }
        }
        Ok(glance)
    }

    fn take(
        &mut self,
        line: &[u8],
        pending: &mut HashMap<RequestId, usize>,
        forgotten: &mut usize,
    ) -> Option<()> {
        let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
        let parts = LineParts::of(text).filter(LineParts::fits)?;
        if parts.is_checkpoint() {
            self.checkpoint = LastCheckpoint::of(&parts).or(self.checkpoint.take());
            return Some(());
        }
        let line: Line = serde_json::from_str(text).ok()?;
        let Some(request_id) = line.request_id.as_deref().and_then(RequestId::parse) else { return Some(()) };
        match (line.kind.as_str(), line.status.as_deref()) {
            ("request", Some("pending")) => {
                if self.writes.len() == MOST_WRITES {
                    self.writes.pop_front();
                    *forgotten += 1;
                }
                pending.insert(request_id, *forgotten + self.writes.len());
                let operation = line.operation.unwrap_or_default();
                let path = line.path.or_else(|| line.paths.map(|paths| paths.join(" ")));
                let time = line.time;
                self.writes.push_back(Write { request_id, operation, path, time, done: false });
            }
            ("outcome" | "recovered", _) => {
                let number = pending.remove(&request_id).and_then(|number| number.checked_sub(*forgotten));
                if let Some(write) = number.and_then(|number| self.writes.get_mut(number)) {
                    let end = line.recovered.as_deref().or(line.status.as_deref());
                    write.done = matches!(end, Some("ok" | "applied"));
                }
            }
            _ => {}
        }
        Some(())
    }
}

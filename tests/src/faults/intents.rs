//! Reads the audit log after each end of the server: every intent has exactly one end, an outcome or a `recovered`, and
//! together they tell what the store holds.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::audit_log::{self, segments};

/// What the log has told so far.
#[derive(Clone, Default)]
pub struct Intents {
    /// Each segment, and how much of it was read.
    read: BTreeMap<PathBuf, usize>,
    /// Intents without an end yet, and their paths.
    open: HashMap<String, Option<String>>,
    ended: HashSet<String>,
    /// Writes of that path that happened, by their ends.
    applied: BTreeMap<String, u64>,
    /// Ends that came from the store.
    pub recovered_applied: u64,
    pub recovered_not_applied: u64,
    /// Intents with no end, two, or an end without an intent.
    pub wrong: u64,
}

#[derive(Deserialize)]
struct Line {
    kind: String,
    request_id: Option<String>,
    operation: Option<String>,
    path: Option<String>,
    status: Option<String>,
    recovered: Option<String>,
}

impl Intents {
    /// Reads what is new in the log of a server that has just been unsealed, when nobody is writing yet.
    ///
    /// # Errors
    /// A file cannot be read, or a line is no record.
    pub fn read_on(&mut self, directory: &Path) -> io::Result<()> {
        for segment in segments(directory)? {
            let text = audit_log::text(&segment)?;
            let from = self.read.insert(segment, text.len()).unwrap_or_default();
            for line in text.get(from..).unwrap_or_default().lines() {
                self.take(serde_json::from_str(line)?);
            }
        }
        self.wrong += self.open.len() as u64;
        self.open.clear();
        Ok(())
    }

    /// How many intents there were.
    pub fn count(&self) -> u64 {
        self.ended.len() as u64
    }

    /// Paths that begin with `prefix`, and how many puts the log says each of them has had.
    pub fn applied(&self, prefix: &str) -> Vec<(String, u64)> {
        let ours = self.applied.iter().filter(|(path, _)| path.starts_with(prefix));
        ours.map(|(path, count)| (path.clone(), *count)).collect()
    }

    fn take(&mut self, line: Line) {
        let Line { kind, request_id: Some(id), operation, path, status, recovered } = line else { return };
        match kind.as_str() {
            "request" if status.as_deref() == Some("pending") => {
                self.open.insert(id, path);
            }
            "outcome" | "recovered" => {
                let is_read = status.as_deref() != Some("ok") || operation.as_deref() == Some("Secrets.Get");
                if kind == "outcome" && is_read && !self.open.contains_key(&id) {
                    // Of a read that failed, or which version it has read.
                    return;
                }
                let begun = self.open.remove(&id);
                self.wrong += u64::from(begun.is_none() || !self.ended.insert(id));
                let applied = match recovered.as_deref() {
                    Some("applied") => {
                        self.recovered_applied += 1;
                        true
                    }
                    Some(_) => {
                        self.recovered_not_applied += 1;
                        false
                    }
                    None => status.as_deref() == Some("ok"),
                };
                if let (true, Some(path), Some("Secrets.Put")) =
                    (applied, begun.flatten(), operation.as_deref())
                {
                    *self.applied.entry(path).or_default() += 1;
                }
            }
            _ => {}
        }
    }
}

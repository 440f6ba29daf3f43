//! Code that stands in two crates.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::Crate;

/// So many lines in a row that say something are no accident.
pub(crate) const LINES: usize = 8;

/// The places of the same code in two crates, one for each pair of files: `server/src/a.rs:7`.
pub(crate) fn twins(crates: &[Crate]) -> BTreeSet<(String, String)> {
    // Where each run of lines stands first, and in which crate.
    let mut first: BTreeMap<String, (&str, String, String)> = BTreeMap::new();
    let (mut found, mut pairs) = (BTreeSet::new(), BTreeSet::new());
    for one in crates {
        for (file, code) in &one.files {
            let telling: Vec<_> = code.iter().filter(|(_, line)| is_telling(line)).collect();
            for run in telling.windows(LINES) {
                let text: String = run.iter().map(|(_, line)| format!("{line}\n")).collect();
                let file = format!("{}/{file}", one.folder);
                let place = format!("{file}:{}", run[0].0);
                let (home, other_file, other) =
                    first.entry(text).or_insert((&one.folder, file.clone(), place.clone()));
                if *home != one.folder && pairs.insert((other_file.clone(), file)) {
                    found.insert((other.clone(), place));
                }
            }
        }
    }
    found
}

/// Whether a line says anything: braces, imports and attributes are alike everywhere.
fn is_telling(line: &str) -> bool {
    let plain = ["use ", "pub use ", "mod ", "pub mod ", "#", "extern "];
    line.chars().filter(|c| c.is_alphanumeric()).count() > 3
        && !plain.iter().any(|start| line.starts_with(start))
}

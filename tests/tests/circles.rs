//! The rooms of a crate have a direction: no more files use each other in a circle than a folder's `mod.rs` and what is beside
//! it. This reads `use` trees and paths, not types; what only tests use does not count.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends at the first surprise")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

const CRATES: &[&str] = &["client/src", "client/cli/src"];
/// More than this many are no neighbours any more.
const LARGEST: usize = 3;

/// Where a file stands in its crate: `calls::watch`; the crate's own file is the empty path.
type Module = Vec<String>;

/// The code of all files of a crate, without comments and tests.
fn sources(folder: &Path, at: &Module, found: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            sources(&path, &[at.clone(), vec![name]].concat(), found);
            continue;
        }
        let module = match name.as_str() {
            "tests" | "fake" => continue,
            "mod" | "lib" | "main" => at.clone(),
            _ => [at.clone(), vec![name]].concat(),
        };
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("mod tests {").next().unwrap();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        found.insert(module, lines.collect::<Vec<_>>().join("\n"));
    }
}

/// Reads one path, or a tree of them in braces; gives how far it read.
fn tree(text: &str, before: &[String], found: &mut Vec<Module>) -> usize {
    if text.starts_with('{') {
        let mut at = 1;
        loop {
            at += text[at..].len() - text[at..].trim_start().len();
            if text[at..].starts_with('}') {
                return at + 1;
            }
            at += tree(&text[at..], before, found);
            // Also over `as NAME`.
            at += text[at..].find([',', '}']).unwrap();
            at += usize::from(text[at..].starts_with(','));
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let path = [before, &[text[..end].to_owned()]].concat();
    if let Some(rest) = text[end..].strip_prefix("::") {
        return end + 2 + tree(rest, &path, found);
    }
    found.push(path);
    end
}

/// All paths in a text that begin with one of these words.
fn paths(text: &str, words: &[&str]) -> Vec<Module> {
    let mut found = Vec::new();
    for word in words {
        for (at, _) in text.match_indices(&format!("{word}::")) {
            let whole = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            if !text[..at].ends_with(whole) {
                tree(&text[at..], &[], &mut found);
            }
        }
    }
    found
}

/// The files that a file uses.
fn used(module: &Module, code: &str, all: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let children = all.keys().filter(|other| other.split_last().is_some_and(|(_, parent)| parent == module));
    let mut words: Vec<&str> = children.map(|child| child[child.len() - 1].as_str()).collect();
    words.extend(["crate", "super", "self"]);
    let resolve = |path: Module| {
        let ups = path.iter().take_while(|word| *word == "super").count();
        let path = match path[0].as_str() {
            "crate" => path[1..].to_vec(),
            "super" => [&module[..module.len().saturating_sub(ups)], &path[ups..]].concat(),
            "self" => [module, &path[1..]].concat(),
            _ => [module, &path[..]].concat(),
        };
        (0..=path.len()).rev().map(|length| path[..length].to_vec()).find(|prefix| all.contains_key(prefix))
    };
    paths(code, &words).into_iter().filter_map(resolve).filter(|other| other != module).collect()
}

fn reachable(from: &Module, uses: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        open.extend(uses[module].iter().filter(|other| seen.insert((*other).clone())));
    }
    seen
}

#[test]
fn files_use_each_other_in_no_wide_circle() {
    for folder in CRATES {
        let mut all = BTreeMap::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder), &Vec::new(), &mut all);
        assert!(all.len() > 20, "found only {} files: is this still the right folder?", all.len());
        let uses: BTreeMap<_, _> =
            all.iter().map(|(module, code)| (module.clone(), used(module, code, &all))).collect();
        assert!(
            uses.values().map(BTreeSet::len).sum::<usize>() > all.len(),
            "{folder}: the paths are not found"
        );
        let reached: BTreeMap<_, _> =
            all.keys().map(|module| (module.clone(), reachable(module, &uses))).collect();
        for (module, reach) in &reached {
            let circle: Vec<_> = reach.iter().filter(|other| reached[*other].contains(module)).collect();
            assert!(circle.len() <= LARGEST, "{folder}: a circle of {} files: {circle:?}", circle.len());
        }
    }
}

#[test]
fn paths_are_found_in_trees_and_in_code() {
    let text = "use crate::{a::{B as C, d}, e};\nfn f() { super::g::h(); mycrate::i(); x::self::y() }";
    let found = paths(text, &["crate", "super", "self"]);
    let found: Vec<_> = found.iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["crate::a::B", "crate::a::d", "crate::e", "super::g::h"]);
}

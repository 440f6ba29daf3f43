//! The house keeps its shape, in all crates: every file says what it is for and can be read at one sitting, files do not go
//! in circles, rooms use only what is below them, and no code stands twice. What is the server's alone is in
//! `server/tests/tidy.rs`, what is the driver's alone in `csi-driver/tests/tidy.rs`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod imports;
mod sources;
mod twins;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use sources::{Crate, crates, root, rust_files};

/// Longer ones are two.
const LINES: usize = 600;
/// Files that use each other, directly or around corners, can only be read together.
const CIRCLE: usize = 3;

/// Files that are too long, each with the reason why it still is.
const TOO_LONG: &[(&str, &str)] = &[];

/// Circles that are too large: all files of the circle stand below that folder. Each with the reason why it still does.
const CIRCLES: &[(&str, &str)] = &[];

/// Code that stands in two crates on purpose.
const TWINS: &[(&str, &str, &str)] = &[];

/// Dependencies that only one crate may have, because it is there to hold them.
const HOMES: &[(&str, &str)] = &[
    ("axum", "server/daemon"),
    ("prometheus", "server/daemon"),
    ("sd-notify", "server/daemon"),
    ("serde-saphyr", "proto/yaml"),
];

/// Crates from top to bottom. A room may use those after it, never those before. The server's is in its own test.
const ORDERS: &[(&str, &[&str])] = &[
    (
        "csi-driver/src",
        &[
            "lib",
            "ops",
            "probe",
            "identity",
            "node",
            "provider",
            "registration",
            "connection",
            "authority",
            "call",
            "publish",
            "recover",
            "refresh",
            "disk",
            "volumes",
            "follower",
            "strongroom",
            "fetch",
            "issued",
            "session",
            "cluster",
            "pod_events",
            "failure",
            "state",
            "mount",
            "writer",
            "folder",
            "budget",
            "volume",
            "wire",
            "telemetry",
            "config",
            "limits",
        ],
    ),
    (
        "client/src",
        &[
            "lib",
            "blocking",
            "fake",
            "calls",
            "client",
            "session",
            "transport",
            "volume",
            "audit_verify",
            "answer",
            "error",
        ],
    ),
    (
        "client/cli/src",
        &["arguments", "commands", "context", "input", "output", "forms", "private_file", "failure"],
    ),
];

fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_ends_in_time() {
    let files = rust_files(root());
    assert!(files.len() > 300, "found only {} files: is this still the right folder?", files.len());
    let (mut wrong, mut long) = (Vec::new(), BTreeSet::new());
    for file in files {
        let (name, text) = (shown(&file), fs::read_to_string(&file).unwrap());
        if !text.starts_with("//!") {
            wrong.push(format!("{name} does not open with what it is for"));
        }
        let lines = text.lines().count();
        let known = TOO_LONG.iter().any(|(long, _)| *long == name);
        if lines > LINES {
            long.insert(name.clone());
            wrong.extend((!known).then(|| format!("{name} has {lines} lines, more than {LINES}")));
        }
    }
    let done = TOO_LONG.iter().filter(|(name, _)| !long.contains(*name));
    wrong.extend(done.map(|(name, _)| format!("{name} is short enough: take it off TOO_LONG")));
    none(&wrong);
}

#[test]
fn files_do_not_go_in_circles() {
    let (mut wrong, mut needed) = (Vec::new(), BTreeSet::new());
    for one in crates() {
        for circle in circles(&imports::edges(&one)) {
            let files: Vec<String> = circle.iter().map(|file| format!("{}/{file}", one.folder)).collect();
            match CIRCLES.iter().find(|(folder, _)| files.iter().all(|file| file.starts_with(folder))) {
                Some((folder, _)) => drop(needed.insert(*folder)),
                None => wrong.push(format!("{} files go in a circle: {}", files.len(), files.join(", "))),
            }
        }
    }
    let done = CIRCLES.iter().filter(|(folder, _)| !needed.contains(folder));
    wrong.extend(done.map(|(folder, _)| format!("{folder} has no large circle: take it off CIRCLES")));
    none(&wrong);
}

/// Files from each of which one comes to all others of them; only those of more than [`CIRCLE`].
fn circles(edges: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<BTreeSet<&String>> {
    let reach = |from| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            next.extend(edges[file].iter().filter(|to| seen.insert(*to)));
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        edges.keys().map(|file| (file, reach(file))).collect();
    let around =
        |file: &String| reached[file].iter().copied().filter(|to| reached[to].contains(file)).collect();
    edges.keys().map(around).filter(|circle: &BTreeSet<_>| circle.len() > CIRCLE).collect()
}

#[test]
fn rooms_use_only_what_is_below_them() {
    let (all, mut wrong) = (crates(), Vec::new());
    for (folder, order) in ORDERS {
        let one = all.iter().find(|one| one.folder == *folder).unwrap();
        let rank = |file: &str| {
            let room = file.split(['/', '.']).next().unwrap();
            let known = order.iter().position(|known| *known == room);
            known.unwrap_or_else(|| panic!("{folder}/{file}: {room} has no place in ORDERS"))
        };
        // A program is above its library, which is all that it can name.
        for (file, used) in imports::edges(one).into_iter().filter(|(file, _)| file != "main.rs") {
            let above = used.iter().filter(|used| rank(used) < rank(&file));
            wrong.extend(above.map(|used| format!("{folder}/{file} uses {used}, which is above it")));
        }
    }
    none(&wrong);
}

#[test]
fn no_code_stands_in_two_crates() {
    let (mut wrong, mut needed) = (Vec::new(), BTreeSet::new());
    for (one, other) in twins::twins(&crates()) {
        let known = |(a, b, _): &&(&str, &str, &str)| one.starts_with(a) && other.starts_with(b);
        match TWINS.iter().find(known) {
            Some(twin) => drop(needed.insert(twin)),
            None => wrong.push(format!("the same {} lines stand in {one} and {other}", twins::LINES)),
        }
    }
    let done = TWINS.iter().filter(|twin| !needed.contains(twin));
    wrong.extend(done.map(|(a, b, _)| format!("{a} and {b} share nothing: take them off TWINS")));
    none(&wrong);
}

#[test]
fn some_dependencies_have_one_home() {
    let mut wrong = Vec::new();
    for one in crates() {
        let member = one.folder.trim_end_matches("/src");
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        // A fake that a test talks to may be made of anything.
        let own = manifest.split("[dev-dependencies]").next().unwrap();
        for (name, home) in HOMES {
            let has = own.lines().any(|line| line.split(['.', ' ', '=']).next() == Some(name));
            if has != (member == *home) {
                wrong
                    .push(format!("{name} is to be a dependency of {home} and of nobody else: see {member}"));
            }
        }
    }
    none(&wrong);
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap().display().to_string()
}

#[test]
fn a_circle_is_found_and_a_chain_is_none() {
    let edge = |pairs: &[(&str, &str)]| {
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in pairs {
            edges.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            edges.entry((*to).to_owned()).or_default();
        }
        edges
    };
    let chain = edge(&[("a", "b"), ("b", "c"), ("c", "d"), ("b", "a")]);
    assert!(circles(&chain).is_empty());
    let circle = edge(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "a"), ("d", "e")]);
    let found: Vec<Vec<&String>> = circles(&circle).into_iter().map(|c| c.into_iter().collect()).collect();
    assert_eq!(found, [["a", "b", "c", "d"]]);
}

#[test]
fn a_name_leads_to_the_file_it_comes_from() {
    let files = [
        ("lib.rs", "mod a;\nmod b;\npub use a::One;\n"),
        ("a/mod.rs", "mod inner;\npub use inner::One;\npub struct Two;\nfn f() { inner::g() }\n"),
        ("a/inner.rs", "use super::Two;\n"),
        (
            "b.rs",
            "use crate::{One, a::{self, Two as Other}};\nfn f(x: a::One) { crate::b::g() }\n#[cfg(test)]\nmod tests {\n    use crate::c;\n}\n",
        ),
    ];
    let one = Crate::of("x/src", files.map(|(name, text)| (name.to_owned(), text.to_owned())));
    let edges = imports::edges(&one);
    let used = |file: &str| edges[file].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(used("lib.rs"), [""; 0]);
    assert_eq!(used("a/mod.rs"), [""; 0]);
    assert_eq!(used("a/inner.rs"), ["a/mod.rs"]);
    assert_eq!(used("b.rs"), ["a/inner.rs", "a/mod.rs"]);
}

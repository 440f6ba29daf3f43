//! The house keeps its shape: modules use only modules below them, and each vendor crate stays in its one room. What holds
//! for all crates is in `tests/tests/tidy`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Top to bottom, as a request meets them. A module may use those after it, never those before.
const ORDER: &[&str] = &[
    "main",
    "app",
    "salvage",
    "api",
    "admission",
    "core",
    "wrapping",
    "leases",
    "tokens",
    "auth",
    "engines",
    "permit",
    "policy",
    "audit",
    "barrier",
    "seal",
    "storage",
    "config",
    "tls",
    "unsent",
    "telemetry",
    "crypto",
    "clock",
    "limits",
    "model",
];

/// Crates that only one place may name.
const ROOMS: &[(&str, &str)] = &[
    ("ring", "crypto/"),
    ("sled", "storage/sled"),
    ("tonic", "api/"),
    ("tonic_types", "api/"),
    ("tonic_health", "api/"),
    ("tonic_reflection", "api/"),
    ("rustls", "tls"),
    ("tokio_rustls", "tls"),
    ("argon2", "auth/password.rs"),
    ("kube", "auth/kubernetes/api.rs"),
    ("toml", "config"),
    ("tokio_postgres", "engines/database/"),
    ("rustls_native_certs", "tls"),
    ("x509_cert", "engines/pki/"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Path below `src/` and the text without comments.
fn texts() -> Vec<(String, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&source, &mut files);
    assert!(files.len() > 40, "found only {} files: is this still the right folder?", files.len());
    let text = |file: &PathBuf| {
        let lines = fs::read_to_string(file).unwrap();
        lines.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
    };
    files.iter().map(|file| (file.strip_prefix(&source).unwrap().display().to_string(), text(file))).collect()
}

/// Modules named by `crate::x` or within `use crate::{...}`.
fn used_modules(text: &str) -> Vec<String> {
    let mut used = Vec::new();
    for part in text.split("crate::").skip(1) {
        if let Some(group) = part.strip_prefix('{') {
            let (mut depth, mut word) = (0, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    c if depth == 0 && (c.is_alphanumeric() || c == '_') => word.push(c),
                    ',' if depth == 0 => used.push(std::mem::take(&mut word)),
                    ':' if depth == 0 && !word.is_empty() && !word.ends_with('!') => word.push('!'),
                    _ => {}
                }
            }
            used.push(word);
        } else {
            used.push(part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    used.iter().map(|word| word.split('!').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn modules_use_only_what_is_below_them() {
    let rank = |module: &str| ORDER.iter().position(|known| *known == module);
    let mut wrong = Vec::new();
    for (file, text) in texts() {
        let module = file.split(['/', '.']).next().unwrap().to_owned();
        if module == "lib" {
            continue;
        }
        let own = rank(&module).unwrap_or_else(|| panic!("{module} has no place in the order"));
        for used in used_modules(&text) {
            if rank(&used).is_some_and(|other| other < own) {
                wrong.push(format!("{file} uses {used}, which is above it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn vendor_crates_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for (file, text) in texts() {
        for (vendor, room) in ROOMS {
            let named = names(&text, vendor);
            if named && !file.starts_with(room) {
                wrong.push(format!("{file} names {vendor}, which belongs to {room}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a file names that crate, by a `use` of it or by a path that begins with it. A name that another `use` brings in
/// (`use crate::storage::{sled::SledStore}`, `use rustls::crypto::{ring}`) is not the crate's.
fn names(text: &str, vendor: &str) -> bool {
    let is_word =
        |tree: &str| tree.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == vendor);
    let trees: Vec<&str> = text
        .match_indices("use ")
        .filter(|(at, _)| {
            matches!(text[..*at].rsplit('\n').next().map(str::trim), None | Some("" | "pub" | "pub(crate)"))
        })
        .map(|(at, start)| text[at + start.len()..].split(';').next().unwrap_or_default())
        .collect();
    let begins =
        |tree: &&str| tree.strip_prefix(vendor).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    if trees.iter().any(begins) {
        return true;
    }
    let brought_in = trees.iter().any(|tree| is_word(tree));
    !brought_in && text.match_indices(&format!("{vendor}::")).any(|(at, _)| boundary(text, at))
}

#[test]
fn a_crate_is_known_by_its_name_alone() {
    for text in ["use ring::aead;", "pub use ring;", "fn f() { ring::x() }", "use a::b;\nuse ring::{c, d};"] {
        assert!(names(text, "ring"), "{text}");
    }
    for text in ["use a::{ring};\nfn f() { ring::x() }", "fn f() { spring::x(); a::ring::x() }"] {
        assert!(!names(text, "ring"), "{text}");
    }
}

/// Whether a name starts here, and not in the middle of a longer one or of a path (`storage::sled::`).
fn boundary(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
}

/// Kinds of records are declared by whoever keeps them. Two of the same number would find each other's records.
#[test]
fn no_number_of_a_record_kind_is_given_twice() {
    let mut given = BTreeMap::new();
    let mut twice = Vec::new();
    for (file, text) in texts() {
        // Tests have numbers of their own.
        if file.ends_with("tests.rs") || file.contains("/tests/") {
            continue;
        }
        for part in text.split("RecordKind::new(").skip(1) {
            let number: String = part.chars().take_while(char::is_ascii_digit).collect();
            if let Some(other) = given.insert(number.parse::<u8>().unwrap(), file.clone()) {
                twice.push(format!("{file} and {other} both keep records of kind {number}"));
            }
        }
    }
    assert!(given.len() > 10, "found only {given:?}: are they still declared in the same way?");
    assert!(twice.is_empty(), "{}", twice.join("\n"));
}

/// Whatever is derived from the store must follow it and forget: each has tried the conformance suite.
#[test]
fn all_that_is_derived_from_the_store_is_tried() {
    let texts: String = texts().into_iter().map(|(_, text)| text).collect();
    let named = |what: &str| -> BTreeSet<&str> {
        let after = texts.split(what).skip(1).filter_map(|rest| rest.split(" {").next());
        after.map(|name| name.trim_start_matches("Arc<").trim_end_matches('>')).collect()
    };
    let derived = named("impl Derived for ");
    assert!(derived.len() > 4, "found only {derived:?}: are they still declared in the same way?");
    let tried = named("conformance::Subject for ");
    assert!(derived.is_subset(&tried), "{derived:?}, but only {tried:?} are tried");
}

/// Whether a file only hands on what engines and auth methods do. A file of tests has to ask some of them for something.
fn forwards(file: &str) -> bool {
    let hands_on = ["core/", "admission/", "api/"].iter().any(|folder| file.starts_with(folder));
    hands_on && !file.ends_with("_tests.rs")
}

/// What an engine is and does is its own business: whoever forwards to engines names none.
#[test]
fn core_and_wire_name_no_engine() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engines");
    let ours = ["mod", "lease", "mounts", "names", "password", "service", "conformance"];
    let names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !ours.contains(&name.as_str()))
        .collect();
    assert!(names.contains(&"kv".to_owned()), "found only {names:?}");
    let mut wrong = Vec::new();
    for (file, text) in texts() {
        for name in names.iter().filter(|_| forwards(&file)) {
            let used = |at: usize| boundary(&text, at) || text[..at].ends_with("engines::");
            if text.match_indices(&format!("{name}::")).any(|(at, _)| used(at)) {
                wrong.push(format!("{file} names the engine {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The same of auth methods: which there are is known to the methods alone.
#[test]
fn core_and_wire_name_no_auth_method() {
    let names = ["userpass", "kubernetes"];
    let mut wrong = Vec::new();
    for (file, text) in texts() {
        if !forwards(&file) {
            continue;
        }
        let words = || text.split(|c: char| !c.is_alphanumeric()).filter(|word| names.contains(word));
        wrong.extend(words().map(|name| format!("{file} names the auth method {name}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A wire has no core to ask: what it wants of it, it asks of admission, which keeps the access table. The ops port serves
/// no requests, so it has no row to keep.
#[test]
fn a_wire_comes_to_the_core_only_by_admission() {
    let mut wrong = Vec::new();
    for (file, text) in texts() {
        if !file.starts_with("api/") || file == "api/ops_http.rs" {
            continue;
        }
        let words = |text: &str, word: &str| {
            text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|found| *found == word).count()
        };
        if words(&text, "Core") > 0 || text.contains("core::{self") {
            wrong.push(format!("{file} has a core, or functions of it, past admission"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! The files of the house, and what of them is code that runs: without comments and without tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A crate's own files.
pub(crate) struct Crate {
    /// `client/cli/src`
    pub(crate) folder: String,
    /// By the path below `folder`: the lines of code, each with its number.
    pub(crate) files: BTreeMap<String, Vec<(usize, String)>>,
}

/// Where the workspace is.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All files in Rust below a folder, but for what cargo makes.
pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(rust_files(&path));
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found
}

/// The crates that the workspace names.
pub(crate) fn crates() -> Vec<Crate> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
    let crates: Vec<Crate> = members
        .split('"')
        .filter(|part| part.contains(char::is_alphabetic))
        .map(|member| {
            let folder = root().join(member).join("src");
            let below = |file: &PathBuf| file.strip_prefix(&folder).unwrap().display().to_string();
            let files = rust_files(&folder);
            let read = files.iter().map(|file| (below(file), fs::read_to_string(file).unwrap()));
            Crate::of(&format!("{member}/src"), read)
        })
        .collect();
    assert!(crates.len() > 5, "found only {} crates: is the list of members still one line?", crates.len());
    crates
}

impl Crate {
    /// From the texts of its files.
    pub(crate) fn of(folder: &str, texts: impl IntoIterator<Item = (String, String)>) -> Self {
        let (mut files, mut tests) = (BTreeMap::new(), BTreeSet::new());
        for (name, text) in texts {
            let (code, test_modules) = split(&text);
            let place = |module: String| match module.ends_with(".rs") {
                true => Path::new(&name).with_file_name(module),
                false => modules_of(&name).join(module),
            };
            tests.extend(test_modules.into_iter().map(place));
            files.insert(name, code);
        }
        let is_test = |name: &str| {
            let path = Path::new(name).with_extension("");
            tests.iter().any(|test| path.starts_with(test) || Path::new(name) == test)
        };
        files.retain(|name, _| !is_test(name));
        Self { folder: folder.to_owned(), files }
    }
}

/// The folder where the modules that a file declares are looked for.
fn modules_of(file: &str) -> PathBuf {
    let path = Path::new(file);
    match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("mod" | "lib" | "main") => path.parent().unwrap().to_owned(),
        _ => path.with_extension(""),
    }
}

/// The lines of code of a file, and the modules that it has for tests: their names, or files beside it.
fn split(text: &str) -> (Vec<(usize, String)>, Vec<String>) {
    let (mut code, mut tests) = (Vec::new(), Vec::new());
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        let line = line.trim();
        if line == "#[cfg(test)]" {
            let mut place = None;
            while let Some((_, next)) = lines.peek() {
                let next = next.trim();
                if let Some(path) = next.strip_prefix("#[path = \"") {
                    place = path.strip_suffix("\"]").map(str::to_owned);
                } else if let Some((_, module)) = next.split_once("mod ") {
                    match module.strip_suffix(';') {
                        Some(name) => tests.push(place.unwrap_or_else(|| name.to_owned())),
                        // Tests within the file are its end.
                        None => return (code, tests),
                    }
                    lines.next();
                    break;
                } else if !next.starts_with("#[") {
                    break;
                }
                lines.next();
            }
        } else if !line.is_empty() && !line.starts_with("//") {
            code.push((at + 1, line.to_owned()));
        }
    }
    (code, tests)
}

//! Which file uses which of the same crate. A name leads to the file that it comes from: what a module re-exports it does not
//! use, and who takes it from there uses the file behind. That a module names what is below it, to declare, list and start it,
//! is no use either: a folder is read from its `mod.rs` down.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::Crate;

type Path = Vec<String>;

/// What a file says about others.
#[derive(Default)]
struct Names {
    /// By the name it has here.
    imported: BTreeMap<String, Path>,
    /// Names that others may take from here.
    exported: BTreeMap<String, Path>,
    /// All modules of which everything was taken.
    globs: Vec<Path>,
    /// What is named in place: `a::b::C`.
    inline: Vec<Path>,
}

/// The files of a crate by their modules, and what they say.
struct Tree<'a> {
    files: BTreeMap<Path, &'a String>,
    names: BTreeMap<&'a String, Names>,
}

/// Each file with those that it uses.
pub(crate) fn edges(one: &Crate) -> BTreeMap<String, BTreeSet<String>> {
    let has_library = one.files.contains_key("lib.rs");
    // A program beside a library reaches it from outside.
    let is_outside = |file: &str| has_library && (file == "main.rs" || file.starts_with("bin/"));
    let files: BTreeMap<Path, &String> =
        one.files.keys().filter(|file| !is_outside(file)).map(|file| (module(file), file)).collect();
    let names = files.iter().map(|(module, file)| (*file, read(&one.files[*file], module, &files))).collect();
    let tree = Tree { files, names };
    let mut edges: BTreeMap<String, BTreeSet<String>> =
        one.files.keys().map(|file| (file.clone(), BTreeSet::new())).collect();
    for file in tree.files.values() {
        edges.insert((*file).clone(), tree.used(file));
    }
    edges
}

impl Tree<'_> {
    fn used(&self, file: &String) -> BTreeSet<String> {
        let names = &self.names[file];
        let inline = names.inline.iter().map(|path| match names.imported.get(&path[0]) {
            Some(imported) => imported.iter().chain(&path[1..]).cloned().collect(),
            None => path.clone(),
        });
        // A module that is imported is used by what is then named in it, or by a glob as a whole.
        let imported = names.imported.values().filter(|path| !self.files.contains_key(*path)).cloned();
        let mut used: BTreeSet<String> =
            inline.chain(imported).filter_map(|path| self.home(&path, 0)).collect();
        used.extend(names.globs.iter().filter_map(|path| self.home(path, 0)));
        let own = module(file);
        used.retain(|to| to != file && !module(to).starts_with(&own));
        used
    }

    /// The file that a path leads to; `None` for a path out of the crate.
    fn home(&self, path: &[String], hops: usize) -> Option<String> {
        let inside = path.strip_prefix(&["crate".to_owned()])?;
        assert!(hops < 10, "{path:?} is exported in a circle");
        let depth =
            (0..=inside.len()).rev().find(|depth| self.files.contains_key(&inside_of(inside, *depth)))?;
        let file = self.files[&inside_of(inside, depth)];
        let exported = inside.get(depth).and_then(|name| self.names[file].exported.get(name));
        match exported {
            Some(target) => {
                let behind: Path = target.iter().chain(&inside[depth + 1..]).cloned().collect();
                self.home(&behind, hops + 1)
            }
            None => Some(file.clone()),
        }
    }
}

/// The path of a module, as keys have it.
fn inside_of(inside: &[String], depth: usize) -> Path {
    std::iter::once("crate".to_owned()).chain(inside[..depth].iter().cloned()).collect()
}

/// `a/b.rs` and `a/b/mod.rs` are `crate::a::b`.
fn module(file: &str) -> Path {
    let file = file.trim_end_matches(".rs");
    let parts = file.split('/').filter(|part| !matches!(*part, "mod" | "lib" | "main"));
    std::iter::once("crate").chain(parts).map(str::to_owned).collect()
}

fn read(code: &[(usize, String)], module: &[String], files: &BTreeMap<Path, &String>) -> Names {
    let text: String = code.iter().map(|(_, line)| format!("{line}\n")).collect();
    let absolute = |path: Path| absolute(path, module, files);
    let (mut names, mut rest) = (Names::default(), String::new());
    // Statements end with a semicolon; what is before the last brace of one belongs to another.
    for statement in text.split_inclusive(';') {
        let Some((before, tree, is_exported)) = import(statement) else {
            rest.push_str(statement);
            continue;
        };
        rest.push_str(before);
        for path in leaves(tree) {
            let (path, alias) = match path.split_once(" as ") {
                Some((path, alias)) => (path.trim().to_owned(), Some(alias.trim().to_owned())),
                None => (path, None),
            };
            let mut path: Path = path.split("::").map(|part| part.trim().to_owned()).collect();
            if path.last().is_some_and(|last| last == "self") {
                path.pop();
            }
            let Some(name) = alias.or_else(|| path.last().cloned()) else { continue };
            if name == "*" {
                path.pop();
                names.globs.extend((!is_exported).then(|| absolute(path)));
            } else if is_exported {
                names.exported.insert(name, absolute(path));
            } else {
                names.imported.insert(name, absolute(path));
            }
        }
    }
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for word in rest.split(|c| !is_path(c)).filter(|word| word.contains("::")) {
        let path: Path = word.split("::").map(str::to_owned).collect();
        let is_relative = matches!(path[0].as_str(), "crate" | "self" | "super");
        let is_child = files.contains_key(&child(module, &path[0]));
        names.inline.push(if is_relative || is_child { absolute(path) } else { path });
    }
    names
}

fn child(module: &[String], name: &str) -> Path {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// A `use`: what stands before it, its tree, and whether others may take from it.
fn import(statement: &str) -> Option<(&str, &str, bool)> {
    let tree = statement.strip_suffix(';')?;
    let begins = |at: usize| {
        let line = tree[..at].rsplit('\n').next().unwrap_or_default();
        matches!(line.trim(), "" | "pub" | "pub(crate)" | "pub(super)")
    };
    let at = tree.match_indices("use ").map(|(at, _)| at).filter(|at| begins(*at)).last()?;
    let start = tree[..at].rfind('\n').map_or(0, |line| line + 1);
    Some((&tree[..start], &tree[at + "use ".len()..], tree[start..at].contains("pub")))
}

/// `a::{b, c::d}` are `a::b` and `a::c::d`.
fn leaves(tree: &str) -> Vec<String> {
    let Some((stem, group)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let (mut depth, mut parts, mut part) = (0, Vec::new(), String::new());
    for c in group.chars() {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if c == ',' && depth == 0 {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(c);
        }
    }
    parts.push(part);
    let stem = stem.trim();
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(leaves).map(|leaf| format!("{stem}{leaf}")).collect()
}

/// From the root of the crate; of other crates, as it is.
fn absolute(path: Path, module: &[String], files: &BTreeMap<Path, &String>) -> Path {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let is_self = path[0] == "self";
    if ups > 0 || is_self {
        let base = &module[..module.len() - ups];
        return base.iter().chain(&path[ups + usize::from(is_self)..]).cloned().collect();
    }
    if path[0] != "crate" && files.contains_key(&child(module, &path[0])) {
        return module.iter().cloned().chain(path).collect();
    }
    path
}

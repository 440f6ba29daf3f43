//! The public interface of the library, as a list that is read at each change: `api.txt`. What goes from it, or becomes another,
//! breaks applications. After a change that is meant, run `UPDATE_GOLDEN=1 cargo test --workspace --test api`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Types of the layers below, which may change without the library.
const FOREIGN: &[&str] = &["tonic", "prost", "v1", "Status", "Channel", "Code", "Streaming"];

/// Sources in order; those of tests are nobody's interface.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") && !["fake.rs", "tests.rs"].contains(&name) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Items with `pub`, as they are declared up to their bodies, behind the `impl` that they are in; and the variants of enums. It
/// relies on rustfmt.
fn declarations(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let (mut found, mut marked, mut of) = (Vec::new(), false, None);
    let mut lines = text.lines().map(|line| (line.len() - line.trim_start().len(), line.trim()));
    while let Some((indent, line)) = lines.next() {
        match line {
            "#[non_exhaustive]" => marked = true,
            _ if line.starts_with("impl") => of = Some(whole(line, &mut lines)),
            _ if line.starts_with("pub ") => {
                let declaration = whole(line, &mut lines);
                found.extend(of.take_if(|_| indent > 0));
                let is_enum = declaration.starts_with("pub enum");
                found.push(format!("{}{declaration}", if marked { "non_exhaustive " } else { "" }));
                marked = false;
                if is_enum {
                    let variants = lines.by_ref().take_while(|(at, line)| (*at, *line) != (indent, "}"));
                    let variants = variants.filter(|(_, line)| !line.starts_with(['#', '/', '}']));
                    found.extend(
                        variants.map(|(_, line)| format!("    {}", line.trim_end_matches([',', '{', ' ']))),
                    );
                }
            }
            _ => {}
        }
    }
    found
}

/// A declaration that begins in `line`, in one line and without its body.
fn whole<'a>(line: &str, lines: &mut impl Iterator<Item = (usize, &'a str)>) -> String {
    let mut declaration = line.to_owned();
    let ends: &[char] = if line.starts_with("pub use") { &[';'] } else { &['{', ';'] };
    if !line.ends_with(ends) && !line.ends_with([',', '}']) {
        for (_, line) in lines {
            declaration.push_str(if declaration.ends_with('(') { "" } else { " " });
            declaration.push_str(line);
            if line.ends_with(ends) {
                break;
            }
        }
    }
    declaration.trim_end_matches(['{', ';', ',', ' ']).replace(", )", ")")
}

#[test]
fn the_interface_is_what_the_list_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut now = String::new();
    for source in sources(&root.join("src")) {
        let declarations = declarations(&fs::read_to_string(&source).unwrap());
        if !declarations.is_empty() {
            let file = source.strip_prefix(root).unwrap().display();
            now.push_str(&format!("# {file}\n{}\n\n", declarations.join("\n")));
        }
    }
    let list = root.join("tests/api.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&list, &now).unwrap();
    }
    let listed = fs::read_to_string(&list).unwrap();
    let differs = listed.lines().zip(now.lines()).find(|(listed, now)| listed != now);
    assert_eq!(
        differs, None,
        "the interface has changed: say so in CHANGELOG.md, and see the top of this file"
    );
    assert_eq!(listed.len(), now.len(), "the interface has changed");
    for line in now.lines().filter(|line| !line.starts_with('#')) {
        let foreign =
            line.split(|c: char| !c.is_alphanumeric() && c != '_').find(|word| FOREIGN.contains(word));
        assert_eq!(foreign, None, "{line}");
    }
}

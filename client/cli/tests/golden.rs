//! What the command line says without a server: the help of every command, and its mistakes. `tests/golden/` holds the texts;
//! with `UPDATE_GOLDEN=1` this test writes them anew, and the difference is for a person to read.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends at the first surprise")]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

/// With nothing of the machine that runs it.
fn strongroom(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.env_clear().env("HOME", "/nonexistent").args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn compare(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let differs = golden.lines().zip(text.lines()).position(|(is, was)| is != was);
    let line = differs.unwrap_or(golden.lines().count().min(text.lines().count()));
    assert!(
        golden == text,
        "{} is no longer what is printed, from line {} on; UPDATE_GOLDEN=1 writes it anew:\n{}",
        path.display(),
        line.saturating_add(1),
        text.lines().skip(line.saturating_sub(2)).take(6).collect::<Vec<_>>().join("\n"),
    );
}

/// The help of a command and of all below it.
fn help(words: &[&str], all: &mut String) {
    let output = strongroom(&[words, &["--help"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    // It has lines of its own for the number of the version.
    all.push_str(&format!("$ strongroom {}\n{text}\n", [words, &["--help"]].concat().join(" ")));
    let Some((_, list)) = text.split_once("\nCommands:\n") else { return };
    let names = list
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split(' ').next());
    names.filter(|name| *name != "help").for_each(|name| help(&[words, &[name]].concat(), all));
}

#[test]
fn the_help_of_every_command() {
    let mut all = String::new();
    help(&[], &mut all);
    compare("help.txt", &all);
}

#[test]
fn mistakes_are_told_in_words() {
    let rows: &[&[&str]] = &[
        &["gte", "secret/a"],
        &["get"],
        &["put", "secret/a"],
        &["put", "secret/a", "password=hunter2"],
        &["put", "secret/a", "@values.json"],
        &["get", "secret/a", "-k", "k"],
        &["get", "secret/a"],
        &["whoami"],
        &["whoami", "-o", "env"],
        &["whoami", "-o", "xml"],
        &["import", "secret/a", "-", "--from", "env"],
        &["import", "secret/a", "/nonexistent/file", "--from", "yaml"],
        &["apply", "-f", "/nonexistent/file"],
        &["explain", "volume", "-f", "-"],
        &["random", "password", "--length", "x"],
        &["--address", "http://localhost:7420", "status"],
        &["--address", "https://localhost:7420/v1", "status"],
        &["--address", "localhost:7420", "status"],
        &["--profile", "a/b", "status"],
        &["--profile", "wrok", "status"],
        &["profile", "use", "wrok"],
        &["completion", "tcsh"],
    ];
    let mut all = String::new();
    for row in rows {
        let output = strongroom(row);
        assert!(output.stdout.is_empty(), "{row:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code().unwrap();
        all.push_str(&format!("$ strongroom {}\n{said}(exit code {code})\n\n", row.join(" ")));
    }
    compare("mistakes.txt", &all);
}

//! Go programs that tests play the other side with: real grpc-go, real suites. Each is a small module below `tests/`,
//! pinned by its go.sum.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::cluster::{in_path, repository};

/// Builds the main package of the module in `tests/<folder>` with the dependencies of this go.mod, and gives its path.
/// Without Go on the machine there is none, and standard error says so; with `CI=true` that is an error.
///
/// # Errors
/// It does not build, or CI has no Go.
#[expect(clippy::print_stderr, reason = "a test that did not run has to say so")]
pub fn program(folder: &str, modfile: &str) -> io::Result<Option<PathBuf>> {
    if !in_path("go") {
        if std::env::var_os("CI").is_some() {
            return Err(io::Error::other("Go is missing: ./tests/install-needs installs it"));
        }
        eprintln!("NOT RUN: what tests/{folder} is for. Go is missing: ./tests/install-needs installs it");
        return Ok(None);
    }
    let root = repository();
    let name = format!("{folder}-{}", modfile.trim_end_matches(".mod"));
    let program = root.join("target/go").join(name);
    let built = Command::new("go")
        .args(["build", "-mod=readonly", "-trimpath", "-modfile", modfile, "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(root.join("tests").join(folder))
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .output()?;
    if built.status.success() {
        return Ok(Some(program));
    }
    Err(io::Error::other(String::from_utf8_lossy(&built.stderr).into_owned()))
}

/// Runs a program to its end and gives what it printed, or that with its errors if it failed.
///
/// # Errors
/// It failed.
pub fn run(program: &Path, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(io::Error::other(format!("{said}{}", String::from_utf8_lossy(&output.stderr))))
}

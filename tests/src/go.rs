//! Go programs that tests play the other side with: real grpc-go, real suites. Each is a module below `tests/`, pinned by its
//! go.sum; Go builds it on first use and keeps it in its own cache.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::cluster::{has_go, repository};

/// `go` in a module's folder below `tests/`, with the dependencies of this go.mod; nothing is started yet. Without Go on the
/// machine there is none, and standard error says so; with `CI=true` that is an error.
///
/// # Errors
/// CI has no Go.
#[expect(clippy::print_stderr, reason = "a test that did not run has to say so")]
pub fn command(folder: &str, modfile: &str, arguments: &[&str]) -> io::Result<Option<Command>> {
    if !has_go() {
        if std::env::var_os("CI").is_some() {
            return Err(io::Error::other("Go is missing: ./tests/install-needs brings it"));
        }
        eprintln!("NOT RUN: what tests/{folder} is for. Go is missing: ./tests/install-needs brings it");
        return Ok(None);
    }
    let mut command = Command::new(repository().join("tests/cluster/go"));
    command.args(arguments).current_dir(repository().join("tests").join(folder)).env("CGO_ENABLED", "0");
    command.env("GOFLAGS", format!("-mod=readonly -buildvcs=false -modfile={modfile}"));
    Ok(Some(command))
}

/// Runs a command to its end and gives what it printed, or that with its errors if it failed.
///
/// # Errors
/// It failed.
pub fn said(mut command: Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(io::Error::other(format!("{said}{}", String::from_utf8_lossy(&output.stderr))))
}

/// The module's main package, built into `folder`.
///
/// # Errors
/// It does not build, or CI has no Go.
pub fn program(module: &str, modfile: &str, into: &Path) -> io::Result<Option<PathBuf>> {
    let program = into.join(modfile.trim_end_matches(".mod"));
    let target = program.display().to_string();
    let Some(build) = command(module, modfile, &["build", "-trimpath", "-o", &target, "."])? else {
        return Ok(None);
    };
    said(build).map(|_| Some(program))
}

//! A real one-node Kubernetes for tests: brought up once by the scripts in `tests/cluster/`, with our images in it, and
//! taken down again however the process ends.

pub mod evidence;
pub mod kubectl;
pub mod pod;
pub mod store;

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::fs::{FlockOperation, flock};

use self::kubectl::Kubectl;

/// Where everything of a running cluster is; as in `tests/cluster/settings`.
const RUN: &str = "/var/lib/strongroom-cluster";

/// The images that `deploy/images/build` makes.
const IMAGES: &str = "target/image";

/// A running cluster. Dropping it takes it down; a guard process does so at every other end.
pub struct Cluster {
    /// The way to ask it and to change it.
    pub kubectl: Kubectl,
    /// Where its logs are.
    pub logs: PathBuf,
    guard: Guard,
    _lock: File,
}

impl Cluster {
    /// Builds the images and the cluster's programs where they are not built yet, and starts it.
    ///
    /// # Errors
    /// Any step failed; what the scripts said is on standard error.
    pub fn up() -> io::Result<Cluster> {
        let root = repository();
        run(&root, Path::new("deploy/images/build"), &[])?;
        let cache = cache()?;
        fs::create_dir_all(&cache)?;
        // Addresses and the bridge exist once per machine, so a second test run waits here for the first.
        let lock = File::create(cache.join("tests.lock"))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        // What a run left that was killed together with its guard.
        if fs::read_to_string(Path::new(RUN).join("by")).is_ok_and(|by| by.trim() == "tests") {
            run(&root, Path::new("tests/cluster/down"), &[])?;
        }
        let guard = Guard::start(&root)?;
        let mut images: Vec<PathBuf> =
            fs::read_dir(root.join(IMAGES))?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        images.retain(|path| path.extension().is_some_and(|extension| extension == "tar"));
        run(&root, Path::new("tests/cluster/up"), &images)?;
        let kubectl = Kubectl::new(Path::new(RUN));
        Ok(Cluster { kubectl, logs: cache.join("logs"), guard, _lock: lock })
    }

    /// Stops a program of the node, such as `kubelet`; its containers stay.
    ///
    /// # Errors
    /// No such program runs.
    pub fn stop_process(&self, name: &str) -> io::Result<()> {
        run(&repository(), Path::new("tests/cluster/process"), &["stop".into(), name.into()])
    }

    /// Starts it again, as it was.
    ///
    /// # Errors
    /// It runs, or is none of the cluster's.
    pub fn start_process(&self, name: &str) -> io::Result<()> {
        run(&repository(), Path::new("tests/cluster/process"), &["start".into(), name.into()])
    }

    /// Takes it down and says whether something was left behind.
    ///
    /// # Errors
    /// Something was; the script said what.
    pub fn down(self) -> io::Result<()> {
        self.guard.end()
    }
}

/// Takes the cluster down when this process is gone, in whatever way: it waits for the end of a pipe whose other end only
/// this process holds. In a process group of its own, so that Ctrl-C does not reach it.
struct Guard(Child);

impl Guard {
    fn start(root: &Path) -> io::Result<Guard> {
        let mut command = Command::new("/bin/bash");
        // Not one that a person brought up: then `up` refused, and there is nothing of ours.
        let script = r#"cat >/dev/null; [ "$(cat "$1/by" 2>/dev/null)" != tests ] || exec "$0""#;
        command.args(["-c", script]).arg(root.join("tests/cluster/down")).arg(RUN);
        Ok(Guard(command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?))
    }

    fn end(mut self) -> io::Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> io::Result<()> {
        drop(self.0.stdin.take());
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("the cluster left something behind")) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // After `end` this is a second look at a child that is gone; after a panic it is the way down.
        let _ = self.finish();
    }
}

/// Where the cluster's programs are kept; as in `tests/cluster/settings`.
///
/// # Errors
/// Nothing says where.
fn cache() -> io::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("STRONGROOM_CLUSTER_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("strongroom-cluster")))
        .or_else(|| Some(variable("HOME")?.join(".cache/strongroom-cluster")))
        .ok_or_else(|| io::Error::other("set STRONGROOM_CLUSTER_CACHE, XDG_CACHE_HOME or HOME"))
}

/// The folder of what `tests/cluster/build` makes, for those who need a program without a cluster; made if it is not there. A machine
/// may lack what that takes, and standard error says so; with `CI=true` that is an error.
///
/// # Errors
/// CI cannot have them, or they do not build.
#[expect(clippy::print_stderr, reason = "a test that did not run has to say so")]
pub fn programs() -> io::Result<Option<PathBuf>> {
    let missing = missing();
    if !missing.is_empty() {
        let said =
            format!("kubectl and Helm are not there, because this machine lacks {}", missing.join("; "));
        if std::env::var_os("CI").is_some() {
            return Err(io::Error::other(said));
        }
        eprintln!("NOT RUN: {said}");
        return Ok(None);
    }
    run(&repository(), Path::new("tests/cluster/build"), &[])?;
    Ok(Some(cache()?.join("programs")))
}

/// The folder of the workspace.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Runs a script of ours; what it says goes to standard error.
fn run(root: &Path, script: &Path, arguments: &[PathBuf]) -> io::Result<()> {
    let mut command = Command::new(root.join(script));
    // What cargo tells this test about itself: the cargo that builds the images would take it for a change and build anew.
    let is_of_this_test = |name: &str| {
        let begins = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        begins.iter().any(|begin| name.starts_with(begin)) || ["CARGO", "LD_LIBRARY_PATH"].contains(&name)
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_of_this_test)) {
        command.env_remove(name);
    }
    command.env("STRONGROOM_CLUSTER_BY", "tests").args(arguments).stdin(Stdio::null()).stdout(io::stderr());
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{} failed", script.display()))) }
}

/// What this machine lacks for a cluster; empty if nothing.
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    let mut need = |there: bool, what: &str| {
        if !there {
            missing.push(what.to_owned());
        }
    };
    need(rustix::process::geteuid().is_root(), "root: it mounts, makes a bridge and starts containers");
    need(may_administer(), "the capability SYS_ADMIN: without it nothing can be mounted");
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let debian = release.contains("ID=debian") && release.contains("VERSION_ID=\"12\"");
    need(debian, "Debian 12: some of the cluster's programs are its packages");
    need(
        Path::new("/sys/fs/cgroup/memory").is_dir(),
        "cgroup v1: start the machine with systemd.unified_cgroup_hierarchy=0",
    );
    for tool in ["buildah", "openssl", "curl", "ip", "readelf", "cc"] {
        need(in_path(tool), &format!("{tool}: ./tests/install-needs installs it"));
    }
    need(has_go(), "Go, new enough to build Kubernetes: ./tests/install-needs brings it");
    missing
}

/// Whether there is a Go that is new enough for the modules below `tests/`.
pub fn has_go() -> bool {
    let mut command = Command::new(repository().join("tests/cluster/go"));
    let status = command.arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn may_administer() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

fn in_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(tool).is_file())
}

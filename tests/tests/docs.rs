//! The guides do what they say: every block of shell behind `<!-- tested -->` runs as it stands, in the order of the page,
//! against the real binaries. Only the places are others: directories, ports, and what only root or systemd could do.

use std::{
    fs,
    io::{self, Write},
    net::TcpListener,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use strongroom_tests::{postgres::Postgres, server::binary};

/// The marker before a block.
const TESTED: &str = "<!-- tested -->\n```sh\n";

/// What stands in for root and for systemd.
const SUDO: &str = "#!/bin/sh\nexec \"$@\"\n";
const SYSTEMCTL: &str = r#"#!/usr/bin/env bash
set -euo pipefail
case "$1" in
  start)
    strongroom-server --config "$PLACE/etc/server.toml" >>"$PLACE/log" 2>&1 &
    echo $! >"$PLACE/pid"
    for _ in $(seq 300); do curl -sf "http://127.0.0.1:$OPS/healthz" >/dev/null && exit 0; sleep 0.1; done
    cat "$PLACE/log" >&2; exit 1 ;;
  stop)
    kill "$(cat "$PLACE/pid")"
    for _ in $(seq 300); do kill -0 "$(cat "$PLACE/pid")" 2>/dev/null || exit 0; sleep 0.1; done
    exit 1 ;;
esac
"#;

/// A machine of its own to follow the guides on.
struct Machine {
    place: tempfile::TempDir,
    api: u16,
    ops: u16,
    postgres: Option<Postgres>,
}

impl Machine {
    fn new() -> io::Result<Machine> {
        let place = tempfile::tempdir()?;
        for folder in ["bin", "etc/tls", "lib", "backup", "home"] {
            fs::create_dir_all(place.path().join(folder))?;
        }
        script(&place.path().join("bin/sudo"), SUDO)?;
        script(&place.path().join("bin/systemctl"), SYSTEMCTL)?;
        // Both are held until both are known, or they could be the same.
        let (api, ops) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        let (api, ops) = (api.local_addr()?.port(), ops.local_addr()?.port());
        let postgres = Postgres::start()?;
        if let Some(postgres) = &postgres {
            let password = "at-first";
            fs::write(place.path().join("home/database-password"), password)?;
            postgres.sql(&format!(
                "CREATE ROLE strongroom LOGIN CREATEROLE PASSWORD '{password}' IN ROLE pg_signal_backend;
                 CREATE ROLE reader; CREATE ROLE legacy_app LOGIN"
            ))?;
        }
        let machine = Machine { place, api, ops, postgres };
        let config = machine.here(&fs::read_to_string(root().join("deploy/server.toml"))?);
        fs::write(machine.place.path().join("etc/server.toml"), config)?;
        Ok(machine)
    }

    /// The text with the places of this machine.
    fn here(&self, text: &str) -> String {
        let at = |folder: &str| self.place.path().join(folder).display().to_string();
        text.replace("/etc/strongroom", &at("etc"))
            .replace("/var/lib/strongroom", &at("lib"))
            .replace("/srv/backup", &at("backup"))
            .replace("7420", &self.api.to_string())
            .replace("7421", &self.ops.to_string())
    }

    /// The same of a page about a database.
    fn beside_a_database(&self, text: &str, postgres: &Postgres) -> String {
        self.here(text)
            .replace("db.example", "localhost")
            .replace("--port 5432", &format!("--port {}", postgres.port))
            .replace("/etc/postgresql/ca.pem", &postgres.ca.display().to_string())
    }

    /// Runs all blocks of the pages as one script, so that what one block exports the next one has.
    fn follow(&self, pages: &[&str]) -> io::Result<()> {
        let mut text = "set -euxo pipefail\n".to_owned();
        for page in pages {
            let blocks = blocks(&fs::read_to_string(root().join(page))?);
            assert!(blocks.len() > 2, "{page} has lost its blocks");
            let blocks = match &self.postgres {
                Some(postgres) => self.beside_a_database(&blocks.concat(), postgres),
                // Where there is no PostgreSQL, it has said so.
                None if page.ends_with("database.md") => continue,
                None => self.here(&blocks.concat()),
            };
            text.push_str(&format!("cd '{}' # {page}\n{blocks}", root().display()));
        }
        let file = self.place.path().join("guide.sh");
        fs::write(&file, text)?;
        let binaries = binary("strongroom")?;
        let binaries = binaries.parent().unwrap_or(Path::new("."));
        let path =
            format!("{}:{}:/usr/bin:/bin", self.place.path().join("bin").display(), binaries.display());
        let mut bash = Command::new("bash");
        bash.arg(&file).env_clear().env("PATH", path);
        bash.env("HOME", self.place.path().join("home")).env("PLACE", self.place.path());
        bash.env("OPS", self.ops.to_string())
            .env("STRONGROOM_ADDR", format!("https://localhost:{}", self.api));
        let done = bash.stdin(std::process::Stdio::null()).output()?;
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        if done.status.success() {
            return Ok(());
        }
        let log = fs::read_to_string(self.place.path().join("log")).unwrap_or_default();
        Err(io::Error::other(format!("a guide failed:\n{out}\n--- commands\n{err}\n--- server\n{log}")))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.place.path().join("pid")).unwrap_or_default();
        let pid = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn blocks(page: &str) -> Vec<String> {
    let rest = page.split(TESTED).skip(1);
    rest.filter_map(|rest| rest.split_once("```\n")).map(|(block, _)| block.to_owned()).collect()
}

fn script(file: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o755).open(file)?.write_all(text.as_bytes())
}

/// One machine for all: the user comes to what the operator has set up.
#[test]
fn the_guides_do_what_they_say() -> io::Result<()> {
    Machine::new()?.follow(&[
        "docs/operator.md",
        "docs/user.md",
        "docs/wrapping.md",
        "docs/engines/random.md",
        "docs/engines/transit.md",
        "docs/engines/database.md",
        "docs/engines/pki.md",
    ])
}

//! A real PostgreSQL with TLS, started on a free loopback port in a folder of its own, with everything that it is asked in its
//! log. It does not run as root, so root starts it as the user that Debian's package makes for it.

use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::pki::Pki;

/// Where Debian has the programs of each version.
const PROGRAMS: &str = "/usr/lib/postgresql";
/// Of whoever is nobody else: it may do everything, and comes in by the socket only.
const SUPERUSER: &str = "postgres";
/// A port that was free may be taken a moment later.
const ATTEMPTS: usize = 3;

/// See the module; stopped when dropped.
pub struct Postgres {
    pub port: u16,
    /// What signed its certificate, for `localhost` and `127.0.0.1`.
    pub ca: PathBuf,
    programs: PathBuf,
    home: TempDir,
}

impl Postgres {
    /// Starts one. None if it is not installed, which is an error in CI.
    ///
    /// # Errors
    /// It did not come up, or CI has none.
    pub fn start() -> io::Result<Option<Self>> {
        let Some(programs) = programs() else {
            let missing = "PostgreSQL is missing: ./tests/install-needs brings it";
            if std::env::var_os("CI").is_some() {
                return Err(io::Error::other(missing));
            }
            not_run(missing);
            return Ok(None);
        };
        let home = tempfile::tempdir()?;
        let pki = Pki::create(home.path())?;
        let mut postgres = Self { port: 0, ca: pki.ca.clone(), programs, home };
        postgres.own(postgres.home.path())?;
        postgres.run(
            "initdb",
            &["-D", "data", "-A", "trust", "-U", SUPERUSER, "-E", "UTF8", "--locale=C", "-N"],
        )?;
        let mut last = io::Error::other("never started");
        for _ in 0..ATTEMPTS {
            postgres.port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            postgres.configure(&pki)?;
            match postgres.up() {
                Ok(()) => return Ok(Some(postgres)),
                Err(error) => last = error,
            }
        }
        Err(io::Error::other(format!("{last}\n{}", postgres.log())))
    }

    fn configure(&self, pki: &Pki) -> io::Result<()> {
        let (data, home) = (self.home.path().join("data"), self.home.path().display());
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{home}'\nssl = on\n\
             ssl_cert_file = '{}'\nssl_key_file = '{}'\nfsync = off\nlog_statement = all\n\
             log_min_messages = debug1\nlog_connections = on\npassword_encryption = 'scram-sha-256'\n",
            self.port,
            pki.certificate.display(),
            pki.key.display(),
        );
        fs::write(data.join("postgresql.conf"), settings)?;
        let doors = format!(
            "local all {SUPERUSER} trust\nlocal all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
        );
        fs::write(data.join("pg_hba.conf"), doors)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// It did not come up.
    pub fn up(&self) -> io::Result<()> {
        self.run("pg_ctl", &["-D", "data", "-w", "-t", "30", "-l", "log", "start"]).map(drop)
    }

    /// Stops it at once, with everybody's sessions.
    ///
    /// # Errors
    /// It does not stop.
    pub fn down(&self) -> io::Result<()> {
        self.run("pg_ctl", &["-D", "data", "-w", "-t", "30", "-m", "immediate", "stop"]).map(drop)
    }

    /// The folder of its socket.
    pub fn socket(&self) -> String {
        self.home.path().display().to_string()
    }

    /// All it has written.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// What the superuser is answered: rows of lines, columns between bars.
    ///
    /// # Errors
    /// It is refused.
    pub fn sql(&self, sql: &str) -> io::Result<String> {
        let mut psql = self.command("psql");
        // What a test prepares is nobody's secret to keep; the log is about the others.
        psql.env("PGOPTIONS", "-c log_statement=none");
        psql.args(["-h", &self.socket(), "-p", &self.port.to_string(), "-U", SUPERUSER]);
        output(psql.args(["-d", "postgres", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql]))
    }

    /// The same as a user with a password, over TLS.
    ///
    /// # Errors
    /// It is not let in, or refused.
    pub fn sql_as(&self, user: &str, password: &str, sql: &str) -> io::Result<String> {
        output(&mut self.session(user, password, sql))
    }

    /// A session that lasts; to be ended by whoever began it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn stay_as(&self, user: &str, password: &str) -> io::Result<Child> {
        let mut psql = self.session(user, password, "SELECT pg_sleep(600)");
        psql.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    }

    fn session(&self, user: &str, password: &str, sql: &str) -> Command {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
        let to = format!(
            "host=127.0.0.1 port={} dbname=postgres user='{}' sslmode=verify-full sslrootcert='{}'",
            self.port,
            quoted(user),
            self.ca.display()
        );
        let mut psql = Command::new(self.programs.join("psql"));
        psql.env("PGPASSWORD", password).current_dir("/");
        psql.args(["-X", "-w", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql, &to]);
        psql
    }

    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<String> {
        // What it starts keeps running, so nobody may wait for the end of its output.
        let told = self.home.path().join("told");
        let mut command = self.command(program);
        command.args(arguments).stdin(Stdio::null()).stdout(fs::File::create(&told)?).stderr(Stdio::null());
        let done = command.status()?.success();
        let text = fs::read_to_string(&told)?;
        if done { Ok(text) } else { Err(io::Error::other(format!("{program} {arguments:?}: {text}"))) }
    }

    /// As somebody who may run it.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = Command::new("setpriv");
        match is_root() {
            true => command.args(["--reuid", SUPERUSER, "--regid", SUPERUSER, "--clear-groups"]).arg(program),
            false => {
                command = Command::new(program);
                &mut command
            }
        };
        command.current_dir(self.home.path());
        command
    }

    fn own(&self, folder: &Path) -> io::Result<()> {
        if is_root() {
            output(Command::new("chown").arg("-R").arg(SUPERUSER).arg(folder))?;
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.down();
    }
}

#[allow(clippy::print_stderr, reason = "a test that did not run has to say so")]
fn not_run(why: &str) {
    eprintln!("NOT RUN: what a real database is for. {why}");
}

/// The newest of what is installed.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(PROGRAMS).ok()?.filter_map(Result::ok);
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).filter_map(|path| Some((number(&path)?, path))).max()?;
    Some(newest.1.join("bin")).filter(|bin| bin.join("initdb").is_file())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn output(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(io::Error::other(text(&output.stderr)))
}

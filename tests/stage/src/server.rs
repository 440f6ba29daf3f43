//! The real server binary, started on free loopback ports in a directory of its own.

use std::{
    fs, io,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    http::http_get,
    pki::Pki,
    wait::{DEADLINE, found},
};

/// What a test decides about a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// `fsync` or `os`.
    pub durability: &'static str,
    /// `sled` or `memory`.
    pub storage: &'static str,
    pub level: &'static str,
    /// Further command line arguments.
    pub arguments: Vec<String>,
    /// Further sections of the configuration file.
    pub config: String,
    /// Environment of the process.
    pub environment: Vec<(String, String)>,
    /// Lines of the section `limits`. By default no caller has a quota that a test or a benchmark could use up.
    pub limits: &'static str,
    /// File descriptors that the process may have open; `None`: as many as this one.
    pub open_files: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: "fsync",
            storage: "sled",
            level: "info",
            arguments: Vec::new(),
            config: String::new(),
            environment: Vec::new(),
            limits: "reads_per_second = 1000000\nwrites_per_second = 1000000\nadmin_per_second = 1000000\n\
                     logins_per_second = 1000000",
            open_files: None,
        }
    }
}

/// Resident memory of a server.
#[derive(Clone, Copy, Debug)]
pub enum Memory {
    Now,
    /// The most there ever was.
    Peak,
}

/// A running server; killed when dropped.
pub struct Server {
    /// Where the configuration, certificates, data and audit log are.
    pub directory: PathBuf,
    /// `https://127.0.0.1:PORT`
    pub url: String,
    /// The plain port.
    pub ops: SocketAddr,
    child: Child,
    log: Arc<Mutex<String>>,
}

/// The server's program, started with fewer file descriptors where that is wanted.
fn command(options: &Options) -> io::Result<Command> {
    let program = binary("strongroom-server")?;
    let Some(files) = options.open_files else { return Ok(Command::new(program)) };
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -n {files} && exec \"$0\" \"$@\"")).arg(program);
    Ok(shell)
}

/// A binary of this workspace: it stands beside the running one, or a folder above (tests run in `deps/`).
///
/// # Errors
/// It was not built.
pub fn binary(name: &str) -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folders = own.ancestors().skip(1).take(2);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file()).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("{name} is not built: run `cargo build --workspace` first"),
        )
    })
}

impl Server {
    /// Starts in `directory`, making certificates and a configuration if there are none.
    ///
    /// # Errors
    /// It did not come up; the error holds its log.
    pub fn start(directory: &Path, options: &Options) -> io::Result<Server> {
        write_configuration(directory, options)?;
        Self::start_as_configured(directory, options)
    }

    /// Starts with the configuration that is in `directory`.
    ///
    /// # Errors
    /// It did not come up; the error holds its log.
    pub fn start_as_configured(directory: &Path, options: &Options) -> io::Result<Server> {
        let mut child = command(options)?
            .arg("--config")
            .arg(directory.join("server.toml"))
            .args(&options.arguments)
            .envs(options.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = Arc::new(Mutex::new(String::new()));
        let (found, listening) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            thread::spawn(move || follow(BufReader::new(stderr), &log, &found, addresses));
        }
        let mut server =
            Server { directory: directory.into(), url: String::new(), ops: ([0; 4], 0).into(), child, log };
        match listening.recv_timeout(DEADLINE) {
            Ok((api, ops)) => {
                server.url = format!("https://{api}");
                server.ops = ops;
                Ok(server)
            }
            Err(_) => Err(io::Error::other(format!("the server did not come up:\n{}", server.log()))),
        }
    }

    /// What clients trust.
    pub fn ca(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory.
    ///
    /// # Errors
    /// It is gone.
    pub fn memory_mib(&self, which: Memory) -> io::Result<f64> {
        memory_mib(self.pid(), which)
    }

    /// A metric by its name and labels; 0 while it is not there.
    ///
    /// # Errors
    /// The ops port does not answer.
    pub fn metric(&self, name: &str) -> io::Result<u64> {
        let (_, metrics) = http_get(self.ops, "/metrics")?;
        let value = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
        Ok(metrics.lines().find_map(value).unwrap_or(0))
    }

    /// SIGKILL: as good as a crash, except for the page cache.
    ///
    /// # Errors
    /// There is no such process.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// There is no such process.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        send(&self.child, signal)
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It did not stop in time, or not with success.
    pub fn stop(mut self) -> io::Result<()> {
        self.signal(Signal::TERM)?;
        let status = ended(&mut self.child)?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("{status}:\n{}", self.log()))) }
    }

    /// Waits for it to end by itself, and says how.
    ///
    /// # Errors
    /// It did not.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        ended(&mut self.child)
    }
}

/// Resident memory of a process, as the system counts it.
///
/// # Errors
/// It is gone.
pub fn memory_mib(pid: u32, which: Memory) -> io::Result<f64> {
    let name = match which {
        Memory::Now => "VmRSS:",
        Memory::Peak => "VmHWM:",
    };
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| io::Error::other(format!("no {name}")))
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `strongroom-server salvage` on the damaged store of the server that was configured in `home`.
///
/// # Errors
/// The program cannot be started.
pub fn salvage(home: &Path, into: &Path, shares: &[PathBuf]) -> io::Result<Output> {
    let mut command = Command::new(binary("strongroom-server")?);
    command.arg("--config").arg(home.join("server.toml")).arg("salvage").arg("--into").arg(into);
    for share in shares {
        command.arg("--share-file").arg(share);
    }
    command.output()
}

/// The same with shares on standard input, one in each line.
///
/// # Errors
/// It could not be started.
pub fn salvage_typed(home: &Path, into: &Path, shares: &[u8]) -> io::Result<Output> {
    let mut command = Command::new(binary("strongroom-server")?);
    command.arg("--config").arg(home.join("server.toml")).arg("salvage").arg("--into").arg(into);
    command.args(["--share-file", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(shares)?;
    }
    child.wait_with_output()
}

/// Sends a signal to a process.
///
/// # Errors
/// There is no such process.
pub fn send(child: &Child, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    Ok(kill_process(pid.ok_or_else(|| io::Error::other("no process id"))?, signal)?)
}

/// Waits for a process to end by itself, and says how.
///
/// # Errors
/// It did not.
pub fn ended(child: &mut Child) -> io::Result<ExitStatus> {
    found("the process has ended", DEADLINE, || child.try_wait())
}

/// Keeps the log of a process and finds the line that tells its ports.
pub fn follow<P>(
    lines: impl BufRead,
    log: &Mutex<String>,
    found: &mpsc::Sender<P>,
    ports: impl Fn(&str) -> Option<P>,
) {
    for line in lines.lines().map_while(Result::ok) {
        if let Some(ports) = ports(&line) {
            let _ = found.send(ports);
        }
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push_str(&line);
        log.push('\n');
    }
}

fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    let address = |name| fields.get(name)?.as_str()?.parse().ok();
    Some((address("api")?, address("ops")?))
}

fn write_configuration(directory: &Path, options: &Options) -> io::Result<()> {
    if !directory.join("server.pem").exists() {
        Pki::create(directory)?;
    }
    let at = |name: &str| directory.join(name).display().to_string();
    let text = format!(
        r#"[listen]
address = "127.0.0.1:0"
ops_address = "127.0.0.1:0"

[tls]
certificate = {certificate:?}
key = {key:?}

[storage]
kind = {storage:?}
directory = {data:?}

[seal]
key_file = {seal:?}

[audit]
directory = {audit:?}
durability = {durability:?}

[log]
format = "json"
level = {level:?}

[limits]
{limits}
"#,
        certificate = at("server.pem"),
        key = at("server.key"),
        storage = options.storage,
        data = at("data"),
        seal = at("seal.key"),
        audit = at("audit"),
        durability = options.durability,
        level = options.level,
        limits = options.limits,
    );
    fs::write(directory.join("server.toml"), text + &options.config)
}

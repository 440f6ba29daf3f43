//! The configuration: flags over environment over file over defaults. Every mistake is told at once, with its key, what
//! was given and what is expected. It starts nothing; `check-config` and the start use the same function.

mod kubernetes;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::{Parser, Subcommand};
use strongroom_daemon::log::{self, LogFormat};
use toml::{Table, Value};

pub use kubernetes::{ApiServer, Cluster, Mode};

use crate::{limits, model::Invalid};

/// The Strongroom server.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "strongroom-server", version, about)]
pub struct Args {
    /// TOML file; without it the defaults, the environment and the flags decide
    #[arg(long, env = "STRONGROOM_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// Overrides of the file.
    #[command(flatten)]
    pub overrides: Overrides,
    /// Break-glass: unseal although the data or the audit log is older than the other says, because you restored it
    #[arg(long)]
    pub accept_rollback: bool,
    /// What to do; `run` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the server is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serve (the default)
    Run,
    /// Report every mistake in the configuration and exit
    CheckConfig,
    /// Bring back what is intact of a damaged store, into a new directory; the damaged one is only read
    Salvage {
        /// The new store: a directory that is empty or does not exist yet
        #[arg(long)]
        into: PathBuf,
        /// A file with a share, as often as the threshold asks, or - for standard input with a share in each line; none where
        /// a key file unseals
        #[arg(long)]
        share_file: Vec<PathBuf>,
    },
    /// Print the version
    Version,
}

macro_rules! overrides {
    (
        sinks { $($sink_field:ident, $sink_flag:literal, $sink_env:literal => $sink:literal;)* }
        $($field:ident, $flag:literal, $env:literal => $section:literal . $key:literal;)*
    ) => {
        /// Settings that a flag or the environment may say instead of the file.
        #[derive(Clone, Debug, Default, clap::Args)]
        pub struct Overrides {
            $(
                #[doc = concat!($section, ".", $key, " of the file")]
                #[arg(long = $flag, env = $env, global = true)]
                pub $field: Option<String>,
            )*
            $(
                #[doc = concat!("audit.", $sink, " of the file")]
                #[arg(long = $sink_flag, env = $sink_env, global = true)]
                pub $sink_field: Option<String>,
            )*
        }

        /// Keys of `[audit]` that switch a second sink on: the names of their kinds.
        pub const SINKS: &[&str] = &[$($sink),*];

        impl Overrides {
            fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, &str)> {
                [
                    $(($section, $key, self.$field.as_deref()),)*
                    $(("audit", $sink, self.$sink_field.as_deref()),)*
                ]
                .into_iter()
                    .filter_map(|(section, key, value)| Some((section, key, value?)))
            }
        }
    };
}

overrides! {
    sinks {
        audit_stdout, "audit-stdout", "STRONGROOM_AUDIT_STDOUT" => "stdout";
    }
    listen_address, "listen-address", "STRONGROOM_LISTEN_ADDRESS" => "listen"."address";
    ops_address, "ops-address", "STRONGROOM_OPS_ADDRESS" => "listen"."ops_address";
    tls_certificate, "tls-certificate", "STRONGROOM_TLS_CERTIFICATE" => "tls"."certificate";
    tls_key, "tls-key", "STRONGROOM_TLS_KEY" => "tls"."key";
    storage_kind, "storage-kind", "STRONGROOM_STORAGE_KIND" => "storage"."kind";
    storage_directory, "storage-directory", "STRONGROOM_STORAGE_DIRECTORY" => "storage"."directory";
    seal_key_file, "seal-key-file", "STRONGROOM_SEAL_KEY_FILE" => "seal"."key_file";
    audit_directory, "audit-directory", "STRONGROOM_AUDIT_DIRECTORY" => "audit"."directory";
    audit_anchor, "audit-anchor", "STRONGROOM_AUDIT_ANCHOR" => "audit"."anchor";
    audit_durability, "audit-durability", "STRONGROOM_AUDIT_DURABILITY" => "audit"."durability";
    log_format, "log-format", "STRONGROOM_LOG_FORMAT" => "log"."format";
    log_level, "log-level", "STRONGROOM_LOG_LEVEL" => "log"."level";
}

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// The certificate.
    pub tls: Tls,
    /// The store.
    pub storage: Storage,
    /// The key file of a file seal.
    pub seal: Seal,
    /// The audit log.
    pub audit: Audit,
    /// The log.
    pub log: Log,
    /// Limits that a deployment may need to change.
    pub limits: Limits,
    /// Clusters whose pods may log in, by name.
    pub kubernetes: BTreeMap<Box<str>, Cluster>,
}

/// Addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// gRPC over TLS.
    pub address: SocketAddr,
    /// Health and metrics, plain HTTP.
    pub ops_address: SocketAddr,
    pub init_from: InitFrom,
}

/// Where an init may come from. Whoever is the first to ask gets the shares and the root token, so that at first only those
/// are heard who are on the server's machine, or in its pod, already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InitFrom {
    #[default]
    Loopback,
    Anywhere,
}

impl InitFrom {
    /// Whether it may come from there.
    pub fn takes(self, peer: Option<IpAddr>) -> bool {
        self == Self::Anywhere || peer.is_some_and(|peer| peer.to_canonical().is_loopback())
    }
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Where sealed records are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    pub kind: StorageKind,
    /// Not used by `memory`.
    pub directory: PathBuf,
    /// For sled.
    pub cache_mib: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageKind {
    /// On disk.
    Sled,
    /// Gone with the process: for trying out.
    Memory,
}

/// The file seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Where its key is.
    pub key_file: Option<PathBuf>,
}

/// The audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Where the log segments are.
    pub directory: PathBuf,
    /// What a record must have reached before an answer leaves.
    pub durability: Durability,
    /// Second sinks that are switched on, by the names of their kinds.
    pub sinks: BTreeSet<&'static str>,
    /// Size of a segment.
    pub segment_mib: u64,
    /// A file that says how far the log was, kept where nobody can change it together with the log.
    pub anchor: Option<PathBuf>,
}

/// When a record counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After fdatasync: it survives a power cut.
    #[default]
    Fsync,
    /// When the operating system has it: it survives a crash of the server, not of the machine. Checkpoints are synced.
    Os,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its form.
    pub format: LogFormat,
    /// Its filter.
    pub level: String,
}

/// See `limits.rs` for the reasons of the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests in progress at once.
    pub in_flight: u64,
    /// Deadline of a request.
    pub request_seconds: u64,
    /// Requests of one caller in a second.
    pub rates: Rates,
}

/// Requests in a second, of one caller, in the long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    pub reads: u32,
    pub writes: u32,
    /// Of what is about the server and its users, reads and writes alike.
    pub admin: u32,
    /// Logins, by address.
    pub logins: u32,
}

/// Reads the file that `args` name, lays environment and flags over it, and checks all of it.
///
/// # Errors
/// Every mistake.
pub fn load(args: &Args) -> Result<Config, Vec<Invalid>> {
    let text = match &args.config {
        None => String::new(),
        Some(path) => read(path)
            .map_err(|e| vec![Invalid::new("--config", format!("cannot read {}: {e}", path.display()))])?,
    };
    parse(&text, &args.overrides)
}

/// [`load`] without the file system.
///
/// # Errors
/// Every mistake.
pub fn parse(text: &str, overrides: &Overrides) -> Result<Config, Vec<Invalid>> {
    // Only place and kind of a syntax error: the line itself may hold anything.
    let mut table: Table = text.parse().map_err(|e: toml::de::Error| {
        let at = e.span().map_or(0, |span| span.start);
        let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        vec![Invalid::new("file", format!("is not TOML in line {line}: {}", e.message()))]
    })?;
    for (section, key, value) in overrides.all() {
        let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(section) = section {
            section.insert(key.to_owned(), Value::String(value.to_owned()));
        }
    }
    let mut reader = Reader { table, problems: Vec::new(), sections: BTreeSet::new() };
    let config = config(&mut reader);
    reader.unknown_sections();
    match config {
        Some(config) if reader.problems.is_empty() => Ok(config),
        _ => Err(reader.problems),
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(limits::CONFIG_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Reads all sections before it gives up on any of them.
fn config(reader: &mut Reader) -> Option<Config> {
    let mut s = reader.section("listen");
    let address = s.address("address", "127.0.0.1:7420");
    let ops_address = s.address("ops_address", "127.0.0.1:7421");
    if let (Some(address), Some(ops_address)) = (address, ops_address)
        && collide(address, ops_address)
    {
        s.problem("ops_address", format!("is {ops_address}, where listen.address {address} is already"));
    }
    let init_from =
        s.choice("init_from", &[("loopback", InitFrom::Loopback), ("anywhere", InitFrom::Anywhere)]);
    s.end();
    let mut s = reader.section("tls");
    let certificate = s.required_path("certificate");
    let key = s.required_path("key");
    s.end();
    let mut s = reader.section("storage");
    let kind = s.choice("kind", &[("sled", StorageKind::Sled), ("memory", StorageKind::Memory)]);
    let directory = s.path("directory").or_else(|| Some("/var/lib/strongroom/data".into()));
    let cache_mib = s.number("cache_mib", 64, 8, 65_536);
    s.end();
    let mut s = reader.section("seal");
    let key_file = s.path("key_file");
    s.end();
    let mut s = reader.section("audit");
    let audit_directory = s.path("directory").or_else(|| Some("/var/lib/strongroom/audit".into()));
    let durability = s.choice("durability", &[("fsync", Durability::Fsync), ("os", Durability::Os)]);
    let sinks = s.switches(SINKS);
    let segment_mib = s.number("segment_mib", 64, 1, 4096);
    let anchor = s.path("anchor");
    s.end();
    let mut s = reader.section("log");
    let format = s.choice("format", &[("json", LogFormat::Json), ("text", LogFormat::Text)]);
    let level = s.level("level");
    s.end();
    let mut s = reader.section("limits");
    let in_flight = s.number("in_flight", limits::IN_FLIGHT as u64, 1, limits::MOST_IN_FLIGHT);
    let request_seconds = s.number("request_seconds", limits::REQUEST_DEADLINE.as_secs(), 1, 600);
    let mut rate = |key, default: u32| {
        s.number(key, default.into(), 1, 1_000_000).map(|rate| u32::try_from(rate).unwrap_or(u32::MAX))
    };
    let reads = rate("reads_per_second", limits::READS_PER_SECOND);
    let writes = rate("writes_per_second", limits::WRITES_PER_SECOND);
    let admin = rate("admin_per_second", limits::ADMIN_PER_SECOND);
    let logins = rate("logins_per_second", limits::LOGINS_PER_SECOND);
    s.end();
    let kubernetes = kubernetes::clusters(reader);
    Some(Config {
        listen: Listen { address: address?, ops_address: ops_address?, init_from: init_from? },
        tls: Tls { certificate: certificate?, key: key? },
        storage: Storage { kind: kind?, directory: directory?, cache_mib: cache_mib? },
        seal: Seal { key_file },
        audit: Audit {
            directory: audit_directory?,
            durability: durability?,
            sinks: sinks?,
            segment_mib: segment_mib?,
            anchor,
        },
        log: Log { format: format?, level: level? },
        limits: Limits {
            in_flight: in_flight?,
            request_seconds: request_seconds?,
            rates: Rates { reads: reads?, writes: writes?, admin: admin?, logins: logins? },
        },
        kubernetes: kubernetes?,
    })
}

/// Whether no two sockets can listen there. Port 0 is always another one.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    same && one.port() == other.port() && one.port() != 0
}

/// Walks the file and keeps every problem.
struct Reader {
    table: Table,
    problems: Vec<Invalid>,
    sections: BTreeSet<&'static str>,
}

struct Section<'a> {
    name: String,
    table: Table,
    keys: BTreeSet<&'static str>,
    problems: &'a mut Vec<Invalid>,
}

impl Reader {
    fn section(&mut self, name: &'static str) -> Section<'_> {
        self.sections.insert(name);
        let table = match self.table.remove(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                let problem = format!("is {}; expected a section [{name}]", shown(&other));
                self.problems.push(Invalid::new(name, problem));
                Table::new()
            }
        };
        Section { name: name.to_owned(), table, keys: BTreeSet::new(), problems: &mut self.problems }
    }

    fn unknown_sections(&mut self) {
        for name in self.table.keys() {
            self.problems
                .push(Invalid::new(name, format!("is not a known section{}", nearest(name, &self.sections))));
        }
    }
}

impl Section<'_> {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.keys.insert(key);
        self.table.remove(key)
    }

    fn problem(&mut self, key: &str, problem: impl Into<String>) {
        self.problems.push(Invalid::new(format!("{}.{key}", self.name), problem));
    }

    fn wrong<T>(&mut self, key: &str, given: &Value, expected: &str) -> Option<T> {
        self.problem(key, format!("is {}; expected {expected}", shown(given)));
        None
    }

    fn address(&mut self, key: &'static str, default: &str) -> Option<SocketAddr> {
        let value = self.take(key).unwrap_or_else(|| Value::String(default.to_owned()));
        let parsed = value.as_str().and_then(|text| text.parse().ok());
        parsed.or_else(|| self.wrong(key, &value, "an address and port such as \"0.0.0.0:7420\""))
    }

    /// The tables of a table: `[name.key.X]`, `[name.key.Y]`.
    fn tables(&mut self, key: &'static str) -> Vec<(String, Table)> {
        let given = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Table(given)) => given,
            Some(other) => {
                let expected = format!("sections [{}.{key}.NAME]", self.name);
                return self.wrong(key, &other, &expected).unwrap_or_default();
            }
        };
        let mut tables = Vec::new();
        for (name, value) in given {
            match value {
                Value::Table(table) => tables.push((name, table)),
                other => {
                    let expected = format!("a section [{}.{key}.NAME]", self.name);
                    self.wrong::<()>(&format!("{key}.{name}"), &other, &expected);
                }
            }
        }
        tables
    }

    /// One of [`Section::tables`], with its full name.
    fn nested(&mut self, name: &str, table: Table) -> Section<'_> {
        Section {
            name: format!("{}.{name}", self.name),
            table,
            keys: BTreeSet::new(),
            problems: &mut *self.problems,
        }
    }

    fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let value = self.take(key)?;
        match value.as_str() {
            Some(text) if !text.is_empty() && !text.contains('\0') => Some(text.into()),
            _ => self.wrong(key, &value, "a path"),
        }
    }

    fn required_path(&mut self, key: &'static str) -> Option<PathBuf> {
        if !self.table.contains_key(key) {
            self.keys.insert(key);
            self.problem(key, "is missing; expected the path of a PEM file");
            return None;
        }
        self.path(key)
    }

    /// The first choice is the default.
    fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let Some(value) = self.take(key) else { return choices.first().map(|(_, choice)| *choice) };
        let chosen =
            choices.iter().find(|(name, _)| value.as_str() == Some(*name)).map(|(_, choice)| *choice);
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        chosen.or_else(|| self.wrong(key, &value, &names.join(" or ")))
    }

    fn number(&mut self, key: &'static str, default: u64, least: u64, most: u64) -> Option<u64> {
        let Some(value) = self.take(key) else { return Some(default) };
        let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
        number
            .filter(|number| (least..=most).contains(number))
            .or_else(|| self.wrong(key, &value, &format!("a whole number from {least} to {most}")))
    }

    fn boolean(&mut self, key: &'static str, default: bool) -> Option<bool> {
        let Some(value) = self.take(key) else { return Some(default) };
        let given = value.as_bool().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        given.or_else(|| self.wrong(key, &value, "true or false"))
    }

    /// Those of `keys` that are true.
    fn switches(&mut self, keys: &[&'static str]) -> Option<BTreeSet<&'static str>> {
        let given: Vec<_> =
            keys.iter().map(|&key| self.boolean(key, false).map(|on| on.then_some(key))).collect();
        let sound: Option<Vec<_>> = given.into_iter().collect();
        sound.map(|switches| switches.into_iter().flatten().collect())
    }

    fn level(&mut self, key: &'static str) -> Option<String> {
        let value = self.take(key).unwrap_or_else(|| Value::String(String::from("info")));
        match value.as_str() {
            Some(text) if log::is_level(text) => Some(text.to_owned()),
            _ => self.wrong(key, &value, "a level such as \"info\" or \"info,strongroom_server=debug\""),
        }
    }

    /// What nobody took is unknown.
    fn end(mut self) {
        for key in std::mem::take(&mut self.table).keys() {
            let hint = nearest(key, &self.keys);
            self.problem(key, format!("is not a known key{hint}"));
        }
    }
}

/// What was given, short. No key of this file is a secret: secrets are in files that it names.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.chars().take(100).collect::<String>()),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(given) => given.to_string(),
        other => format!("of type {}", other.type_str()),
    }
}

fn nearest(given: &str, known: &BTreeSet<&'static str>) -> String {
    let best = known.iter().map(|name| (distance(given, name), *name)).min();
    match best {
        Some((distance, name)) if distance <= 3 => format!("; did you mean {name}?"),
        _ => format!("; known are {}", known.iter().copied().collect::<Vec<_>>().join(", ")),
    }
}

/// Levenshtein's, of names of at most 64 characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut next = vec![i + 1];
        for ((y, above), before) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or_default();
            next.push((above + 1).min(left + 1).min(before + usize::from(x != *y)));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;

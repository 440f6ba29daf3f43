//! The log, on standard error.

use std::{env, fmt, io, io::IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, filter::ParseError, reload};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For machines.
    Json,
    /// For people.
    Text,
}

/// Below this level it would log each statement that a database is sent, verifiers of passwords with it. Whoever wants to see
/// statements sees them in the log of the database.
const NEVER_IN_DETAIL: &str = "tokio_postgres=info";

/// The log could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the log cannot be started: {0}")]
pub struct LogError(String);

/// The level of a log that was started, to be changed while it runs.
pub struct Level(Box<Change>);

type Change = dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync;

impl Level {
    /// From now on.
    ///
    /// # Errors
    /// A bad level; the old one stays.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        let filter = filter(level)?;
        (self.0)(filter).map_err(|e| LogError(e.to_string()))
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Level(..)")
    }
}

/// Whether `level` is one that [`start`] takes: `info`, or `info,strongroom_server=debug`.
pub fn is_level(level: &str) -> bool {
    EnvFilter::try_new(level).is_ok() && !level.is_empty()
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let filter = EnvFilter::try_new(level).map_err(|e| LogError(e.to_string()))?;
    Ok(filter.add_directive(NEVER_IN_DETAIL.parse().map_err(|e: ParseError| LogError(e.to_string()))?))
}

/// Starts the log.
///
/// # Errors
/// A bad level, or a second start.
pub fn start(format: LogFormat, level: &str) -> Result<Level, LogError> {
    let filter = filter(level)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let (level, started): (Box<Change>, _) = match format {
        LogFormat::Json => {
            let log = log.json().flatten_event(true).with_filter_reloading();
            let handle = log.reload_handle();
            (Box::new(move |filter| handle.reload(filter)), log.try_init())
        }
        LogFormat::Text => {
            let log = log.with_ansi(colours()).with_filter_reloading();
            let handle = log.reload_handle();
            (Box::new(move |filter| handle.reload(filter)), log.try_init())
        }
    };
    started.map(|()| Level(level)).map_err(|e| LogError(e.to_string()))
}

/// Only where a person reads it: in a file or a journal colours are junk. A person may not want them either.
fn colours() -> bool {
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        assert!(is_level("info") && is_level("info,strongroom_server=debug"));
        assert!(!is_level("") && !is_level("info=loud=x"));
    }
}

//! The log, on standard error.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For machines.
    Json,
    /// For people.
    Text,
}

/// The log could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the log cannot be started: {0}")]
pub struct LogError(String);

/// Whether `level` is one that [`start`] takes: `info`, or `info,strongroom_server=debug`.
pub fn is_level(level: &str) -> bool {
    EnvFilter::try_new(level).is_ok() && !level.is_empty()
}

/// Starts the log.
///
/// # Errors
/// A bad level, or a second start.
pub fn start(format: LogFormat, level: &str) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(level).map_err(|e| LogError(e.to_string()))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Text => log.try_init(),
    }
    .map_err(|e| LogError(e.to_string()))
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

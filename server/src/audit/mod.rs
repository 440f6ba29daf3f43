//! The audit log: every request is written down, durably, before anything of it leaves the server.
//!
//! A request builds an [`Event`] and awaits [`Broker::record`], which answers with [`Recorded`], the proof that the
//! permit wants. One thread writes: it gives each record its place in the hash chain, appends everything that waits with
//! one write and one fdatasync, and wakes who waited. An idle log that need not wait for the disk is written by whoever comes
//! (`desk.rs`). If it cannot be written, nobody gets an answer any more.
//!
//! It knows neither what a request does nor who may do it, and it is never given the value of a secret: what is to be
//! correlated comes as a [`Hashed`].

mod broker;
mod chain;
mod desk;
mod file;
mod glance;
mod query;
mod queue;
mod record;
mod recover;
mod redact;
mod sampler;
mod stdout;
mod writer;

use std::sync::Arc;

use crate::clock::Clock;

pub use broker::{Broker, Config, Recorded};
pub use chain::StoreState;
pub use file::{FileError, Usage};
pub use glance::{Glance, Write};
pub use query::{Filter, Lines, QueryError, Reader};
pub use queue::{AuditError, Health};
pub use record::{Decision, Effect, Event, EventKind, Recovery, Status};
pub use recover::{LastCheckpoint, OpenIntent, RecoverError, RecoveredLog};
pub use redact::{Hashed, Redactor};
pub use stdout::StdoutSink;

/// What the configuration says of the log and its sinks.
pub use crate::config::Audit as Settings;
pub use crate::config::Durability;

/// A second place for durable lines: it can lag and lose, it never holds up a request. The file is the record.
pub trait Sink: Send {
    /// Takes durable lines, each ended by a line break, in order and without a gap. Returns at once, whatever happens.
    fn offer(&mut self, lines: &bytes::Bytes);

    /// Hands on what it still holds, within a second, and ends.
    fn close(self: Box<Self>);
}

/// A kind of sink that can be configured.
pub struct SinkKind {
    /// Name in the configuration.
    pub name: &'static str,
    /// One sentence for people.
    pub description: &'static str,
    pub build: fn(&Settings) -> std::io::Result<Box<dyn Sink>>,
}

/// The log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("opening the audit log: {0}")]
    Record(#[from] RecoverError),
    #[error("opening the audit sink {name}: {cause}")]
    Sink { name: &'static str, cause: std::io::Error },
}

/// Opens the log with all that the settings name: the file, which is the record, and the sinks beside it.
///
/// # Errors
/// One of them cannot be opened.
pub fn open(settings: &Settings, clock: Arc<dyn Clock>) -> Result<(Broker, RecoveredLog), OpenError> {
    let wanted = KINDS.iter().filter(|kind| settings.sinks.contains(kind.name));
    let build =
        |kind: &SinkKind| (kind.build)(settings).map_err(|cause| OpenError::Sink { name: kind.name, cause });
    let sinks = wanted.map(build).collect::<Result<_, _>>()?;
    Ok(Broker::open(&Config::from(settings), clock, sinks)?)
}

/// All kinds there are, beside the file, which is there always; a new sink is one file, one line here, and the key that
/// switches it on in `config.rs`.
pub const KINDS: &[SinkKind] = &[stdout::KIND];

#[cfg(test)]
mod conformance;

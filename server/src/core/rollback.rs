//! Whether the data, the audit log and what is known of the log elsewhere belong together: asked at each unseal, before
//! anything is served. The last checkpoint of the log says how far the data was; the data says how far the log was; and an
//! anchor, kept on another machine, says how far both were.

use super::{
    error::Error,
    state::{Core, Held},
};
use crate::{audit::QueryError, barrier::Barrier, crypto::PublicKey, model::LogPoint};

impl Core {
    /// What was accepted all the same is returned, for the log.
    pub(super) async fn refuse_rollback(
        &self,
        held: &Held,
        barrier: &Barrier,
        key: &PublicKey,
    ) -> Result<String, Error> {
        let mut refused: Vec<Error> = self.data_rolled_back(held, barrier, key)?.into_iter().collect();
        // What this process wrote itself is not looked for in the log as it was found.
        let log_is_lost = refused.iter().any(|error| matches!(error, Error::LogLost));
        if !held.signed && !log_is_lost {
            for (point, known) in [(barrier.log(), "the data"), (self.options.anchor, "the anchor")] {
                refused.extend(self.log_rolled_back(point, known).await?);
            }
        }
        if refused.is_empty() {
            return Ok(String::new());
        }
        if !self.options.accept_rollback {
            return Err(refused.remove(0));
        }
        for error in &refused {
            tracing::warn!(%error, "--accept-rollback was given: the rollback is accepted");
        }
        let losses: Vec<String> = refused.iter().map(loss).collect();
        Ok(format!("{}: accepted by --accept-rollback", losses.join("; ")))
    }

    /// The log must be this store's, and must not know of batches that the store does not have.
    fn data_rolled_back(
        &self,
        held: &Held,
        barrier: &Barrier,
        key: &PublicKey,
    ) -> Result<Option<Error>, Error> {
        let data = barrier.state().batch_seq;
        let Some(checkpoint) = &self.last_checkpoint else {
            // An init that was cut off leaves the default mount, one batch, and no checkpoint.
            return Ok((!held.signed && (self.log_missing || data > 1)).then_some(Error::LogLost));
        };
        checkpoint.verify(key).map_err(|_| Error::ForeignLog)?;
        let log = checkpoint.state.batch_seq;
        if log > data {
            return Ok(Some(Error::RolledBack { log, data }));
        }
        let fork = log == data && checkpoint.state.set_digest != barrier.state().digest;
        Ok(fork.then_some(Error::Forked(data)))
    }

    /// The log, as it was found at the start, must have the record that is known of it, at its place.
    async fn log_rolled_back(&self, point: LogPoint, known: &'static str) -> Result<Option<Error>, Error> {
        let (seq, found) = (point.seq, self.log_found);
        if seq > found.seq {
            return Ok(Some(Error::LogOlder { known, seq, found: found.seq }));
        }
        let head = match self.audit.reader().hash_of(seq).await {
            // It is older than all that is left here: those who move segments away keep them elsewhere.
            Ok(None) => return Ok(None),
            Ok(Some(head)) => Some(head),
            Err(QueryError::Hole { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok((head != Some(point.head)).then_some(Error::LogForked { known, seq }))
    }
}

/// What is lost, in the words of the log.
fn loss(error: &Error) -> String {
    match error {
        Error::LogLost => "the log before this line is lost".to_owned(),
        Error::LogOlder { known, seq, found } => {
            format!("the log ended with record {found}, but {known} knew of record {seq}")
        }
        Error::LogForked { known, seq } => {
            format!("record {seq} of the log is not the one that {known} knew")
        }
        _ => "the data is older than the log or another copy".to_owned(),
    }
}

//! What messages may take of memory while they are on their way. One that comes with its first bytes costs nothing here.
//! One that comes in parts has to find room first: callers without a good token have little of it among all of them, and
//! what they take is taken from nobody else.

use std::sync::Arc;

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    access::Credential,
    shares::{Caller, Held, Kind, Shares},
};
use crate::{core::Error, limits};

/// Room that is free again when this is dropped.
pub struct Room {
    _held: OwnedSemaphorePermit,
    _share: Held,
}

/// Room for messages on their way, in bytes.
pub(super) struct Intake {
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl Intake {
    pub(super) fn new() -> Self {
        Self {
            known: Arc::new(Semaphore::new(limits::INTAKE_BYTES)),
            strangers: Arc::new(Semaphore::new(limits::STRANGERS_INTAKE_BYTES)),
        }
    }

    /// Room for a message of that length and of no more than `longest`, from somebody who has shown this.
    pub(super) async fn room(
        &self,
        shares: &Arc<Shares>,
        (shown, caller): (Credential, &Caller),
        length: usize,
        longest: usize,
    ) -> Result<Room, Error> {
        let room = match shown {
            Credential::None => &self.strangers,
            Credential::Token => &self.known,
        };
        // What is longer is refused before anybody makes room for it.
        let taken = if length <= longest { length } else { 0 };
        let full = Error::Overloaded(limits::QUEUE_WAIT);
        let Some(share) = shares.take(caller, Kind::Intake, taken) else { return Err(full) };
        let taken = u32::try_from(taken).unwrap_or(u32::MAX);
        let found = timeout(limits::QUEUE_WAIT, Arc::clone(room).acquire_many_owned(taken)).await;
        let found = found.ok().and_then(Result::ok).map(|held| Room { _held: held, _share: share });
        found.ok_or(full)
    }
}

//! What messages may take of memory while they are on their way. One that comes with its first bytes costs nothing here.
//! One that comes in parts has to find room first: callers without a good token have little of it among all of them, and
//! what they take is taken from nobody else.

use std::sync::Arc;

use strongroom_proto::limits as wire;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::access::Credential;
use crate::{core::Error, limits};

/// Room that is free again when this is dropped.
pub struct Room {
    _held: OwnedSemaphorePermit,
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

    /// Room for a message of that length, from somebody who has shown this.
    pub(super) async fn room(&self, shown: Credential, length: u32) -> Result<Room, Error> {
        let (room, longest) = match shown {
            Credential::None => (&self.strangers, limits::SMALL_REQUEST_BYTES),
            Credential::Token => (&self.known, wire::REQUEST_BYTES),
        };
        // The decoder refuses what is longer before it makes room for it.
        let taken = if usize::try_from(length).is_ok_and(|length| length <= longest) { length } else { 0 };
        let found = timeout(limits::QUEUE_WAIT, Arc::clone(room).acquire_many_owned(taken)).await;
        let found = found.ok().and_then(Result::ok).map(|held| Room { _held: held });
        found.ok_or(Error::Overloaded(limits::QUEUE_WAIT))
    }
}

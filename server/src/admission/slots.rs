//! How many requests are in progress at once, by their class.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::access::Class;
use crate::{core::Error, limits};

pub(super) struct Slots {
    unary: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    public: Arc<Semaphore>,
    urgent: Arc<Semaphore>,
}

impl Slots {
    pub(super) fn new(in_flight: usize) -> Self {
        Self {
            unary: Arc::new(Semaphore::new(in_flight)),
            streams: Arc::new(Semaphore::new(limits::STREAMS)),
            public: Arc::new(Semaphore::new(limits::PUBLIC_STREAMS)),
            urgent: Arc::new(Semaphore::new(limits::SEALS)),
        }
    }

    /// One of the class, if it has any; waits for it for a moment.
    pub(super) async fn take(&self, class: Class) -> Result<Option<OwnedSemaphorePermit>, Error> {
        let slots = match class {
            Class::Vital | Class::Public => return Ok(None),
            Class::Unary => &self.unary,
            Class::Stream => &self.streams,
            Class::Urgent => &self.urgent,
        };
        if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
            return Ok(Some(slot));
        }
        let waited = tokio::time::timeout(limits::QUEUE_WAIT, Arc::clone(slots).acquire_owned()).await;
        match waited {
            Ok(Ok(slot)) => Ok(Some(slot)),
            _ => Err(Error::Overloaded(limits::QUEUE_WAIT)),
        }
    }

    /// One for a stranger's stream, at once or not at all; all other classes need none of these.
    pub(super) fn public(&self, class: Class) -> Result<Option<OwnedSemaphorePermit>, Error> {
        if class != Class::Public {
            return Ok(None);
        }
        let slot = Arc::clone(&self.public).try_acquire_owned();
        slot.map(Some).map_err(|_| Error::Overloaded(limits::QUEUE_WAIT))
    }

    /// Those of a class, to count them or to take them away.
    #[cfg(test)]
    pub(super) fn of(&self, class: Class) -> Option<&Semaphore> {
        match class {
            Class::Vital => None,
            Class::Public => Some(&self.public),
            Class::Unary => Some(&self.unary),
            Class::Stream => Some(&self.streams),
            Class::Urgent => Some(&self.urgent),
        }
    }
}

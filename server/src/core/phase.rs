//! The state a server is in. Whoever wants to know something of it asks; nobody else takes it apart. So one more state is
//! a variant here and its answers.

use std::sync::Arc;

use super::{error::Error, state::Unsealed};
use crate::seal::SealRecord;

/// See the module.
pub(super) enum Phase {
    /// The store is empty.
    Uninitialized,
    /// There is data, but no key.
    Sealed(SealRecord),
    Unsealed(Arc<Unsealed>),
}

impl Phase {
    /// How the root key is kept; nothing before init.
    pub(super) fn seal(&self) -> Option<Arc<SealRecord>> {
        match self {
            Self::Uninitialized => None,
            Self::Sealed(record) => Some(Arc::new(record.clone())),
            Self::Unsealed(unsealed) => Some(unsealed.seal.load_full()),
        }
    }

    /// The keys, if they are there.
    pub(super) fn unsealed(&self) -> Option<&Arc<Unsealed>> {
        match self {
            Self::Unsealed(unsealed) => Some(unsealed),
            Self::Uninitialized | Self::Sealed(_) => None,
        }
    }

    /// The keys, or why there are none, with `given` shares so far.
    pub(super) fn keys(&self, given: impl FnOnce() -> u8) -> Result<Arc<Unsealed>, Error> {
        match self {
            Self::Unsealed(unsealed) => Ok(Arc::clone(unsealed)),
            Self::Uninitialized => Err(Error::NotInitialized),
            Self::Sealed(record) => Err(Error::Sealed { given: given(), threshold: record.threshold }),
        }
    }

    /// Whether there may be an init.
    pub(super) fn may_init(&self) -> Result<(), Error> {
        match self {
            Self::Uninitialized => Ok(()),
            Self::Sealed(_) | Self::Unsealed(_) => Err(Error::AlreadyInitialized),
        }
    }

    /// What an unseal has to open, or why there is nothing to open.
    pub(super) fn sealed(&self) -> Result<&SealRecord, Error> {
        match self {
            Self::Sealed(record) => Ok(record),
            Self::Uninitialized => Err(Error::NotInitialized),
            Self::Unsealed(_) => Err(Error::NotSealed),
        }
    }
}

//! The proof that a request may be carried out: a policy decision and an audit record for the same request, joined.
//!
//! An engine takes a [`Permit`] and nothing else tells it where to act. A permit is made only here, from an
//! [`Allowed`] that only `policy` makes and a [`Recorded`] that only `audit` makes, so forgetting a check does not compile.

use crate::{
    audit::Recorded,
    model::{Path, Principal, RequestId, Timestamp, Verb},
    policy::{Allowed, Scope},
};

/// May act: on these paths, with these verbs, for this principal, at this time.
pub struct Permit {
    allowed: Allowed,
    at: Timestamp,
}

/// A decision and a record that belong to different requests. Only a fault of ours can make one.
#[derive(Debug, thiserror::Error)]
#[error("the audit record {recorded} is not that of the decision for {decided}")]
pub struct Mismatch {
    decided: RequestId,
    recorded: RequestId,
}

impl Permit {
    /// Joins the two.
    ///
    /// # Errors
    /// They belong to different requests.
    pub fn join(allowed: Allowed, recorded: &Recorded, at: Timestamp) -> Result<Self, Mismatch> {
        let (decided, recorded) = (allowed.request_id(), recorded.request_id());
        if decided != recorded {
            return Err(Mismatch { decided, recorded });
        }
        Ok(Self { allowed, at })
    }

    /// Of which request it is.
    pub fn request_id(&self) -> RequestId {
        self.allowed.request_id()
    }

    /// The path to act on; the first, where there are several.
    pub fn path(&self) -> &Path {
        self.allowed.path()
    }

    /// All paths to act on; only a watch has more than one.
    pub fn paths(&self) -> &[Path] {
        self.allowed.paths()
    }

    /// Whether this verb was granted on the paths. A put is judged for create and update at once and holds one or both,
    /// because only the engine learns, atomically with the write, which of them it is.
    pub fn grants(&self, verb: Verb) -> bool {
        self.allowed.verbs().contains(&verb)
    }

    pub fn principal(&self) -> &Principal {
        self.allowed.principal()
    }

    /// What else the principal may see, to filter lists and watches.
    pub fn scope(&self) -> &Scope {
        self.allowed.scope()
    }

    /// When the request was let in; what engines write as the time of a change.
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

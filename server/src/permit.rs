//! The proof that a request may be carried out: a policy decision and an audit record for the same request, joined.
//!
//! An engine takes a [`Permit`] and nothing else tells it where to act. A permit is made only here, from an
//! [`Allowed`] that only `policy` makes and a [`Recorded`] that only `audit` makes, so forgetting a check does not compile.
//! A read whose record says what it found is done ahead of it, and [`Withheld`] until the record is there.
//! What the server does by itself needs an [`Upkeep`] instead: an [`Errand`] of its own and the record of that very errand.

use crate::{
    audit::Recorded,
    crypto::{CryptoError, Entropy},
    model::{Path, Principal, RequestId, Timestamp, Verb},
    policy::{Allowed, Scope},
};

/// May act: on these paths, with these verbs, for this principal, at this time.
pub struct Permit {
    allowed: Allowed,
    at: Timestamp,
}

/// What was read ahead of its record. It is of no use to anybody before that is there.
pub struct Withheld<T> {
    id: RequestId,
    found: T,
}

/// May do one thing that no caller asked for; used up by doing it.
pub struct Upkeep {
    chore: Chore,
    id: RequestId,
}

/// One chore that is about to be done.
pub struct Errand {
    chore: Chore,
    id: RequestId,
}

/// What the server does by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chore {
    /// A new key term, because the last one is over.
    RotateKeys,
    /// What a lease stands for is unmade, and the lease removed.
    EndLease(LeaseEnd),
    /// An engine does what it has to do by itself.
    Attend(Attention),
}

/// The lease that is to be ended, as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseEnd {
    pub id: RequestId,
    /// Where it was issued.
    pub path: Path,
    /// What it is, and why it has to end.
    pub objects: Vec<String>,
}

/// What an engine has to do, as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attention {
    pub path: Path,
    pub objects: Vec<String>,
}

/// A record that belongs to something else than what was decided. Only a fault of ours can make one.
#[derive(Debug, thiserror::Error)]
#[error("the audit record {recorded} is not the one of {decided}, which was decided")]
pub struct Mismatch {
    decided: RequestId,
    recorded: RequestId,
}

/// The record is that of what was decided.
fn recorded_as(decided: RequestId, recorded: &Recorded) -> Result<(), Mismatch> {
    let recorded = recorded.request_id();
    if decided == recorded { Ok(()) } else { Err(Mismatch { decided, recorded }) }
}

impl Permit {
    /// Joins the two.
    ///
    /// # Errors
    /// They belong to different requests.
    pub fn join(allowed: Allowed, recorded: &Recorded, at: Timestamp) -> Result<Self, Mismatch> {
        recorded_as(allowed.request_id(), recorded)?;
        Ok(Self { allowed, at })
    }

    /// Lets a read happen before its record, which is to say what was found. Nothing of it leaves without the record.
    pub async fn ahead<T, F: Future<Output = T>>(
        allowed: Allowed,
        at: Timestamp,
        read: impl FnOnce(Self) -> F,
    ) -> Withheld<T> {
        let id = allowed.request_id();
        Withheld { id, found: read(Self { allowed, at }).await }
    }

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

impl<T> Withheld<T> {
    /// What the record is to say of it.
    pub fn about<R>(&self, tell: impl FnOnce(&T) -> R) -> R {
        tell(&self.found)
    }

    /// It is recorded, and may leave.
    ///
    /// # Errors
    /// The record is that of something else.
    pub fn release(self, recorded: &Recorded) -> Result<T, Mismatch> {
        recorded_as(self.id, recorded)?;
        Ok(self.found)
    }
}

impl Chore {
    /// As in the audit log, where an RPC has its name. No RPC is called like that.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RotateKeys => "Upkeep.RotateKeys",
            Self::EndLease(_) => "Upkeep.EndLease",
            Self::Attend(_) => "Upkeep.Attend",
        }
    }

    /// Where it is done.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::RotateKeys => None,
            Self::EndLease(end) => Some(&end.path),
            Self::Attend(attention) => Some(&attention.path),
        }
    }

    /// What it is about.
    pub fn objects(&self) -> &[String] {
        match self {
            Self::RotateKeys => &[],
            Self::EndLease(end) => &end.objects,
            Self::Attend(attention) => &attention.objects,
        }
    }
}

impl Errand {
    /// With an id of its own, which no request has.
    ///
    /// # Errors
    /// No randomness.
    pub fn new(chore: Chore, entropy: &dyn Entropy) -> Result<Self, CryptoError> {
        let mut id = [0; 16];
        entropy.fill(&mut id)?;
        Ok(Self { chore, id: RequestId(id) })
    }

    pub fn name(&self) -> &'static str {
        self.chore.name()
    }

    pub fn chore(&self) -> &Chore {
        &self.chore
    }

    pub fn id(&self) -> RequestId {
        self.id
    }
}

impl Upkeep {
    /// Joins the errand and its record.
    ///
    /// # Errors
    /// The record is that of something else.
    pub fn join(errand: &Errand, recorded: &Recorded) -> Result<Self, Mismatch> {
        recorded_as(errand.id, recorded)?;
        Ok(Self { chore: errand.chore.clone(), id: errand.id })
    }

    /// What to do.
    pub fn chore(&self) -> &Chore {
        &self.chore
    }

    /// Under which the log has it.
    pub fn id(&self) -> RequestId {
        self.id
    }
}

//! What one caller may have at a time of what there is for all: without a share, the first who is greedy leaves nothing to
//! the others. A caller is remembered only while they have something, so there are never more of them than of that.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    limits,
    model::{Principal, Source},
};

/// Whom something counts for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    /// By the text form: however many pods, groups and tokens somebody has, their share is one.
    Known(Box<str>),
    /// Where a stranger comes from.
    From(Option<Source>),
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Requests in progress.
    Unary,
    /// Streams of whoever is known.
    Stream,
    /// Streams for anybody.
    Public,
    /// Requests that have slots of their own.
    Urgent,
    /// Attempts to init or unseal.
    Attempt,
    /// Bytes of messages that come in parts.
    Intake,
    /// Bytes of answers that are not sent yet.
    Outbound,
}

const KINDS: usize = 7;

/// How much of it.
#[derive(Clone, Copy)]
struct Limit {
    all: usize,
    /// For one who is known.
    known: usize,
    /// For all who come from one place and are not known, or count there too.
    place: usize,
}

pub(super) struct Shares {
    limits: [Limit; KINDS],
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: [usize; KINDS],
    by: HashMap<Caller, [usize; KINDS]>,
}

/// Something of it; given back when this is dropped.
pub(super) struct Held {
    shares: Arc<Shares>,
    caller: Caller,
    kind: Kind,
    amount: usize,
}

impl Caller {
    pub(super) fn known(principal: &Principal) -> Self {
        Self::Known(principal.to_string().into())
    }

    pub(super) fn at(peer: Option<IpAddr>) -> Self {
        Self::From(peer.map(Source::from))
    }
}

impl Shares {
    /// Where so many requests are in progress at once.
    pub(super) fn new(in_flight: usize) -> Arc<Self> {
        // Those that have a semaphore are bounded by it.
        let limit = |known, place| Limit { all: usize::MAX, known, place };
        let part = in_flight / limits::SHARES;
        let limits = [
            limit((in_flight - part).max(1), part.max(1)),
            limit(limits::STREAMS_SHARE, limits::STREAMS_OF_ADDRESS),
            limit(0, limits::PUBLIC_STREAMS_OF_ADDRESS),
            limit(limits::SEALS / 2, 0),
            limit(0, limits::UNSEAL_ATTEMPTS_OF_ADDRESS),
            limit(limits::INTAKE_SHARE, limits::STRANGERS_INTAKE_SHARE),
            Limit {
                all: limits::OUTBOUND_BYTES,
                known: limits::OUTBOUND_SHARE,
                place: limits::OUTBOUND_SHARE,
            },
        ];
        Arc::new(Self { limits, taken: Mutex::default() })
    }

    /// So much of it at once, or nothing: who has had their share does not stand in the way of others while they wait.
    pub(super) fn take(self: &Arc<Self>, caller: &Caller, kind: Kind, amount: usize) -> Option<Held> {
        let Limit { all, known, place } = *self.limits.get(kind as usize)?;
        let each = if matches!(caller, Caller::Known(_)) { known } else { place };
        let mut taken = self.lock();
        let of_all = taken.all.get(kind as usize)? + amount;
        let of_caller = taken.by.get(caller).and_then(|by| by.get(kind as usize)).unwrap_or(&0) + amount;
        if of_all > all || of_caller > each {
            return None;
        }
        *taken.all.get_mut(kind as usize)? = of_all;
        *taken.by.entry(caller.clone()).or_default().get_mut(kind as usize)? = of_caller;
        Some(Held { shares: Arc::clone(self), caller: caller.clone(), kind, amount })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing panics under this lock.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut taken = self.shares.lock();
        if let Some(all) = taken.all.get_mut(self.kind as usize) {
            *all = all.saturating_sub(self.amount);
        }
        let Some(by) = taken.by.get_mut(&self.caller) else { return };
        if let Some(of_caller) = by.get_mut(self.kind as usize) {
            *of_caller = of_caller.saturating_sub(self.amount);
        }
        if by.iter().all(|amount| *amount == 0) {
            taken.by.remove(&self.caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Caller {
        Caller::Known(name.into())
    }

    #[test]
    fn one_who_is_greedy_leaves_some_to_others_and_is_forgotten_afterwards() {
        let shares = Shares::new(8);
        let take = |name: &str| shares.take(&known(name), Kind::Unary, 1);
        let mut held: Vec<_> = std::iter::from_fn(|| take("greedy")).collect();
        assert_eq!(held.len(), 6);
        held.extend(take("good"));
        assert_eq!(held.len(), 7, "that of others is not touched");
        held.remove(0);
        assert!(take("greedy").is_some());
        held.clear();
        assert!(shares.lock().by.is_empty());
    }

    #[test]
    fn one_kind_is_not_taken_from_another_and_the_smallest_server_answers_too() {
        let shares = Shares::new(1);
        let one = shares.take(&known("a"), Kind::Unary, 1).unwrap();
        assert!(shares.take(&known("a"), Kind::Unary, 1).is_none());
        assert!(shares.take(&known("a"), Kind::Outbound, limits::OUTBOUND_SHARE).is_some());
        assert!(shares.take(&known("a"), Kind::Outbound, limits::OUTBOUND_SHARE + 1).is_none());
        drop(one);
        assert!(shares.take(&known("a"), Kind::Unary, 1).is_some());
    }

    #[test]
    fn all_pods_of_an_account_are_one_caller() {
        let account = |pod: &str| Principal::ServiceAccount {
            cluster: "main".into(),
            namespace: "shop".into(),
            name: "web".into(),
            uid: "u".into(),
            pod: Some(crate::model::Pod { name: pod.into(), uid: pod.into(), node: None }),
        };
        assert_eq!(Caller::known(&account("a")), Caller::known(&account("b")));
    }
}

//! Tokens that were opened lately, so that not each request of a session decrypts its token again. It knows a text that is byte
//! for byte one that was opened, and gives back what was sealed in it, and no more: whether the session has expired or is
//! revoked is judged at each request as without it. It is bounded, and it ends with the keys; tokens that are pushed out of it
//! are wiped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use subtle::ConstantTimeEq;

use super::{claims::Session, wire};
use crate::model::SecretBytes;

/// Tokens of each half. All sessions of a large cluster's busy clients fit; with tokens of half a KiB, as those of pods have,
/// both halves have 1 MiB.
const HALF: usize = 512;

/// See the module.
#[derive(Default)]
pub(super) struct Opened(Mutex<Halves>);

/// When the young half is full it becomes the old one, and the old one is forgotten. Who is used moves back to the young one.
#[derive(Default)]
struct Halves {
    young: HashMap<wire::Salt, Known>,
    old: HashMap<wire::Salt, Known>,
}

struct Known {
    token: SecretBytes,
    session: Arc<Session>,
}

impl Opened {
    pub(super) fn find(&self, token: &str) -> Option<Arc<Session>> {
        let salt = wire::salt(token)?;
        let mut halves = self.lock();
        if let Some(known) = halves.young.get(&salt) {
            return known.of(token);
        }
        let known = halves.old.remove(&salt)?;
        let session = known.of(token);
        halves.keep(salt, known);
        session
    }

    pub(super) fn remember(&self, token: &str, session: &Arc<Session>) {
        let Some(salt) = wire::salt(token) else { return };
        let known = Known { token: SecretBytes::from(token.as_bytes()), session: Arc::clone(session) };
        self.lock().keep(salt, known);
    }

    /// It is good for nothing any more.
    pub(super) fn forget(&self, token: &str) {
        let Some(salt) = wire::salt(token) else { return };
        let mut halves = self.lock();
        halves.young.remove(&salt);
        halves.old.remove(&salt);
    }

    fn lock(&self) -> MutexGuard<'_, Halves> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Halves {
    fn keep(&mut self, salt: wire::Salt, known: Known) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(salt, known);
    }
}

impl Known {
    /// The session, if this is the whole token. The time that it takes does not tell how much of it is.
    fn of(&self, token: &str) -> Option<Arc<Session>> {
        let same = bool::from(self.token.expose().ct_eq(token.as_bytes()));
        same.then(|| Arc::clone(&self.session))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Principal, SessionId, Timestamp};

    fn token(n: usize) -> String {
        format!("sr1_AQAAAAA{n:0>100}")
    }

    fn session(n: u8) -> Arc<Session> {
        let at = Timestamp::from_millis(1);
        let (id, ttl) = (SessionId([n; 16]), Duration::from_secs(1));
        Arc::new(Session {
            id,
            principal: Arc::new(Principal::Root),
            issued: at,
            expires: at,
            max_expires: at,
            ttl,
        })
    }

    /// `n` in front, where tokens differ.
    fn numbered(n: usize) -> String {
        format!("sr1_AQAAAAA{n:0>16}{:0>84}", 0)
    }

    #[test]
    fn only_the_whole_token_is_known() {
        let (opened, whole) = (Opened::default(), token(7));
        opened.remember(&whole, &session(1));
        assert_eq!(opened.find(&whole), Some(session(1)));
        let mut other = whole.clone();
        other.replace_range(whole.len() - 1.., "8");
        let longer = format!("{whole}0");
        for text in [&other, &longer, &whole[..whole.len() - 1], "sr1_", ""] {
            assert_eq!(opened.find(text), None, "{text}");
        }
        opened.forget(&whole);
        assert_eq!(opened.find(&whole), None);
    }

    #[test]
    fn it_has_a_bound_and_keeps_who_is_used() {
        let (opened, used) = (Opened::default(), numbered(0));
        opened.remember(&used, &session(1));
        let weak = {
            let pushed_out = session(2);
            opened.remember(&numbered(1), &pushed_out);
            Arc::downgrade(&pushed_out)
        };
        for n in 2..5 * HALF {
            opened.remember(&numbered(n), &session(3));
            assert!(opened.find(&used).is_some(), "{n}");
            let halves = opened.lock();
            assert!(halves.young.len() <= HALF && halves.old.len() <= HALF, "{n}");
        }
        assert!(weak.upgrade().is_none() && opened.find(&numbered(1)).is_none());
    }
}

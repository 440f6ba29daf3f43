//! Answers that are kept for whoever shows a token first. The store has the answer until it is opened or its time is over,
//! and for a day more that it was opened: so a second opening is told from a token that never was.

mod record;
#[cfg(test)]
mod tests;
mod token;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::BufMut;

use self::record::{PART_BYTES, Stored, address, answer_addresses};
pub use self::token::Token;
use crate::{
    barrier::{BarrierError, Changes, Cursor, View},
    crypto::{CryptoError, Entropy},
    engines::Reply,
    model::{Invalid, Path, RequestId, SecretBytes, Timestamp},
    storage::Condition,
};

/// The longest answer: every secret of a reasonable size, and a few thousand of them in the store at worst.
pub const ANSWER_BYTES: usize = 256 << 10;
/// The longest that a token opens something.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Answers at once that nobody has opened yet.
const MOST: usize = 10_000;
/// The same of one principal.
const MOST_OF_ONE: usize = 1_000;
/// How long it is known of an answer that it was opened, or that its time is over.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Records looked at, and removed with their answers, at once.
const BATCH: usize = 16;

/// See the module.
pub struct Wrapping {
    view: View,
    entropy: Arc<dyn Entropy>,
    /// As of the last sweep, and with those that came and went since.
    waiting: Mutex<Waiting>,
}

/// How many wait to be opened: all, and of each who wrapped some.
#[derive(Default)]
struct Waiting {
    all: usize,
    of: HashMap<Box<str>, usize>,
}

/// What an answer is the answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// That of the request that wrapped it.
    pub id: RequestId,
    /// `Secrets.Get`
    pub operation: Box<str>,
    pub path: Path,
    /// Who asked.
    pub by: Box<str>,
    pub at: Timestamp,
    pub expires: Timestamp,
}

/// An answer that is there to be opened.
pub struct Found {
    pub about: About,
    stored: Stored,
}

/// Why something was not wrapped, or does not open.
#[derive(Debug, thiserror::Error)]
pub enum WrapError {
    #[error("is {0} bytes; an answer of at most {ANSWER_BYTES} can be wrapped")]
    TooLarge(usize),
    #[error(
        "{MOST} wrapped answers wait to be opened, or {MOST_OF_ONE} of yours; no more are taken before some are opened, or \
         their time is over"
    )]
    Full,
    /// Nobody says whether it ever was.
    #[error("this token opens nothing: it is wrong, or its time is over")]
    Nothing,
    /// An alarm, unless the caller opened it a moment ago.
    #[error("it was opened at {opened} already: if that was not you, somebody else has what was in it")]
    Opened { about: Box<About>, opened: Timestamp },
    #[error(transparent)]
    Barrier(#[from] BarrierError),
}

impl From<CryptoError> for WrapError {
    fn from(error: CryptoError) -> Self {
        Self::Barrier(error.into())
    }
}

/// For how long: something, and not for ever.
///
/// # Errors
/// It is too short or too long.
pub fn ttl(seconds: u64) -> Result<Duration, Invalid> {
    match seconds {
        seconds if (1..=LONGEST.as_secs()).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(Invalid::new("ttl_seconds", format!("is {seconds}; expected 1 to {}", LONGEST.as_secs()))),
    }
}

impl Wrapping {
    pub fn new(view: View, entropy: Arc<dyn Entropy>) -> Self {
        Self { view, entropy, waiting: Mutex::default() }
    }

    /// Keeps an answer. Who has the token that is returned opens it.
    ///
    /// # Errors
    /// It is too long, there are too many, or it could not be written.
    pub async fn keep(&self, about: &About, reply: Box<dyn Reply>) -> Result<Token, WrapError> {
        let answer = encoded(reply)?;
        if !self.waiting().add(&about.by) {
            return Err(WrapError::Full);
        }
        let token = Token::new(about.id, &*self.entropy)?;
        let header = address(about.id);
        let mut changes = Changes {
            conditions: vec![(header.clone(), Condition::Absent)],
            puts: vec![(header, Stored::of(about, &token).encode())],
            by: Some(about.id),
            ..Changes::default()
        };
        let parts = answer_addresses(about.id).zip(answer.expose().chunks(PART_BYTES));
        changes.puts.extend(parts.map(|(address, part)| (address, SecretBytes::from(part))));
        self.view.commit(changes).await?;
        Ok(token)
    }

    /// What a token would open.
    ///
    /// # Errors
    /// Nothing, or nothing any more.
    pub async fn find(&self, token: &Token, now: Timestamp) -> Result<Found, WrapError> {
        let found = self.view.get(&address(token.id())).await?.ok_or(WrapError::Nothing)?;
        let stored = Stored::decode(&found)?;
        let about = stored.about(token.id())?;
        if !stored.is_opened_by(token) {
            return Err(WrapError::Nothing);
        }
        if let Some(opened) = stored.opened() {
            return Err(WrapError::Opened { about: about.into(), opened });
        }
        if about.expires <= now {
            return Err(WrapError::Nothing);
        }
        Ok(Found { about, stored })
    }

    /// Takes it out, for the request `by`. Of two at once one gets it.
    ///
    /// # Errors
    /// Somebody was faster, or it could not be written that it is opened: then nothing is told.
    pub async fn open(&self, found: Found, by: RequestId, now: Timestamp) -> Result<SecretBytes, WrapError> {
        let Found { about, stored } = found;
        let answer = self.answer(about.id).await?;
        let header = address(about.id);
        let changes = Changes {
            conditions: vec![(header.clone(), Condition::At(stored.revision))],
            puts: vec![(header, stored.opened_at(now).encode())],
            deletes: answer_addresses(about.id).collect(),
            urgent: true,
            by: Some(by),
            ..Changes::default()
        };
        match self.view.commit(changes).await {
            Ok(_) => {
                self.waiting().remove(&about.by);
                Ok(answer)
            }
            Err(BarrierError::Conflict) => Err(WrapError::Opened { about: about.into(), opened: now }),
            Err(error) => Err(error.into()),
        }
    }

    async fn answer(&self, id: RequestId) -> Result<SecretBytes, BarrierError> {
        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        for address in answer_addresses(id) {
            let Some(part) = self.view.get(&address).await? else { break };
            answer.extend_from_slice(part.content.expose());
        }
        Ok(SecretBytes::from(answer))
    }

    /// Forgets answers whose time is over, and after a day that they were.
    ///
    /// # Errors
    /// The store or the keys.
    pub async fn sweep(&self, now: Timestamp) -> Result<(), BarrierError> {
        let (mut waiting, mut cursor): (Waiting, Option<Cursor>) = (Waiting::default(), None);
        loop {
            let page = self.view.scan(record::HEADER, "", cursor.as_ref(), BATCH).await?;
            let Some(last) = page.last() else { break };
            cursor = Some(last.cursor.clone());
            let mut changes = Changes { urgent: true, ..Changes::default() };
            for found in page {
                let (stored, id) = (Stored::decode(&found.entry)?, record::id(&found.name));
                let (Some(id), over) = (id, stored.expires().plus(REMEMBERED)) else { continue };
                match stored.opened() {
                    _ if over <= now => {
                        changes.deletes.push(address(id));
                        changes.deletes.extend(answer_addresses(id));
                    }
                    None if stored.expires() <= now => changes.deletes.extend(answer_addresses(id)),
                    None => {
                        waiting.add(stored.by());
                    }
                    Some(_) => {}
                }
            }
            if !changes.deletes.is_empty() {
                self.view.commit(changes).await?;
            }
        }
        *self.waiting() = waiting;
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics under this lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// One more, if there is room for it.
    fn add(&mut self, by: &str) -> bool {
        let of_one = self.of.entry(by.into()).or_default();
        let fits = self.all < MOST && *of_one < MOST_OF_ONE;
        if fits {
            self.all += 1;
            *of_one += 1;
        }
        fits
    }

    fn remove(&mut self, by: &str) {
        self.all = self.all.saturating_sub(1);
        if let Some(of_one) = self.of.get_mut(by) {
            *of_one = of_one.saturating_sub(1);
        }
    }
}

/// In memory that does not grow, which would leave pieces of it behind.
fn encoded(reply: Box<dyn Reply>) -> Result<SecretBytes, WrapError> {
    let about = reply.bytes();
    let mut answer = Vec::with_capacity(ANSWER_BYTES).limit(ANSWER_BYTES);
    match reply.write(&mut answer) {
        Ok(()) => Ok(SecretBytes::from(answer.into_inner())),
        Err(_) => {
            drop(SecretBytes::from(answer.into_inner()));
            Err(WrapError::TooLarge(about.max(ANSWER_BYTES + 1)))
        }
    }
}

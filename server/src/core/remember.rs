//! Step 7: what follows from what was done. Whoever does something says it with the answer. It was made durable in the very
//! batch that did it, so that no crash can separate the two; here it begins to count, before anybody is answered.

use super::{error::Error, request::Answer, state::Unsealed};
use crate::tokens::Ending;

/// What was done.
pub(super) struct Done {
    /// For the caller, once the memo counts.
    answer: Result<Answer, Error>,
    memo: Option<Memo>,
}

/// What has to be remembered.
pub(super) enum Memo {
    /// The sessions that depended on what was removed have ended.
    SessionsEnd(Ending),
}

impl Done {
    /// An answer from which something follows; a refusal can be one, too.
    pub(super) fn and(answer: Result<Answer, Error>, memo: Memo) -> Self {
        Self { answer, memo: Some(memo) }
    }
}

impl From<Answer> for Done {
    /// Nothing follows.
    fn from(answer: Answer) -> Self {
        Self { answer: Ok(answer), memo: None }
    }
}

pub(super) fn remember(unsealed: &Unsealed, done: Done) -> Result<Answer, Error> {
    match done.memo {
        Some(Memo::SessionsEnd(ending)) => unsealed.tokens.revocations().show(ending),
        None => {}
    }
    done.answer
}

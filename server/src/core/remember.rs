//! Step 7: what follows from what was done, and has to be durable before anybody is answered. Whoever does something says
//! it with the answer; here it is made so, and if it cannot be, nothing is answered.

use super::{
    context::RequestContext,
    error::Error,
    request::Answer,
    state::{Core, Unsealed},
};
use crate::tokens::Which;

/// What was done.
pub(super) struct Done {
    /// For the caller, once the memo is durable.
    answer: Result<Answer, Error>,
    memo: Option<Memo>,
}

/// What has to be remembered.
pub(super) enum Memo {
    /// The sessions that stood on what there is no more have ended, now that nobody can log in by it again.
    SessionsEnd(Which),
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

pub(super) async fn remember(
    core: &Core,
    unsealed: &Unsealed,
    request: &RequestContext,
    done: Done,
) -> Result<Answer, Error> {
    if let Some(memo) = done.memo {
        match memo {
            // The time is taken now, after the change: a session that began before it is covered.
            Memo::SessionsEnd(which) => {
                unsealed.tokens.revoke(which, core.clock.now(), Some(request.id())).await?;
            }
        }
    }
    done.answer
}

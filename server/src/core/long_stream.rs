//! Streams that live long: they end when what they were permitted by no longer holds.

use std::{sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt};

use tokio_stream::wrappers::ReceiverStream;

use super::{
    context::RequestContext,
    error::Error,
    request::{Answers, Needs},
    state::{Core, Unsealed},
};
use crate::{
    audit,
    engines::MountedEngine,
    policy::{Outdated, Scope},
};

/// How often a long stream asks whether it may continue. A revoked session is cut off within this time.
const REVIEW: Duration = Duration::from_secs(2);

/// Lines of the audit log, with our errors.
pub(super) fn lines(lines: audit::Lines) -> Answers<Vec<String>> {
    Box::pin(ReceiverStream::new(lines).map(|next| next.map_err(Error::from)))
}

/// Ends `stream` when the session ends for good or is revoked, when its pod is gone, when the policy says something else of
/// what it was permitted, and when the server is sealed or stops. A client watches again.
///
/// The session is prolonged where it may be renewed, by what renews it for those who ask: nobody has to show a new token for
/// a stream that they could have all the same, and it ends when they could get no other one.
pub(super) fn while_valid<T: Send + 'static>(
    core: &Arc<Core>,
    unsealed: &Arc<Unsealed>,
    request: &RequestContext,
    scope: Scope,
    needs: Needs,
    stream: impl Stream<Item = Result<T, Error>> + Send + 'static,
) -> Answers<T> {
    let (core, unsealed) = (Arc::clone(core), Arc::downgrade(unsealed));
    let mut session = Arc::clone(&request.session);
    let review = move || -> Result<(), Error> {
        let unsealed = unsealed.upgrade().ok_or(Error::WatchEnded("the server was sealed"))?;
        core.unsealed()?;
        if core.is_draining() {
            return Err(Error::Stopping);
        }
        let now = core.clock.now();
        unsealed.tokens.check(&session, now)?;
        unsealed.methods.check(&session.principal)?;
        let ends_soon = session.expires < session.max_expires && session.expires.since(now) < session.ttl / 2;
        if ends_soon && unsealed.methods.may_renew(&session.principal) {
            session = Arc::new(unsealed.tokens.prolong(&session, now)?);
        }
        let outdated = scope.review(&unsealed.policy.current(), now, needs.verbs, &needs.paths);
        outdated.map_err(|outdated| match outdated {
            Outdated::Changed => Error::WatchEnded("the policy changed"),
            Outdated::Denied => Error::WatchEnded("the caller may no longer read it"),
        })
    };
    let mut reviews = tokio::time::interval(REVIEW);
    reviews.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let state = Some((Box::pin(stream.fuse()), reviews));
    Box::pin(futures_util::stream::unfold((state, review), |(state, mut review)| async move {
        let (mut stream, mut reviews) = state?;
        loop {
            tokio::select! {
                biased;
                _ = reviews.tick() => if let Err(error) = review() { return Some((Err(error), (None, review))) },
                next = stream.next() => {
                    let next = next?;
                    // What was judged a while ago is judged again before it leaves.
                    return Some(match review() {
                        Ok(()) => (next, (Some((stream, reviews)), review)),
                        Err(error) => (Err(error), (None, review)),
                    });
                }
            }
        }
    }))
}

/// Ends `stream` when the mount that it comes from is removed.
pub(super) fn while_mounted<T: Send + 'static>(
    mounted: Arc<MountedEngine>,
    stream: Answers<T>,
) -> Answers<T> {
    let away = || Err(Error::WatchEnded("the mount was removed"));
    let mut reviews = tokio::time::interval(REVIEW);
    reviews.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    Box::pin(futures_util::stream::unfold(Some((stream, reviews)), move |state| {
        let mounted = Arc::clone(&mounted);
        async move {
            let (mut stream, mut reviews) = state?;
            loop {
                tokio::select! {
                    biased;
                    _ = reviews.tick() => if mounted.is_away() { return Some((away(), None)) },
                    next = stream.next() => match next? {
                        _ if mounted.is_away() => return Some((away(), None)),
                        item => return Some((item, Some((stream, reviews)))),
                    },
                }
            }
        }
    }))
}

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
    engines::Mounted,
    model::Verb,
    policy::{Context, Decision, Question},
};

/// How often a long stream asks whether it may go on. A revoked session is cut off within this time.
const REVIEW: Duration = Duration::from_secs(2);

/// Lines of the audit log, with our errors.
pub(super) fn lines(lines: audit::Lines) -> Answers<Vec<String>> {
    Box::pin(ReceiverStream::new(lines).map(|next| next.map_err(Error::from)))
}

/// Ends `stream` when the session expires or is revoked, when the policy changes (what was judged may be judged
/// differently now; a client watches again), and when the server is sealed or stops.
pub(super) fn while_valid<T: Send + 'static>(
    core: &Arc<Core>,
    unsealed: &Arc<Unsealed>,
    request: &RequestContext,
    needs: Needs,
    stream: impl Stream<Item = Result<T, Error>> + Send + 'static,
) -> Answers<T> {
    let (core, unsealed, session) =
        (Arc::clone(core), Arc::downgrade(unsealed), Arc::clone(&request.session));
    let (judged_by, peer) = (Arc::clone(&request.policy), request.origin.peer);
    let review = move || -> Result<(), Error> {
        let unsealed = unsealed.upgrade().ok_or(Error::WatchEnded("the server was sealed"))?;
        core.unsealed()?;
        if core.is_draining() {
            return Err(Error::Stopping);
        }
        unsealed.tokens.check(&session, core.clock.now())?;
        unsealed.methods.check(&session.principal)?;
        if !Arc::ptr_eq(&judged_by, &unsealed.policy.current()) {
            return Err(Error::WatchEnded("the policy changed"));
        }
        // The same policy may say something else by now: bindings have an end.
        let context = Context { peer, now: core.clock.now() };
        let allows = |path| {
            let granted = |verb: &Verb| {
                let question =
                    Question { principal: &session.principal, verb: *verb, path, context: &context };
                matches!(judged_by.decide(&question), Decision::Allow(_))
            };
            needs.verbs.iter().any(granted)
        };
        if needs.paths.iter().all(allows) { Ok(()) } else { Err(Error::WatchEnded("the right to it ended")) }
    };
    let mut reviews = tokio::time::interval(REVIEW);
    reviews.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let state = (Box::pin(stream.fuse()), reviews, Some(review));
    Box::pin(futures_util::stream::unfold(state, |(mut stream, mut reviews, mut review)| async move {
        let next = loop {
            let check = review.as_ref()?;
            tokio::select! {
                biased;
                _ = reviews.tick() => if let Err(error) = check() { review = None; break Err(error) },
                next = stream.next() => match next {
                    // What was judged a while ago is judged again before it leaves.
                    Some(item) => match check() {
                        Ok(()) => break item,
                        Err(error) => { review = None; break Err(error) }
                    },
                    None => return None,
                },
            }
        };
        Some((next, (stream, reviews, review)))
    }))
}

/// Ends `stream` when what it comes from is taken away.
pub(super) fn while_mounted<T: Send + 'static>(mounted: Arc<Mounted>, stream: Answers<T>) -> Answers<T> {
    let away = || Err(Error::WatchEnded("the mount was taken away"));
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

//! Review mode: the API server is asked whose token it is (TokenReview). It knows of deleted pods and accounts; a token of
//! one is good for up to 60 s after the deletion there, and what it said is believed for [`SUCCESS`] here.
//!
//! Nobody is asked about what cannot be a good token by its own claims. That keeps junk from the API server and is never a
//! proof: what the claims say is not believed. And whoever makes the API server ask for less is asked about less, not all.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Outage,
    api::{Api, ApiError, ReviewStatus},
    claims::Jwt,
    flights::Flights,
    identity::{Claimed, Identity, parse_subject},
    refusal::{Expected, Refusal},
};
use crate::{
    clock::Clock,
    crypto::{Digest, Sha256},
    model::{Invalid, Source, Timestamp},
    telemetry::ClusterMetrics,
};

/// How long a yes is believed; the API server itself does it for as long.
const SUCCESS: Duration = Duration::from_secs(10);
/// How long a no is repeated to the same address, so that a loop of bad logins costs one review a second.
const FAILURE: Duration = Duration::from_secs(1);
/// How long nothing is asked after the API server did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// What an API server answers that is asked too much (RFC 6585).
const TOO_MANY_REQUESTS: u16 = 429;
/// Most places remembered that are not asked for at the moment; when all are, further ones are not.
const PLACES: usize = 4096;
/// Reviews at once, a share of the 600 requests that an API server handles at a time (its default).
const AT_ONCE: usize = 32;
/// Longest wait for one of them: a full node of 250 pods takes 10 rounds of a few milliseconds.
const WAIT: Duration = Duration::from_millis(500);

/// Asks about tokens.
pub(super) struct Reviewer {
    api: Arc<dyn Api>,
    expected: Expected,
    flights: Flights<Digest, Answer>,
    clock: Arc<dyn Clock>,
    metrics: ClusterMetrics,
    /// Nothing is asked before this, in milliseconds.
    closed_until: AtomicI64,
    /// The same for logins from one place.
    closed_to: Mutex<HashMap<Source, Timestamp>>,
}

/// What became of a question.
#[derive(Clone)]
enum Answer {
    Yes(Arc<Identity>),
    No { to: Option<IpAddr> },
    Down(Outage),
}

impl Reviewer {
    pub(super) fn new(
        api: Arc<dyn Api>,
        expected: Expected,
        clock: Arc<dyn Clock>,
        metrics: ClusterMetrics,
    ) -> Self {
        let flights = Flights::new(AT_ONCE, WAIT, Arc::clone(&clock));
        Self {
            api,
            expected,
            flights,
            clock,
            metrics,
            closed_until: AtomicI64::new(i64::MIN),
            closed_to: Mutex::default(),
        }
    }

    /// Finds out whose token it is.
    pub(super) async fn judge(
        &self,
        token: &str,
        peer: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Arc<Identity>, Judged> {
        let claims = Jwt::parse(token).ok_or(Refusal::Token)?.claims;
        self.expected.check(&claims, now)?;
        claims.identity().ok_or(Refusal::Token)?;
        let usable = |answer: &Answer| match answer {
            Answer::Yes(_) | Answer::Down(_) => true,
            Answer::No { to } => *to == peer,
        };
        let source = peer.map(Source::from);
        let asking = self.flights.get(self.key(token), source, usable, || self.ask(token, peer));
        let (answer, asked) =
            asking.await.map_err(|_| Outage { problem: "too many reviews at once", retry_after: WAIT })?;
        if !asked {
            self.metrics.review_cached();
        }
        match answer {
            Answer::Yes(identity) => Ok(identity),
            // The API server's own words stay out of it: they could repeat the token.
            Answer::No { .. } => Err(Refusal::Token.into()),
            Answer::Down(outage) => Err(outage.into()),
        }
    }

    async fn ask(&self, token: &str, peer: Option<IpAddr>) -> (Answer, Duration) {
        let closed = self.clock.now().as_millis() < self.closed_until.load(Ordering::Relaxed);
        if closed || self.is_closed_to(peer) {
            return (Answer::Down(unanswered()), Duration::ZERO);
        }
        let started = Instant::now();
        let running = self.metrics.review_started();
        let answer = self.api.review(token, &self.expected.audience).await;
        drop(running);
        let (result, answer) = match answer {
            Ok(status) => match accept(&status, &self.expected.audience) {
                Some(identity) => ("accepted", (Answer::Yes(Arc::new(identity)), SUCCESS)),
                None => ("refused", (Answer::No { to: peer }, FAILURE)),
            },
            Err(error) => {
                match error {
                    // An answer to this token that cannot be read says nothing of the next one.
                    ApiError::Malformed => {}
                    // The others did not ask too much.
                    ApiError::Status(TOO_MANY_REQUESTS) => self.close_to(peer),
                    _ => {
                        let until = self.clock.now().plus(PAUSE).as_millis();
                        self.closed_until.store(until, Ordering::Relaxed);
                    }
                }
                self.tell(&error);
                ("failed", (Answer::Down(unanswered()), PAUSE))
            }
        };
        self.metrics.review_ended(result, started.elapsed());
        answer
    }

    fn is_closed_to(&self, peer: Option<IpAddr>) -> bool {
        let closed = self.closed_to.lock().unwrap_or_else(PoisonError::into_inner);
        let until = peer.and_then(|peer| closed.get(&Source::from(peer)));
        until.is_some_and(|until| self.clock.now() < *until)
    }

    fn close_to(&self, peer: Option<IpAddr>) {
        let (Some(peer), now) = (peer, self.clock.now()) else { return };
        let mut closed = self.closed_to.lock().unwrap_or_else(PoisonError::into_inner);
        if closed.len() >= PLACES {
            closed.retain(|_, until| now < *until);
        }
        if closed.len() < PLACES {
            closed.insert(Source::from(peer), now.plus(PAUSE));
        }
    }

    fn tell(&self, error: &ApiError) {
        tracing::warn!(cluster = self.metrics.cluster(), %error, "a token review failed");
    }

    fn key(&self, token: &str) -> Digest {
        let mut key = Sha256::new();
        // No audience holds a NUL: one pair is one key.
        [self.expected.audience.as_bytes(), b"\0", token.as_bytes()].iter().for_each(|part| key.update(part));
        key.finish()
    }
}

fn unanswered() -> Outage {
    Outage { problem: "its API server does not answer", retry_after: PAUSE }
}

/// Why a token did not get through.
#[derive(Debug)]
pub(super) enum Judged {
    Invalid(Invalid),
    No(Refusal),
    Later(Outage),
}

impl From<Refusal> for Judged {
    fn from(refusal: Refusal) -> Self {
        Self::No(refusal)
    }
}

impl From<Outage> for Judged {
    fn from(outage: Outage) -> Self {
        Self::Later(outage)
    }
}

/// Reads whose token it is from the API server's answer, all of which must fit: a yes with an error beside it is a no
/// (CVE-2026-46405), and so is one that does not say for which audience (vault-plugin-auth-kubernetes#175).
fn accept(status: &ReviewStatus, audience: &str) -> Option<Identity> {
    if !status.authenticated
        || !status.error.is_empty()
        || !status.audiences.iter().any(|one| one == audience)
    {
        return None;
    }
    let (namespace, name) = parse_subject(&status.user.username)?;
    // Two values or none, where there must be one, do not count as an answer.
    let extra = |key: &str| match status.user.extra.get(key).map(Vec::as_slice) {
        None => Some(None),
        Some([one]) => Some(Some(&**one)),
        Some(_) => None,
    };
    let pod = match (extra(POD_NAME)?, extra(POD_UID)?) {
        (Some(name), Some(uid)) => Some((name, uid)),
        (None, None) => None,
        _ => return None,
    };
    let node = extra(NODE_NAME)?;
    Identity::parse(&Claimed { namespace, account: (name, &status.user.uid), pod, node })
}

/// See KEP-4193; nodes since Kubernetes 1.29.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

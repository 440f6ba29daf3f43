//! A request at the door. Its row of the access table says by which way in it may go and whether now; whoever serves it
//! comes to the core only through [`Visit`], and what is answered past it does not leave.

use std::{
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    access::{self, Access, Class, Credential, Door},
    intake::{Intake, Room},
    quotas::{Asks, Quotas},
    shares::{Caller, Held, Kind, Shares},
    slots::Slots,
};
use crate::{
    auth,
    config::Rates,
    core::{self, Action, Answer, Answers, Core, Error, Initialized, Origin, Place, Slot, Status, Unwrapped},
    crypto::{CryptoError, Entropy, Unique},
    limits,
    model::{Invalid, Principal, RequestId, SecretBytes},
    seal::SealConfig,
    telemetry::Metrics,
    tokens::Session,
};

/// See the module above. One for all wires.
pub struct Admission {
    core: Arc<Core>,
    longest: Duration,
    pub(super) slots: Slots,
    shares: Arc<Shares>,
    quotas: Quotas,
    intake: Intake,
    ids: Unique,
    metrics: Arc<Metrics>,
}

/// A request that is one of those there are. Whoever holds it holds its slot, and its caller's share of slots: those who
/// work on it, and who answers, until the answer is sent.
pub struct Visit {
    origin: Origin,
    access: &'static Access,
    /// It went in by the door that its row names.
    let_in: AtomicBool,
    slot: Mutex<Option<OwnedSemaphorePermit>>,
    /// Whose it is, once that is known.
    caller: OnceLock<Caller>,
    shares: OnceLock<Vec<Held>>,
    admission: Arc<Admission>,
}

/// Room for an answer on its way, free again when this is dropped.
pub struct AnswerRoom {
    _held: Option<Held>,
}

/// Counts a request as in progress until it is answered, or dropped because the caller went away.
pub struct AtWork<'a> {
    visit: &'a Visit,
    began: Instant,
}

impl Admission {
    /// For `in_flight` requests at once, none of which takes longer than `longest`, and so many of each caller.
    ///
    /// # Errors
    /// No randomness for the request ids.
    pub fn new(
        core: Arc<Core>,
        in_flight: usize,
        longest: Duration,
        rates: Rates,
        entropy: &dyn Entropy,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, CryptoError> {
        let (slots, ids) = (Slots::new(in_flight), Unique::new(entropy)?);
        let (shares, intake) = (Shares::new(in_flight), Intake::new());
        let quotas = Quotas::new(rates);
        Ok(Arc::new(Self { core, longest, slots, shares, quotas, intake, ids, metrics }))
    }

    /// A request by its name (`Secrets.Get`).
    ///
    /// # Errors
    /// There is no such request: the id it is refused under.
    pub fn arrive(self: &Arc<Self>, name: &str, peer: Option<IpAddr>) -> Result<Arc<Visit>, RequestId> {
        let id = RequestId(self.ids.make());
        let access = access::row(name).ok_or(id)?;
        let origin = Origin { id, name: access.name, peer };
        Ok(Arc::new(Visit {
            origin,
            access,
            let_in: AtomicBool::new(false),
            slot: Mutex::default(),
            caller: OnceLock::new(),
            shares: OnceLock::new(),
            admission: Arc::clone(self),
        }))
    }

    /// Whether secrets can be served at this moment, for health checks of a wire.
    pub fn is_ready(&self) -> bool {
        self.core.ready().is_ok()
    }

    /// Woken when the server gets its keys or forgets them.
    pub fn watch_phase(&self) -> watch::Receiver<()> {
        self.core.watch_phase()
    }
}

impl Visit {
    /// Told to the caller with every answer.
    pub fn id(&self) -> RequestId {
        self.origin.id
    }

    pub fn name(&self) -> &'static str {
        self.access.name
    }

    /// From here on it counts as in progress.
    pub fn begin(&self) -> AtWork<'_> {
        self.admission.metrics.request_started();
        AtWork { visit: self, began: Instant::now() }
    }

    /// Does `work`, which answers the request, in the time there is, where the caller `asked` for so much. The wire holds the
    /// visit until the answer is sent. `is_answer` tells an answer from a refusal.
    ///
    /// # Errors
    /// There is no slot or no more time, the work panicked, or it answered a request that admission did not let in.
    pub async fn attend<T>(
        &self,
        asked: Option<Duration>,
        work: impl Future<Output = T>,
        is_answer: impl FnOnce(&T) -> bool,
    ) -> Result<T, Error> {
        if let Some(slot) = self.admission.slots.public(self.access.class)? {
            self.keep(Some(slot));
            self.share(vec![(Caller::at(self.origin.peer), Kind::Public)])?;
        }
        let work = AssertUnwindSafe(work).catch_unwind();
        let outcome = match self.access.deadline(asked, self.admission.longest) {
            Some(deadline) => {
                tokio::time::timeout(deadline, work).await.map_err(|_| Error::DeadlinePassed)?
            }
            None => work.await,
        };
        let answer = outcome.map_err(|_| Error::Internal("a handler panicked".to_owned()))?;
        if is_answer(&answer) && !self.access.admits(Door::Idle) && !self.let_in.load(Ordering::Relaxed) {
            return Err(Error::Internal(format!("{} was answered without passing admission", self.name())));
        }
        Ok(answer)
    }

    /// Room for so many bytes of the answer, from where the wire takes charge of them until they are sent. Nobody waits for
    /// it: those that wait have their answers in memory already.
    ///
    /// # Errors
    /// The caller has too much of it, or all callers together.
    pub fn answer_room(&self, bytes: usize) -> Result<AnswerRoom, Error> {
        if bytes <= limits::SMALL_ANSWER_BYTES {
            return Ok(AnswerRoom { _held: None });
        }
        let caller = self.caller.get_or_init(|| Caller::at(self.origin.peer));
        let held = self.admission.shares.take(caller, Kind::Outbound, bytes);
        held.map(|held| AnswerRoom { _held: Some(held) }).ok_or_else(|| {
            self.admission.metrics.request_shed("answer");
            Error::Overloaded(limits::QUEUE_WAIT)
        })
    }

    /// Room for a message of `length` that comes in parts, for as long as it is held.
    ///
    /// # Errors
    /// The caller is not known but has to be, or there is no room left.
    pub async fn room(&self, bearer: Option<&SecretBytes>, length: usize) -> Result<Room, Error> {
        let shown = self.access.credential;
        let caller = match shown {
            Credential::Token => {
                let who = core::vouch(&self.admission.core, self.origin, bearer).await?;
                Caller::known(&who)
            }
            Credential::None => Caller::at(self.origin.peer),
        };
        let (admission, longest) = (&self.admission, self.access.message);
        admission.intake.room(&admission.shares, (shown, &caller), length, longest).await
    }

    /// Its largest message.
    pub fn longest_message(&self) -> usize {
        self.access.message
    }

    /// Whether its caller goes on sending once the first message is there.
    pub fn goes_on(&self) -> bool {
        self.access.class == Class::Public
    }

    /// Through the pipeline. The message is there and decoded now: who sends headers and then nothing waits in nobody's way.
    ///
    /// # Errors
    /// Those of the pipeline; it is not for who has a session; or there is no slot.
    pub async fn handle(
        self: &Arc<Self>,
        bearer: Option<SecretBytes>,
        action: Result<Action, Invalid>,
    ) -> Result<Answer, Error> {
        self.enter(Door::Session).await?;
        // A stream begins like any other request: its record waits in the same line.
        let _begins = match self.access.class {
            Class::Stream => self.admission.slots.take(Class::Unary).await?,
            _ => None,
        };
        let slot: Slot = Arc::clone(self) as Slot;
        let request = core::Request { origin: self.origin, slot: Arc::clone(&slot), bearer, action };
        let answer = core::handle(&self.admission.core, request).await?;
        Ok(hold(answer, slot))
    }

    /// A credential for a token.
    ///
    /// # Errors
    /// Those of [`core::login`]; it is not for strangers; or there is no slot.
    pub async fn login(
        self: &Arc<Self>,
        credential: Result<auth::Credential, Invalid>,
    ) -> Result<(SecretBytes, Session), Error> {
        self.enter_as_stranger().await?;
        let slot: Slot = Arc::clone(self) as Slot;
        core::login(&self.admission.core, core::Login { origin: self.origin, slot, credential }).await
    }

    /// What a token of a wrapped answer opens.
    ///
    /// # Errors
    /// Those of [`core::unwrap`]; it is not for strangers; or there is no slot.
    pub async fn unwrap(self: &Arc<Self>, token: SecretBytes) -> Result<Unwrapped, Error> {
        self.enter_as_stranger().await?;
        core::unwrap(&self.admission.core, self.origin, Arc::clone(self) as Slot, token).await
    }

    /// Makes a store out of an empty one.
    ///
    /// # Errors
    /// Those of [`core::init`], or it is not for strangers.
    pub async fn init(self: &Arc<Self>, seal: Result<SealConfig, Invalid>) -> Result<Initialized, Error> {
        self.enter(Door::Stranger).await?;
        core::init(&self.admission.core, self.origin, Arc::clone(self) as Slot, seal).await
    }

    /// One share towards the root key.
    ///
    /// # Errors
    /// Those of [`core::unseal`], or it is not for strangers.
    pub async fn unseal(self: &Arc<Self>, share: SecretBytes) -> Result<Status, Error> {
        self.enter(Door::Stranger).await?;
        core::unseal(&self.admission.core, self.origin, Arc::clone(self) as Slot, share).await
    }

    /// A root token, for whoever can open the seal.
    ///
    /// # Errors
    /// Those of [`core::generate_root`], or it is not for strangers.
    pub async fn generate_root(self: &Arc<Self>, proof: Vec<SecretBytes>) -> Result<SecretBytes, Error> {
        self.enter(Door::Stranger).await?;
        core::generate_root(&self.admission.core, self.origin, Arc::clone(self) as Slot, proof).await
    }

    /// What anybody may know.
    ///
    /// # Errors
    /// It is for more than that.
    pub async fn status(&self) -> Result<Status, Error> {
        self.enter(Door::Idle).await?;
        Ok(self.admission.core.status())
    }

    /// The row is kept: this door is its door, there is a slot of its class, and what needs keys is not done without.
    async fn enter(&self, door: Door) -> Result<(), Error> {
        if !self.access.admits(door) {
            return Err(Error::Internal(format!(
                "{} used an entrance that its row does not allow",
                self.name()
            )));
        }
        self.keep(self.admission.slots.take(self.access.class).await?);
        if !self.access.while_sealed {
            core::refuse_sealed(&self.admission.core, self.origin).await?;
        }
        self.let_in.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// To show something that proves a right: so often from one place, and so many at once.
    async fn enter_as_stranger(&self) -> Result<(), Error> {
        self.enter(Door::Stranger).await?;
        let from = Caller::at(self.origin.peer);
        self.quota(&from, Asks::Login)?;
        self.share(vec![(from, Kind::Unary)])
    }

    fn keep(&self, slot: Option<OwnedSemaphorePermit>) {
        // Nothing panics under this lock.
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = slot;
    }

    fn quota(&self, caller: &Caller, asks: Asks) -> Result<(), Error> {
        let taken = self.admission.quotas.take(caller, asks, tokio::time::Instant::now());
        taken.map_err(|after| {
            self.keep(None);
            self.admission.metrics.request_shed(asks.as_str());
            Error::Quota { asks: asks.as_str(), after }
        })
    }

    /// Counts it as theirs, or not at all.
    fn share(&self, theirs: Vec<(Caller, Kind)>) -> Result<(), Error> {
        let take = |(caller, kind): &(Caller, Kind)| self.admission.shares.take(caller, *kind, 1);
        let Some(held) = theirs.iter().map(take).collect::<Option<Vec<_>>>() else {
            // The refusal is recorded, and no place is taken from others meanwhile.
            self.keep(None);
            self.admission.metrics.request_shed("share");
            return Err(Error::Overloaded(limits::QUEUE_WAIT));
        };
        // There is one set for each visit: who comes twice gives the second one back.
        let _ = self.shares.set(held);
        if let Some((caller, _)) = theirs.into_iter().next() {
            let _ = self.caller.set(caller);
        }
        Ok(())
    }
}

impl Place for Visit {
    fn claim(&self, who: &Principal, is_write: bool) -> Result<(), Error> {
        let (who, from) = (Caller::known(who), Caller::at(self.origin.peer));
        self.quota(&who, self.access.asks(is_write))?;
        self.share(match self.access.class {
            Class::Unary => vec![(who, Kind::Unary)],
            Class::Urgent => vec![(who, Kind::Urgent)],
            Class::Stream => vec![(who, Kind::Stream), (from, Kind::Stream)],
            // Nobody who is known comes in by these.
            Class::Vital | Class::Public => Vec::new(),
        })
    }

    fn room(&self, bytes: usize) -> Result<Box<dyn Send>, Error> {
        Ok(Box::new(self.answer_room(bytes)?))
    }

    fn attempt(&self) -> Result<(), Error> {
        self.share(vec![(Caller::at(self.origin.peer), Kind::Attempt)])
    }
}

/// What is answered over time keeps its slot for as long.
fn hold(answer: Answer, slot: Slot) -> Answer {
    fn with<T: 'static>(answers: Answers<T>, slot: Slot) -> Answers<T> {
        Box::pin(answers.inspect(move |_| {
            let _held = &slot;
        }))
    }
    match answer {
        Answer::Replies(replies) => Answer::Replies(with(replies, slot)),
        Answer::Lines(lines) => Answer::Lines(with(lines, slot)),
        other => other,
    }
}

impl AtWork<'_> {
    /// It is answered, with this code of its wire.
    pub fn end(self, code: &'static str) {
        self.visit.admission.metrics.request_answered(self.visit.name(), code, self.began.elapsed());
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.visit.admission.metrics.request_ended();
    }
}

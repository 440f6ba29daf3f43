//! What was issued for a volume: how long it is good, when it is renewed and when it is replaced, and that it is given back if it
//! is not needed. It asks the server and knows no disk. All times are from answers on, by how long the server says.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use strongroom_client::{Error, SecretBytes, volume::Source};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    limits,
    session::{Given, Session, Times},
};

/// What a volume has of something that was issued.
pub struct Held {
    source: Source,
    lease: Option<String>,
    /// Not known of what an earlier process had issued: nothing secret survives one.
    fields: Option<BTreeMap<String, SecretBytes>>,
    lifetime: Duration,
    ends: Instant,
    last_end: Instant,
    /// When it is to be renewed or replaced.
    due: Instant,
    /// The server knows nothing of it any more, or never did.
    is_gone: bool,
}

/// Something that was issued and is in no volume yet. It is given back when this is dropped, whoever hung up or failed.
pub struct Lent {
    session: Arc<dyn Session>,
    held: Option<Held>,
}

impl Held {
    fn new(source: Source, given: Given) -> Self {
        let Given { fields, lease, times } = given;
        let now = Instant::now();
        let mut held = Self {
            source,
            lease,
            fields: Some(fields),
            lifetime: times.lifetime,
            ends: now,
            last_end: now,
            due: now,
            is_gone: false,
        };
        held.is_good_for(times);
        held
    }

    /// What an earlier process left, of which the server has to say how long it is good; without a lease nothing is known.
    pub fn left(source: &Source, lease: Option<String>) -> Self {
        let now = Instant::now();
        Self {
            source: source.clone(),
            is_gone: lease.is_none(),
            lease,
            fields: None,
            lifetime: Duration::ZERO,
            ends: now,
            last_end: now,
            due: now,
        }
    }

    /// From now on.
    pub fn is_good_for(&mut self, times: Times) {
        let now = Instant::now();
        self.lifetime = times.lifetime;
        (self.ends, self.last_end) = (now + times.lifetime, now + times.at_most);
        // A third is left for what may go wrong, and beside another one for programs that go over to it.
        self.due = now + (times.lifetime * 2 / 3).max(limits::RENEWAL_PAUSE);
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    pub fn lease(&self) -> Option<&str> {
        self.lease.as_deref()
    }

    pub fn due(&self) -> Instant {
        self.due
    }

    pub fn ends(&self) -> Instant {
        self.ends
    }

    pub fn is_due(&self) -> bool {
        self.due <= Instant::now()
    }

    /// Whether it is known, so that files can be made of it.
    pub fn is_known(&self) -> bool {
        self.fields.is_some()
    }

    /// The server has ended it, or does so.
    pub fn lost(&mut self) {
        self.is_gone = true;
    }

    /// Whether another one has to take its place: a renewal would no longer give it the whole of its time. What an earlier
    /// process left is renewed first, which says how long it is good.
    pub fn is_to_be_replaced(&self) -> bool {
        let is_at_its_last = self.last_end.saturating_duration_since(Instant::now()) < self.lifetime;
        self.is_gone || self.lease.is_none() || (self.is_due() && is_at_its_last)
    }

    /// For a file that is made of it.
    pub fn values(&self) -> BTreeMap<String, SecretBytes> {
        let copied =
            |(name, value): (&String, &SecretBytes)| (name.clone(), SecretBytes::from(value.expose()));
        self.fields.iter().flatten().map(copied).collect()
    }
}

impl Lent {
    /// Has it issued. A caller who goes away meanwhile leaves nothing: the answer is waited for, and given back.
    ///
    /// # Errors
    /// What the server said.
    pub async fn issue(session: &Arc<dyn Session>, source: &Source) -> Result<Self, Error> {
        let (told, answer) = oneshot::channel();
        let (session, source) = (Arc::clone(session), source.clone());
        tokio::spawn(async move {
            let issued = session.issue(source.path()).await;
            let lent = issued.map(|given| Self { session, held: Some(Held::new(source, given)) });
            // Dropped if nobody listens.
            drop(told.send(lent));
        });
        answer.await.unwrap_or_else(|_| Err(Error::unreachable("the task that asked has ended")))
    }

    /// As it is, for as long as it is not kept.
    pub fn values(&self) -> BTreeMap<String, SecretBytes> {
        self.held.as_ref().map(Held::values).unwrap_or_default()
    }

    pub fn source(&self) -> Option<&Source> {
        self.held.as_ref().map(Held::source)
    }

    pub fn lease(&self) -> Option<&str> {
        self.held.as_ref().and_then(Held::lease)
    }

    /// It is in a volume, which gives it back.
    pub fn keep(mut self) -> Option<Held> {
        self.held.take()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let lease = self.held.take().and_then(|held| held.lease);
        if let (Some(lease), Ok(runtime)) = (lease, Handle::try_current()) {
            let session = Arc::clone(&self.session);
            runtime.spawn(async move { give_back(&*session, [lease]).await });
        }
    }
}

/// Revokes what is needed no more, all at once and not for long: what cannot be revoked ends with the pod, or at its time.
pub async fn give_back(session: &dyn Session, leases: impl IntoIterator<Item = String>) {
    let revoking = leases.into_iter().map(|lease| async move {
        match timeout(limits::LOGOUT, session.revoke(&lease)).await {
            Ok(Err(error)) if !error.is_not_found() => {
                tracing::warn!(lease, %error, "what was issued could not be revoked; it ends with the pod, or at its time");
            }
            Ok(_) => tracing::info!(lease, "what was issued is revoked"),
            Err(_) => tracing::info!(lease, "what was issued is revoked, or will be when the server can"),
        }
    });
    futures_util::future::join_all(revoking).await;
}

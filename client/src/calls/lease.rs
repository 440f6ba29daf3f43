//! Leases: what was issued for a while and has to end.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use strongroom_proto::{
    SecretBytes,
    limits::PAGE_SIZE,
    v1::{self, lease_selector::Which, leases_client::LeasesClient},
};

use crate::{
    answer::{optional_timestamp, timestamp},
    client::Client,
    error::Error,
    transport::Mode,
};

/// How long something that was issued lives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// That of the request it was issued for, as 32 hex digits; the audit log has it under the same id.
    pub id: String,
    /// From then on the server ends it.
    pub expires_at: Timestamp,
    /// No renewal goes past this.
    pub max_expires_at: Timestamp,
    /// How long it lives from the moment at which this was answered, by the server's clock, so that a clock that is wrong here
    /// does not matter. Zero where that is not known, as of an answer that was wrapped.
    pub lifetime: Duration,
}

/// What an engine issued, whatever that is.
#[derive(Debug)]
#[non_exhaustive]
pub struct Issued {
    /// By names: `username` and `password` of a database user, for example.
    pub fields: BTreeMap<String, SecretBytes>,
    /// The lease that it lives by. `None`: it cannot be renewed or revoked, and ends by itself.
    pub lease: Option<Lease>,
    /// How long it is good from now on, unless it is renewed or revoked.
    pub lifetime: Duration,
}

/// A lease with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseInfo {
    /// Its id, and how long it lives.
    pub lease: Lease,
    /// The path that it was issued at.
    pub path: String,
    /// What was issued, for example the name of a user.
    pub what: String,
    /// Whom it was issued to.
    pub principal: String,
    /// The id of their session.
    pub session: String,
    /// The uid of the pod, if it was issued to one.
    pub pod: Option<String>,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// Why it is being ended: `expired`, `session`, `revoked`, `failed` or `undelivered`; `None` while it lives.
    pub ending: Option<String>,
    /// How often ending it has failed.
    pub failures: u32,
    /// What the last attempt to end it said.
    pub last_error: Option<String>,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
}

/// Which leases.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseSelector {
    /// The one with this id.
    Id(String),
    /// All at this path and below it; the name of a mount for all of that mount.
    Prefix(String),
    /// All of a principal, such as `userpass/alice`.
    Principal(String),
    /// All of the session with this id.
    Session(String),
    /// All of the pod with this uid.
    Pod(String),
    /// Those that were issued to the caller.
    Own,
}

/// What became of leases that were revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revoked {
    /// How many have ended.
    pub ended: u32,
    /// How many have not ended yet; the server goes on trying.
    pub pending: u32,
    /// What the last failed attempt said.
    pub last_error: Option<String>,
}

/// Calls about leases; see [`Client::leases`].
#[derive(Clone, Copy)]
pub struct Leases<'a>(&'a Client);

impl Client {
    /// Calls about what was issued for a while.
    pub fn leases(&self) -> Leases<'_> {
        Leases(self)
    }
}

impl Leases<'_> {
    pub(super) fn client(&self) -> &Client {
        self.0
    }

    /// Has the engine at `path` issue something, whatever it issues; for `ttl`, or for as long as the engine says.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the engine there issues nothing, and the engine's own.
    pub async fn issue(&self, path: &str, ttl: Option<Duration>) -> Result<Issued, Error> {
        let ttl_seconds = ttl.unwrap_or_default().as_secs();
        let message = v1::IssueRequest { path: path.to_owned(), ttl_seconds };
        let began = Instant::now();
        // Repeated, it would be issued twice.
        let answer = self
            .0
            .session()
            .call(Mode::WRITE, message, |ch, rq| async move { LeasesClient::new(ch).issue(rq).await })
            .await?;
        let fields = answer.fields.into_iter().map(|(name, value)| (name, value.into())).collect();
        let lifetime = Duration::from_millis(answer.lifetime_ms).saturating_sub(began.elapsed());
        Ok(Issued { fields, lease: answer.lease.map(|lease| Lease::from(lease).since(began)), lifetime })
    }

    /// Returns the leases that match, or all; with `stuck` only those that the server could not end in several attempts.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn list(&self, which: Option<&LeaseSelector>, stuck: bool) -> Result<Vec<LeaseInfo>, Error> {
        let mut leases: Vec<LeaseInfo> = Vec::new();
        loop {
            let after = leases.last().map(|info| info.lease.id.clone()).unwrap_or_default();
            let message =
                v1::ListLeasesRequest { which: which.map(selector), stuck, after, limit: PAGE_SIZE };
            let answer = self
                .0
                .session()
                .call(Mode::READ, message, |ch, rq| async move { LeasesClient::new(ch).list(rq).await })
                .await?;
            let none = answer.leases.is_empty();
            leases.extend(answer.leases.into_iter().map(info));
            if !answer.more || none {
                return Ok(leases);
            }
        }
    }

    /// Returns what is known of one lease.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it has ended.
    pub async fn get(&self, id: &str) -> Result<LeaseInfo, Error> {
        let found = self.list(Some(&LeaseSelector::Id(id.to_owned())), false).await?;
        found.into_iter().next().ok_or_else(|| Error::incomplete("lease"))
    }

    /// Makes a lease live for `increment` from now, or for as long as it was issued for; its maximum bounds it. It never gets
    /// shorter.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseEnding`](crate::ErrorKind::LeaseEnding) if it is being ended.
    pub async fn renew(&self, id: &str, increment: Option<Duration>) -> Result<Lease, Error> {
        let increment_seconds = increment.map_or(0, |increment| increment.as_secs().max(1));
        // Twice is as good as once.
        let message = v1::RenewLeaseRequest { id: id.to_owned(), increment_seconds };
        let began = Instant::now();
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { LeasesClient::new(ch).renew(rq).await })
            .await?;
        Ok(Lease::from(answer.lease.ok_or_else(|| Error::incomplete("lease"))?).since(began))
    }

    /// Ends leases. The server marks them durably and waits a few seconds for their end; what cannot be ended by then it
    /// tries again until it is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no lease with that id.
    pub async fn revoke(&self, which: &LeaseSelector) -> Result<Revoked, Error> {
        // Twice is as good as once.
        let message = v1::RevokeLeasesRequest { which: Some(selector(which)) };
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { LeasesClient::new(ch).revoke(rq).await })
            .await?;
        Ok(Revoked { ended: answer.ended, pending: answer.pending, last_error: text(answer.last_error) })
    }

    /// Gives up on a lease that cannot be ended. What it stands for may still be there.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it has ended.
    pub async fn forget(&self, id: &str) -> Result<(), Error> {
        let message = v1::ForgetLeaseRequest { id: id.to_owned() };
        self.0
            .session()
            .call(Mode::WRITE, message, |ch, rq| async move { LeasesClient::new(ch).forget(rq).await })
            .await
            .map(drop)
    }
}

impl From<v1::Lease> for Lease {
    fn from(lease: v1::Lease) -> Self {
        Self {
            id: lease.id,
            expires_at: timestamp(lease.expires_at_ms),
            max_expires_at: timestamp(lease.max_expires_at_ms),
            lifetime: Duration::from_millis(lease.lifetime_ms),
        }
    }
}

impl Lease {
    /// As it is now, when the question was asked at that time: the answer may have been on its way since.
    pub(super) fn since(self, asked: Instant) -> Self {
        Self { lifetime: self.lifetime.saturating_sub(asked.elapsed()), ..self }
    }

    /// When that was is not known.
    pub(super) fn of_an_unknown_time(self) -> Self {
        Self { lifetime: Duration::ZERO, ..self }
    }

    /// Whether no renewal makes it longer.
    pub(super) fn is_last(&self) -> bool {
        self.expires_at >= self.max_expires_at
    }
}

fn selector(which: &LeaseSelector) -> v1::LeaseSelector {
    let which = match which.clone() {
        LeaseSelector::Id(id) => Which::Id(id),
        LeaseSelector::Prefix(path) => Which::Prefix(path),
        LeaseSelector::Principal(principal) => Which::Principal(principal),
        LeaseSelector::Session(id) => Which::Session(id),
        LeaseSelector::Pod(uid) => Which::Pod(uid),
        LeaseSelector::Own => Which::Own(v1::lease_selector::Own {}),
    };
    v1::LeaseSelector { which: Some(which) }
}

fn info(info: v1::LeaseInfo) -> LeaseInfo {
    LeaseInfo {
        lease: info.lease.unwrap_or_default().into(),
        path: info.path,
        what: info.what,
        principal: info.principal,
        session: info.session,
        pod: text(info.pod),
        issued_at: timestamp(info.issued_at_ms),
        ending: text(info.ending),
        failures: info.failures,
        last_error: text(info.last_error),
        next_attempt_at: optional_timestamp(info.next_attempt_at_ms),
    }
}

fn text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

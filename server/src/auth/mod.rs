//! Auth methods: how somebody proves who they are. A method answers with a [`Login`]; it never mints a token and knows
//! nothing of policy, audit or the wire.

use std::{any::Any, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use strongroom_proto::v1::login_request;
use tokio_util::sync::CancellationToken;

use crate::{
    barrier::{BarrierError, View},
    clock::Clock,
    config::Config,
    crypto::{CryptoError, Entropy},
    model::{Invalid, Principal, Timestamp},
    telemetry::Metrics,
};

#[cfg(test)]
pub(crate) mod conformance;
pub mod kubernetes;
mod methods;
mod password;
mod throttle;
pub mod userpass;
pub mod users;

pub use methods::Methods;
use users::Users;

/// Longest life of any session, renewals included. Revocations are forgotten once it has passed, so it is enforced when
/// a token is opened, too, and may be raised only by a release that keeps revocations longer first.
pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Life of a person's session: a working day.
pub const PERSON_LIFETIME: Duration = Duration::from_secs(8 * 3600);
/// Life of the root token of init: long enough to make the first admin.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(3600);

/// All kinds there are; a new method is a folder, a field of `LoginRequest.credential` and one line here.
pub const KINDS: &[MethodKind] = &[userpass::KIND, kubernetes::KIND];

/// A kind of auth method.
pub struct MethodKind {
    /// Name in principals, policies and the audit log.
    pub name: &'static str,
    /// One sentence for people.
    pub description: &'static str,
    /// Reads what somebody shows. What is for another method is given back.
    pub read: fn(WireCredential) -> Result<Credential, WireCredential>,
    pub build: Build,
    /// Reads the files that the configuration names for it, and says what is wrong with each.
    pub inspect: fn(&Config) -> Vec<ConnectError>,
}

/// What a method is made from.
#[derive(Clone, Copy)]
pub enum Build {
    /// It keeps nothing, needs no keys, and is there from the start.
    FromConfig(fn(&Surroundings<'_>) -> Result<Arc<dyn AuthMethod>, ConnectError>),
    /// It keeps what it knows in the store, at `sys/auth/` and its name, and is there while there are keys.
    OnStore(fn(Parts) -> Result<Arc<dyn AuthMethod>, CryptoError>),
}

/// For methods that keep nothing.
pub struct Surroundings<'a> {
    /// What the operator wants.
    pub config: &'a Config,
    /// What time it is.
    pub clock: &'a Arc<dyn Clock>,
    /// Where they count what happens.
    pub metrics: &'a Metrics,
}

/// For methods that keep something.
pub struct Parts {
    /// The part of the store that is its own.
    pub view: View,
    /// Where salts and uids come from.
    pub entropy: Arc<dyn Entropy>,
}

/// One method. Every implementation passes the conformance suite beside this file.
#[async_trait]
pub trait AuthMethod: Send + Sync {
    /// The name in principals and policies.
    fn name(&self) -> &'static str;

    /// Judges a credential. Writes nothing. Dropping the future is harmless.
    async fn login(&self, credential: Credential, context: &LoginContext) -> Result<Login, LoginError>;

    /// Where a login belongs in the audit log, where one method has several of a kind.
    fn place(&self, _credential: &Credential) -> Option<String> {
        None
    }

    /// Who somebody says they are, proved or not. The audit log has a keyed hash of it, so that attempts on one account can
    /// be told from attempts on many.
    fn claimed<'a>(&self, _credential: &'a Credential) -> Option<&'a str> {
        None
    }

    /// Whether what a session depends on is still there; asked at each request, so it looks nothing up.
    ///
    /// # Errors
    /// What the session depends on is gone.
    fn check(&self, _principal: &Principal) -> Result<(), Gone> {
        Ok(())
    }

    /// Whether a session may live longer than it was promised.
    fn may_renew(&self, _principal: &Principal) -> bool {
        true
    }

    /// What it has to do beside being asked, in tasks of its own, until `stop`.
    fn start(&self, _stop: &CancellationToken) {}

    /// People, if it keeps some.
    fn users(&self) -> Option<&dyn Users> {
        None
    }
}

/// What somebody shows, as the wire brings it.
pub type WireCredential = login_request::Credential;

/// What somebody shows, read by the method that will judge it.
pub struct Credential {
    method: &'static str,
    shown: Box<dyn Any + Send + Sync>,
}

impl Credential {
    pub fn new(method: &'static str, shown: impl Any + Send + Sync) -> Self {
        Self { method, shown: Box::new(shown) }
    }

    /// Reads what the wire brings.
    ///
    /// # Errors
    /// Nothing is shown, or nothing that a method here can read.
    pub fn read(shown: Option<WireCredential>) -> Result<Self, Invalid> {
        let mut unread = shown;
        for kind in KINDS {
            let Some(shown) = unread else { break };
            match (kind.read)(shown) {
                Ok(credential) => return Ok(credential),
                Err(other) => unread = Some(other),
            }
        }
        let names = KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(" or ");
        Err(Invalid::new("credential", format!("is missing; expected {names}")))
    }

    /// Name of the method it is for.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// What a method made of it.
    pub fn seen<T: Any>(&self) -> Option<&T> {
        self.shown.downcast_ref()
    }

    /// The same, to keep.
    ///
    /// # Errors
    /// It is for another method.
    pub fn own<T: Any>(self) -> Result<T, Invalid> {
        let other = |_| Invalid::new("credential", "is for another method");
        let shown: Box<dyn Any> = self.shown;
        shown.downcast().map(|shown| *shown).map_err(other)
    }
}

/// What is known about a login besides the credential.
#[derive(Clone, Copy, Debug)]
pub struct LoginContext {
    /// Where it comes from, where that is known.
    pub peer: Option<IpAddr>,
    /// When the request came in. It becomes the session's time of issue, so it must be taken before the credential is
    /// judged: see `tokens::revocations` for why.
    pub now: Timestamp,
}

/// A proven identity and for how long it may be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub principal: Principal,
    /// Life of the session, and by how much a renewal extends it.
    pub ttl: Duration,
    /// Life of the session with all its renewals; at most [`MAX_LIFETIME`] counts.
    pub max_ttl: Duration,
    /// Whether the session can be renewed at all.
    pub renewable: bool,
}

impl Login {
    pub fn person(principal: Principal) -> Self {
        Self { principal, ttl: PERSON_LIFETIME, max_ttl: MAX_LIFETIME, renewable: true }
    }

    /// The root token of init.
    pub fn root() -> Self {
        Self { principal: Principal::Root, ttl: ROOT_LIFETIME, max_ttl: ROOT_LIFETIME, renewable: false }
    }
}

/// What a session depended on is gone, as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Gone(pub &'static str);

/// A part of the configuration does not fit what is there.
#[derive(Debug, thiserror::Error)]
#[error("auth.{part}: {cause}")]
pub struct ConnectError {
    /// `kubernetes.main`
    pub part: String,
    pub cause: Box<dyn std::error::Error + Send + Sync>,
}

/// Why somebody was not let in, or their credential not set.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The credential is wrong. Carries nothing, so that it cannot tell a wrong password from an unknown name
    /// (CVE-2020-35177, CVE-2025-6011).
    #[error("the credential was not accepted")]
    Rejected,
    /// The credential is not accepted, for a reason that its owner may know.
    #[error("{sentence}")]
    Refused {
        /// For the audit log.
        word: &'static str,
        sentence: String,
    },
    /// The credential cannot be right, whoever sends it.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Too many at once, or what is needed to judge does not answer.
    #[error("too many logins at the moment; try again in {} ms", retry_after.as_millis())]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// The cluster that has to be asked does not answer.
    #[error("the cluster {cluster} cannot judge logins now: {problem}; try again in {} ms", retry_after.as_millis())]
    Cluster {
        /// Its name in the configuration.
        cluster: Box<str>,
        /// One of our own sentences.
        problem: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// The store or the keys.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
}

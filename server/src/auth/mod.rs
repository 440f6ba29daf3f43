//! Auth methods: how somebody proves who they are. A method answers with a [`Login`]; it never mints a token and knows
//! nothing of policy, audit or the wire.

use std::{net::IpAddr, time::Duration};

use async_trait::async_trait;

use crate::{
    barrier::BarrierError,
    model::{Invalid, Principal, SecretBytes, Timestamp},
};

#[cfg(test)]
pub(crate) mod conformance;
pub mod kubernetes;
mod password;
pub mod userpass;

/// Longest life of any session, renewals included. Revocations are forgotten once it has passed, so it is enforced when
/// a token is opened, too, and may be raised only by a release that keeps revocations longer first.
pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Life of a person's session: a working day.
pub const PERSON_LIFETIME: Duration = Duration::from_secs(8 * 3600);
/// Life of the root token of init: long enough to make the first admin.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(3600);

/// A kind of auth method.
pub struct Kind {
    /// Name in principals, policies and the audit log.
    pub name: &'static str,
    /// One sentence for people.
    pub description: &'static str,
}

/// All kinds there are; a new method is one file and one line here.
pub const KINDS: &[Kind] = &[userpass::KIND, kubernetes::KIND];

/// One configured method. Every implementation passes the conformance suite beside this file.
#[async_trait]
pub trait AuthMethod: Send + Sync {
    /// The name in principals and policies.
    fn name(&self) -> &str;

    /// Judges a credential. Writes nothing. Dropping the future is harmless.
    async fn login(&self, credential: Credential, context: &LoginContext) -> Result<Login, LoginError>;
}

/// What somebody shows.
pub enum Credential {
    /// For userpass.
    Userpass {
        /// Who they say they are.
        name: String,
        /// Their password.
        password: SecretBytes,
    },
    /// For kubernetes.
    Kubernetes {
        /// Name of the cluster; empty for the default one.
        cluster: String,
        /// A service-account token.
        token: SecretBytes,
    },
}

impl Credential {
    /// Name of the method it is for.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Userpass { .. } => userpass::KIND.name,
            Self::Kubernetes { .. } => kubernetes::KIND.name,
        }
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
    /// Who.
    pub principal: Principal,
    /// Life of the session, and by how much a renewal extends it.
    pub ttl: Duration,
    /// Life of the session with all its renewals; at most [`MAX_LIFETIME`] counts.
    pub max_ttl: Duration,
    /// Whether the session can be renewed at all.
    pub renewable: bool,
}

impl Login {
    /// A person.
    pub fn person(principal: Principal) -> Self {
        Self { principal, ttl: PERSON_LIFETIME, max_ttl: MAX_LIFETIME, renewable: true }
    }

    /// The root token of init.
    pub fn root() -> Self {
        Self { principal: Principal::Root, ttl: ROOT_LIFETIME, max_ttl: ROOT_LIFETIME, renewable: false }
    }
}

/// Why somebody was not let in, or their credential not set.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The credential is wrong. Carries nothing, so that it cannot tell a wrong password from an unknown name
    /// (CVE-2020-35177, CVE-2025-6011).
    #[error("the credential was not accepted")]
    Rejected,
    /// The token is not accepted, for a reason that its owner may know.
    #[error(transparent)]
    Refused(kubernetes::Refusal),
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

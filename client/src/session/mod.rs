//! Sessions: what the server says about one. The modules below begin, keep and renew it.

pub(crate) mod credentials;
pub(crate) mod keeper;
pub(crate) mod renewal;

use jiff::Timestamp;
use strongroom_proto::{SecretBytes, v1};

use crate::{answer::timestamp, error::Error};

/// A session of a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The id of the session, for the audit log and for its revocation; it is not secret.
    pub id: String,
    /// The principal, such as `userpass/alice`, `root` or `kubernetes/main/payments/web`.
    pub principal: String,
    /// The auth method of the login.
    pub method: String,
    /// When it began.
    pub issued_at: Timestamp,
    /// When it ends unless renewed.
    pub expires_at: Timestamp,
    /// When it ends for good.
    pub max_expires_at: Timestamp,
    /// The groups of the principal.
    pub groups: Vec<String>,
    /// The pod that a session of a service account is bound to.
    pub pod: Option<Pod>,
}

/// The pod that a session is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The name of its node, if the cluster says it.
    pub node: Option<String>,
}

/// A session and the token for it.
#[non_exhaustive]
pub struct Login {
    /// The token. Whoever has it can act as the principal.
    pub token: SecretBytes,
    /// The session that the token stands for.
    pub session: Session,
}

/// The answer to "who am I".
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Whoami {
    /// The session that the token stands for.
    pub session: Session,
    /// The roles bound to the principal at this moment.
    pub roles: Vec<String>,
}

impl Session {
    /// Whether a renewal would give it more time.
    pub fn is_renewable(&self) -> bool {
        self.expires_at < self.max_expires_at
    }

    pub(crate) fn told(session: v1::Session) -> Self {
        Self {
            id: session.id,
            principal: session.principal,
            method: session.method,
            issued_at: timestamp(session.issued_at_ms),
            expires_at: timestamp(session.expires_at_ms),
            max_expires_at: timestamp(session.max_expires_at_ms),
            groups: session.groups,
            pod: session.pod.map(|pod| Pod {
                name: pod.name,
                uid: pod.uid,
                node: Some(pod.node).filter(|node| !node.is_empty()),
            }),
        }
    }
}

impl Login {
    pub(crate) fn told(response: v1::TokenResponse) -> Result<Self, Error> {
        let token = response.token.ok_or_else(|| Error::incomplete("token"))?;
        let session = response.session.ok_or_else(|| Error::incomplete("session"))?;
        Ok(Self { token: SecretBytes::from(token), session: Session::told(session) })
    }
}

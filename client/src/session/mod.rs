//! Sessions: what the server says of one, and below how it is begun, kept and renewed.

pub(crate) mod credentials;
pub(crate) mod keeper;
pub(crate) mod renewal;

use jiff::Timestamp;
use strongroom_proto::{SecretBytes, v1};

use crate::{answer::timestamp, error::Error};

/// A session of a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Names the session in the audit log and to revoke it; not secret.
    pub id: String,
    /// `userpass/alice`, `root`, `kubernetes/main/payments/web`.
    pub principal: String,
    /// The method it logged in with.
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
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its node, where the cluster tells.
    pub node: Option<String>,
}

/// A session and the token for it.
pub struct Login {
    /// Whoever has it is the principal.
    pub token: SecretBytes,
    /// What it stands for.
    pub session: Session,
}

/// The answer to "who am I".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whoami {
    /// The session the token stands for.
    pub session: Session,
    /// The roles bound to the principal at this moment.
    pub roles: Vec<String>,
}

impl Session {
    /// Whether a renewal would give it more time.
    pub fn is_renewable(&self) -> bool {
        self.expires_at < self.max_expires_at
    }
}

impl From<v1::Session> for Session {
    fn from(session: v1::Session) -> Self {
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

impl TryFrom<v1::TokenResponse> for Login {
    type Error = Error;

    fn try_from(response: v1::TokenResponse) -> Result<Self, Error> {
        let token = response.token.ok_or_else(|| Error::incomplete("token"))?;
        let session = response.session.ok_or_else(|| Error::incomplete("session"))?;
        Ok(Self { token: SecretBytes::from(token), session: session.into() })
    }
}

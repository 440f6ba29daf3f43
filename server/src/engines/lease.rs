//! What an engine issues for a while: a database user, for example, that has to go again. It is issued in two steps. The
//! engine first says what it is about to make, and all that it takes to unmake it; that is written down as a lease, durably.
//! Only then it makes it. So nothing exists that no lease knows of, whenever the server dies.

use std::time::Duration;

use async_trait::async_trait;

use super::{EngineError, Reply};
use crate::model::{RequestId, SecretBytes, Timestamp};

/// What is about to be made. Everything is chosen by now, names too.
pub struct Terms {
    /// How long it lives unless it is renewed, and what a renewal adds.
    pub ttl: Duration,
    /// How long it lives at most, however often it is renewed.
    pub max: Duration,
    /// What [`super::Engine::renew`] and [`super::Engine::revoke`] need to know. Kept sealed.
    pub data: SecretBytes,
    /// What it is, for people and the audit log: the name of the user. Never a secret.
    pub what: Box<str>,
}

/// A lease that is durable.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    /// That of the request it was issued for.
    pub id: RequestId,
    pub expires: Timestamp,
    /// No renewal goes past this.
    pub max_expires: Timestamp,
    /// From now on, by our own clock: its holder's may be another.
    pub lifetime: Duration,
}

/// What was issued, for those who do not know the engine: its names and their values.
pub struct Fields {
    pub values: Vec<(&'static str, SecretBytes)>,
    /// When it ends, if it has no lease that says so.
    pub ends: Option<Timestamp>,
}

/// The second step.
#[async_trait]
pub trait Make: Send {
    /// Makes it. After an error, or if the server dies, [`super::Engine::revoke`] is called with the data of the terms,
    /// whatever was made by then.
    async fn make(self: Box<Self>, granted: &Granted) -> Result<Box<dyn Reply>, EngineError>;
}

impl From<&Granted> for strongroom_proto::v1::Lease {
    fn from(granted: &Granted) -> Self {
        Self {
            id: granted.id.to_string(),
            expires_at_ms: granted.expires.as_millis(),
            max_expires_at_ms: granted.max_expires.as_millis(),
            lifetime_ms: granted.lifetime.as_millis().try_into().unwrap_or(u64::MAX),
        }
    }
}

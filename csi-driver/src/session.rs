//! What the driver wants of a server, as traits, so that everything above can be tried without one.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use strongroom_client::{Change, Error, ResultStream, Secret, SecretBytes};
use tokio::time::Instant;

/// Where secrets come from.
#[async_trait]
pub trait Server: Send + Sync {
    /// A session of the pod whose token this is.
    async fn log_in(&self, token: &SecretBytes) -> Result<Box<dyn Session>, Error>;
}

/// A pod, logged in.
#[async_trait]
pub trait Session: Send + Sync {
    /// A version of a secret, or its latest.
    async fn read(&self, path: &str, version: Option<u64>) -> Result<Secret, Error>;

    /// Has the engine at the path issue something for the pod.
    async fn issue(&self, path: &str) -> Result<Given, Error>;

    /// Makes what was issued live longer, for as long as it was issued for.
    async fn renew(&self, lease: &str) -> Result<Times, Error>;

    /// Ends what was issued. Once this is answered it is certain to end.
    async fn revoke(&self, lease: &str) -> Result<(), Error>;

    /// Changes of these secrets, for as long as the session lives.
    fn watch(&self, paths: Vec<String>) -> ResultStream<Change>;

    /// When it ends for good, if that is known.
    fn ends_at(&self) -> Option<Instant>;

    /// Whether it can still be asked. Its watch goes on when it cannot: nobody renews it only to have a token at hand.
    fn is_usable(&self) -> bool;

    async fn log_out(&self);
}

/// Something that the server issued, as it answered.
pub struct Given {
    pub fields: BTreeMap<String, SecretBytes>,
    /// None: it cannot be renewed or given back.
    pub lease: Option<String>,
    pub times: Times,
}

/// How long something that was issued is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub lifetime: Duration,
    /// With all renewals there may be.
    pub at_most: Duration,
}

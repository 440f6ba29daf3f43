//! Secrets engines: what can be done under a mount. An engine gets a [`Permit`] and a [`View`] and knows nothing of
//! tokens, policy, audit, leases, or what carries its messages. It owns its operations: which verbs they need, whether
//! they write, what the log is told of them, how they fail and how they look on the wire. Nobody else names one.

use std::{any::Any, collections::BTreeMap, pin::Pin, sync::Arc};

use async_trait::async_trait;
use futures_util::StreamExt;
use strongroom_proto::Reason;
use tokio_util::task::TaskTracker;

use crate::{
    barrier::{BarrierError, Derived, View},
    clock::Clock,
    crypto::Entropy,
    model::{Invalid, Path, QuotaUse, RequestId, SecretBytes, Timestamp, Verb},
    permit::Permit,
};

#[cfg(test)]
mod conformance;
pub mod database;
pub mod kv;
mod lease;
#[cfg(test)]
pub mod lent;
mod lifetime;
mod mounts;
mod names;
mod password;
pub mod pki;
pub mod random;
mod schedule;
mod service;
pub mod transit;

pub use lease::{Fields, Granted, Make, Terms};
pub use mounts::{Entered, MountError, MountInfo, MountRecord, MountState, MountedEngine, Mounts};
pub(crate) use service::service;
pub use service::{Answers, Asked, Reply, Rpc, Service, at, own, read};

/// All kinds there are; a new engine is a folder, a `.proto` and one line here.
pub const KINDS: &[EngineKind] = &[
    database::KIND,
    kv::KIND,
    pki::KIND,
    random::KIND,
    transit::KIND,
    #[cfg(test)]
    lent::KIND,
];

/// A kind of engine that can be mounted.
pub struct EngineKind {
    /// Name in the mount table.
    pub name: &'static str,
    /// One sentence for people.
    pub description: &'static str,
    /// How it is reached.
    pub service: Service,
    /// Whether it knows these settings.
    pub check: fn(&Settings) -> Result<(), Invalid>,
    pub build: fn(Parts) -> Result<Box<dyn Engine>, Invalid>,
}

/// What an operator sets for one mount. No secrets: they are listed.
pub type Settings = BTreeMap<String, String>;

/// [`EngineKind::check`] of an engine that has no settings.
fn no_settings(kind: &str, settings: &Settings) -> Result<(), Invalid> {
    match settings.is_empty() {
        true => Ok(()),
        false => Err(Invalid::new("settings", format!("are given, but {kind} has none"))),
    }
}

/// What an engine is made of.
pub struct Parts {
    /// The part of the store that is its own.
    pub view: View,
    /// What time it is, where a permit does not say.
    pub clock: Arc<dyn Clock>,
    /// Where keys and passwords come from.
    pub entropy: Arc<dyn Entropy>,
    /// For work that continues after its request. The mount is not removed before it is done.
    pub tasks: TaskTracker,
    pub settings: Settings,
}

/// One mounted engine.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Does it. Dropping the future may leave a write done; it never leaves one half done.
    async fn run(&self, permit: Permit, operation: Box<dyn Operation>) -> Result<Output, EngineError>;

    /// Other settings count from now on; they have been checked.
    fn tune(&self, _settings: &Settings) {}

    /// How much of its quotas is used, if it has some.
    fn quotas(&self) -> Vec<QuotaUse> {
        Vec::new()
    }

    /// What it holds in memory of the store, if anything.
    fn derived(&self) -> Option<&dyn Derived> {
        None
    }

    /// What it is asked when somebody wants what a path of its stands for, whatever that is, for so many seconds or as long as
    /// the engine says. Its reply has [`Reply::fields`]. None: it issues nothing.
    fn issues(&self, _ttl: Option<u64>) -> Option<Box<dyn Operation>> {
        None
    }

    /// Makes what it issued, as the terms' `data` have it, live until `until`.
    ///
    /// # Errors
    /// It could not; then it lives as long as before, or until then.
    async fn renew(&self, _data: &SecretBytes, _until: Timestamp) -> Result<(), EngineError> {
        Err(EngineError::WrongEngine)
    }

    /// Unmakes what it issued. What is gone already, or was never made, is unmade. Tried again until it succeeds.
    ///
    /// # Errors
    /// It may still be there. The sentence is shown to operators.
    async fn revoke(&self, _data: &SecretBytes) -> Result<(), EngineError> {
        Err(EngineError::WrongEngine)
    }

    /// What it has to do by now although nobody asks for it; looked at every minute.
    ///
    /// # Errors
    /// The store or the keys.
    async fn overdue(&self, _now: Timestamp) -> Result<Vec<Due>, BarrierError> {
        Ok(Vec::new())
    }

    /// Does what is due at `path`, for the act `by` of the server's own. What is not due any more, or is gone, is done.
    ///
    /// # Errors
    /// It is still due, and tried again. The sentence is shown to operators.
    async fn attend(&self, _path: &Path, _by: RequestId, _now: Timestamp) -> Result<(), EngineError> {
        Err(EngineError::WrongEngine)
    }

    /// Erases everything it keeps. No request is in progress in it, and nothing that it issued is left; after an error or a
    /// crash it is done again.
    async fn erase(&self) -> Result<(), BarrierError>;
}

/// Something that an engine has to do by itself.
pub struct Due {
    /// Where, below its mount.
    pub name: Box<str>,
    /// What, for people and the audit log. Never a secret.
    pub what: String,
}

/// What an engine is asked to do, in its own words; where, the permit says. What others have to know, it tells itself.
pub trait Operation: Any + Send + Sync {
    /// At least one of these must be granted on each path.
    fn verbs(&self) -> &'static [Verb];

    /// Whether it changes something: then the intent is recorded before and the outcome after, and a caller who goes
    /// away does not stop it half-way.
    fn is_write(&self) -> bool;

    /// The versions it asks for, for the audit log.
    fn versions(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Whether it is about the latest version, so that only the reply says which one that is.
    fn is_about_the_latest(&self) -> bool {
        false
    }

    /// What it changes, by name, where neither paths nor versions say it; for the audit log, so never a value.
    fn changes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Values it brings along. The audit log has keyed hashes of them, to be found again with `strongroom audit hash`.
    fn values(&self) -> Vec<(String, &[u8])> {
        Vec::new()
    }
}

/// Results that arrive over time.
pub type Stream<T> = Pin<Box<dyn futures_util::Stream<Item = Result<T, EngineError>> + Send>>;

/// What an engine answers.
pub enum Output {
    One(Box<dyn Reply>),
    /// Again and again.
    Many(Stream<Box<dyn Reply>>),
    /// Nothing yet: it is to be made once there is a lease for it.
    Lease(Terms, Box<dyn Make>),
}

impl Output {
    pub fn one(reply: impl Reply) -> Self {
        Self::One(Box::new(reply))
    }

    /// Something that has to end.
    pub fn lease(terms: Terms, make: impl Make + 'static) -> Self {
        Self::Lease(terms, Box::new(make))
    }

    /// Answers over time.
    pub fn many<R: Reply, E: Into<EngineError> + 'static>(
        replies: impl futures_util::Stream<Item = Result<R, E>> + Send + 'static,
    ) -> Self {
        let reply = |reply: Result<R, E>| match reply {
            Ok(reply) => Ok(Box::new(reply) as Box<dyn Reply>),
            Err(error) => Err(error.into()),
        };
        Self::Many(Box::pin(replies.map(reply)))
    }
}

/// Why an engine could not.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The permit lacks a verb that turned out to be needed.
    #[error("the permit lacks the verb {0}")]
    Needs(Verb),
    #[error("there is nothing at this path")]
    NotFound,
    /// One of the engine's own.
    #[error("{sentence}")]
    Own {
        /// What clients decide by.
        reason: Reason,
        sentence: String,
        /// What a program can use, as the table of reasons names it.
        details: Vec<(&'static str, String)>,
    },
    /// The operation is not one of this engine's.
    #[error("this mount cannot do that")]
    WrongEngine,
    /// The store or the keys.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Whatever an engine is: its names are its own, and no bytes from outside make it ask for nothing, for no verb or for
    /// two mounts at once.
    #[test]
    fn every_service_is_sound() {
        let mut names = BTreeSet::new();
        for kind in KINDS {
            assert!(names.insert(kind.service.name), "{}", kind.service.name);
            for rpc in kind.service.rpcs {
                let (service, method) = rpc.name.split_once('.').unwrap();
                assert_eq!(format!("strongroom.v1.{service}"), kind.service.name, "{method}");
                assert!(names.insert(rpc.name), "{}", rpc.name);
                // Field 1 is the path, or the paths: nothing, a mount, a path, two mounts, what is not a path, what is not
                // a message.
                let field = |text: &str| {
                    let mut bytes = vec![0x0a, u8::try_from(text.len()).unwrap()];
                    bytes.extend_from_slice(text.as_bytes());
                    bytes
                };
                let two = [field("a/x"), field("b/x")].concat();
                for bytes in [vec![], field("a"), field("a/x"), two, field("a//x"), vec![0x0a, 0x7f, 0x61]] {
                    let Ok(Ok((paths, operation))) = (rpc.read)(&mut bytes.as_slice()) else { continue };
                    let mounts: BTreeSet<_> = paths.iter().map(|path| path.mount()).collect();
                    assert_eq!(mounts.len(), 1, "{} {bytes:?}", rpc.name);
                    assert!(!operation.verbs().is_empty(), "{}", rpc.name);
                }
                assert!(matches!((rpc.read)(&mut [].as_slice()), Ok(Err(_))), "{} without a path", rpc.name);
            }
        }
    }
}

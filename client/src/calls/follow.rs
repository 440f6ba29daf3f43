//! One secret, followed through its changes: its value now and each new one, and when there is none any more. It reads again
//! what a watch says has changed, and tells the same thing once.

use std::fmt;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::time::sleep;

use super::{
    secrets::Secret,
    watch::{Change, ChangeKind},
};
use crate::{
    answer::ResultStream,
    client::Client,
    error::{Error, ErrorKind},
    transport::retry,
};

/// What there is to read of a secret.
#[derive(Debug)]
pub enum SecretState {
    /// This version: the first that is seen, a new one, or one that is back.
    Value(Secret),
    /// Nothing. Whoever holds a value of it decides what that means: the server does not take back what it has told.
    Gone(Gone),
}

/// Why there is nothing to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gone {
    /// There is nothing at the path: it was never written, or destroyed as a whole.
    NothingThere,
    /// The latest version was deleted; an undelete brings it back.
    Deleted {
        /// The number of the version.
        version: u64,
    },
    /// The latest version was destroyed, for good.
    Destroyed {
        /// The number of the version.
        version: u64,
    },
    /// The time of the latest version was over when it was read. Nothing is told at the moment when it ends: that is
    /// [`Secret::expires_at`].
    Expired {
        /// The number of the version.
        version: u64,
    },
}

impl SecretState {
    /// The secret, if there is something to read.
    pub fn value(self) -> Option<Secret> {
        match self {
            Self::Value(secret) => Some(secret),
            Self::Gone(_) => None,
        }
    }
}

impl Gone {
    fn of(error: &Error) -> Option<Self> {
        match *error.kind() {
            ErrorKind::NotFound => Some(Self::NothingThere),
            ErrorKind::VersionDeleted { version, .. } => Some(Self::Deleted { version }),
            ErrorKind::VersionDestroyed { version } => Some(Self::Destroyed { version }),
            ErrorKind::VersionExpired { version } => Some(Self::Expired { version }),
            _ => None,
        }
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingThere => f.write_str("there is nothing at the path"),
            Self::Deleted { version } => write!(f, "version {version} is deleted"),
            Self::Destroyed { version } => write!(f, "version {version} is destroyed"),
            Self::Expired { version } => write!(f, "version {version} has expired"),
        }
    }
}

impl Client {
    /// Yields what there is to read of a secret now, then each change of that: a new version, that there is none any more, or
    /// that one is back. Reconnects by itself; ends only after an error that does not pass by itself, such as a refusal.
    pub fn watch_secret(&self, path: impl Into<String>) -> ResultStream<SecretState> {
        let path = path.into();
        let follow = Follow { client: self.clone(), changes: self.watch([path.clone()]), path, told: None };
        stream::unfold(Some(follow), |follow| async {
            let mut follow = follow?;
            match follow.next().await? {
                Ok(state) => Some((Ok(state), Some(follow))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }
}

struct Follow {
    client: Client,
    changes: ResultStream<Change>,
    path: String,
    told: Option<Told>,
}

/// What was yielded last. A version of the same number that was written at another time is another one: the secret was
/// destroyed in between.
#[derive(PartialEq)]
enum Told {
    Version(u64, Timestamp),
    Gone(Gone),
}

impl Follow {
    async fn next(&mut self) -> Option<Result<SecretState, Error>> {
        loop {
            match self.changes.next().await? {
                Ok(change) if self.concerns(&change) => {}
                Ok(_) => continue,
                Err(error) => return Some(Err(error)),
            }
            match self.read().await {
                Ok(Some(state)) => return Some(Ok(state)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn concerns(&self, change: &Change) -> bool {
        match change.kind {
            ChangeKind::Started | ChangeKind::Resync => true,
            ChangeKind::Metadata | ChangeKind::Interrupted | ChangeKind::Other => false,
            _ => change.path == self.path,
        }
    }

    /// What there is, unless that was already told. Waits for a server that cannot be reached.
    async fn read(&mut self) -> Result<Option<SecretState>, Error> {
        let mut failures = 0_u32;
        loop {
            let (state, telling) = match self.client.get(&self.path).await {
                Ok(secret) => {
                    let telling = Told::Version(secret.version, secret.created_at);
                    (SecretState::Value(secret), telling)
                }
                Err(error) => match Gone::of(&error) {
                    Some(gone) => (SecretState::Gone(gone), Told::Gone(gone)),
                    None if retry::watch_goes_on(&error) => {
                        failures = failures.saturating_add(1);
                        sleep(retry::watch_pause(failures, Some(&error))).await;
                        continue;
                    }
                    None => return Err(error),
                },
            };
            if self.told.as_ref() == Some(&telling) {
                return Ok(None);
            }
            self.told = Some(telling);
            return Ok(Some(state));
        }
    }
}

#[cfg(test)]
mod tests {
    use strongroom_proto::{Reason, v1::watch_response::Kind};

    use super::*;
    use crate::fake::{Fake, refusal};

    async fn next(states: &mut ResultStream<SecretState>) -> Result<u64, Gone> {
        match states.next().await.unwrap().unwrap() {
            SecretState::Value(secret) => Ok(secret.version),
            SecretState::Gone(gone) => Err(gone),
        }
    }

    #[tokio::test]
    async fn each_version_is_told_once() {
        let fake = Fake::start().await;
        let mut states = fake.client().watch_secret("secret/a");
        assert_eq!(next(&mut states).await, Ok(1));
        fake.write();
        assert_eq!(next(&mut states).await, Ok(2));
        // Nothing was missed, so nothing is told for the new watch itself.
        let later = async {
            fake.break_watches();
            fake.reopened().await;
            fake.write();
        };
        let (version, ()) = tokio::join!(next(&mut states), later);
        assert_eq!(version, Ok(3));
    }

    #[tokio::test]
    async fn who_follows_a_secret_is_told_that_it_is_gone_and_that_it_is_back() {
        let fake = Fake::start().await;
        fake.takes_away(Reason::NotFound, Kind::Destroyed);
        let mut states = fake.client().watch_secret("secret/a");
        assert_eq!(next(&mut states).await, Err(Gone::NothingThere), "also if that is so from the beginning");
        fake.gives_back(Kind::Written);
        assert_eq!(next(&mut states).await, Ok(1));

        for (reason, kind, gone, back) in [
            (Reason::VersionDeleted, Kind::Deleted, Gone::Deleted { version: 1 }, Kind::Undeleted),
            (Reason::VersionDestroyed, Kind::Destroyed, Gone::Destroyed { version: 1 }, Kind::Written),
            (Reason::VersionExpired, Kind::Metadata, Gone::Expired { version: 1 }, Kind::Written),
        ] {
            fake.takes_away(reason, kind);
            if kind == Kind::Metadata {
                // Nobody is told when the time of a version is over; it is found out with whatever makes us look.
                fake.break_watches();
            }
            assert_eq!(next(&mut states).await, Err(gone));
            // A gap in which nothing happened changes nothing, and the same version that is back is news.
            fake.break_watches();
            fake.gives_back(back);
            assert_eq!(next(&mut states).await, Ok(1), "{gone}");
        }
    }

    #[tokio::test]
    async fn a_refusal_is_not_mistaken_for_a_deletion() {
        let fake = Fake::start().await;
        let mut states = fake.client().watch_secret("secret/a");
        assert_eq!(next(&mut states).await, Ok(1));
        fake.fail([refusal(Reason::PermissionDenied)]);
        fake.write();
        let error = states.next().await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Denied { .. }), "{error}");
        assert!(states.next().await.is_none());
    }
}

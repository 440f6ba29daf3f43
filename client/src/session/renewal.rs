//! The task that renews a session before it ends, and logs in anew when it cannot be renewed any further.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use strongroom_proto::Reason;
use tokio::{task::AbortHandle, time::sleep};

use super::{Session, keeper::Keeper};
use crate::{error::Error, transport::retry};

/// The shortest pause between two renewals, whatever the clocks say.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Ends the renewal task with the client that it serves.
pub(crate) struct Renewal(AbortHandle);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Renewal {
    /// `session` is unknown for a token that came from outside.
    pub(crate) fn start(keeper: Arc<Keeper>, session: Option<Session>) -> Self {
        Self(tokio::spawn(keep_alive(keeper, session)).abort_handle())
    }
}

#[cfg(test)]
impl Renewal {
    pub(crate) fn task(&self) -> AbortHandle {
        self.0.clone()
    }
}

async fn keep_alive(keeper: Arc<Keeper>, mut session: Option<Session>) {
    let mut failures = 0_u32;
    loop {
        let pause = match &session {
            Some(session) if failures == 0 => renewal_pause(session, Timestamp::now()),
            _ if failures == 0 => Duration::ZERO,
            _ => SHORTEST_PAUSE.saturating_add(retry::watch_pause(failures.saturating_add(4), None)),
        };
        sleep(pause).await;
        match next_session(&keeper, session.as_ref()).await {
            Ok(Some(next)) => (session, failures) = (Some(next), 0),
            Ok(None) => {
                tracing::warn!(
                    "the session token cannot be renewed any further and no credentials are at hand"
                );
                return;
            }
            Err(error) if error.is_transient() || keeper.may_be_better_later() => {
                tracing::debug!(%error, "renewing the session token failed, trying again");
                failures = failures.saturating_add(1);
            }
            Err(error) => {
                tracing::warn!(%error, "the session token is no longer renewed");
                return;
            }
        }
    }
}

/// Renews while the session allows it, logs in anew when it does not; `None` if neither is possible.
async fn next_session(keeper: &Keeper, session: Option<&Session>) -> Result<Option<Session>, Error> {
    let Some(session) = session else {
        // A token from outside: ask how long it lives before touching it.
        return keeper.whoami().await.map(|who| Some(who.session));
    };
    if session.is_renewable() {
        match keeper.renew().await {
            Ok(login) => return Ok(Some(login.session)),
            Err(error) if is_token_gone(&error) && keeper.has_credentials() => {}
            Err(error) => return Err(error),
        }
    }
    keeper.log_in_anew().await
}

fn is_token_gone(error: &Error) -> bool {
    matches!(error.reason(), Some(Reason::TokenExpired | Reason::TokenInvalid | Reason::PodGone))
}

/// About two thirds of what is left, spread by a tenth so that pods started together do not renew together. Both the
/// session's own span and this machine's clock are asked: either may be off, the shorter one is safe.
fn renewal_pause(session: &Session, now: Timestamp) -> Duration {
    let span = |from: Timestamp| {
        let ms = session.expires_at.as_millisecond().saturating_sub(from.as_millisecond());
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    };
    let life = span(session.issued_at);
    let left = span(now).min(life).max(life / 10);
    left.mul_f64(0.6 + 0.1 * retry::unit()).max(SHORTEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use strongroom_proto::{SecretBytes, v1};

    use super::*;
    use crate::{
        fake::{Fake, refusal},
        session::credentials::Credentials,
    };

    fn session(issued: i64, expires: i64) -> Session {
        v1::Session {
            issued_at_ms: issued * 1000,
            expires_at_ms: expires * 1000,
            max_expires_at_ms: 1_000_000,
            ..Default::default()
        }
        .into()
    }

    fn pause(session: &Session, now: i64) -> u64 {
        renewal_pause(session, Timestamp::from_second(now).unwrap()).as_secs()
    }

    #[test]
    fn renewal_comes_before_the_end() {
        let session = session(100, 1000);
        for _ in 0..100 {
            assert!((540..=630).contains(&pause(&session, 100)));
            // Half of it is over already.
            assert!((270..=315).contains(&pause(&session, 550)));
        }
    }

    #[test]
    fn a_wrong_clock_neither_spins_nor_sleeps_too_long() {
        let session = session(100, 1000);
        assert!((54..=63).contains(&pause(&session, 50_000)));
        assert!((540..=630).contains(&pause(&session, 0)));
        assert_eq!(pause(&self::session(100, 100), 100), 1);
    }

    #[tokio::test]
    async fn a_session_is_renewed_until_the_last_client_goes() {
        let fake = Fake::start().await;
        let client = fake.client_with(Duration::from_secs(5), None);
        let before = client.expose_token().unwrap();
        let (client, task) = client.renewed_from(fake.session());
        fake.renewed().await;
        while client.expose_token().unwrap().expose() == before.expose() {
            tokio::task::yield_now().await;
        }

        let clone = client.clone();
        drop(client);
        assert_eq!(clone.get("secret/a").await.unwrap().version, 1);
        assert!(!task.is_finished());
        drop(clone);
        while !task.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// A password that was refused stays so; a pod's token is replaced by the kubelet.
    #[tokio::test]
    async fn a_pod_that_is_refused_for_a_while_is_let_in_later() {
        let folder = tempfile::tempdir().unwrap();
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, "of the pod").unwrap();
        let password = SecretBytes::from(b"secret".as_slice());
        let (cluster, name) = ("main".to_owned(), "alice".to_owned());
        for (credentials, goes_on) in [
            (Credentials::Kubernetes { cluster, token_file }, true),
            (Credentials::Userpass { name, password }, false),
        ] {
            let fake = Fake::start().await;
            let client = fake.client_with(Duration::from_secs(5), Some(credentials));
            fake.refuse_login(refusal(Reason::LoginRejected));
            let over = Session { max_expires_at: fake.session().expires_at, ..fake.session() };
            let (_client, task) = client.renewed_from(over);
            let done = async || {
                while !task.is_finished() && fake.logins() < 2 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), done()).await.unwrap();
            assert_eq!(task.is_finished(), !goes_on);
        }
    }
}

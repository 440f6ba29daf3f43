//! The task that renews a session before it ends, and logs in again when it cannot be renewed any further.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use strongroom_proto::Reason;
use tokio::{task::AbortHandle, time::sleep};

use super::{
    Session,
    keeper::{Keeper, Known},
};
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
    pub(crate) fn start(keeper: Arc<Keeper>) -> Self {
        Self(tokio::spawn(keep_alive(keeper)).abort_handle())
    }
}

#[cfg(test)]
impl Renewal {
    pub(crate) fn task(&self) -> AbortHandle {
        self.0.clone()
    }
}

async fn keep_alive(keeper: Arc<Keeper>) {
    let mut told = keeper.known();
    let mut failures = 0_u32;
    loop {
        let known = told.borrow_and_update().clone();
        let pause = match &known {
            Known::Session(session) if failures == 0 => renewal_pause(session, Timestamp::now()),
            Known::Token if failures == 0 => Duration::ZERO,
            Known::Session(_) | Known::Token => {
                SHORTEST_PAUSE.saturating_add(retry::watch_pause(failures.saturating_add(4), None))
            }
            Known::Nothing => Duration::MAX,
        };
        tokio::select! {
            // Somebody has logged in or out.
            changed = told.changed() => match changed {
                Ok(()) => {
                    failures = 0;
                    continue;
                }
                Err(_) => return,
            },
            () = sleep(pause) => {}
        }
        match next_session(&keeper, &known).await {
            Ok(Some(next)) => {
                keeper.knows(Known::Session(Box::new(next)));
                failures = 0;
            }
            Ok(None) => {
                tracing::warn!(
                    "the session cannot be renewed any further, and there are no credentials to log in again"
                );
                keeper.knows(Known::Nothing);
            }
            Err(error) if error.is_transient() || keeper.may_be_better_later() => {
                tracing::debug!(%error, "renewing the session failed; retrying");
                failures = failures.saturating_add(1);
            }
            Err(error) => {
                tracing::warn!(%error, "the session is no longer renewed");
                keeper.knows(Known::Nothing);
            }
        }
    }
}

/// Renews while the session allows it, logs in again when it does not; `None` if neither is possible.
async fn next_session(keeper: &Keeper, known: &Known) -> Result<Option<Session>, Error> {
    let terms = keeper.transport().terms();
    let session = match known {
        Known::Nothing => return Ok(None),
        // Ask how long it lives before touching it.
        Known::Token => return keeper.whoami(terms).await.map(|who| Some(who.session)),
        Known::Session(session) => session,
    };
    if session.is_renewable() {
        match keeper.renew(terms).await {
            Ok(login) => return Ok(Some(login.session)),
            Err(error) if is_token_gone(&error) && keeper.has_credentials() => {}
            Err(error) => return Err(error),
        }
    }
    keeper.log_in_with_credentials().await
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
        Session::told(v1::Session {
            issued_at_ms: issued * 1000,
            expires_at_ms: expires * 1000,
            max_expires_at_ms: 1_000_000,
            ..Default::default()
        })
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
            let (client, _task) = client.renewed_from(over);
            let tried_again = async || {
                while fake.logins() < 2 {
                    tokio::task::yield_now().await;
                }
            };
            if goes_on {
                tokio::time::timeout(Duration::from_secs(60), tried_again()).await.unwrap();
                continue;
            }
            // Nobody knows a session any more; the next login begins another, which is renewed.
            let mut known = client.keeper().known();
            known.wait_for(|known| matches!(known, Known::Nothing)).await.unwrap();
            let password = SecretBytes::from(b"right".as_slice());
            client.auth().login("alice", &password).await.unwrap();
            fake.renewed().await;
            assert_eq!(fake.logins(), 2);
        }
    }
}

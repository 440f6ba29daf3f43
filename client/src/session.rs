//! The session token a client holds: kept wiped-on-drop, sent as a header no log shows, renewed before it ends, replaced
//! by a new login when it has ended and credentials are at hand.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use strongroom_proto::{Reason, SecretBytes, v1};
use tokio::{sync::Mutex, task::AbortHandle, time::sleep};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
};
use zeroize::Zeroizing;

use crate::{
    Error,
    auth::{self, Session},
    connect::Inner,
    credentials::Credentials,
    retry,
};

const BEARER: &[u8] = b"Bearer ";
/// The shortest pause between two renewals, whatever the clocks say.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// A bearer token as the header it is sent in. All copies share one buffer, which is wiped when the last one goes.
pub(crate) struct Token(MetadataValue<Ascii>);

impl Token {
    pub(crate) fn new(token: &SecretBytes) -> Result<Self, Error> {
        let mut text = Zeroizing::new(Vec::with_capacity(BEARER.len() + token.len()));
        text.extend_from_slice(BEARER);
        text.extend_from_slice(token.expose());
        let refused = || Error::config("this is not a token: it has characters that no token has");
        if token.is_empty() || !token.expose().iter().all(u8::is_ascii_graphic) {
            return Err(refused());
        }
        let mut header = MetadataValue::try_from(Bytes::from_owner(text)).map_err(|_| refused())?;
        header.set_sensitive(true);
        Ok(Self(header))
    }

    pub(crate) fn attach<T>(&self, request: &mut Request<T>) {
        request.metadata_mut().insert("authorization", self.0.clone());
    }

    fn expose(&self) -> SecretBytes {
        SecretBytes::from(self.0.as_encoded_bytes().get(BEARER.len()..).unwrap_or_default())
    }
}

/// The current token and the means to get another.
pub(crate) struct Keeper {
    token: ArcSwapOption<Token>,
    credentials: Option<Credentials>,
    /// Held during a login, so that a hundred expired requests log in once.
    login: Mutex<()>,
}

impl Keeper {
    pub(crate) fn new(token: Option<Token>, credentials: Option<Credentials>) -> Self {
        Self { token: ArcSwapOption::new(token.map(Arc::new)), credentials, login: Mutex::new(()) }
    }

    pub(crate) fn current(&self) -> Option<Arc<Token>> {
        self.token.load_full()
    }

    pub(crate) fn expose(&self) -> Option<SecretBytes> {
        self.token.load().as_ref().map(|token| token.expose())
    }

    pub(crate) fn replace(&self, token: Option<Token>) {
        self.token.store(token.map(Arc::new));
    }

    fn has_other_than(&self, failed: Option<&Arc<Token>>) -> bool {
        match (&*self.token.load(), failed) {
            (Some(current), Some(failed)) => !Arc::ptr_eq(current, failed),
            (current, _) => current.is_some(),
        }
    }

    pub(crate) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Whether a login that is refused now may be accepted later: the kubelet may be late with a new token. A password
    /// that is wrong stays wrong.
    fn may_be_better_later(&self) -> bool {
        matches!(self.credentials, Some(Credentials::Kubernetes { .. }))
    }
}

impl Inner {
    /// Another token than `failed`; `false` if there is no way to get one. Called by many, done once. Boxed, because it is
    /// part of every call and is made of one itself.
    pub(crate) fn log_in_again<'a>(
        &'a self,
        failed: Option<&'a Arc<Token>>,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let Some(credentials) = &self.keeper.credentials else { return Ok(false) };
            let _single_flight = self.keeper.login.lock().await;
            if !self.keeper.has_other_than(failed) {
                self.log_in(credentials).await?;
            }
            Ok(true)
        })
    }

    pub(crate) async fn log_in(&self, credentials: &Credentials) -> Result<Session, Error> {
        let login = auth::login(self, credentials.request().await?).await?;
        self.keeper.replace(Some(Token::new(&login.token)?));
        Ok(login.session)
    }
}

impl Inner {
    /// Logs in if there are credentials.
    pub(crate) async fn first_login(&self) -> Result<Option<Session>, Error> {
        match &self.keeper.credentials {
            Some(credentials) => self.log_in(credentials).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Ends the renewal task with the client that it serves.
pub(crate) struct Renewal(AbortHandle);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Renewal {
    /// `session` is unknown for a token that came from outside.
    pub(crate) fn start(client: Weak<Inner>, session: Option<Session>) -> Self {
        Self(tokio::spawn(keep_alive(client, session)).abort_handle())
    }
}

#[cfg(test)]
impl Renewal {
    pub(crate) fn task(&self) -> AbortHandle {
        self.0.clone()
    }
}

async fn keep_alive(client: Weak<Inner>, mut session: Option<Session>) {
    let mut failures = 0_u32;
    loop {
        let pause = match &session {
            Some(session) if failures == 0 => renewal_pause(session, jiff::Timestamp::now()),
            _ if failures == 0 => Duration::ZERO,
            _ => SHORTEST_PAUSE.saturating_add(retry::watch_pause(failures.saturating_add(4), None)),
        };
        sleep(pause).await;
        // Held for one renewal only: a client that nobody holds any more ends here.
        let Some(inner) = client.upgrade() else { return };
        match next_session(&inner, session.as_ref()).await {
            Ok(Some(next)) => (session, failures) = (Some(next), 0),
            Ok(None) => {
                tracing::warn!(
                    "the session token cannot be renewed any further and no credentials are at hand"
                );
                return;
            }
            Err(error) if error.is_transient() || inner.keeper.may_be_better_later() => {
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
async fn next_session(inner: &Arc<Inner>, session: Option<&Session>) -> Result<Option<Session>, Error> {
    let Some(session) = session else {
        // A token from outside: ask how long it lives before touching it.
        return auth::whoami(inner).await.map(|who| Some(who.session));
    };
    if session.is_renewable() {
        match auth::renew(inner).await {
            Ok(login) => {
                inner.keeper.replace(Some(Token::new(&login.token)?));
                return Ok(Some(login.session));
            }
            Err(error) if is_token_gone(&error) && inner.keeper.has_credentials() => {}
            Err(error) => return Err(error),
        }
    }
    match &inner.keeper.credentials {
        Some(credentials) => {
            let _single_flight = inner.keeper.login.lock().await;
            inner.log_in(credentials).await.map(Some)
        }
        None => Ok(None),
    }
}

fn is_token_gone(error: &Error) -> bool {
    matches!(error.reason(), Some(Reason::TokenExpired | Reason::TokenInvalid | Reason::PodGone))
}

/// About two thirds of what is left, spread by a tenth so that pods started together do not renew together. Both the
/// session's own span and this machine's clock are asked: either may be off, the shorter one is safe.
fn renewal_pause(session: &Session, now: jiff::Timestamp) -> Duration {
    let span = |from: jiff::Timestamp| {
        let ms = session.expires_at.as_millisecond().saturating_sub(from.as_millisecond());
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    };
    let life = span(session.issued_at);
    let left = span(now).min(life).max(life / 10);
    left.mul_f64(0.6 + 0.1 * retry::unit()).max(SHORTEST_PAUSE)
}

impl TryFrom<v1::TokenResponse> for auth::Login {
    type Error = Error;

    fn try_from(response: v1::TokenResponse) -> Result<Self, Error> {
        let token = response.token.ok_or_else(|| Error::incomplete("token"))?;
        let session = response.session.ok_or_else(|| Error::incomplete("session"))?;
        Ok(Self { token: SecretBytes::from(token), session: session.into() })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::fake::{Fake, refusal};

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

    #[test]
    fn a_token_is_sent_whole_and_shown_never() {
        let token = Token::new(&SecretBytes::from(String::from("sr1_abc"))).unwrap();
        let mut request = Request::new(());
        token.attach(&mut request);
        let header = request.metadata().get("authorization").unwrap();
        assert_eq!(header.to_str().unwrap(), "Bearer sr1_abc");
        assert!(!format!("{:?}", request.metadata()).contains("sr1_"));
        assert_eq!(token.expose().expose(), b"sr1_abc");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in ["", "two words", "line\nbreak", "ünicode"] {
            assert!(Token::new(&SecretBytes::from(text.to_owned())).is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_session_is_renewed_until_the_last_client_goes() {
        let fake = Fake::start().await;
        let client = fake.client_with(Duration::from_secs(5), None);
        let before = client.expose_token().unwrap();
        let task = client.start_renewal(Some(fake.session()));
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
            let task = client.start_renewal(Some(over));
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

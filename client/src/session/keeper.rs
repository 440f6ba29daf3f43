//! The token that a client holds: wiped when dropped, and replaced by a new login when it has ended and there are
//! credentials. `renewal.rs` decides when it is renewed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use strongroom_proto::{SecretBytes, v1, v1::auth_client::AuthClient};
use tokio::sync::{Mutex, watch};

use super::{Login, Session, Whoami, credentials::Credentials};
use crate::{
    error::Error,
    transport::{
        Caller, Mode, Terms, Transport,
        bearer::{Bearer, Token},
    },
};

/// The current token, and the means to get another.
pub(crate) struct Keeper {
    transport: Transport,
    token: ArcSwapOption<Token>,
    credentials: Option<Credentials>,
    /// What is known of the session that the token stands for.
    known: watch::Sender<Known>,
    /// After a logout, nobody logs in until the application does.
    logged_out: AtomicBool,
    /// Held during a login, so that a hundred expired requests log in once.
    login: Mutex<()>,
}

/// What is known of a session.
#[derive(Clone)]
pub(crate) enum Known {
    /// There is none, or it is past help.
    Nothing,
    /// Its token came from outside.
    Token,
    Session(Box<Session>),
}

impl Keeper {
    pub(crate) fn new(transport: Transport, token: Option<Token>, credentials: Option<Credentials>) -> Self {
        let known = if token.is_some() { Known::Token } else { Known::Nothing };
        Self {
            transport,
            token: ArcSwapOption::new(token.map(Arc::new)),
            credentials,
            known: watch::Sender::new(known),
            logged_out: AtomicBool::new(false),
            login: Mutex::new(()),
        }
    }

    /// What is known of the session now, and whenever that changes.
    pub(crate) fn known(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    pub(crate) fn knows(&self, known: Known) {
        self.known.send_replace(known);
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Calls with the token.
    pub(crate) fn caller(&self) -> Caller<'_> {
        self.transport.with(self)
    }

    pub(crate) fn expose(&self) -> Option<SecretBytes> {
        self.token.load().as_ref().map(|token| token.expose())
    }

    /// After a logout: there is no token, and credentials are not used until somebody logs in.
    pub(crate) fn forget(&self) {
        self.logged_out.store(true, Ordering::SeqCst);
        self.token.store(None);
        self.knows(Known::Nothing);
    }

    pub(crate) fn has_credentials(&self) -> bool {
        self.credentials.is_some() && !self.logged_out.load(Ordering::SeqCst)
    }

    /// Whether a login that is refused now may be accepted later: the kubelet may be late with a new token. A password
    /// that is wrong stays wrong.
    pub(crate) fn may_be_better_later(&self) -> bool {
        matches!(self.credentials, Some(Credentials::Kubernetes { .. }))
    }

    /// Logs in because the application says so, and uses the new token from then on.
    pub(crate) async fn log_in_as(&self, message: v1::LoginRequest, terms: Terms) -> Result<Login, Error> {
        let login = self.log_in(message, terms).await?;
        self.logged_out.store(false, Ordering::SeqCst);
        Ok(login)
    }

    async fn log_in(&self, message: v1::LoginRequest, terms: Terms) -> Result<Login, Error> {
        // A login leaves nothing behind, so it may be repeated like a read.
        let answer = self
            .transport
            .anonymous()
            .on(terms)
            .call(Mode::READ, message, |ch, rq| async move { AuthClient::new(ch).login(rq).await })
            .await?;
        self.replace(Login::told(answer)?)
    }

    /// Logs in with the credentials; `None` without any.
    pub(crate) async fn log_in_with_credentials(&self) -> Result<Option<Session>, Error> {
        let Some(credentials) = &self.credentials else { return Ok(None) };
        let _single_flight = self.login.lock().await;
        Ok(Some(self.log_in(credentials.request().await?, self.transport.terms()).await?.session))
    }

    /// Renews the session and uses the new token from then on.
    pub(crate) async fn renew(&self, terms: Terms) -> Result<Login, Error> {
        let message = v1::RenewRequest {};
        let answer = self
            .caller()
            .on(terms)
            .call(Mode::READ, message, |ch, rq| async move { AuthClient::new(ch).renew(rq).await })
            .await?;
        self.replace(Login::told(answer)?)
    }

    /// Changes the user's password, which ends the session, and uses the token of the new one from then on.
    pub(crate) async fn change_password(
        &self,
        current: &SecretBytes,
        new: &SecretBytes,
        terms: Terms,
    ) -> Result<Login, Error> {
        let message = v1::ChangePasswordRequest {
            current_password: Some(current.into()),
            new_password: Some(new.into()),
        };
        let call = self.caller().on(terms);
        let answer =
            call.call(
                Mode::WRITE,
                message,
                |ch, rq| async move { AuthClient::new(ch).change_password(rq).await },
            );
        self.replace(Login::told(answer.await?)?)
    }

    pub(crate) async fn whoami(&self, terms: Terms) -> Result<Whoami, Error> {
        let message = v1::WhoamiRequest {};
        let answer = self
            .caller()
            .on(terms)
            .call(Mode::READ, message, |ch, rq| async move { AuthClient::new(ch).whoami(rq).await })
            .await?;
        let session = answer.session.ok_or_else(|| Error::incomplete("session"))?;
        Ok(Whoami { session: Session::told(session), roles: answer.roles })
    }

    fn replace(&self, login: Login) -> Result<Login, Error> {
        self.token.store(Some(Arc::new(Token::new(&login.token)?)));
        self.knows(Known::Session(Box::new(login.session.clone())));
        Ok(login)
    }

    fn has_other_than(&self, failed: Option<&Arc<Token>>) -> bool {
        match (&*self.token.load(), failed) {
            (Some(current), Some(failed)) => !Arc::ptr_eq(current, failed),
            (current, _) => current.is_some(),
        }
    }
}

impl Bearer for Keeper {
    fn current(&self) -> Option<Arc<Token>> {
        self.token.load_full()
    }

    /// Many may call this at the same time; one of them logs in.
    fn another<'a>(&'a self, failed: Option<&'a Arc<Token>>) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let Some(credentials) = &self.credentials else { return Ok(false) };
            let _single_flight = self.login.lock().await;
            if self.logged_out.load(Ordering::SeqCst) {
                return Ok(false);
            }
            if !self.has_other_than(failed) {
                self.log_in(credentials.request().await?, self.transport.terms()).await?;
                // A logout in the meantime counts.
                if self.logged_out.load(Ordering::SeqCst) {
                    self.forget();
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

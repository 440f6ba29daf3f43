//! The token that a client holds: kept wiped-on-drop, replaced by a new login when it has ended and credentials are at
//! hand. When it is renewed is another file's.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use strongroom_proto::{SecretBytes, v1, v1::auth_client::AuthClient};
use tokio::sync::Mutex;

use super::{Login, Session, Whoami, credentials::Credentials};
use crate::{
    error::Error,
    transport::{
        Caller, Mode, Transport,
        bearer::{Bearer, Token},
    },
};

/// The current token, and the means to get another.
pub(crate) struct Keeper {
    transport: Transport,
    token: ArcSwapOption<Token>,
    credentials: Option<Credentials>,
    /// Held during a login, so that a hundred expired requests log in once.
    login: Mutex<()>,
}

impl Keeper {
    pub(crate) fn new(transport: Transport, token: Option<Token>, credentials: Option<Credentials>) -> Self {
        Self { transport, token: ArcSwapOption::new(token.map(Arc::new)), credentials, login: Mutex::new(()) }
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

    pub(crate) fn forget(&self) {
        self.token.store(None);
    }

    pub(crate) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Whether a login that is refused now may be accepted later: the kubelet may be late with a new token. A password
    /// that is wrong stays wrong.
    pub(crate) fn may_be_better_later(&self) -> bool {
        matches!(self.credentials, Some(Credentials::Kubernetes { .. }))
    }

    /// Logs in and uses the new token from then on.
    pub(crate) async fn log_in(&self, message: v1::LoginRequest) -> Result<Login, Error> {
        // A login leaves nothing behind, so it may be repeated like a read.
        let answer = self
            .transport
            .anonymous()
            .call(Mode::READ, message, |ch, rq| async move { AuthClient::new(ch).login(rq).await })
            .await?;
        self.replace(answer.try_into()?)
    }

    /// Logs in with the credentials; `None` without any.
    pub(crate) async fn log_in_anew(&self) -> Result<Option<Session>, Error> {
        let Some(credentials) = &self.credentials else { return Ok(None) };
        let _single_flight = self.login.lock().await;
        Ok(Some(self.log_in(credentials.request().await?).await?.session))
    }

    /// Renews the session and uses the new token from then on.
    pub(crate) async fn renew(&self) -> Result<Login, Error> {
        let message = v1::RenewRequest {};
        let answer = self
            .caller()
            .call(Mode::READ, message, |ch, rq| async move { AuthClient::new(ch).renew(rq).await })
            .await?;
        self.replace(answer.try_into()?)
    }

    pub(crate) async fn whoami(&self) -> Result<Whoami, Error> {
        let message = v1::WhoamiRequest {};
        let answer = self
            .caller()
            .call(Mode::READ, message, |ch, rq| async move { AuthClient::new(ch).whoami(rq).await })
            .await?;
        let session = answer.session.ok_or_else(|| Error::incomplete("session"))?;
        Ok(Whoami { session: session.into(), roles: answer.roles })
    }

    fn replace(&self, login: Login) -> Result<Login, Error> {
        self.token.store(Some(Arc::new(Token::new(&login.token)?)));
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

    /// Called by many, done once.
    fn another<'a>(&'a self, failed: Option<&'a Arc<Token>>) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let Some(credentials) = &self.credentials else { return Ok(false) };
            let _single_flight = self.login.lock().await;
            if !self.has_other_than(failed) {
                self.log_in(credentials.request().await?).await?;
            }
            Ok(true)
        })
    }
}

//! The client itself: how it is built, and what its clones share. The calls are in `calls/`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use strongroom_proto::SecretBytes;

use crate::{
    error::Error,
    session::{
        credentials::{self, Credentials, KUBERNETES_TOKEN_FILE},
        keeper::Keeper,
        renewal::Renewal,
    },
    transport::{
        Caller, Terms, Transport,
        bearer::Token,
        endpoint::{Pings, Server},
        tls::{Ca, Identity},
    },
};

/// How long a call may take by default, its retries included.
const TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that is gone is noticed after half a minute, however quiet the connection is.
const PINGS: Pings = Pings { every: Duration::from_secs(20), patience: Duration::from_secs(10) };

/// Connections to a server and the session on them. Clones share both.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    terms: Terms,
}

/// What all clones share.
struct Inner {
    keeper: Arc<Keeper>,
    /// The renewal task, which ends with the last clone.
    _renewal: Option<Renewal>,
    /// The end of a pod's session, beyond which it is not renewed.
    ends_at: Option<Timestamp>,
}

/// Builds a [`Client`].
#[must_use]
pub struct Builder {
    server: Server,
    token: Option<SecretBytes>,
    credentials: Option<Credentials>,
    token_file: PathBuf,
    renew: bool,
    timeout: Duration,
}

impl Client {
    /// Begins to build a client for the server at `https://host:port`.
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder {
            server: Server {
                addresses: vec![address.into()],
                name: None,
                ca: Ca::None,
                identity: None,
                proxy: None,
                timeout: CONNECT_TIMEOUT,
                pings: PINGS,
            },
            token: None,
            credentials: None,
            token_file: KUBERNETES_TOKEN_FILE.into(),
            renew: true,
            timeout: TIMEOUT,
        }
    }

    /// Returns the same client, whose calls may take so long, their repetitions included.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Self { inner: Arc::clone(&self.inner), terms: Terms { timeout, ..self.terms } }
    }

    /// Returns the same client, whose calls are made once: whoever calls repeats them, or does not.
    #[must_use]
    pub fn without_retries(&self) -> Client {
        Self { inner: Arc::clone(&self.inner), terms: Terms { repeats: false, ..self.terms } }
    }

    /// Returns the session token in use now. It is a credential: whoever has it can act as you.
    pub fn expose_token(&self) -> Option<SecretBytes> {
        self.inner.keeper.expose()
    }

    /// Logs in as the pod whose service-account token this is, and returns a client with that session over the same
    /// connection. `cluster` is the server's name for the pod's cluster; empty means `main`. The session is renewed in the
    /// background until its last clone is dropped. The pod's token is not kept, so nobody logs in again when the session
    /// has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`](crate::ErrorKind::Unauthenticated) for a token that the cluster does not vouch for;
    /// the token must be projected for the server's audience, and its pod must still exist.
    pub async fn log_in_as_pod(&self, cluster: &str, token: SecretBytes) -> Result<Client, Error> {
        let keeper = Arc::new(Keeper::new(self.inner.keeper.transport().clone(), None, None));
        let login = credentials::kubernetes(cluster, &token);
        let ends_at = Some(keeper.log_in_as(login, self.terms).await?.session.max_expires_at);
        let renewal = Renewal::start(Arc::clone(&keeper));
        Ok(Self { inner: Arc::new(Inner { keeper, _renewal: Some(renewal), ends_at }), terms: self.terms })
    }

    /// Returns when a session of [`log_in_as_pod`](Self::log_in_as_pod) ends for good, even if it is renewed. After that,
    /// another login is needed.
    pub fn session_ends_at(&self) -> Option<Timestamp> {
        self.inner.ends_at
    }

    fn keeping(keeper: Keeper, renew: bool) -> Self {
        let terms = keeper.transport().terms();
        let keeper = Arc::new(keeper);
        let renewal = renew.then(|| Renewal::start(Arc::clone(&keeper)));
        Self { inner: Arc::new(Inner { keeper, _renewal: renewal, ends_at: None }), terms }
    }

    /// Calls with the session's token.
    pub(crate) fn session(&self) -> Caller<'_> {
        self.inner.keeper.caller().on(self.terms)
    }

    /// Calls without a token.
    pub(crate) fn anonymous(&self) -> Caller<'_> {
        self.inner.keeper.transport().anonymous().on(self.terms)
    }

    /// What is asked of this client's calls.
    pub(crate) fn terms(&self) -> Terms {
        self.terms
    }

    pub(crate) fn keeper(&self) -> &Keeper {
        &self.inner.keeper
    }
}

#[cfg(test)]
impl Client {
    /// Builds a client without a background task.
    pub(crate) fn over(keeper: Keeper) -> Self {
        Self::keeping(keeper, false)
    }

    /// The same session, renewed in the background from now on.
    pub(crate) fn renewed_from(self, session: crate::session::Session) -> (Self, tokio::task::AbortHandle) {
        let keeper = Arc::clone(&self.inner.keeper);
        keeper.knows(crate::session::keeper::Known::Session(Box::new(session)));
        let renewal = Renewal::start(Arc::clone(&keeper));
        let task = renewal.task();
        let inner = Arc::new(Inner { keeper, _renewal: Some(renewal), ends_at: None });
        (Self { inner, terms: self.terms }, task)
    }

    pub(crate) fn stop_renewal(&self) {
        if let Some(renewal) = &self.inner._renewal {
            renewal.task().abort();
        }
    }
}

impl Builder {
    /// Sets the CA certificates, in PEM, to verify the server with.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.server.ca = Ca::Pem(pem.into());
        self
    }

    /// Sets a PEM file with the CA certificates to verify the server with. It is read again for each connection.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.server.ca = Ca::File(path.into());
        self
    }

    /// Verifies the server with the CA certificates that the system trusts. Whoever can get a certificate of one of these for
    /// the server's name can be the server: a CA of your own is better.
    pub fn system_roots(mut self) -> Self {
        self.server.ca = Ca::System;
        self
    }

    /// Sets the certificate, in PEM, that the client shows where one is asked for, such as by a proxy before the server.
    pub fn client_certificate_pem(mut self, certificate: impl Into<Vec<u8>>, key: SecretBytes) -> Self {
        self.server.identity = Some(Identity::Pem { certificate: certificate.into(), key });
        self
    }

    /// Sets the files of that certificate and its key. They are read again for each connection.
    pub fn client_certificate_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        let (certificate, key) = (certificate.into(), key.into());
        self.server.identity = Some(Identity::Files { certificate, key });
        self
    }

    /// Adds another address, `https://host:port`, under which the same store is found. Those that were added first are tried
    /// first; one that cannot be reached is passed over.
    pub fn also_at(mut self, address: impl Into<String>) -> Self {
        self.server.addresses.push(address.into());
        self
    }

    /// Connects through an HTTP proxy, `http://host:port` or `http://name:password@host:port`. It sees the server's name and
    /// nothing of what is said.
    pub fn proxy(mut self, address: impl Into<String>) -> Self {
        self.server.proxy = Some(address.into());
        self
    }

    /// Sets the name to expect in the server's certificate if it is not the host of the address, as with port-forwarding.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server.name = Some(name.into());
        self
    }

    /// Uses a session token that was obtained elsewhere.
    pub fn token(mut self, token: SecretBytes) -> Self {
        self.token = Some(token);
        self
    }

    /// Logs in with a name and a password, and again whenever the session has ended.
    pub fn userpass(mut self, name: impl Into<String>, password: SecretBytes) -> Self {
        self.credentials = Some(Credentials::Userpass { name: name.into(), password });
        self
    }

    /// Logs in as the pod that this program runs in, and again whenever the session has ended. `cluster` is the server's name
    /// for the cluster: `main` unless it knows several. The pod needs a projected service-account token for the server's
    /// audience:
    ///
    /// ```yaml
    /// volumes:
    /// - name: strongroom
    ///   projected:
    ///     sources:
    ///     - serviceAccountToken: {audience: strongroom, expirationSeconds: 3600, path: token}
    /// ```
    ///
    /// The volume must be mounted at `/var/run/secrets/strongroom`. The file is read again for each login, because the kubelet
    /// replaces it.
    pub fn kubernetes(mut self, cluster: impl Into<String>) -> Self {
        self.credentials =
            Some(Credentials::Kubernetes { cluster: cluster.into(), token_file: PathBuf::new() });
        self
    }

    /// Sets where [`kubernetes`](Self::kubernetes) finds the token if it is not in [`KUBERNETES_TOKEN_FILE`].
    pub fn kubernetes_token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token_file = path.into();
        self
    }

    /// Sets whether the session is renewed in the background. It is by default.
    pub fn renew_in_background(mut self, renew: bool) -> Self {
        self.renew = renew;
        self
    }

    /// Sets how long a call may take, its retries included; 15 seconds by default. A stream may last as long as it likes,
    /// but its beginning has this limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long connecting may take, from the lookup of the server's name to its first word of HTTP/2; 5 seconds by
    /// default. Whoever goes silent in between is given up.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.server.timeout = timeout;
        self
    }

    /// Sets how often a connection is asked whether the server is still there, and how long the answer may take; 20 and 10
    /// seconds by default. A connection without an answer is given up, with the calls and watches on it; watches continue on
    /// another.
    pub fn keep_alive(mut self, every: Duration, patience: Duration) -> Self {
        self.server.pings = Pings { every, patience };
        self
    }

    /// Connects, and logs in if there are credentials and no token. The client reconnects by itself after an interruption.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for settings that cannot work,
    /// [`ErrorKind::Connection`](crate::ErrorKind::Connection) if the server cannot be reached or verified, and the errors
    /// of a login.
    pub async fn connect(mut self) -> Result<Client, Error> {
        let (token, credentials) = self.proof()?;
        let line = self.server.line().await?;
        let transport = Transport::new(line.connect().await?, move || line.connect_lazily(), self.timeout);
        let has_token = token.is_some();
        let keeper = Keeper::new(transport, token, credentials);
        if !has_token {
            keeper.log_in_with_credentials().await?;
        }
        Ok(Client::keeping(keeper, self.renew))
    }

    /// Builds the client without a word to the server: the first call connects, and logs in if there are credentials. A
    /// program that starts before the server is reachable starts anyway.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for settings that cannot work.
    pub async fn connect_lazily(mut self) -> Result<Client, Error> {
        let (token, credentials) = self.proof()?;
        let line = self.server.line().await?;
        let transport = Transport::new(line.connect_lazily(), move || line.connect_lazily(), self.timeout);
        Ok(Client::keeping(Keeper::new(transport, token, credentials), self.renew))
    }

    fn proof(&mut self) -> Result<(Option<Token>, Option<Credentials>), Error> {
        let token = self.token.as_ref().map(Token::new).transpose()?;
        let mut credentials = self.credentials.take();
        if let Some(Credentials::Kubernetes { token_file, .. }) = &mut credentials {
            token_file.clone_from(&self.token_file);
        }
        Ok((token, credentials))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[tokio::test]
    async fn a_ca_is_needed() {
        let no_ca = Client::builder("https://127.0.0.1:1").connect().await.err().unwrap();
        assert_eq!(no_ca.kind(), &ErrorKind::Config);
        let no_pem = Client::builder("https://127.0.0.1:1").ca_pem("garbage").connect().await.err().unwrap();
        assert!(no_pem.to_string().contains("PEM"));
    }
}

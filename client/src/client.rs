//! The client itself: how it is built, and what its clones share. What it can be asked stands in `calls/`.

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
        Caller, Transport,
        bearer::Token,
        endpoint::{Ca, Server},
    },
};

/// How long a call may take, its retries included, when nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a server and the session on it. Clones share both.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

/// What all clones share.
struct Inner {
    keeper: Arc<Keeper>,
    /// Ends with the last clone.
    _renewal: Option<Renewal>,
    /// Of a pod's session: its end, beyond which it is not renewed.
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
    connect_timeout: Duration,
}

impl Client {
    /// For a server at `https://host:port`.
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder {
            server: Server { address: address.into(), name: None, ca: Ca::None },
            token: None,
            credentials: None,
            token_file: KUBERNETES_TOKEN_FILE.into(),
            renew: true,
            timeout: TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
        }
    }

    /// The session token now in use. It is a credential: whoever has it is you.
    pub fn expose_token(&self) -> Option<SecretBytes> {
        self.inner.keeper.expose()
    }

    /// Another session over the same connection: that of the pod whose service-account token this is, in a cluster as the
    /// server calls it (empty = main). The session is renewed in the background until its last clone is dropped; the pod's
    /// token is not kept, so nobody logs in again when it has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`](crate::ErrorKind::Unauthenticated) for a token that the cluster does not vouch for;
    /// it has to be projected for the server's audience, and its pod has to be there still.
    pub async fn log_in_as_pod(&self, cluster: &str, token: SecretBytes) -> Result<Client, Error> {
        let keeper = Arc::new(Keeper::new(self.inner.keeper.transport().clone(), None, None));
        let session = keeper.log_in(credentials::kubernetes(cluster, &token)).await?.session;
        let ends_at = Some(session.max_expires_at);
        let renewal = Renewal::start(Arc::clone(&keeper), Some(session));
        Ok(Self { inner: Arc::new(Inner { keeper, _renewal: Some(renewal), ends_at }) })
    }

    /// When a session of [`log_in_as_pod`](Self::log_in_as_pod) ends for good, renewed or not: time for another login.
    pub fn session_ends_at(&self) -> Option<Timestamp> {
        self.inner.ends_at
    }

    /// Calls with the session's token.
    pub(crate) fn session(&self) -> Caller<'_> {
        self.inner.keeper.caller()
    }

    /// Calls without a token.
    pub(crate) fn anonymous(&self) -> Caller<'_> {
        self.inner.keeper.transport().anonymous()
    }

    pub(crate) fn keeper(&self) -> &Keeper {
        &self.inner.keeper
    }
}

#[cfg(test)]
impl Client {
    /// With nothing in the background.
    pub(crate) fn over(keeper: Keeper) -> Self {
        Self { inner: Arc::new(Inner { keeper: Arc::new(keeper), _renewal: None, ends_at: None }) }
    }

    /// The same session, renewed in the background from now on.
    pub(crate) fn renewed_from(self, session: crate::session::Session) -> (Self, tokio::task::AbortHandle) {
        let keeper = Arc::clone(&self.inner.keeper);
        let renewal = Renewal::start(Arc::clone(&keeper), Some(session));
        let task = renewal.task();
        (Self { inner: Arc::new(Inner { keeper, _renewal: Some(renewal), ends_at: None }) }, task)
    }

    pub(crate) fn stop_renewal(&self) {
        if let Some(renewal) = &self.inner._renewal {
            renewal.task().abort();
        }
    }
}

impl Builder {
    /// Certificates, in PEM, of the authorities that may have signed the server's.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.server.ca = Ca::Pem(pem.into());
        self
    }

    /// The same from a file, read when connecting.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.server.ca = Ca::File(path.into());
        self
    }

    /// The name to expect in the server's certificate, if it is not the host of the address (port-forwarding).
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server.name = Some(name.into());
        self
    }

    /// A session token made elsewhere.
    pub fn token(mut self, token: SecretBytes) -> Self {
        self.token = Some(token);
        self
    }

    /// Logs in with a name and a password, and again whenever the session has ended.
    pub fn userpass(mut self, name: impl Into<String>, password: SecretBytes) -> Self {
        self.credentials = Some(Credentials::Userpass { name: name.into(), password });
        self
    }

    /// Logs in as the pod this runs in, and again whenever the session has ended. `cluster` is what the server calls the
    /// cluster: `main` unless it knows several. The pod needs a projected service-account token for the server's audience:
    ///
    /// ```yaml
    /// volumes:
    /// - name: strongroom
    ///   projected:
    ///     sources:
    ///     - serviceAccountToken: {audience: strongroom, expirationSeconds: 3600, path: token}
    /// ```
    ///
    /// mounted at `/var/run/secrets/strongroom`. The file is read anew for each login, because the kubelet replaces it.
    pub fn kubernetes(mut self, cluster: impl Into<String>) -> Self {
        self.credentials =
            Some(Credentials::Kubernetes { cluster: cluster.into(), token_file: PathBuf::new() });
        self
    }

    /// Where [`kubernetes`](Self::kubernetes) finds the token, if not in [`KUBERNETES_TOKEN_FILE`].
    pub fn kubernetes_token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token_file = path.into();
        self
    }

    /// Whether the session is renewed in the background; it is unless told otherwise.
    pub fn renew_in_background(mut self, renew: bool) -> Self {
        self.renew = renew;
        self
    }

    /// How long a call may take, its retries included; 15 seconds unless told otherwise. Streams are not limited, only
    /// their beginning is.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a connection may take to stand; 5 seconds unless told otherwise.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Connects, and logs in if there are credentials and no token. Later interruptions heal by themselves.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for what cannot work,
    /// [`ErrorKind::Connection`](crate::ErrorKind::Connection) if the server is not there or is not who it should be, and
    /// what a login may answer.
    pub async fn connect(self) -> Result<Client, Error> {
        let token = self.token.as_ref().map(Token::new).transpose()?;
        let channel = self.server.connect(self.connect_timeout).await?;

        let mut credentials = self.credentials;
        if let Some(Credentials::Kubernetes { token_file, .. }) = &mut credentials {
            *token_file = self.token_file;
        }
        let has_token = token.is_some();
        let keeper = Arc::new(Keeper::new(Transport::new(channel, self.timeout), token, credentials));
        let session = if has_token { None } else { keeper.log_in_anew().await? };
        let has_session = has_token || session.is_some();
        let renewal = (self.renew && has_session).then(|| Renewal::start(Arc::clone(&keeper), session));
        Ok(Client { inner: Arc::new(Inner { keeper, _renewal: renewal, ends_at: None }) })
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

//! The client itself: how it is built, its one connection, and the path every call takes. What the calls mean stands in
//! the files of their nouns.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use jiff::Timestamp;
use strongroom_proto::{Reason, SecretBytes};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Request, Response, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    Error, ErrorKind, KUBERNETES_TOKEN_FILE, auth,
    credentials::{self, Credentials},
    retry::{Attempts, Budget, Safety},
    session::{Keeper, Renewal, Token},
};

/// How long a call may take, its retries included, when nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A dead peer is noticed after the sum of the two.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Names this library in the server's audit log.
const USER_AGENT: &str = concat!("strongroom-client/", env!("CARGO_PKG_VERSION"));

/// A connection to a server and the session on it. Clones share both.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones share.
pub(crate) struct Inner {
    channel: Channel,
    timeout: Duration,
    /// Shared by all sessions on the channel: it protects the server behind it.
    budget: Arc<Budget>,
    pub(crate) keeper: Keeper,
    renewal: OnceLock<Renewal>,
    /// Of a pod's session: its end, beyond which it is not renewed.
    ends_at: OnceLock<Timestamp>,
}

/// How a call is made.
#[derive(Clone, Copy)]
pub(crate) struct Mode {
    safety: Safety,
    /// Without the token: status, init, unseal and login have none.
    anonymous: bool,
    /// Only the beginning of a stream has a time limit.
    stream: bool,
}

impl Mode {
    pub(crate) const READ: Self = Self { safety: Safety::Repeatable, anonymous: false, stream: false };
    pub(crate) const WRITE: Self = Self { safety: Safety::Once, anonymous: false, stream: false };
    pub(crate) const STREAM: Self = Self { safety: Safety::Repeatable, anonymous: false, stream: true };
    pub(crate) const ANONYMOUS_READ: Self =
        Self { safety: Safety::Repeatable, anonymous: true, stream: false };
    pub(crate) const ANONYMOUS_WRITE: Self = Self { safety: Safety::Once, anonymous: true, stream: false };
}

/// Builds a [`Client`].
#[must_use]
pub struct Builder {
    address: String,
    server_name: Option<String>,
    ca: Ca,
    token: Option<SecretBytes>,
    credentials: Option<Credentials>,
    token_file: PathBuf,
    renew: bool,
    timeout: Duration,
    connect_timeout: Duration,
}

enum Ca {
    None,
    Pem(Vec<u8>),
    File(PathBuf),
}

impl Client {
    /// For a server at `https://host:port`.
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder {
            address: address.into(),
            server_name: None,
            ca: Ca::None,
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
    /// [`ErrorKind::Unauthenticated`] for a token that the cluster does not vouch for; it has to be projected for the
    /// server's audience, and its pod has to be there still.
    pub async fn log_in_as_pod(&self, cluster: &str, token: SecretBytes) -> Result<Client, Error> {
        let inner = Arc::new(Inner {
            channel: self.inner.channel.clone(),
            timeout: self.inner.timeout,
            budget: Arc::clone(&self.inner.budget),
            keeper: Keeper::new(None, None),
            renewal: OnceLock::new(),
            ends_at: OnceLock::new(),
        });
        let login = auth::login(&inner, credentials::kubernetes(cluster, &token)).await?;
        inner.keeper.replace(Some(Token::new(&login.token)?));
        let _ = inner.ends_at.set(login.session.max_expires_at);
        let _ = inner.renewal.set(Renewal::start(Arc::downgrade(&inner), Some(login.session)));
        Ok(Client { inner })
    }

    /// When a session of [`log_in_as_pod`](Self::log_in_as_pod) ends for good, renewed or not: time for another login.
    pub fn session_ends_at(&self) -> Option<Timestamp> {
        self.inner.ends_at.get().copied()
    }

    /// Over a channel made elsewhere, with nothing in the background.
    #[cfg(test)]
    pub(crate) fn over(channel: Channel, timeout: Duration, keeper: Keeper) -> Self {
        Self { inner: Arc::new(Inner::new(channel, timeout, keeper)) }
    }

    #[cfg(test)]
    pub(crate) fn start_renewal(&self, session: Option<crate::Session>) -> tokio::task::AbortHandle {
        let renewal = Renewal::start(Arc::downgrade(&self.inner), session);
        let task = renewal.task();
        let _ = self.inner.renewal.set(renewal);
        task
    }

    #[cfg(test)]
    pub(crate) fn stop_renewal(&self) {
        if let Some(renewal) = self.inner.renewal.get() {
            renewal.task().abort();
        }
    }
}

impl Builder {
    /// Certificates, in PEM, of the authorities that may have signed the server's.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca = Ca::Pem(pem.into());
        self
    }

    /// The same from a file, read when connecting.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca = Ca::File(path.into());
        self
    }

    /// The name to expect in the server's certificate, if it is not the host of the address (port-forwarding).
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
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
    /// [`ErrorKind::Config`] for what cannot work, [`ErrorKind::Connection`] if the server is not there or is not who
    /// it should be, and what a login may answer.
    pub async fn connect(self) -> Result<Client, Error> {
        let mut endpoint = endpoint(&self.address)?;
        let pem = match self.ca {
            Ca::Pem(pem) => pem,
            Ca::File(path) => tokio::fs::read(&path)
                .await
                .map_err(|error| Error::config(format!("CA file {}: {error}", path.display())))?,
            Ca::None => return Err(Error::config("no CA certificate given to know the server by")),
        };
        if !pem.windows(BEGIN_CERTIFICATE.len()).any(|window| window == BEGIN_CERTIFICATE) {
            return Err(Error::config("the CA certificate is not in PEM"));
        }
        let token = self.token.as_ref().map(Token::new).transpose()?;

        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        if let Some(name) = self.server_name {
            tls = tls.domain_name(name);
        }
        let broken = |error: &tonic::transport::Error| Error::connection(&self.address, error);
        endpoint = endpoint.tls_config(tls).map_err(|error| broken(&error))?;
        let channel =
            endpoint.connect_timeout(self.connect_timeout).connect().await.map_err(|e| broken(&e))?;

        let needs_login = token.is_none();
        let mut credentials = self.credentials;
        if let Some(Credentials::Kubernetes { token_file, .. }) = &mut credentials {
            *token_file = self.token_file;
        }
        let inner = Arc::new(Inner::new(channel, self.timeout, Keeper::new(token, credentials)));
        let session = if needs_login { inner.first_login().await? } else { None };
        if self.renew && inner.keeper.current().is_some() {
            let _ = inner.renewal.set(Renewal::start(Arc::downgrade(&inner), session));
        }
        Ok(Client { inner })
    }
}

const BEGIN_CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let wrong = |problem: &str| Error::config(format!("address {address:?} {problem}"));
    if address.starts_with("http://") {
        return Err(wrong(
            "is http://: only https:// is accepted, or secrets would cross the network in the clear",
        ));
    }
    if !address.starts_with("https://") {
        return Err(wrong("does not start with https://"));
    }
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| wrong("is not a valid address"))?;
    if !matches!(endpoint.uri().path(), "" | "/") || endpoint.uri().query().is_some() {
        return Err(wrong("has something after the port"));
    }
    Ok(endpoint
        .user_agent(USER_AGENT)
        .map_err(|_| wrong("cannot be used"))?
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true))
}

impl Inner {
    fn new(channel: Channel, timeout: Duration, keeper: Keeper) -> Self {
        Self {
            channel,
            timeout,
            budget: Arc::default(),
            keeper,
            renewal: OnceLock::new(),
            ends_at: OnceLock::new(),
        }
    }

    /// Sends `message` by `rpc` as often as it takes and is allowed. Every call goes through here.
    pub(crate) async fn call<Q, A, F, Fut>(&self, mode: Mode, message: Q, rpc: F) -> Result<A, Error>
    where
        Q: Clone + Send,
        A: Send,
        F: Fn(Channel, Request<Q>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Response<A>, Status>> + Send,
    {
        let deadline = Instant::now() + self.timeout;
        let mut attempts = Attempts::new(mode.safety);
        let mut logged_in_again = false;
        loop {
            let token = if mode.anonymous { None } else { self.keeper.current() };
            let mut request = Request::new(message.clone());
            if let Some(token) = &token {
                token.attach(&mut request);
            }
            if !mode.stream {
                request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            }
            let error = match timeout_at(deadline, rpc(self.channel.clone(), request)).await {
                Ok(Ok(answer)) => {
                    self.budget.earn();
                    return Ok(answer.into_inner());
                }
                Ok(Err(status)) => Error::from(status),
                Err(_) => Error::deadline(),
            };
            if !mode.anonymous && !logged_in_again && wants_login(&error) {
                logged_in_again = true;
                if self.log_in_again(token.as_ref()).await? {
                    continue;
                }
            }
            match attempts.after(&error, &self.budget) {
                Some(pause) if Instant::now() + pause < deadline => sleep(pause).await,
                _ => return Err(error),
            }
        }
    }
}

/// Whether a new token would help. A revoked session is somebody's will and is not worked around; an account that was
/// made anew is somebody else, but may be let in as such.
pub(crate) fn wants_login(error: &Error) -> bool {
    use Reason::{PodGone, TokenExpired, TokenMissing};
    matches!(error.kind(), ErrorKind::Unauthenticated(TokenExpired | TokenMissing | PodGone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, broken, refusal};

    fn problem(address: &str) -> String {
        endpoint(address).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn only_https_is_accepted() {
        assert!(problem("http://host:7420").contains("only https:// is accepted"));
        assert!(problem("host:7420").contains("does not start with https://"));
        assert!(problem("https://").contains("not a valid address"));
        assert!(problem("https://host:7420/v1").contains("after the port"));
        assert_eq!(problem("https://host:7420"), "");
    }

    #[tokio::test]
    async fn a_ca_is_needed() {
        let no_ca = Client::builder("https://127.0.0.1:1").connect().await.err().unwrap();
        assert_eq!(no_ca.kind(), &ErrorKind::Config);
        let no_pem = Client::builder("https://127.0.0.1:1").ca_pem("garbage").connect().await.err().unwrap();
        assert!(no_pem.to_string().contains("PEM"));
    }

    #[tokio::test]
    async fn what_passes_is_tried_again() {
        let fake = Fake::start().await;
        fake.fail([refusal(Reason::Overloaded), broken()]);
        let secret = fake.client().get("secret/a").await.unwrap();
        assert_eq!((secret.version, secret.text("k")), (1, Some("v1")));
        assert_eq!(fake.calls(), 3);
    }

    #[tokio::test]
    async fn what_does_not_pass_is_told_at_once() {
        let fake = Fake::start().await;
        fake.fail([refusal(Reason::Sealed)]);
        let error = fake.client().get("secret/a").await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Sealed { .. }));
        assert_eq!(fake.calls(), 1);
    }

    #[tokio::test]
    async fn a_put_is_repeated_under_one_id() {
        let fake = Fake::start().await;
        fake.fail([broken(), broken()]);
        let client = fake.client();
        for _ in 0..2 {
            let put = client.put("secret/a").value("k", SecretBytes::from(b"v".as_slice()));
            put.send().await.unwrap();
        }
        let ids = fake.operation_ids();
        assert_eq!(ids.len(), 4);
        assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3], "{ids:?}");
    }

    #[tokio::test]
    async fn a_delete_of_the_latest_is_not_repeated() {
        let fake = Fake::start().await;
        fake.fail([broken(), broken()]);
        let client = fake.client();
        assert_eq!(client.delete("secret/a", vec![]).await.unwrap_err().kind(), &ErrorKind::Connection);
        assert_eq!(fake.calls(), 1);
        client.delete("secret/a", vec![1]).await.unwrap();
        assert_eq!(fake.calls(), 3);
    }

    #[tokio::test]
    async fn an_expired_session_logs_in_once_for_all() {
        let fake = Fake::start().await;
        let client = fake.client();
        fake.expire_tokens();
        let reads = (0..20).map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("secret/a").await.map(|secret| secret.version) })
        });
        for read in reads.collect::<Vec<_>>() {
            assert_eq!(read.await.unwrap().unwrap(), 1);
        }
        assert_eq!(fake.logins(), 1);
        assert!(!fake.login_had_token());
    }

    #[tokio::test]
    async fn without_credentials_an_expired_session_is_told() {
        let fake = Fake::start().await;
        let client = fake.client_with(Duration::from_secs(5), None);
        fake.expire_tokens();
        let error = client.get("secret/a").await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unauthenticated(Reason::TokenExpired));
        assert_eq!(fake.logins(), 0);
    }

    #[tokio::test]
    async fn a_call_ends_with_its_time_and_tells_the_server() {
        let fake = Fake::start().await;
        fake.hang();
        let client = fake.client_with(Duration::from_millis(100), None);
        let error = client.get("secret/a").await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::DeadlineExceeded);
        assert!(fake.saw_deadline());
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_a_connection_error() {
        let fake = Fake::start().await;
        let client = fake.client_with(Duration::from_millis(300), None);
        fake.stop().await;
        let error = client.get("secret/a").await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Connection, "{error}");
    }

    #[tokio::test]
    async fn pages_are_one_stream() {
        use futures_util::TryStreamExt;
        let fake = Fake::start().await;
        let names: Vec<_> = fake.client().list("secret").try_collect().await.unwrap();
        assert_eq!(names, ["a", "b", "c/", "d"]);
    }
}

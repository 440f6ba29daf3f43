//! The client itself: how it is built, and what its clones share. The calls are in `calls/`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use strongroom_proto::SecretBytes;

use crate::{
    error::Error,
    session::{
        Session,
        credentials::{self, Credentials, KUBERNETES_TOKEN_FILE},
        keeper::{Keeper, Known},
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

/// Where our manifests put the server, and where those of our example put its CA.
const ADDRESS_IN_CLUSTER: &str = "https://strongroom.strongroom.svc:7420";
const CA_IN_CLUSTER: &str = "/etc/strongroom/ca/ca.crt";

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
    /// Whether sessions are renewed in the background.
    renews: bool,
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

    /// Begins to build a client from the environment, which is read nowhere else. Empty variables are none.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `STRONGROOM_ADDR` | the server's address; in a pod of a cluster `https://strongroom.strongroom.svc:7420` unless set |
    /// | `STRONGROOM_CACERT` | a file with the CA of the server, or `system` for [those that the system trusts](Builder::system_roots); in a pod `/etc/strongroom/ca/ca.crt` unless set |
    /// | `STRONGROOM_SERVER_NAME` | the name in its certificate |
    /// | `STRONGROOM_TOKEN`, `STRONGROOM_TOKEN_FILE` | a session token, or the file that has one; in a pod, without either, the pod [logs in](Builder::kubernetes) |
    /// | `STRONGROOM_CLUSTER` | the server's name for the pod's cluster; `main` unless set |
    /// | `HTTPS_PROXY`, `NO_PROXY` | a [proxy](Builder::proxy), and the hosts that are reached without it: names with all below them, addresses, or `*` |
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) without an address, or for a token file that cannot be read.
    pub fn from_env() -> Result<Builder, Error> {
        Builder::of(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
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
    /// background until its last clone is dropped, unless this client was [built](Builder::renew_in_background) not to. The
    /// pod's token is not kept, so nobody logs in again when the session has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`](crate::ErrorKind::Unauthenticated) for a token that the cluster does not vouch for;
    /// the token must be projected for the server's audience, and its pod must still exist.
    pub async fn log_in_as_pod(&self, cluster: &str, token: SecretBytes) -> Result<Client, Error> {
        let keeper = Keeper::new(self.inner.keeper.transport().clone(), None, None);
        let login = credentials::kubernetes(cluster, &token);
        let ends_at = Some(keeper.log_in_as(login, self.terms).await?.session.max_expires_at);
        Ok(Self { terms: self.terms, ..Self::keeping(keeper, self.inner.renews, ends_at) })
    }

    /// Returns when a session of [`log_in_as_pod`](Self::log_in_as_pod) ends for good, even if it is renewed. After that,
    /// another login is needed.
    pub fn session_ends_at(&self) -> Option<Timestamp> {
        self.inner.ends_at
    }

    /// Returns what the server said of the session in use, without asking it again; `None` without a session, and for a token
    /// from elsewhere that nobody has asked about yet.
    pub fn known_session(&self) -> Option<Session> {
        match &*self.inner.keeper.known().borrow() {
            Known::Session(session) => Some((**session).clone()),
            Known::Token | Known::Nothing => None,
        }
    }

    fn keeping(keeper: Keeper, renews: bool, ends_at: Option<Timestamp>) -> Self {
        let terms = keeper.transport().terms();
        let keeper = Arc::new(keeper);
        let renewal = renews.then(|| Renewal::start(Arc::clone(&keeper)));
        Self { inner: Arc::new(Inner { keeper, _renewal: renewal, renews, ends_at }), terms }
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
        Self::keeping(keeper, false, None)
    }

    /// The same session, renewed in the background from now on.
    pub(crate) fn renewed_from(self, session: crate::session::Session) -> (Self, tokio::task::AbortHandle) {
        let keeper = Arc::clone(&self.inner.keeper);
        keeper.knows(Known::Session(Box::new(session)));
        let renewal = Renewal::start(Arc::clone(&keeper));
        let task = renewal.task();
        let inner = Arc::new(Inner { keeper, _renewal: Some(renewal), renews: true, ends_at: None });
        (Self { inner, terms: self.terms }, task)
    }

    pub(crate) fn stop_renewal(&self) {
        if let Some(renewal) = &self.inner._renewal {
            renewal.task().abort();
        }
    }
}

impl Builder {
    fn of(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let in_pod = variable("KUBERNETES_SERVICE_HOST").is_some();
        let unless_set =
            |name: &str, in_cluster: &str| variable(name).or_else(|| in_pod.then(|| in_cluster.to_owned()));
        let address = unless_set("STRONGROOM_ADDR", ADDRESS_IN_CLUSTER).ok_or_else(|| {
            Error::config("STRONGROOM_ADDR is not set: it is the server's https://host:port")
        })?;
        let proxy = variable("HTTPS_PROXY").or_else(|| variable("https_proxy"));
        let without = variable("NO_PROXY").or_else(|| variable("no_proxy")).unwrap_or_default();
        let proxy = proxy.filter(|_| !is_without_proxy(&address, &without));
        let mut builder = Client::builder(address);
        builder.server.proxy = proxy;
        builder.server.name = variable("STRONGROOM_SERVER_NAME");
        match unless_set("STRONGROOM_CACERT", CA_IN_CLUSTER) {
            Some(whose) if whose == "system" => builder = builder.system_roots(),
            Some(file) => builder = builder.ca_file(file),
            None => {}
        }
        match (variable("STRONGROOM_TOKEN"), variable("STRONGROOM_TOKEN_FILE")) {
            (Some(token), _) => Ok(builder.token(SecretBytes::from(token))),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(&file);
                let text = text.map_err(|error| Error::config(format!("cannot read {file}: {error}")))?;
                Ok(builder.token(SecretBytes::from(text.trim())))
            }
            (None, None) if in_pod => {
                Ok(builder.kubernetes(variable("STRONGROOM_CLUSTER").unwrap_or_else(|| "main".to_owned())))
            }
            (None, None) => Ok(builder),
        }
    }

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
    /// another. So an application hears from its watch, within a minute, that a server has gone silent; calls end
    /// at their own deadline.
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
        Ok(Client::keeping(keeper, self.renew, None))
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
        Ok(Client::keeping(Keeper::new(transport, token, credentials), self.renew, None))
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

/// Whether `NO_PROXY` names the host of this address: itself, a domain that it is in, or all.
fn is_without_proxy(address: &str, without: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let place = rest.split('/').next().unwrap_or_default();
    let host = match place.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => place.rsplit_once(':').map_or(place, |(host, _)| host),
    };
    without.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.trim_start_matches('.');
        let below = || host.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.'));
        entry == "*" || host == entry || below()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn of(variables: &[(&str, &str)]) -> Result<Builder, Error> {
        let get =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Builder::of(&get)
    }

    #[test]
    fn the_environment_says_where_and_as_whom() {
        assert_eq!(of(&[]).err().unwrap().kind(), &ErrorKind::Config);
        let pod = of(&[("KUBERNETES_SERVICE_HOST", "10.0.0.1")]).unwrap();
        assert_eq!(pod.server.addresses, [ADDRESS_IN_CLUSTER]);
        assert!(
            matches!(&pod.credentials, Some(Credentials::Kubernetes { cluster, .. }) if cluster == "main")
        );
        let person = [("STRONGROOM_ADDR", "https://store.example:7420"), ("STRONGROOM_TOKEN", "sr1_x")];
        let person = of(&person).unwrap();
        assert!(person.token.is_some() && person.credentials.is_none() && person.server.proxy.is_none());
        let missing = [("STRONGROOM_ADDR", "https://a:1"), ("STRONGROOM_TOKEN_FILE", "/nowhere/token")];
        assert!(of(&missing).err().unwrap().to_string().contains("/nowhere/token"));
    }

    #[test]
    fn a_proxy_counts_unless_the_host_is_excepted() {
        let proxy = |without: &str| {
            let variables = [
                ("STRONGROOM_ADDR", "https://store.example.org:7420"),
                ("https_proxy", "http://p:3128"),
                ("NO_PROXY", without),
            ];
            of(&variables).unwrap().server.proxy
        };
        for without in ["", "example.com", "xample.org", "10.0.0.0", "elsewhere, ,e.example.org"] {
            assert_eq!(proxy(without).as_deref(), Some("http://p:3128"), "{without}");
        }
        for without in ["*", "example.org", ".example.org", "a,store.example.org", "org"] {
            assert_eq!(proxy(without), None, "{without}");
        }
        assert!(is_without_proxy("https://[fd00::1]:7420", "fd00::1"));
    }

    #[tokio::test]
    async fn a_ca_is_needed() {
        let no_ca = Client::builder("https://127.0.0.1:1").connect().await.err().unwrap();
        assert_eq!(no_ca.kind(), &ErrorKind::Config);
        let no_pem = Client::builder("https://127.0.0.1:1").ca_pem("garbage").connect().await.err().unwrap();
        assert!(no_pem.to_string().contains("PEM"));
    }
}

//! A server that is to be reached: its addresses, how it is verified, and how often a quiet connection is asked whether it is
//! still there. There is no connection without TLS.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{
    dial::Dialer,
    names::Names,
    proxy::Proxy,
    tls::{Ca, Identity, Tls},
};
use crate::error::Error;

/// Where a server listens if its address does not say so.
const PORT: u16 = 443;
/// Names this library in the server's audit log.
const USER_AGENT: &str = concat!("strongroom-client/", env!("CARGO_PKG_VERSION"));

/// A server that is to be reached.
pub(crate) struct Server {
    /// `https://host:port`, of one store.
    pub(crate) addresses: Vec<String>,
    /// The name to expect in its certificate, if not the host of the address.
    pub(crate) name: Option<String>,
    pub(crate) ca: Ca,
    pub(crate) identity: Option<Identity>,
    /// `http://host:port`
    pub(crate) proxy: Option<String>,
    /// For name, TCP, TLS and HTTP/2 together.
    pub(crate) timeout: Duration,
    pub(crate) pings: Pings,
}

/// How a dead peer is noticed while nothing is said: after the sum of the two.
#[derive(Clone, Copy)]
pub(crate) struct Pings {
    pub(crate) every: Duration,
    pub(crate) patience: Duration,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What opens connections to one server.
#[derive(Clone)]
pub(crate) struct Line {
    endpoint: Endpoint,
    dialer: Arc<Dialer>,
}

impl Server {
    /// Checks all that can be checked without a connection.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config).
    pub(crate) async fn line(self) -> Result<Line, Error> {
        let mut servers = Vec::new();
        for address in &self.addresses {
            servers.push(place(address)?);
        }
        let first = servers.first().ok_or_else(|| Error::config("no address was given"))?;
        let endpoint = endpoint(first, self.pings)?;
        let wrong = |_: InvalidDnsNameError| Error::config("the server's name is not a valid host name");
        let name = self.name.map(ServerName::try_from).transpose().map_err(wrong)?;
        let tls = Tls::new(self.ca, self.identity);
        tls.config().await?;
        let dialer = Dialer {
            servers,
            proxy: self.proxy.as_deref().map(Proxy::parse).transpose()?,
            name,
            tls,
            names: Names::default(),
            timeout: self.timeout,
            first: Arc::new(AtomicUsize::new(0)),
        };
        Ok(Line { endpoint, dialer: Arc::new(dialer) })
    }
}

impl Line {
    /// A connection that stands. Later, it is opened again by itself when it breaks.
    ///
    /// # Errors
    /// [`ErrorKind::Connection`](crate::ErrorKind::Connection).
    pub(crate) async fn connect(&self) -> Result<Channel, Error> {
        let dialer = Arc::clone(&self.dialer);
        let connecting = self.endpoint.connect_with_connector(service_fn(move |_| dial(Arc::clone(&dialer))));
        connecting.await.map_err(Error::connection)
    }

    /// A connection that is opened by the first call.
    pub(crate) fn connect_lazily(&self) -> Channel {
        let dialer = Arc::clone(&self.dialer);
        self.endpoint.connect_with_connector_lazy(service_fn(move |_| dial(Arc::clone(&dialer))))
    }
}

async fn dial(dialer: Arc<Dialer>) -> std::io::Result<TokioIo<super::dial::Connection>> {
    dialer.connect().await.map(TokioIo::new)
}

impl Place {
    /// From `host:port` or `host`.
    pub(crate) fn parse(text: &str, default: u16) -> Option<Self> {
        let authority: http::uri::Authority = text.parse().ok()?;
        let host = Some(authority.host()).filter(|host| !host.is_empty() && !text.contains('@'))?;
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if text == host => default,
            None => return None,
        };
        Some(Self { host: host.to_owned(), port })
    }

    /// The name that is to be in the certificate.
    pub(crate) fn name(&self) -> Result<ServerName<'static>, InvalidDnsNameError> {
        ServerName::try_from(self.host.trim_matches(['[', ']']).to_owned())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn place(address: &str) -> Result<Place, Error> {
    let wrong = |problem: &str| Error::config(format!("address {address:?} {problem}"));
    if address.starts_with("http://") {
        return Err(wrong(
            "is http://: only https:// is accepted, or secrets would cross the network in the clear",
        ));
    }
    let rest = address.strip_prefix("https://").ok_or_else(|| wrong("does not start with https://"))?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err(wrong("has something after the port"));
    }
    Place::parse(rest, PORT).ok_or_else(|| wrong("is not a valid address"))
}

/// TLS is the dialer's, so tonic sees a plain address; requests name the true one.
fn endpoint(server: &Place, pings: Pings) -> Result<Endpoint, Error> {
    let wrong = || Error::config(format!("address \"https://{server}\" cannot be used"));
    let origin = format!("https://{server}").parse().map_err(|_| wrong())?;
    Ok(Endpoint::from_shared(format!("http://{server}"))
        .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
        .map_err(|_| wrong())?
        .origin(origin)
        .http2_keep_alive_interval(pings.every)
        .keep_alive_timeout(pings.patience)
        .keep_alive_while_idle(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(address: &str) -> String {
        place(address).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn only_https_is_accepted() {
        assert!(problem("http://host:7420").contains("only https:// is accepted"));
        assert!(problem("host:7420").contains("does not start with https://"));
        assert!(problem("https://").contains("not a valid address"));
        assert!(problem("https://host:7420/v1").contains("after the port"));
        assert!(problem("https://host:").contains("not a valid address"));
        assert_eq!(problem("https://host:7420"), "");
        assert_eq!(place("https://host/").unwrap().to_string(), "host:443");
        assert_eq!(place("https://[::1]:7420").unwrap().to_string(), "[::1]:7420");
    }
}

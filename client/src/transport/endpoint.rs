//! The way to a server: where it is, by which CA it is known, and how a connection is kept alive. TLS or nothing.

use std::{path::PathBuf, time::Duration};

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::error::Error;

/// A dead peer is noticed after the sum of the two.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Names this library in the server's audit log.
const USER_AGENT: &str = concat!("strongroom-client/", env!("CARGO_PKG_VERSION"));

/// A server that is to be reached.
pub(crate) struct Server {
    pub(crate) address: String,
    /// The name to expect in its certificate, if not the host of the address.
    pub(crate) name: Option<String>,
    pub(crate) ca: Ca,
}

/// Who may have signed the server's certificate.
pub(crate) enum Ca {
    None,
    Pem(Vec<u8>),
    File(PathBuf),
}

impl Server {
    /// A connection that heals by itself once it has stood.
    pub(crate) async fn connect(self, timeout: Duration) -> Result<Channel, Error> {
        let endpoint = endpoint(&self.address)?;
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.ca.read().await?));
        if let Some(name) = self.name {
            tls = tls.domain_name(name);
        }
        let broken = |error: tonic::transport::Error| Error::connection(&self.address, &error);
        let endpoint = endpoint.tls_config(tls).map_err(broken)?;
        endpoint.connect_timeout(timeout).connect().await.map_err(broken)
    }
}

impl Ca {
    async fn read(self) -> Result<Vec<u8>, Error> {
        let pem = match self {
            Self::Pem(pem) => pem,
            Self::File(path) => tokio::fs::read(&path)
                .await
                .map_err(|error| Error::config(format!("CA file {}: {error}", path.display())))?,
            Self::None => return Err(Error::config("no CA certificate given to know the server by")),
        };
        if !pem.windows(BEGIN_CERTIFICATE.len()).any(|window| window == BEGIN_CERTIFICATE) {
            return Err(Error::config("the CA certificate is not in PEM"));
        }
        Ok(pem)
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

#[cfg(test)]
mod tests {
    use super::*;

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
}

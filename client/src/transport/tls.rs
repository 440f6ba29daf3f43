//! TLS: whom the client trusts, and the certificate that it shows where one is asked for. Files are read again for each
//! connection, because they are replaced while applications run. There is nothing older than TLS 1.3.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use strongroom_proto::SecretBytes;
use tokio::sync::OnceCell;

use crate::error::Error;

/// The protocol, and the only one: HTTP/2.
const ALPN: &[u8] = b"h2";

/// Who may have signed the server's certificate.
pub(crate) enum Ca {
    None,
    Pem(Vec<u8>),
    File(PathBuf),
    /// Whom the system trusts.
    System,
}

/// A certificate of the client's own.
pub(crate) enum Identity {
    Pem { certificate: Vec<u8>, key: SecretBytes },
    Files { certificate: PathBuf, key: PathBuf },
}

pub(crate) struct Tls {
    ca: Ca,
    identity: Option<Identity>,
    /// What does not come from files is put together once.
    fixed: OnceCell<Arc<ClientConfig>>,
}

impl Tls {
    pub(crate) fn new(ca: Ca, identity: Option<Identity>) -> Self {
        Self { ca, identity, fixed: OnceCell::new() }
    }

    /// How to speak TLS with the server now.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config): a file cannot be read, or is not what it should be.
    pub(crate) async fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        if matches!(self.ca, Ca::File(_)) || matches!(self.identity, Some(Identity::Files { .. })) {
            return self.read().await;
        }
        self.fixed.get_or_try_init(|| self.read()).await.cloned()
    }

    async fn read(&self) -> Result<Arc<ClientConfig>, Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::config(error.to_string()))?
            .with_root_certificates(self.ca.roots().await?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.read().await?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| Error::config(format!("the client's certificate: {error}")))?
            }
        };
        config.alpn_protocols.push(ALPN.to_vec());
        Ok(Arc::new(config))
    }
}

impl Ca {
    async fn roots(&self) -> Result<RootCertStore, Error> {
        let pem = match self {
            Self::Pem(pem) => pem.clone(),
            Self::File(path) => {
                tokio::fs::read(path).await.map_err(|error| unreadable("CA file", path, &error))?
            }
            Self::System => return system().await,
            Self::None => {
                return Err(Error::config(
                    "no CA certificate was given to verify the server with; give one, or ask for the system's",
                ));
            }
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("the CA certificate", &pem)? {
            roots.add(certificate).map_err(|error| Error::config(format!("the CA certificate: {error}")))?;
        }
        Ok(roots)
    }
}

impl Identity {
    async fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let what = "the client's certificate";
        let (chain, key) = match self {
            Self::Pem { certificate, key } => {
                (certificates(what, certificate)?, SecretBytes::from(key.expose()))
            }
            Self::Files { certificate, key } => {
                let chain = tokio::fs::read(certificate)
                    .await
                    .map_err(|error| unreadable("client certificate", certificate, &error))?;
                let key =
                    tokio::fs::read(key).await.map_err(|error| unreadable("client key", key, &error))?;
                (certificates(what, &chain)?, SecretBytes::new(key))
            }
        };
        let key = PrivateKeyDer::from_pem_slice(key.expose())
            .map_err(|_| Error::config("the client's key is not a private key in PEM"))?;
        Ok((chain, key))
    }
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Error::config(format!("{what} is not in PEM"))),
    }
}

/// Reading all that a system trusts takes a while, so it does not happen on a thread that others wait for.
async fn system() -> Result<RootCertStore, Error> {
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
        .await
        .map_err(|error| Error::config(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(Error::config("this system has no CA certificates, or they cannot be read"));
    }
    Ok(roots)
}

fn unreadable(what: &str, path: &std::path::Path, error: &io::Error) -> Error {
    Error::config(format!("{what} {}: {error}", path.display()))
}

//! TLS to others, whose certificates are always checked: the server is the client here. TLS 1.3 only.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    crypto::ring as rustls_ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// An encrypted stream to somebody who is who they say.
pub type Outbound<S> = TlsStream<S>;

/// Whose certificates are believed.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

/// Why they were not.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    #[error("{0} is neither a host name nor an address")]
    NotAName(String),
    #[error("its certificate is not from an authority that is trusted")]
    Issuer,
    #[error("its certificate is not for the name {0}")]
    Name(String),
    #[error("its certificate is not valid at this time")]
    Untimely,
    #[error("TLS failed: {0}")]
    Tls(rustls::Error),
    #[error("the connection broke during the TLS handshake: {0}")]
    Io(io::Error),
}

impl Trust {
    /// In the certificates in `pem`; none if there are none, or one of them is unusable.
    pub fn in_pem(pem: &str) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.ok()?).ok()?;
        }
        Self::of(roots)
    }

    /// In whom the system trusts; none if that is nobody.
    pub fn in_system() -> Option<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::of(roots)
    }

    fn of(roots: RootCertStore) -> Option<Self> {
        if roots.is_empty() {
            return None;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls_ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .ok()?;
        Some(Self(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
    }

    /// Shakes hands with `host`.
    ///
    /// # Errors
    /// It is not the host, or not reached.
    pub async fn connect<S>(&self, host: &str, stream: S) -> Result<Outbound<S>, Untrusted>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Untrusted::NotAName(host.to_owned()))?;
        TlsConnector::from(self.0.clone()).connect(name, stream).await.map_err(|error| untrusted(host, error))
    }
}

fn untrusted(host: &str, error: io::Error) -> Untrusted {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        None => Untrusted::Io(error),
        Some(rustls::Error::InvalidCertificate(problem)) => match problem {
            // An authority of the same name with another key is another authority.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Untrusted::Issuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Untrusted::Name(host.to_owned())
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Untrusted::Untimely,
            _ => Untrusted::Tls(rustls::Error::InvalidCertificate(problem.clone())),
        },
        Some(other) => Untrusted::Tls(other.clone()),
    }
}

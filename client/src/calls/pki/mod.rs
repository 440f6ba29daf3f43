//! Certificates: the engine pki. Its issuers are in `issuers.rs`, who may have what in `roles.rs`.

mod issuers;
mod roles;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use strongroom_proto::{SecretBytes, v1, v1::pki_client::PkiClient};

pub use self::{
    issuers::{Crl, NewPkiIssuer, PkiIssuer, RevokedCertificate},
    roles::{PkiRole, PutPkiRole},
};
use crate::{answer::timestamp, calls::lease::Lease, client::Client, error::Error, transport::Mode};

/// Calls to the engine pki; see [`Client::pki`].
#[derive(Clone, Copy)]
pub struct Pki<'a>(&'a Client);

/// A certificate that was made for the caller.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Certificate {
    /// The certificate, in PEM.
    pub certificate_pem: String,
    /// Those that it follows from, its issuer's first, in PEM. A server shows both.
    pub chain_pem: String,
    /// Its serial, in hex digits.
    pub serial: String,
    /// When it expires.
    pub not_after: Timestamp,
    /// The lease that it lives by, if its role says so.
    pub lease: Option<Lease>,
}

/// A certificate with the key that was made for it.
#[derive(Debug)]
#[non_exhaustive]
pub struct IssuedCertificate {
    /// The private key: PKCS #8 in PEM. The server does not keep it.
    pub key_pem: SecretBytes,
    /// The certificate.
    pub certificate: Certificate,
}

/// A certificate, asked for by [`Pki::issue`].
#[must_use = "nothing is issued before send()"]
pub struct IssueCertificate<'a> {
    client: &'a Client,
    message: v1::IssuePkiRequest,
}

impl Client {
    /// Calls to the engine pki, which issues and revokes certificates.
    pub fn pki(&self) -> Pki<'_> {
        Pki(self)
    }
}

impl<'a> Pki<'a> {
    /// Begins to ask for a key and a certificate of the role at `path`. Without names it gets those that the role says outright.
    pub fn issue(&self, path: impl Into<String>) -> IssueCertificate<'a> {
        let message = v1::IssuePkiRequest { path: path.into(), ..Default::default() };
        IssueCertificate { client: self.0, message }
    }

    /// Has a request (PKCS #10 in PEM) signed by the role at `path`, for `ttl` or for as long as the role says.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the request is not signed with its own key, or asks
    /// for a name that the role does not allow.
    pub async fn sign(&self, path: &str, csr_pem: &str, ttl: Option<Duration>) -> Result<Certificate, Error> {
        let ttl_seconds = ttl.unwrap_or_default().as_secs();
        let message = v1::SignPkiRequest { path: path.to_owned(), csr_pem: csr_pem.to_owned(), ttl_seconds };
        let (call, began) = (self.0.session(), Instant::now());
        // Repeated, it would be a second certificate.
        let answer = call
            .call(Mode::WRITE, message, |ch, rq| async move { PkiClient::new(ch).sign(rq).await })
            .await?;
        Ok(certificate(answer, began))
    }
}

impl IssueCertificate<'_> {
    /// A DNS name; may be repeated.
    pub fn dns(mut self, name: impl Into<String>) -> Self {
        self.message.dns.push(name.into());
        self
    }

    /// A URI, such as a SPIFFE ID; may be repeated.
    pub fn uri(mut self, uri: impl Into<String>) -> Self {
        self.message.uris.push(uri.into());
        self
    }

    /// An address; may be repeated.
    pub fn ip(mut self, ip: IpAddr) -> Self {
        self.message.ips.push(ip.to_string());
        self
    }

    /// How long it is good, at most as long as the role says.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.message.ttl_seconds = ttl.as_secs();
        self
    }

    /// Has both made.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the role does not allow a name, and
    /// [`ErrorKind::NotConfigured`](crate::ErrorKind::NotConfigured) if there is no issuer that can sign.
    pub async fn send(self) -> Result<IssuedCertificate, Error> {
        let (call, began) = (self.client.session(), Instant::now());
        let answer = call
            .call(Mode::WRITE, self.message, |ch, rq| async move { PkiClient::new(ch).issue(rq).await })
            .await?;
        let signed = answer.signed.ok_or_else(|| Error::incomplete("signed"))?;
        let key_pem = answer.key_pem.map(SecretBytes::from).ok_or_else(|| Error::incomplete("key_pem"))?;
        Ok(IssuedCertificate { key_pem, certificate: certificate(signed, began) })
    }
}

fn certificate(answer: v1::PkiSigned, began: Instant) -> Certificate {
    Certificate {
        certificate_pem: answer.certificate_pem,
        chain_pem: answer.chain_pem,
        serial: answer.serial,
        not_after: timestamp(answer.not_after_ms),
        lease: answer.lease.map(|lease| Lease::from(lease).since(began)),
    }
}

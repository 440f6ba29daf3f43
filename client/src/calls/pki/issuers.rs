//! Issuers of certificates: how they are made and signed, and what they have revoked.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use strongroom_proto::{SecretBytes, v1, v1::pki_client::PkiClient};

use super::{Certificate, Pki, certificate};
use crate::{
    answer::{ResultStream, optional_timestamp, timestamp},
    calls::pages::paths,
    client::Client,
    error::Error,
    transport::Mode,
};

/// An authority whose key the server keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PkiIssuer {
    /// Its path.
    pub path: String,
    /// Its name.
    pub subject: String,
    /// What its key is: `ecdsa-p256`, for example.
    pub key: String,
    /// Its certificate and those that it follows from, in PEM; empty = it waits for one.
    pub chain_pem: String,
    /// A request for its key, for others to sign, in PEM; empty = it was imported.
    pub csr_pem: String,
    /// When it expires; none = it waits for its certificate.
    pub not_after: Option<Timestamp>,
    /// Whether roles that name no issuer use it.
    pub is_default: bool,
    /// Where its certificates say that its list of revoked ones is; empty = nowhere.
    pub crl_url: String,
}

/// A list of what an issuer has revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Crl {
    /// The list, in DER.
    pub der: Vec<u8>,
    /// Its number, which only grows.
    pub number: u64,
    /// When it was made.
    pub this_update: Timestamp,
    /// Until when it may be used.
    pub next_update: Timestamp,
}

/// A certificate that is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevokedCertificate {
    /// Its serial, in hex digits.
    pub serial: String,
    /// Since when.
    pub revoked_at: Timestamp,
}

/// An issuer, made by [`Pki::create_issuer`].
#[must_use = "nothing is made before send()"]
pub struct NewPkiIssuer<'a> {
    client: &'a Client,
    message: v1::CreatePkiIssuerRequest,
}

impl<'a> Pki<'a> {
    /// Begins an issuer with a key of its own, called `CN=Example Root,O=Example` or the like: a root, unless more is said.
    pub fn create_issuer(&self, path: impl Into<String>, subject: impl Into<String>) -> NewPkiIssuer<'a> {
        let message =
            v1::CreatePkiIssuerRequest { path: path.into(), subject: subject.into(), ..Default::default() };
        NewPkiIssuer { client: self.0, message }
    }

    /// Takes over an issuer from elsewhere: its key (PKCS #8 in PEM), and its certificate with those that it follows from.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if they do not belong together.
    pub async fn import_issuer(
        &self,
        path: &str,
        key_pem: SecretBytes,
        chain_pem: &str,
        crl_url: &str,
    ) -> Result<PkiIssuer, Error> {
        let message = v1::ImportPkiIssuerRequest {
            path: path.to_owned(),
            key_pem: Some(key_pem.into()),
            chain_pem: chain_pem.to_owned(),
            crl_url: crl_url.to_owned(),
        };
        let call = self.0.session();
        let answer = call
            .call(Mode::WRITE, message, |ch, rq| async move { PkiClient::new(ch).import_issuer(rq).await })
            .await?;
        Ok(issuer(answer))
    }

    /// Gives an issuer the certificates that others signed for its key, its own first.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if they are not for its key, or do not follow from
    /// each other.
    pub async fn set_signed(&self, path: &str, chain_pem: &str) -> Result<PkiIssuer, Error> {
        let message =
            v1::SetSignedPkiIssuerRequest { path: path.to_owned(), chain_pem: chain_pem.to_owned() };
        let call = self.0.session();
        let answer = call
            .call(Mode::WRITE, message, |ch, rq| async move { PkiClient::new(ch).set_signed(rq).await })
            .await?;
        Ok(issuer(answer))
    }

    /// An issuer, without its key.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none.
    pub async fn issuer(&self, path: &str) -> Result<PkiIssuer, Error> {
        let message = v1::GetPkiIssuerRequest { path: path.to_owned() };
        let call = self.0.session();
        let answer = call
            .call(Mode::READ, message, |ch, rq| async move { PkiClient::new(ch).get_issuer(rq).await })
            .await?;
        Ok(issuer(answer))
    }

    /// The paths of all issuers below a folder, or a mount, sorted. Pages are fetched as the stream is read.
    pub fn issuers(&self, folder: impl Into<String>) -> ResultStream<String> {
        paths(self.0, folder.into(), |client, path, page_token| async move {
            let message = v1::ListPkiIssuersRequest { path, page_token };
            let call = client.session();
            let answer = call
                .call(Mode::READ, message, |ch, rq| async move { PkiClient::new(ch).list_issuers(rq).await })
                .await?;
            Ok((answer.paths, answer.next_page_token))
        })
    }

    /// Roles that name no issuer use this one from now on.
    ///
    /// # Errors
    /// [`ErrorKind::NotConfigured`](crate::ErrorKind::NotConfigured) if it has no certificate yet.
    pub async fn set_default(&self, path: &str) -> Result<PkiIssuer, Error> {
        let message = v1::SetDefaultPkiIssuerRequest { path: path.to_owned() };
        let call = self.0.session();
        let answer = call
            .call(Mode::WRITE, message, |ch, rq| async move { PkiClient::new(ch).set_default(rq).await })
            .await?;
        Ok(issuer(answer))
    }

    /// Has another authority signed by the issuer at `path`: by its request, for `ttl` or five years. Below it may follow as
    /// many as `path_length` says.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the issuer may not have authorities below it.
    pub async fn sign_issuer(
        &self,
        path: &str,
        csr_pem: &str,
        ttl: Option<Duration>,
        path_length: Option<u32>,
    ) -> Result<Certificate, Error> {
        let message = v1::SignPkiIssuerRequest {
            path: path.to_owned(),
            csr_pem: csr_pem.to_owned(),
            ttl_seconds: ttl.unwrap_or_default().as_secs(),
            path_length,
        };
        let (call, began) = (self.0.session(), Instant::now());
        let answer = call
            .call(Mode::WRITE, message, |ch, rq| async move { PkiClient::new(ch).sign_issuer(rq).await })
            .await?;
        Ok(certificate(answer, began))
    }

    /// Revokes a certificate of the issuer at `path` by its serial, in hex digits. The reason is one of RFC 5280, section
    /// 5.3.1, such as `keyCompromise`; empty = unspecified. Twice is once.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if there can be no such serial or reason.
    pub async fn revoke(&self, path: &str, serial: &str, reason: &str) -> Result<RevokedCertificate, Error> {
        let (serial, reason) = (serial.to_owned(), reason.to_owned());
        self.revoked(v1::RevokePkiRequest { path: path.to_owned(), serial, reason, ..Default::default() })
            .await
    }

    /// The same of a certificate in PEM. The list forgets it when it has expired, and one that is known by its serial alone
    /// when the issuer has.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the issuer has not signed it.
    pub async fn revoke_certificate(
        &self,
        path: &str,
        certificate_pem: &str,
        reason: &str,
    ) -> Result<RevokedCertificate, Error> {
        let (certificate_pem, reason) = (certificate_pem.to_owned(), reason.to_owned());
        let path = path.to_owned();
        self.revoked(v1::RevokePkiRequest { path, certificate_pem, reason, ..Default::default() }).await
    }

    async fn revoked(&self, message: v1::RevokePkiRequest) -> Result<RevokedCertificate, Error> {
        let call = self.0.session();
        // Twice is once.
        let answer = call
            .call(Mode::READ, message, |ch, rq| async move { PkiClient::new(ch).revoke(rq).await })
            .await?;
        Ok(RevokedCertificate { serial: answer.serial, revoked_at: timestamp(answer.revoked_at_ms) })
    }

    /// The list of what the issuer at `path` has revoked; `delta`: only of what came since a full one of the last day.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such issuer.
    pub async fn crl(&self, path: &str, delta: bool) -> Result<Crl, Error> {
        let message = v1::GetPkiCrlRequest { path: path.to_owned(), delta };
        let call = self.0.session();
        let answer = call
            .call(Mode::READ, message, |ch, rq| async move { PkiClient::new(ch).get_crl(rq).await })
            .await?;
        Ok(Crl {
            der: answer.crl,
            number: answer.number,
            this_update: timestamp(answer.this_update_ms),
            next_update: timestamp(answer.next_update_ms),
        })
    }
}

impl NewPkiIssuer<'_> {
    /// What its key is: `ecdsa-p256`, unless it is `ecdsa-p384` or `ed25519`.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.message.key = key.into();
        self
    }

    /// How long a root is good; ten years, if nothing is said.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.message.ttl_seconds = ttl.as_secs();
        self
    }

    /// How many authorities may follow below a root; any number, if nothing is said.
    pub fn path_length(mut self, authorities: u32) -> Self {
        self.message.path_length = Some(authorities);
        self
    }

    /// It is signed by others: it has a request for them, and issues nothing before [`Pki::set_signed`].
    pub fn intermediate(mut self, intermediate: bool) -> Self {
        self.message.intermediate = intermediate;
        self
    }

    /// Where its certificates say that its list of revoked ones is.
    pub fn crl_url(mut self, url: impl Into<String>) -> Self {
        self.message.crl_url = url.into();
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) if there is something at the path already.
    pub async fn send(self) -> Result<PkiIssuer, Error> {
        let call = self.client.session();
        let answer =
            call.call(Mode::WRITE, self.message, |ch, rq| async move {
                PkiClient::new(ch).create_issuer(rq).await
            })
            .await?;
        Ok(issuer(answer))
    }
}

fn issuer(answer: v1::PkiIssuer) -> PkiIssuer {
    PkiIssuer {
        path: answer.path,
        subject: answer.subject,
        key: answer.key,
        chain_pem: answer.chain_pem,
        csr_pem: answer.csr_pem,
        not_after: optional_timestamp(answer.not_after_ms),
        is_default: answer.is_default,
        crl_url: answer.crl_url,
    }
}

//! How a certificate is issued: first all is chosen that is to be chosen, so that a lease can know of it; then it is signed.

use std::{str::FromStr, sync::Arc, time::Duration};

use data_encoding::HEXLOWER;
use prost::Message;
use x509_cert::name::Name;

use super::{
    Pki,
    authority::{self, Authority},
    certificate::{self, Purpose, Wanted},
    der,
    error::Error,
    names::Names,
    request::Request,
    role::Role,
};
use crate::{
    crypto::{CertifyingKey, CryptoError, KeyKind},
    engines::Terms,
    model::{Path, Principal, SecretBytes, Timestamp},
};

/// Longest common name (RFC 5280, appendix A.1: ub-common-name).
const COMMON_NAME: usize = 64;

/// What is asked for.
pub(super) enum Asked {
    /// A key as well.
    Key(Names),
    /// For a key that somebody else has.
    Request(Box<Request>),
}

/// A certificate that is about to be made.
pub(super) struct Planned {
    issuer: Arc<Authority>,
    serial: [u8; 20],
    names: Names,
    kind: KeyKind,
    /// Of the request; none: the key is to be made.
    public: Option<Vec<u8>>,
    server: bool,
    client: bool,
    now: Timestamp,
    until: Timestamp,
    pub(super) lease: bool,
}

/// One that was made.
pub(super) struct Issued {
    /// PKCS #8 in PEM, if it was made here.
    pub(super) key_pem: Option<SecretBytes>,
    pub(super) signed: Signed,
}

pub(super) struct Signed {
    pub(super) certificate_pem: String,
    pub(super) chain_pem: String,
    pub(super) serial: String,
    pub(super) not_after: Timestamp,
}

/// All that it takes to revoke one.
#[derive(Message)]
pub(super) struct Leased {
    #[prost(string, tag = "1")]
    pub(super) issuer: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) serial: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(super) not_after_ms: i64,
}

impl Signed {
    pub(super) fn new(der: &[u8], serial: &[u8], not_after: Timestamp, issuer: &Authority) -> Self {
        Self {
            certificate_pem: der::pem("CERTIFICATE", der),
            chain_pem: issuer.chain_pem.clone(),
            serial: HEXLOWER.encode(serial),
            not_after,
        }
    }

    /// For the audit log.
    pub(super) fn told(&self) -> String {
        certificate_of(&self.serial)
    }
}

/// How the log calls a certificate: what is revoked is found by it.
fn certificate_of(serial: &str) -> String {
    format!("certificate {serial}")
}

impl Pki {
    /// Chooses all there is to choose, and refuses what the role does not allow. Nothing is made yet.
    pub(super) async fn plan(
        &self,
        path: &Path,
        asked: Asked,
        ttl: u64,
        who: &Principal,
        now: Timestamp,
    ) -> Result<Planned, Error> {
        let (role, _) = self.records.get::<Role>(path).await?;
        let ttl = role.ttl_of(ttl)?;
        let (wanted, kind, public) = match asked {
            Asked::Key(names) => (names, role.makes()?, None),
            Asked::Request(request) => {
                role.check_key(request.kind)?;
                (request.leaf_names()?, request.kind, Some(request.public))
            }
        };
        let names = role.names_of(wanted, who)?;
        let issuer = self.usable(&self.issuer_of(&role, path).await?, now).await?;
        let until = authority::until(now, ttl, Some(&issuer));
        let serial = certificate::serial(&*self.entropy)?;
        let (server, client, lease) = (role.server, role.client, role.lease);
        Ok(Planned { issuer, serial, names, kind, public, server, client, now, until, lease })
    }

    async fn issuer_of(&self, role: &Role, path: &Path) -> Result<Path, Error> {
        if !role.issuer.is_empty() {
            return Ok(Path::parse_field("issuer", &role.issuer)?);
        }
        let name = self.records.default_issuer().await?.ok_or(Error::NoIssuer)?;
        Ok(Path::parse_field("issuer", &format!("{}/{name}", path.mount()))?)
    }

    /// Makes it, and the key if there is none.
    pub(super) fn make(&self, planned: Planned) -> Result<Issued, Error> {
        let (key_pem, public) = match planned.public {
            Some(public) => (None, public),
            None => {
                let pkcs8 = planned.kind.generate(&*self.entropy)?;
                let public = CertifyingKey::from_pkcs8(pkcs8.expose())?.public();
                (Some(authority::key_pem(&pkcs8)), public)
            }
        };
        let (names, issuer) = (&planned.names, &planned.issuer);
        let wanted = Wanted {
            serial: planned.serial,
            issuer: &issuer.subject,
            issuer_key_id: Some(&issuer.key_id),
            subject: &subject(names)?,
            kind: planned.kind,
            public: &public,
            from: authority::from(planned.now),
            until: planned.until,
            purpose: Purpose::Leaf { names, server: planned.server, client: planned.client },
            crl_url: &issuer.crl_url,
        };
        let der = wanted.signed(&issuer.key)?;
        Ok(Issued { key_pem, signed: Signed::new(&der, &planned.serial, planned.until, issuer) })
    }
}

impl Planned {
    /// It ends when it expires: no renewal makes a certificate longer.
    pub(super) fn terms(&self) -> Terms {
        let ttl: Duration = self.until.since(self.now);
        let leased = Leased {
            issuer: self.issuer.id.clone(),
            serial: self.serial.to_vec(),
            not_after_ms: self.until.as_millis(),
        };
        let what = certificate_of(&HEXLOWER.encode(&self.serial));
        Terms { ttl, max: ttl, data: SecretBytes::from(leased.encode_to_vec()), what: what.into() }
    }
}

/// The first DNS name, for people; who verifies looks at the names.
fn subject(names: &Names) -> Result<Name, Error> {
    match names.dns.first().filter(|name| name.len() <= COMMON_NAME) {
        Some(name) => Ok(Name::from_str(&format!("CN={name}")).map_err(|_| CryptoError)?),
        None => Ok(Name::default()),
    }
}

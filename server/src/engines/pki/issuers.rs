//! Issuers: how one is made, comes from elsewhere, is signed, signs others, and is the default one.

use std::{str::FromStr, sync::Arc, time::Duration};

use data_encoding::HEXLOWER;
use x509_cert::name::Name;

use super::{
    Pki,
    authority::{self, Authority},
    certificate::{self, Purpose, Wanted},
    error::Error,
    issue::Signed,
    names::Names,
    records::Issuer,
    request::{self, Request},
    role::Role,
};
use crate::{
    crypto::{CertifyingKey, KeyKind},
    model::{Invalid, Path, RequestId, SecretBytes, Timestamp},
};

const DAY: u64 = 24 * 3600;
/// How long a root is good, if nobody says.
const ROOT: u64 = 3652 * DAY;
/// How long one is good that a root signs.
const INTERMEDIATE: u64 = 1826 * DAY;
/// The longest: forty years.
const LONGEST: u64 = 14_610 * DAY;
const URL_BYTES: usize = 1024;

/// What a new issuer is.
pub(super) struct NewIssuer {
    pub(super) subject: Name,
    pub(super) kind: KeyKind,
    pub(super) ttl: Duration,
    pub(super) path_length: Option<u8>,
    pub(super) intermediate: bool,
    pub(super) crl_url: String,
}

/// What is told of one.
pub(super) struct Described {
    pub(super) path: Path,
    pub(super) issuer: Issuer,
    pub(super) is_default: bool,
}

pub(super) fn subject(text: &str) -> Result<Name, Invalid> {
    let name = Name::from_str(text).ok().filter(|name| !name.is_empty());
    name.ok_or_else(|| {
        Invalid::new("subject", format!("is {text:?}; expected a name such as CN=Example Root,O=Example"))
    })
}

pub(super) fn ttl(seconds: u64, root: bool) -> Result<Duration, Invalid> {
    match seconds {
        0 => Ok(Duration::from_secs(if root { ROOT } else { INTERMEDIATE })),
        seconds if (3600..=LONGEST).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        seconds => Err(Invalid::new("ttl_seconds", format!("is {seconds}; expected 3600 to {LONGEST}"))),
    }
}

pub(super) fn path_length(length: Option<u32>) -> Result<Option<u8>, Invalid> {
    let narrow = |length: u32| u8::try_from(length).ok().filter(|length| *length < 0x80);
    let wrong = |length| Invalid::new("path_length", format!("is {length}; expected at most 127"));
    length.map(|length| narrow(length).ok_or_else(|| wrong(length))).transpose()
}

pub(super) fn crl_url(url: String) -> Result<String, Invalid> {
    let good = url.starts_with("http://") || url.starts_with("https://");
    let plain = url.len() <= URL_BYTES && url.chars().all(|c| c.is_ascii_graphic());
    match url.is_empty() || good && plain {
        true => Ok(url),
        false => Err(Invalid::new("crl_url", format!("is {url:?}; expected http://..."))),
    }
}

impl Pki {
    pub(super) async fn create(
        &self,
        path: Path,
        new: NewIssuer,
        by: RequestId,
        now: Timestamp,
    ) -> Result<Described, Error> {
        let pkcs8 = new.kind.generate(&*self.entropy)?;
        let key = CertifyingKey::from_pkcs8(pkcs8.expose())?;
        let csr = request::make(&key, &new.subject, &Names::default())?;
        let mut issuer = self.new_issuer(&pkcs8, new.crl_url)?;
        issuer.subject = new.subject.to_string();
        issuer.csr = csr;
        if !new.intermediate {
            let wanted = Wanted {
                serial: certificate::serial(&*self.entropy)?,
                issuer: &new.subject,
                issuer_key_id: None,
                subject: &new.subject,
                kind: new.kind,
                public: &key.public(),
                from: authority::from(now),
                until: authority::until(now, new.ttl, None),
                purpose: Purpose::Authority { path_length: new.path_length },
                crl_url: "",
            };
            issuer.chain = vec![wanted.signed(&key)?];
        }
        self.keep_new(path, issuer, by).await
    }

    pub(super) async fn import(
        &self,
        path: Path,
        key_pem: &SecretBytes,
        chain_pem: &str,
        crl_url: String,
        (by, now): (RequestId, Timestamp),
    ) -> Result<Described, Error> {
        let pkcs8 = authority::key_of(key_pem)?;
        let wrong = |_| {
            Invalid::new(
                "key_pem",
                "is of no kind that can be used; expected ecdsa-p256, ecdsa-p384, ed25519 or rsa of 2048 bits and more",
            )
        };
        let key = CertifyingKey::from_pkcs8(pkcs8.expose()).map_err(wrong)?;
        let mut issuer = self.new_issuer(&pkcs8, crl_url)?;
        issuer.chain = authority::chain(&key, chain_pem, now)?;
        issuer.subject = authority::described(&issuer.chain).map(|(subject, _)| subject).unwrap_or_default();
        self.keep_new(path, issuer, by).await
    }

    fn new_issuer(&self, pkcs8: &SecretBytes, crl_url: String) -> Result<Issuer, Error> {
        let mut id = [0; 16];
        self.entropy.fill(&mut id)?;
        Ok(Issuer { id: HEXLOWER.encode(&id), key: Some(pkcs8.into()), crl_url, ..Issuer::default() })
    }

    async fn keep_new(&self, path: Path, issuer: Issuer, by: RequestId) -> Result<Described, Error> {
        if self.records.find::<Issuer>(&path).await?.is_some() {
            return Err(Error::Exists("an issuer"));
        }
        if self.records.find::<Role>(&path).await?.is_some() {
            return Err(Error::Exists("a role"));
        }
        self.keep(path, issuer, None, by).await
    }

    async fn keep(
        &self,
        path: Path,
        issuer: Issuer,
        was: Option<crate::storage::Revision>,
        by: RequestId,
    ) -> Result<Described, Error> {
        let default = self.records.default_issuer().await?;
        let becomes_default = default.is_none() && !issuer.chain.is_empty();
        self.records.put_with::<Issuer, Role>(&path, &issuer, was, becomes_default, by).await?;
        let is_default = becomes_default || default.as_deref() == Some(path.within_mount());
        Ok(Described { path, issuer, is_default })
    }

    /// Others signed its key, for the first time or again.
    pub(super) async fn set_signed(
        &self,
        path: Path,
        chain_pem: &str,
        by: RequestId,
        now: Timestamp,
    ) -> Result<Described, Error> {
        let (mut issuer, revision) = self.records.get::<Issuer>(&path).await?;
        let pkcs8 = issuer.key.as_ref().ok_or(Error::NotFound("key"))?;
        let key = CertifyingKey::from_pkcs8(&pkcs8.value)?;
        let chain = authority::chain(&key, chain_pem, now)?;
        // Lists and certificates of before name it so.
        let subject = authority::described(&chain).map(|(subject, _)| subject).unwrap_or_default();
        if subject != issuer.subject {
            let problem = format!("is for {subject}; expected {}", issuer.subject);
            return Err(Invalid::new("chain_pem", problem).into());
        }
        issuer.chain = chain;
        self.keep(path, issuer, Some(revision), by).await
    }

    pub(super) async fn describe(&self, path: Path) -> Result<Described, Error> {
        let (issuer, _) = self.records.get::<Issuer>(&path).await?;
        let is_default = self.records.default_issuer().await?.as_deref() == Some(path.within_mount());
        Ok(Described { path, issuer, is_default })
    }

    pub(super) async fn set_default(&self, path: Path, by: RequestId) -> Result<Described, Error> {
        self.authority(&path).await?;
        self.records.set_default(path.within_mount(), by).await?;
        self.describe(path).await
    }

    /// Signs another authority. It may let follow fewer than this one.
    pub(super) async fn sign_issuer(
        &self,
        path: &Path,
        request: &Request,
        ttl: Duration,
        path_length: Option<u8>,
        now: Timestamp,
    ) -> Result<Signed, Error> {
        let issuer = self.usable(path, now).await?;
        let most = match issuer.path_length {
            Some(0) => {
                let problem = format!("cannot be: {path} lets no authority follow below it");
                return Err(Invalid::new("path_length", problem).into());
            }
            most => most.map(|most| most - 1),
        };
        if request.subject.is_empty() {
            return Err(Invalid::new("csr_pem", "has no subject, which an authority must have").into());
        }
        let path_length = match (path_length, most) {
            (Some(asked), Some(most)) => Some(asked.min(most)),
            (asked, most) => asked.or(most),
        };
        let (serial, until) =
            (certificate::serial(&*self.entropy)?, authority::until(now, ttl, Some(&issuer)));
        let wanted = Wanted {
            serial,
            issuer: &issuer.subject,
            issuer_key_id: Some(&issuer.key_id),
            subject: &request.subject,
            kind: request.kind,
            public: &request.public,
            from: authority::from(now),
            until,
            purpose: Purpose::Authority { path_length },
            crl_url: &issuer.crl_url,
        };
        Ok(Signed::new(&wanted.signed(&issuer.key)?, &serial, until, &issuer))
    }

    /// An issuer that can sign.
    pub(super) async fn authority(&self, path: &Path) -> Result<Arc<Authority>, Error> {
        let (issuer, revision) = self.records.get::<Issuer>(path).await?;
        let known = self.authorities().get(path).filter(|(since, _)| *since == revision).cloned();
        if let Some((_, authority)) = known {
            return Ok(authority);
        }
        let made = Authority::of(&issuer)?.ok_or_else(|| Error::Unsigned(path.to_string()))?;
        let made = Arc::new(made);
        self.authorities().insert(path.clone(), (revision, Arc::clone(&made)));
        Ok(made)
    }

    /// One that has not expired.
    pub(super) async fn usable(&self, path: &Path, now: Timestamp) -> Result<Arc<Authority>, Error> {
        let authority = self.authority(path).await?;
        if authority.not_after <= now { Err(Error::Expired(path.to_string())) } else { Ok(authority) }
    }
}

//! An issuer that is ready to sign: its key, and what its certificate says of it.

use x509_cert::{
    Certificate,
    der::{Encode, oid::AssociatedOid},
    ext::pkix::{BasicConstraints, KeyUsage, SubjectKeyIdentifier},
    name::Name,
};
use zeroize::Zeroizing;

use super::{
    certificate::{self, key_id},
    der::{self, exactly},
    error::Error,
    records::{Issuer, Kept},
    role,
};
use crate::{
    barrier::BarrierError,
    crypto::{CertifyingKey, verify_certified},
    model::{Invalid, SecretBytes, Timestamp},
};

/// Most certificates of a chain, and bytes of all of them: they go into one record, and along with each that is issued.
const CHAIN: usize = 8;
const CHAIN_BYTES: usize = 24 << 10;
const PEM: &str = "CERTIFICATE";

/// See the module.
pub(super) struct Authority {
    pub(super) id: String,
    pub(super) key: CertifyingKey,
    pub(super) subject: Name,
    pub(super) key_id: Vec<u8>,
    pub(super) not_after: Timestamp,
    /// How many authorities may follow below it; none = any number.
    pub(super) path_length: Option<u8>,
    pub(super) crl_url: String,
    pub(super) chain_pem: String,
}

impl Authority {
    /// None if nobody has signed it yet.
    pub(super) fn of(issuer: &Issuer) -> Result<Option<Self>, Error> {
        let corrupt = || BarrierError::Corrupt { kind: Issuer::KIND, namespace: "pki".to_owned() };
        let Some(own) = issuer.chain.first() else { return Ok(None) };
        let read: Certificate = exactly(own).ok_or_else(corrupt)?;
        let key = issuer.key.as_ref().ok_or_else(corrupt)?;
        let key = CertifyingKey::from_pkcs8(&key.value).map_err(|_| corrupt())?;
        let tbs = read.tbs_certificate();
        let named = extension::<SubjectKeyIdentifier>(&read).map(|id| id.0.as_bytes().to_vec());
        Ok(Some(Self {
            id: issuer.id.clone(),
            subject: tbs.subject().clone(),
            key_id: named.unwrap_or_else(|| key_id(&key.public())),
            not_after: der::timestamp(&tbs.validity().not_after),
            path_length: extension::<BasicConstraints>(&read).and_then(|limits| limits.path_len_constraint),
            crl_url: issuer.crl_url.clone(),
            chain_pem: chain_pem(&issuer.chain),
            key,
        }))
    }

    /// The serial and the end of a certificate, if this authority signed it.
    pub(super) fn recognises(&self, pem: &str) -> Result<(Vec<u8>, Timestamp), Invalid> {
        let wrong = || Invalid::new("certificate_pem", "is no certificate of this issuer");
        let bytes = der::unpem("certificate_pem", PEM, pem)?;
        let read: Certificate = exactly(&bytes).ok_or_else(wrong)?;
        let key = (self.key.kind(), self.key.public());
        if *read.tbs_certificate().issuer() != self.subject || !is_signed(&read, key.0, &key.1) {
            return Err(wrong());
        }
        let tbs = read.tbs_certificate();
        Ok((tbs.serial_number().as_bytes().to_vec(), der::timestamp(&tbs.validity().not_after)))
    }
}

pub(super) fn chain_pem(chain: &[Vec<u8>]) -> String {
    chain.iter().map(|certificate| der::pem(PEM, certificate)).collect()
}

/// What the first certificate of a chain says: its subject, and when it ends.
pub(super) fn described(chain: &[Vec<u8>]) -> Option<(String, Timestamp)> {
    let read: Certificate = exactly(chain.first()?)?;
    let tbs = read.tbs_certificate();
    Some((tbs.subject().to_string(), der::timestamp(&tbs.validity().not_after)))
}

/// What its key is.
pub(super) fn key_name(issuer: &Issuer) -> &'static str {
    let key = issuer.key.as_ref().and_then(|key| CertifyingKey::from_pkcs8(&key.value).ok());
    key.map_or("", |key| role::key_name(key.kind()))
}

/// The certificates of an authority, in DER, if they are what they have to be: the first is for this key and may sign, each is
/// signed by the next, and none is over.
pub(super) fn chain(key: &CertifyingKey, pem: &str, now: Timestamp) -> Result<Vec<Vec<u8>>, Invalid> {
    let wrong = |problem: &str| Invalid::new("chain_pem", problem);
    let read = match pem.len() <= CHAIN_BYTES * 2 {
        true => Certificate::load_pem_chain(pem.trim().as_bytes()).unwrap_or_default(),
        false => return Err(wrong("is too long; expected at most 24 KiB of certificates")),
    };
    let first = read.first().ok_or_else(|| wrong("has no certificate in PEM that can be read"))?;
    let public = &first.tbs_certificate().subject_public_key_info();
    if der::key_kind(&public.algorithm) != Some(key.kind())
        || public.subject_public_key.as_bytes() != Some(&key.public())
    {
        return Err(wrong("begins with the certificate of another key"));
    }
    if read.len() > CHAIN {
        return Err(wrong("is too long; expected at most 8 certificates"));
    }
    for (n, certificate) in read.iter().enumerate() {
        let tbs = certificate.tbs_certificate();
        let may_sign = extension::<BasicConstraints>(certificate).is_some_and(|limits| limits.ca)
            && extension::<KeyUsage>(certificate).is_none_or(|usage| usage.key_cert_sign());
        if !may_sign {
            return Err(wrong("has a certificate that is none of an authority"));
        }
        if der::timestamp(&tbs.validity().not_after) <= now {
            return Err(wrong("has a certificate that has expired"));
        }
        if let Some(next) = read.get(n + 1) {
            let above = next.tbs_certificate();
            let public = above.subject_public_key_info();
            let kind = der::key_kind(&public.algorithm);
            let signed = kind.zip(public.subject_public_key.as_bytes());
            let signed = signed.is_some_and(|(kind, public)| is_signed(certificate, kind, public));
            if tbs.issuer() != above.subject() || !signed {
                return Err(wrong("has a certificate that is not signed by the one after it"));
            }
        }
    }
    let der: Result<Vec<_>, _> = read.iter().map(Encode::to_der).collect();
    let der = der.map_err(|_| wrong("has a certificate that cannot be read"))?;
    match der.iter().map(Vec::len).sum::<usize>() <= CHAIN_BYTES {
        true => Ok(der),
        false => Err(wrong("is too long; expected at most 24 KiB of certificates")),
    }
}

/// A private key in PEM, as PKCS #8 in DER.
pub(super) fn key_of(pem: &SecretBytes) -> Result<SecretBytes, Invalid> {
    let wrong = || Invalid::new("key_pem", "is no private key of PKCS #8 in PEM");
    let text = pem.expose().trim_ascii();
    let (label, der) = x509_cert::der::pem::decode_vec(text).map_err(|_| wrong())?;
    let der = SecretBytes::from(der);
    if label == "PRIVATE KEY" { Ok(der) } else { Err(wrong()) }
}

fn extension<T: AssociatedOid + for<'a> x509_cert::der::Decode<'a>>(certificate: &Certificate) -> Option<T> {
    certificate.tbs_certificate().get_extension::<T>().ok().flatten().map(|(_, value)| value)
}

fn is_signed(certificate: &Certificate, kind: crate::crypto::KeyKind, public: &[u8]) -> bool {
    let Some(hash) = der::hash_of(kind, certificate.signature_algorithm()) else { return false };
    let (tbs, signature) = (certificate.tbs_certificate().to_der(), certificate.signature().as_bytes());
    tbs.ok()
        .zip(signature)
        .is_some_and(|(tbs, signature)| verify_certified(kind, hash, public, &tbs, signature).is_ok())
}

/// A private key in PEM.
pub(super) fn key_pem(pkcs8: &SecretBytes) -> SecretBytes {
    SecretBytes::from(Zeroizing::new(der::pem("PRIVATE KEY", pkcs8.expose())).as_bytes())
}

/// When something ends that begins now: not after its issuer.
pub(super) fn until(now: Timestamp, ttl: std::time::Duration, issuer: Option<&Authority>) -> Timestamp {
    let until = now.plus(ttl);
    issuer.map_or(until, |issuer| until.min(issuer.not_after))
}

/// When it begins: see [`certificate::BACKDATED`].
pub(super) fn from(now: Timestamp) -> Timestamp {
    let back = i64::try_from(certificate::BACKDATED.as_millis()).unwrap_or(0);
    Timestamp::from_millis(now.as_millis().saturating_sub(back))
}

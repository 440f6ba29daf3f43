//! Requests for certificates (PKCS #10, RFC 2986): those of others, which may be hostile, and our own.

use x509_cert::{
    der::{Encode, oid::AssociatedOid},
    ext::pkix::SubjectAltName,
    name::Name,
    request::{CertReq, ExtensionReq},
};

use super::{
    der::{self, exactly, unpem},
    error::Error,
    names::Names,
};
use crate::{
    crypto::{CertifyingKey, KeyKind, verify_certified},
    model::Invalid,
};

/// Longest request: one with an RSA key of 8192 bits and a hundred names fits.
const BYTES: usize = 16 << 10;
const COMMON_NAME: &str = "2.5.4.3";

/// Somebody who has the key asks for this.
pub(super) struct Request {
    pub(super) subject: Name,
    pub(super) kind: KeyKind,
    /// As it stands in the bit string of a SubjectPublicKeyInfo.
    pub(super) public: Vec<u8>,
    pub(super) names: Names,
}

impl Request {
    /// Takes nothing on trust: it is signed with its own key, and what was signed is byte for byte what is read here.
    pub(super) fn parse(pem: &str) -> Result<Self, Invalid> {
        let wrong = |problem: &str| Invalid::new("csr_pem", problem);
        if pem.len() > BYTES {
            return Err(wrong("is too long; expected at most 16 KiB"));
        }
        let der = unpem("csr_pem", "CERTIFICATE REQUEST", pem)?;
        let read: CertReq = exactly(&der).ok_or_else(|| wrong("is no request of PKCS #10 in DER"))?;
        let key = &read.info.public_key;
        let kind = der::key_kind(&key.algorithm)
            .ok_or_else(|| wrong("has a key that is none of ecdsa-p256, ecdsa-p384, ed25519 and rsa"))?;
        let hash = der::hash_of(kind, &read.algorithm)
            .ok_or_else(|| wrong("is signed in a way that does not suit its key, or is too weak"))?;
        let (public, signature) = (key.subject_public_key.as_bytes(), read.signature.as_bytes());
        let signed = read.info.to_der().map_err(|_| wrong("is no request of PKCS #10 in DER"))?;
        let verified = public.zip(signature).is_some_and(|(public, signature)| {
            verify_certified(kind, hash, public, &signed, signature).is_ok()
        });
        if !verified {
            return Err(wrong("is not signed with its own key, or the key is weak"));
        }
        let public = public.unwrap_or_default().to_vec();
        let names = asked(&read).unwrap_or_else(|| Ok(Names::default()))?;
        Ok(Self { subject: read.info.subject, kind, public, names })
    }

    /// The names for a leaf: a common name counts as a DNS name, and the subject has nothing else.
    pub(super) fn leaf_names(&self) -> Result<Names, Invalid> {
        let mut names = self.names.clone();
        for attribute in self.subject.iter() {
            let text = std::str::from_utf8(attribute.value.value()).unwrap_or_default();
            if attribute.oid.to_string() != COMMON_NAME {
                let problem = "has more in its subject than a common name; expected that, or nothing";
                return Err(Invalid::new("csr_pem", problem));
            }
            if !names.dns.iter().any(|name| name == text) {
                let name = Names::parse(vec![text.to_owned()], Vec::new(), &[])?;
                names.dns.extend(name.dns);
            }
        }
        Ok(names)
    }
}

/// The names in the extensions that a request asks for. Its other wishes do not count: the role says what there is.
fn asked(read: &CertReq) -> Option<Result<Names, Invalid>> {
    let wrong = |problem: &str| Err(Invalid::new("csr_pem", problem));
    let mut wishes = read.info.attributes.iter().filter(|attribute| attribute.oid == ExtensionReq::OID);
    let wish = wishes.next()?;
    let mut values = wish.values.iter();
    let Some(value) = values.next().filter(|_| values.next().is_none() && wishes.next().is_none()) else {
        return Some(wrong("asks for extensions more than once"));
    };
    let Ok(extensions) = value.decode_as::<x509_cert::ext::Extensions>() else {
        return Some(wrong("asks for extensions that cannot be read"));
    };
    let mut names = extensions.iter().filter(|extension| extension.extn_id == SubjectAltName::OID);
    let first = names.next()?;
    match names.next() {
        Some(_) => Some(wrong("has its names more than once")),
        None => Some(Names::read(first.extn_value.as_bytes())),
    }
}

/// A request of our own, in DER.
pub(super) fn make(key: &CertifyingKey, subject: &Name, names: &Names) -> Result<Vec<u8>, Error> {
    let subject = subject.to_der().map_err(|_| Invalid::new("subject", "cannot be written in DER"))?;
    let attributes = if names.is_empty() {
        Vec::new()
    } else {
        let name = der::extension("2.5.29.17", subject.len() == 2, &names.to_der()?)?;
        let wish = der::tagged(0x31, &[&der::sequence(&[&name])]);
        der::sequence(&[&der::object("1.2.840.113549.1.9.14")?, &wish])
    };
    let public = der::public_key(key.kind(), &key.public());
    let info = der::sequence(&[&der::integer(&[0]), &subject, &public, &der::tagged(0xa0, &[&attributes])]);
    let signature = key.sign(&info)?;
    Ok(der::sequence(&[&info, der::signature_of(key.kind()), &der::bits(&signature)]))
}

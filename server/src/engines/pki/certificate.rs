//! A certificate as RFC 5280 wants it, from what it shall say to its bytes.

use std::time::Duration;

use x509_cert::{der::Encode, name::Name};

use super::{
    der::{self, extension, sequence, tagged},
    error::Error,
    names::Names,
};
use crate::{
    crypto::{CertifyingKey, CryptoError, Entropy, KeyKind, sha256},
    model::Timestamp,
};

/// A certificate is good from a little before it is made: clocks differ.
pub(super) const BACKDATED: Duration = Duration::from_secs(30);
/// As long as a serial may be (section 4.1.2.2).
const SERIAL: usize = 20;
/// 160 bits name a key (RFC 7093, section 2, method 1).
const KEY_ID: usize = 20;

/// What a certificate is for.
pub(super) enum Purpose<'a> {
    Authority { path_length: Option<u8> },
    Leaf { names: &'a Names, server: bool, client: bool },
}

/// What it shall say.
pub(super) struct Wanted<'a> {
    pub(super) serial: [u8; SERIAL],
    pub(super) issuer: &'a Name,
    /// None: its own.
    pub(super) issuer_key_id: Option<&'a [u8]>,
    pub(super) subject: &'a Name,
    pub(super) kind: KeyKind,
    pub(super) public: &'a [u8],
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) purpose: Purpose<'a>,
    pub(super) crl_url: &'a str,
}

/// Positive, 20 octets, 158 bits of which nobody can guess.
pub(super) fn serial(entropy: &dyn Entropy) -> Result<[u8; SERIAL], CryptoError> {
    let mut serial = [0; SERIAL];
    entropy.fill(&mut serial)?;
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(serial)
}

pub(super) fn key_id(public: &[u8]) -> Vec<u8> {
    sha256(public).iter().copied().take(KEY_ID).collect()
}

impl Wanted<'_> {
    /// Signed by its issuer's key, in DER.
    pub(super) fn signed(&self, key: &CertifyingKey) -> Result<Vec<u8>, Error> {
        let tbs = self.to_be_signed(der::signature_of(key.kind()))?;
        let signature = key.sign(&tbs)?;
        Ok(sequence(&[&tbs, der::signature_of(key.kind()), &der::bits(&signature)]))
    }

    fn to_be_signed(&self, algorithm: &[u8]) -> Result<Vec<u8>, Error> {
        let name = |name: &Name| name.to_der().map_err(|_| CryptoError);
        let validity = sequence(&[&der::time(self.from)?, &der::time(self.until)?]);
        Ok(sequence(&[
            &tagged(0xa0, &[&der::integer(&[2])]),
            &der::integer(&self.serial),
            algorithm,
            &name(self.issuer)?,
            &validity,
            &name(self.subject)?,
            &der::public_key(self.kind, self.public),
            &tagged(0xa3, &[&sequence(&[&self.extensions()?])]),
        ]))
    }

    fn extensions(&self) -> Result<Vec<u8>, Error> {
        let own = key_id(self.public);
        let issuer = self.issuer_key_id.unwrap_or(&own);
        let mut all = extension("2.5.29.14", false, &tagged(der::OCTETS, &[&own]))?;
        all.extend(authority_key_id(issuer)?);
        match &self.purpose {
            Purpose::Authority { path_length } => {
                let length = path_length.map(|length| der::integer(&[length])).unwrap_or_default();
                all.extend(extension("2.5.29.19", true, &sequence(&[&[0x01, 0x01, 0xff], &length]))?);
                // keyCertSign and cRLSign.
                all.extend(extension("2.5.29.15", true, &[0x03, 0x02, 0x01, 0x06])?);
            }
            Purpose::Leaf { names, server, client } => {
                all.extend(extension("2.5.29.19", true, &sequence(&[]))?);
                // digitalSignature; for RSA keyEncipherment too, which TLS 1.2 may want.
                let usage: &[u8] = match self.kind {
                    KeyKind::Rsa => &[0x03, 0x02, 0x05, 0xa0],
                    _ => &[0x03, 0x02, 0x07, 0x80],
                };
                all.extend(extension("2.5.29.15", true, usage)?);
                let mut uses = Vec::new();
                if *server {
                    uses.extend(der::object("1.3.6.1.5.5.7.3.1")?);
                }
                if *client {
                    uses.extend(der::object("1.3.6.1.5.5.7.3.2")?);
                }
                all.extend(extension("2.5.29.37", false, &sequence(&[&uses]))?);
                // Critical if the subject says nothing (section 4.2.1.6).
                all.extend(extension("2.5.29.17", self.subject.is_empty(), &names.to_der()?)?);
            }
        }
        if !self.crl_url.is_empty() {
            let url = tagged(0x86, &[self.crl_url.as_bytes()]);
            let point = sequence(&[&tagged(0xa0, &[&tagged(0xa0, &[&url])])]);
            all.extend(extension("2.5.29.31", false, &sequence(&[&point]))?);
        }
        Ok(all)
    }
}

/// By its key only.
pub(super) fn authority_key_id(id: &[u8]) -> Result<Vec<u8>, Error> {
    extension("2.5.29.35", false, &sequence(&[&tagged(0x80, &[id])]))
}

//! DER (X.690) by hand where it has to be byte for byte ours: what is signed. What others made is read by the types of
//! x509-cert.

use data_encoding::BASE64;
use x509_cert::{
    der::{DateTime, Decode, Encode, asn1::ObjectIdentifier},
    time::Time,
};
use zeroize::Zeroizing;

use super::error::Error;
use crate::{
    crypto::{CryptoError, Hash, KeyKind},
    model::{Invalid, Timestamp},
};

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const OCTETS: u8 = 0x04;
const BITS: u8 = 0x03;
const INTEGER: u8 = 0x02;
/// Characters on a line of PEM (RFC 7468, section 2).
const PEM_LINE: usize = 64;

/// AlgorithmIdentifiers of keys: RFC 5480, section 2.1.1; RFC 8410, section 3; RFC 3279, section 2.3.1.
const KEYS: [(KeyKind, &[u8]); 4] = [
    (
        KeyKind::EcdsaP256,
        b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
    ),
    (KeyKind::EcdsaP384, b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22"),
    (KeyKind::Ed25519, b"\x30\x05\x06\x03\x2b\x65\x70"),
    (KeyKind::Rsa, b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"),
];

/// AlgorithmIdentifiers of signatures: RFC 5758, section 3.2; RFC 8410; RFC 4055, section 5.
const SIGNATURES: [(Signed, Hash, &[u8]); 6] = [
    (Signed::Ecdsa, Hash::Sha256, b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"),
    (Signed::Ecdsa, Hash::Sha384, b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"),
    (Signed::Ed25519, Hash::Sha512, b"\x30\x05\x06\x03\x2b\x65\x70"),
    (Signed::Rsa, Hash::Sha256, b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00"),
    (Signed::Rsa, Hash::Sha384, b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00"),
    (Signed::Rsa, Hash::Sha512, b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d\x05\x00"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Signed {
    Ecdsa,
    Ed25519,
    Rsa,
}

impl Signed {
    fn by(kind: KeyKind) -> Self {
        match kind {
            KeyKind::EcdsaP256 | KeyKind::EcdsaP384 => Self::Ecdsa,
            KeyKind::Ed25519 => Self::Ed25519,
            KeyKind::Rsa => Self::Rsa,
        }
    }
}

/// Tag, length, content.
pub(super) fn tagged(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut made = Vec::with_capacity(length + 6);
    made.push(tag);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => made.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let significant = bytes.iter().skip_while(|byte| **byte == 0);
            let count = u8::try_from(significant.clone().count()).unwrap_or(u8::MAX);
            made.push(0x80 | count);
            made.extend(significant);
        }
    }
    parts.iter().for_each(|part| made.extend_from_slice(part));
    made
}

pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tagged(SEQUENCE, parts)
}

/// Whole bytes.
pub(super) fn bits(bytes: &[u8]) -> Vec<u8> {
    tagged(BITS, &[&[0], bytes])
}

/// One that is not negative, from its big-endian bytes.
pub(super) fn integer(bytes: &[u8]) -> Vec<u8> {
    let significant: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    match significant.first() {
        Some(first) if *first < 0x80 => tagged(INTEGER, &[&significant]),
        _ => tagged(INTEGER, &[&[0], &significant]),
    }
}

/// A SubjectPublicKeyInfo.
pub(super) fn public_key(kind: KeyKind, public: &[u8]) -> Vec<u8> {
    let algorithm = KEYS.iter().find(|(known, _)| *known == kind).map_or(&[][..], |(_, der)| der);
    sequence(&[algorithm, &bits(public)])
}

/// The kind of key that an AlgorithmIdentifier names.
pub(super) fn key_kind(algorithm: &impl Encode) -> Option<KeyKind> {
    let der = algorithm.to_der().ok()?;
    KEYS.iter().find(|(_, known)| *known == der).map(|(kind, _)| *kind)
}

/// How a key of that kind signs here.
pub(super) fn signature_of(kind: KeyKind) -> &'static [u8] {
    let hash = match kind {
        KeyKind::EcdsaP256 | KeyKind::Rsa => Hash::Sha256,
        KeyKind::EcdsaP384 => Hash::Sha384,
        KeyKind::Ed25519 => Hash::Sha512,
    };
    let found = SIGNATURES.iter().find(|(signed, with, _)| (*signed, *with) == (Signed::by(kind), hash));
    found.map_or(&[], |(_, _, der)| der)
}

/// The hash of a signature algorithm, if keys of that kind sign with it.
pub(super) fn hash_of(kind: KeyKind, algorithm: &impl Encode) -> Option<Hash> {
    let der = algorithm.to_der().ok()?;
    let found = SIGNATURES.iter().find(|(signed, _, known)| *signed == Signed::by(kind) && *known == der);
    found.map(|(_, hash, _)| *hash)
}

/// UTCTime through 2049 and GeneralizedTime from 2050 on (RFC 5280, section 4.1.2.5).
pub(super) fn time(at: Timestamp) -> Result<Vec<u8>, Error> {
    let seconds = u64::try_from(at.as_millis().div_euclid(1000)).ok();
    let date = seconds
        .and_then(|seconds| DateTime::from_unix_duration(std::time::Duration::from_secs(seconds)).ok());
    let der = date.and_then(|date| Time::from(date).to_der().ok());
    Ok(der.ok_or_else(|| Invalid::new("ttl_seconds", "leads out of the years that certificates know"))?)
}

pub(super) fn timestamp(time: &Time) -> Timestamp {
    let millis = time.to_unix_duration().as_millis();
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// One extension.
pub(super) fn extension(oid: &str, critical: bool, value: &[u8]) -> Result<Vec<u8>, Error> {
    let critical: &[u8] = if critical { &[0x01, 0x01, 0xff] } else { &[] };
    Ok(sequence(&[&object(oid)?, critical, &tagged(OCTETS, &[value])]))
}

pub(super) fn object(oid: &str) -> Result<Vec<u8>, Error> {
    let oid = ObjectIdentifier::new(oid).ok().and_then(|oid| oid.to_der().ok());
    Ok(oid.ok_or(CryptoError)?)
}

/// Text of RFC 7468. It may be a key: nothing of it stays behind.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = Zeroizing::new(BASE64.encode(der));
    let mut pem = String::with_capacity(text.len() + text.len() / PEM_LINE + 2 * label.len() + 64);
    pem.extend(["-----BEGIN ", label, "-----\n"]);
    for line in text.as_bytes().chunks(PEM_LINE) {
        pem.extend([std::str::from_utf8(line).unwrap_or_default(), "\n"]);
    }
    pem.extend(["-----END ", label, "-----\n"]);
    pem
}

/// Exactly one value of that label, and nothing else.
pub(super) fn unpem(field: &str, label: &str, text: &str) -> Result<Vec<u8>, Invalid> {
    let decoded = x509_cert::der::pem::decode_vec(text.trim().as_bytes()).ok();
    let found = decoded.filter(|(found, _)| *found == label).map(|(_, der)| der);
    found.ok_or_else(|| Invalid::new(field, format!("is not one {label} in PEM")))
}

/// Reads a value that has to be in DER to the last byte, so that what was signed is what was read.
pub(super) fn exactly<'a, T: Decode<'a> + Encode>(der: &'a [u8]) -> Option<T> {
    T::from_der(der).ok().filter(|read| read.to_der().is_ok_and(|again| again == der))
}

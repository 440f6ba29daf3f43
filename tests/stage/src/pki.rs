//! A throw-away certificate authority and a server certificate for the loopback address.

use std::{
    fs,
    io::{self, Write},
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Files of one throw-away PKI.
pub struct Pki {
    /// What clients trust.
    pub ca: PathBuf,
    /// What the server shows.
    pub certificate: PathBuf,
    /// Its key, 0600.
    pub key: PathBuf,
}

impl Pki {
    /// Makes a CA and a certificate for `localhost` and `127.0.0.1` in `directory`.
    ///
    /// # Errors
    /// A file cannot be written, or a key not made.
    pub fn create(directory: &Path) -> io::Result<Pki> {
        Self::valid(directory, 1975..4096)
    }

    /// The same, of a certificate that is good from the first day of one year to that of another.
    ///
    /// # Errors
    /// As [`Pki::create`].
    pub fn valid(directory: &Path, years: Range<i32>) -> io::Result<Pki> {
        let ca_key = KeyPair::generate().map_err(io::Error::other)?;
        let mut ca = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        ca.distinguished_name.push(DnType::CommonName, "Strongroom throw-away CA");
        let ca_certificate = ca.self_signed(&ca_key).map_err(io::Error::other)?;
        let issuer = Issuer::new(ca, ca_key);

        let key = KeyPair::generate().map_err(io::Error::other)?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut leaf = CertificateParams::new(names).map_err(io::Error::other)?;
        leaf.distinguished_name.push(DnType::CommonName, "strongroom-server");
        leaf.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        leaf.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        let certificate = leaf.signed_by(&key, &issuer).map_err(io::Error::other)?;

        let pki = Pki {
            ca: directory.join("ca.pem"),
            certificate: directory.join("server.pem"),
            key: directory.join("server.key"),
        };
        fs::write(&pki.ca, ca_certificate.pem())?;
        fs::write(&pki.certificate, certificate.pem())?;
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&pki.key)?
            .write_all(key.serialize_pem().as_bytes())?;
        Ok(pki)
    }
}

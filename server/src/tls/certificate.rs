//! The certificate that is served: read from its files, read again when they change, and never replaced by one that clients
//! would refuse. Knows no connections.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::{CryptoProvider, ring as rustls_ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{clock::Clock, limits, model::Timestamp, telemetry::Metrics};

/// A certificate with its key, and the files they come from.
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
    current: ArcSwap<Pair>,
    seen: Mutex<Seen>,
}

/// What is served.
struct Pair {
    key: Arc<CertifiedKey>,
    /// The first moment at which it is good and the last; unknown if it cannot be read.
    valid: Option<(Timestamp, Timestamp)>,
}

/// How the files looked when they were last read, good or bad.
struct Seen {
    files: Stamp,
    /// When what is in them becomes good, if that is all that is wrong with it.
    good_from: Option<Timestamp>,
}

/// Device, inode, size, seconds and nanoseconds of both files; a Kubernetes volume swaps a link and changes the inode.
type Stamp = [Option<(u64, u64, u64, i64, i64)>; 2];

/// Clients refuse it at this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untimely {
    #[error("expired at {0}")]
    Expired(Timestamp),
    #[error("is not valid before {0}; is the clock of this machine right?")]
    NotYet(Timestamp),
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {}", .0.display(), .1)]
    Read(PathBuf, io::Error),
    /// A file is not what it should be.
    #[error("{} holds no {what} in PEM form", .0.display(), what = .1)]
    Pem(PathBuf, &'static str),
    /// The key is that of another certificate of the chain.
    #[error(
        "{} holds its certificates in the wrong order: the key belongs to number {}, which must come first, before those \
         of its issuers", .0.display(), .1
    )]
    Order(PathBuf, usize),
    /// Certificate and key do not belong together, or the key is of an unknown kind.
    #[error("the certificate and its key cannot be used together: {0}")]
    Pair(rustls::Error),
    /// It is good, but not now.
    #[error("the certificate in {} {}", .0.display(), .1)]
    Untimely(PathBuf, Untimely),
    /// TLS 1.3 with the provider is not possible: a fault of ours.
    #[error("TLS cannot be configured: {0}")]
    Config(rustls::Error),
}

impl Certificate {
    /// Reads both files. One that is [`Certificate::untimely`] is served all the same: there is no better one.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(certificate: &Path, key: &Path, clock: Arc<dyn Clock>) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(rustls_ring::default_provider());
        // The stamp first: a change during the reading is then seen at the next check.
        let seen = Mutex::new(Seen { files: [stamp(certificate), stamp(key)], good_from: None });
        let current = ArcSwap::from_pointee(Pair::read(certificate, key, &provider)?);
        Ok(Arc::new(Self {
            certificate: certificate.into(),
            key: key.into(),
            provider,
            clock,
            current,
            seen,
        }))
    }

    /// The configuration of a listener whose wires speak these protocols (RFC 7301), the preferred one first; it always
    /// serves the certificate of the moment.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn server_config(self: &Arc<Self>, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Config)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Current(self.clone())));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// Reads the files again if they changed, and says whether there is a new pair. A broken pair leaves the old one, and
    /// so does one that clients would refuse, if they accept the old one.
    ///
    /// # Errors
    /// What is wrong with the new files; told once for each change.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let (now, files) = (self.clock.now(), [stamp(&self.certificate), stamp(&self.key)]);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.files == files && seen.good_from.is_none_or(|from| now < from) {
            return Ok(false);
        }
        *seen = Seen { files, good_from: None };
        let pair = Pair::read(&self.certificate, &self.key, &self.provider)?;
        let old = self.current.load();
        if let Some(untimely) = pair.untimely(now)
            && old.untimely(now).is_none()
        {
            if let Untimely::NotYet(from) = untimely {
                seen.good_from = Some(from);
            }
            return Err(TlsError::Untimely(self.certificate.clone(), untimely));
        }
        let changed = old.key.cert != pair.key.cert;
        self.current.store(Arc::new(pair));
        Ok(changed)
    }

    /// Why clients refuse the served certificate now, if they do.
    pub fn untimely(&self) -> Option<TlsError> {
        let untimely = self.current.load().untimely(self.clock.now())?;
        Some(TlsError::Untimely(self.certificate.clone(), untimely))
    }

    /// End of the served certificate, in seconds since the Unix epoch.
    pub fn expiry(&self) -> Option<i64> {
        self.current.load().valid.map(|(_, until)| until.as_millis() / 1000)
    }

    /// Looks at the files every ten seconds until `stop`, and at once, whether they changed or not, when `again` says so.
    pub async fn watch(self: Arc<Self>, metrics: Arc<Metrics>, again: Arc<Notify>, stop: CancellationToken) {
        loop {
            metrics.set_certificate_expiry(self.expiry().unwrap_or_default());
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(limits::CERTIFICATE_CHECK) => {}
                () = again.notified() => self.forget(),
            }
            let this = self.clone();
            match tokio::task::spawn_blocking(move || this.reload()).await {
                Ok(Ok(true)) => tracing::info!("a new certificate is served"),
                Ok(Ok(false)) => continue,
                Ok(Err(error)) => {
                    metrics.certificate_reload_failed();
                    tracing::error!(%error, "the new certificate cannot be used; the old one stays in use");
                }
                Err(error) => tracing::error!(%error, "the certificate check failed"),
            }
            if let Some(error) = self.untimely() {
                tracing::error!(%error, "clients refuse the certificate that is served");
            }
        }
    }

    /// As if the files had never been read.
    fn forget(&self) {
        let nothing = Seen { files: [None, None], good_from: Some(Timestamp::default()) };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = nothing;
    }
}

impl Pair {
    fn read(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let no_certificate = || TlsError::Pem(certificate.into(), "certificate");
        let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| no_certificate())?;
        let first = chain.first().ok_or_else(no_certificate)?;
        let valid = validity(first);
        let key = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|_| TlsError::Pem(key.into(), "private key"))?;
        let others: Vec<_> = chain.iter().skip(1).cloned().collect();
        let fits = |one, key| CertifiedKey::from_der(vec![one], key, provider).is_ok();
        match CertifiedKey::from_der(chain, key.clone_key(), provider) {
            Ok(pair) => Ok(Self { key: Arc::new(pair), valid }),
            Err(error @ rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                let own = others.into_iter().position(|one| fits(one, key.clone_key()));
                Err(own.map_or(TlsError::Pair(error), |n| TlsError::Order(certificate.into(), n + 2)))
            }
            Err(error) => Err(TlsError::Pair(error)),
        }
    }

    fn untimely(&self, now: Timestamp) -> Option<Untimely> {
        match self.valid? {
            (from, _) if now < from => Some(Untimely::NotYet(from)),
            (_, until) if now > until => Some(Untimely::Expired(until)),
            _ => None,
        }
    }
}

struct Current(Arc<Certificate>);

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Current(..)")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current.load().key))
    }
}

/// Whether a connection that we began ended because the other side's certificate was not accepted.
pub fn is_about_a_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    let refused = |error: &(dyn std::error::Error + 'static)| match error.downcast_ref::<rustls::Error>() {
        Some(error) => matches!(error, rustls::Error::InvalidCertificate(_)),
        None => false,
    };
    // An error of the system's kind hides what is in it from `source`.
    let hidden = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<io::Error>().and_then(io::Error::get_ref).is_some_and(|inner| refused(inner))
    };
    let mut next = Some(error);
    while let Some(error) = next {
        if refused(error) || hidden(error) {
            return true;
        }
        next = error.source();
    }
    false
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)
        .and_then(|file| file.take(limits::PEM_BYTES).read_to_end(&mut bytes))
        .map_err(|e| TlsError::Read(path.into(), e))?;
    Ok(bytes)
}

fn stamp(path: &Path) -> Option<(u64, u64, u64, i64, i64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

/// `tbsCertificate.validity` (RFC 5280, 4.1): six steps of DER do not need a parser crate.
fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, outer, _) = element(certificate)?;
    let (_, mut rest, _) = element(outer)?;
    if let (0xa0, _, after) = element(rest)? {
        rest = after; // version
    }
    for _ in ["serial number", "signature", "issuer"] {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest)?;
    let (from_tag, from, after) = element(validity)?;
    let (until_tag, until, _) = element(after)?;
    Some((time(from_tag, from)?, time(until_tag, until)?))
}

fn time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    // UTCTime has two digits of the year: 50 to 99 are of the last century.
    let full = match tag {
        0x17 => format!("{}{text}", if text < "50" { "20" } else { "19" }),
        0x18 => text.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", full).ok()?;
    Some(Timestamp::from_millis(jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?.as_millisecond()))
}

/// Tag, content and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((*tag, content, after))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    /// 2026-01-01.
    const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

    fn write(dir: &Path, name: &str, text: &str) {
        std::fs::write(dir.join("new"), text).unwrap();
        std::fs::rename(dir.join("new"), dir.join(name)).unwrap();
    }

    /// A pair that is good in these years, from their first day to that of the other.
    fn write_pair(dir: &Path, years: (i32, i32)) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![String::from("localhost")]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        write(dir, "tls.crt", &params.self_signed(&key).unwrap().pem());
        write(dir, "tls.key", &key.serialize_pem());
    }

    fn load(dir: &Path) -> (Result<Arc<Certificate>, TlsError>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(NOW));
        (Certificate::load(&dir.join("tls.crt"), &dir.join("tls.key"), clock.clone()), clock)
    }

    fn served(certificate: &Certificate) -> Vec<CertificateDer<'static>> {
        certificate.current.load().key.cert.clone()
    }

    #[test]
    fn a_changed_pair_is_served_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(load(dir.path()).0, Err(TlsError::Read(..))));
        write_pair(dir.path(), (2025, 2030));
        let certificate = load(dir.path()).0.unwrap();
        let first = served(&certificate);
        assert!(!certificate.reload().unwrap());

        write_pair(dir.path(), (2025, 2030));
        assert!(certificate.reload().unwrap());
        let second = served(&certificate);
        assert_ne!(first, second);

        std::fs::write(dir.path().join("tls.crt"), "no certificate").unwrap();
        assert!(matches!(certificate.reload(), Err(TlsError::Pem(..))));
        assert!(!certificate.reload().unwrap(), "told once");
        assert_eq!(served(&certificate), second, "the old one stays");
        certificate.forget();
        assert!(matches!(certificate.reload(), Err(TlsError::Pem(..))), "told again when asked again");
    }

    #[test]
    fn one_that_clients_refuse_never_replaces_a_good_one() {
        let dir = tempfile::tempdir().unwrap();
        write_pair(dir.path(), (2025, 2027));
        let (certificate, clock) = load(dir.path());
        let certificate = certificate.unwrap();
        let good = served(&certificate);
        assert!(certificate.untimely().is_none());

        write_pair(dir.path(), (2020, 2021));
        assert!(matches!(certificate.reload(), Err(TlsError::Untimely(_, Untimely::Expired(_)))));
        write_pair(dir.path(), (2026, 2028));
        assert!(certificate.reload().unwrap());
        let good_again = served(&certificate);
        assert_ne!(good, good_again);

        write_pair(dir.path(), (2027, 2030));
        assert!(matches!(certificate.reload(), Err(TlsError::Untimely(_, Untimely::NotYet(_)))));
        assert!(!certificate.reload().unwrap(), "told once");
        assert_eq!(served(&certificate), good_again);
        clock.advance(366 * DAY);
        assert!(certificate.reload().unwrap(), "its time has come, and nobody has to touch the file");
        assert!(certificate.untimely().is_none());
    }

    #[test]
    fn without_a_good_one_any_is_served_and_told() {
        let dir = tempfile::tempdir().unwrap();
        write_pair(dir.path(), (2020, 2021));
        let certificate = load(dir.path()).0.unwrap();
        let told = certificate.untimely().unwrap().to_string();
        assert!(told.ends_with("tls.crt expired at 2021-01-01T00:00:00.000Z"), "{told}");
        write_pair(dir.path(), (2020, 2022));
        assert!(certificate.reload().unwrap(), "no worse than what there was");
    }

    #[test]
    fn a_chain_in_the_wrong_order_is_called_that() {
        let dir = tempfile::tempdir().unwrap();
        let (own, issuer) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let pem = |key| rcgen::CertificateParams::default().self_signed(key).unwrap().pem();
        write(dir.path(), "tls.crt", &format!("{}{}", pem(&issuer), pem(&own)));
        write(dir.path(), "tls.key", &own.serialize_pem());
        let told = load(dir.path()).0.err().unwrap();
        assert!(matches!(told, TlsError::Order(_, 2)), "{told}");
        assert!(told.to_string().contains("wrong order: the key belongs to number 2"), "{told}");
        write(dir.path(), "tls.crt", &pem(&issuer));
        assert!(matches!(load(dir.path()).0, Err(TlsError::Pair(_))));
        write(dir.path(), "tls.crt", &format!("{}{}", pem(&own), pem(&issuer)));
        load(dir.path()).0.unwrap();
    }

    #[test]
    fn only_what_the_wires_speak_is_offered() {
        let dir = tempfile::tempdir().unwrap();
        write_pair(dir.path(), (2025, 2030));
        let config = load(dir.path()).0.unwrap().server_config(&[b"h2", b"http/1.1"]).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    #[test]
    fn the_time_of_a_certificate_is_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        for (year, seconds) in [(2031, 1_924_992_000), (2075, 3_313_526_400)] {
            let mut params = rcgen::CertificateParams::default();
            params.not_before = rcgen::date_time_ymd(2026, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let read = validity(params.self_signed(&key).unwrap().der());
            assert_eq!(read, Some((NOW, Timestamp::from_millis(seconds * 1000))));
        }
        assert_eq!(validity(b"\x30\x84\xff\xff\xff\xff"), None);
    }

    #[test]
    fn a_refused_certificate_is_told_from_a_silent_network() {
        let refused = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert!(is_about_a_certificate(&refused));
        assert!(is_about_a_certificate(&io::Error::new(io::ErrorKind::InvalidData, refused)));
        assert!(!is_about_a_certificate(&io::Error::from(io::ErrorKind::ConnectionRefused)));
    }
}

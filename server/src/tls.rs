//! TLS: the certificate that is served and reloaded, and the acceptor that hands out finished connections within the
//! limits. TLS 1.3 only; what is spoken over it is the business of the wires. It knows nothing of requests.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring as rustls_ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{
    limits,
    model::Source,
    telemetry::{Metrics, Refused},
    unsent::{Patience, Unsent},
};

/// A certificate with its key, and the files they come from.
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
    /// How the files looked when they were last read, good or bad.
    seen: Mutex<Stamp>,
}

/// An open, authenticated connection. Its place among the limits is free again when it is dropped.
pub struct TlsConnection {
    /// The encrypted stream.
    io: TlsStream<TcpStream>,
    pub peer: SocketAddr,
    silence: Silence,
    /// What its peer was sent and has not taken.
    pub unsent: Arc<Unsent>,
    patience: Patience,
    _place: ConnectionSlot,
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A file is not what it should be.
    #[error("{} holds no {what} in PEM form", .0.display(), what = .1)]
    Pem(PathBuf, &'static str),
    /// Certificate and key do not belong together, or the key is of an unknown kind.
    #[error("the certificate and its key cannot be used together")]
    Pair(#[source] rustls::Error),
    /// TLS 1.3 with the provider is not possible: a fault of ours.
    #[error("TLS cannot be configured")]
    Config(#[source] rustls::Error),
}

/// Device, inode, size, seconds and nanoseconds of both files; a Kubernetes volume swaps a link and changes the inode.
type Stamp = [Option<(u64, u64, u64, i64, i64)>; 2];

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(rustls_ring::default_provider());
        // The stamp first: a change during the reading is then seen at the next check.
        let seen = Mutex::new([stamp(certificate), stamp(key)]);
        let current = ArcSwap::from_pointee(read_pair(certificate, key, &provider)?);
        Ok(Arc::new(Self { certificate: certificate.into(), key: key.into(), provider, current, seen }))
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

    /// Reads the files again if they changed, and says whether there is a new pair. A broken pair leaves the old one.
    ///
    /// # Errors
    /// What is wrong with the new files; told once for each change.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let now = [stamp(&self.certificate), stamp(&self.key)];
        let before = std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), now);
        if before == now {
            return Ok(false);
        }
        self.current.store(Arc::new(read_pair(&self.certificate, &self.key, &self.provider)?));
        Ok(true)
    }

    /// End of the served certificate, in seconds since the Unix epoch.
    pub fn expiry(&self) -> Option<i64> {
        not_after(self.current.load().cert.first()?)
    }

    /// Looks at the files every ten seconds until `stop`.
    pub async fn watch(self: Arc<Self>, metrics: Arc<Metrics>, stop: CancellationToken) {
        loop {
            metrics.set_certificate_expiry(self.expiry().unwrap_or_default());
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(limits::CERTIFICATE_CHECK) => {}
            }
            let this = self.clone();
            match tokio::task::spawn_blocking(move || this.reload()).await {
                Ok(Ok(true)) => tracing::info!("a new certificate is served"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    metrics.certificate_reload_failed();
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "the new certificate cannot be used; the old one stays in use");
                }
                Err(error) => tracing::error!(%error, "the certificate check failed"),
            }
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
        Some(self.0.current.load_full())
    }
}

fn read_pair(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let no_certificate = || TlsError::Pem(certificate.into(), "certificate");
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| no_certificate())?;
    if chain.is_empty() {
        return Err(no_certificate());
    }
    let key =
        PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| TlsError::Pem(key.into(), "private key"))?;
    CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Pair)
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

/// `tbsCertificate.validity.notAfter` (RFC 5280, 4.1): six steps of DER do not need a parser crate.
fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, outer, _) = element(certificate)?;
    let (_, mut rest, _) = element(outer)?;
    if let (0xa0, _, after) = element(rest)? {
        rest = after; // version
    }
    for _ in ["serial number", "signature", "issuer"] {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest)?;
    let (tag, text, _) = element(element(validity)?.2)?;
    let text = std::str::from_utf8(text).ok()?;
    // UTCTime has two digits of the year: 50 to 99 are of the last century.
    let full = match tag {
        0x17 => format!("{}{text}", if text < "50" { "20" } else { "19" }),
        0x18 => text.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", full).ok()?;
    Some(jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?.as_second())
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

/// Accepts on `listener` until `stop`, and hands finished connections to the returned queue. A slow handshake holds up
/// nobody; a failed accept does not end the loop (RUSTSEC-2024-0376).
pub fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> mpsc::Receiver<TlsConnection> {
    let (sender, receiver) = mpsc::channel(limits::ACCEPT_QUEUE);
    let acceptor = TlsAcceptor::from(config);
    let places = Arc::new(ConnectionSlots { taken: Mutex::default(), metrics: metrics.clone() });
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let (tcp, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    metrics.connection_refused(Refused::Accept);
                    tracing::warn!(%error, "cannot accept a connection; retrying");
                    sleep(limits::ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match places.take(peer.ip()) {
                // Bounded by the places: each task owns one.
                Ok(place) => {
                    tokio::spawn(shake_hands(acceptor.clone(), tcp, peer, place, sender.clone()));
                }
                Err(why) => metrics.connection_refused(why),
            }
        }
    });
    receiver
}

async fn shake_hands(
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    peer: SocketAddr,
    place: ConnectionSlot,
    sender: mpsc::Sender<TlsConnection>,
) {
    // Small answers must not wait for more; without it they are only slower.
    let _ = tcp.set_nodelay(true);
    match timeout(limits::HANDSHAKE, acceptor.accept(tcp)).await {
        Ok(Ok(io)) => {
            // A closed queue is a server that stops: the connection is dropped with it.
            let _ = sender.send(TlsConnection::new(io, peer, place)).await;
        }
        Ok(Err(error)) => {
            place.places.metrics.connection_refused(Refused::Handshake);
            tracing::debug!(%error, %peer, "TLS handshake failed");
        }
        Err(_) => place.places.metrics.connection_refused(Refused::HandshakeTimeout),
    }
}

/// Who is connected, by address.
struct ConnectionSlots {
    taken: Mutex<Taken>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    by_address: HashMap<Source, usize>,
}

/// One connection among them.
struct ConnectionSlot {
    places: Arc<ConnectionSlots>,
    address: Source,
}

impl ConnectionSlots {
    fn take(self: &Arc<Self>, address: IpAddr) -> Result<ConnectionSlot, Refused> {
        let address = Source::from(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= limits::CONNECTIONS {
            return Err(Refused::TooMany);
        }
        let of_address = taken.by_address.entry(address).or_default();
        if *of_address >= limits::CONNECTIONS_PER_IP {
            return Err(Refused::TooManyOfAddress);
        }
        *of_address += 1;
        taken.total += 1;
        self.metrics.connection_opened();
        Ok(ConnectionSlot { places: self.clone(), address })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
        self.places.metrics.connection_closed();
    }
}

impl TlsConnection {
    fn new(io: TlsStream<TcpStream>, peer: SocketAddr, place: ConnectionSlot) -> Self {
        let (silence, unsent) = (Silence::before_the_first_bytes(), Arc::new(Unsent::default()));
        let patience = Patience::with(Arc::clone(&unsent));
        Self { io, peer, silence, unsent, patience, _place: place }
    }

    /// Whoever does not read is not waited for, whichever way the connection is at work.
    fn wait(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.patience.poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the peer did not read for too long"))
            }
        }
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.wait(cx)?;
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Pending => self.silence.poll(cx),
            ready => {
                if buf.filled().len() > before {
                    self.silence.broken();
                }
                ready
            }
        }
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.wait(cx)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wait(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wait(cx)?;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// How long a peer may say nothing: little before its first bytes, more between requests. A client that keeps a quiet
/// watch open sends HTTP/2 pings.
struct Silence {
    ends: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Silence {
    fn before_the_first_bytes() -> Self {
        let ends = Instant::now() + limits::FIRST_BYTES;
        Self { ends, timer: Box::pin(sleep_until(ends)) }
    }

    /// The timer is not touched here: most often the next bytes come long before it ends.
    fn broken(&mut self) {
        self.ends = Instant::now() + limits::IDLE;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= self.ends {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the peer said nothing for too long",
                )));
            }
            self.timer.as_mut().reset(self.ends);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(dir: &Path) {
        let made = rcgen::generate_simple_self_signed(vec![String::from("localhost")]).unwrap();
        std::fs::write(dir.join("new"), made.cert.pem()).unwrap();
        std::fs::rename(dir.join("new"), dir.join("tls.crt")).unwrap();
        std::fs::write(dir.join("new"), made.signing_key.serialize_pem()).unwrap();
        std::fs::rename(dir.join("new"), dir.join("tls.key")).unwrap();
    }

    fn load(dir: &Path) -> Result<Arc<Certificate>, TlsError> {
        Certificate::load(&dir.join("tls.crt"), &dir.join("tls.key"))
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_but_not_while_the_peer_speaks() {
        let mut silence = Silence::before_the_first_bytes();
        let started = Instant::now();
        sleep(limits::FIRST_BYTES / 2).await;
        silence.broken();
        let error = std::future::poll_fn(|cx| silence.poll(cx)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let lasted = started.elapsed() - limits::FIRST_BYTES / 2;
        assert!(lasted >= limits::IDLE && lasted < limits::IDLE + limits::HANDSHAKE, "{lasted:?}");
    }

    #[test]
    fn a_changed_pair_is_served_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(load(dir.path()), Err(TlsError::Read(..))));
        write_pair(dir.path());
        let certificate = load(dir.path()).unwrap();
        let first = certificate.current.load_full();
        assert!(!certificate.reload().unwrap());

        write_pair(dir.path());
        assert!(certificate.reload().unwrap());
        let second = certificate.current.load_full();
        assert_ne!(first.cert, second.cert);

        std::fs::write(dir.path().join("tls.crt"), "no certificate").unwrap();
        assert!(matches!(certificate.reload(), Err(TlsError::Pem(..))));
        assert!(!certificate.reload().unwrap(), "told once");
        assert_eq!(certificate.current.load_full().cert, second.cert, "the old one stays");
    }

    #[test]
    fn only_what_the_wires_speak_is_offered() {
        let dir = tempfile::tempdir().unwrap();
        write_pair(dir.path());
        let config = load(dir.path()).unwrap().server_config(&[b"h2", b"http/1.1"]).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        for (year, seconds) in [(2031, 1_924_992_000), (2075, 3_313_526_400)] {
            let mut params = rcgen::CertificateParams::default();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            assert_eq!(not_after(params.self_signed(&key).unwrap().der()), Some(seconds));
        }
        assert_eq!(not_after(b"\x30\x84\xff\xff\xff\xff"), None);
    }

    #[test]
    fn addresses_have_limits_and_places_come_back() {
        let places =
            Arc::new(ConnectionSlots { taken: Mutex::default(), metrics: Arc::new(Metrics::new().unwrap()) });
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let held: Vec<_> =
            (0..limits::CONNECTIONS_PER_IP).map(|_| places.take(address).ok().unwrap()).collect();
        assert_eq!(places.take(address).err(), Some(Refused::TooManyOfAddress));
        assert_eq!(places.take("::ffff:192.0.2.1".parse().unwrap()).err(), Some(Refused::TooManyOfAddress));
        assert!(places.take("192.0.2.2".parse().unwrap()).is_ok());
        drop(held);
        assert!(places.take(address).is_ok());
        assert!(places.taken.lock().unwrap().by_address.is_empty());
    }
}

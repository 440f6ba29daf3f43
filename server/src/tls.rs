//! TLS: the certificate that is served and reloaded (`certificate.rs`), and the acceptor that hands out finished connections
//! within the limits. TLS 1.3 only; what is spoken over it is the business of the wires. It knows nothing of requests.

mod certificate;
mod cork;
mod outbound;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

pub use certificate::{Certificate, TlsError, Untimely, is_about_a_certificate};
use cork::Cork;
pub use outbound::{Outbound, Trust, Untrusted};

use crate::{
    limits,
    model::Source,
    telemetry::{Metrics, Refused},
    unsent::{Patience, Unsent},
};

/// An open, authenticated connection. Its place among the limits is free again when it is dropped.
pub struct TlsConnection {
    /// The encrypted stream.
    io: TlsStream<TcpStream>,
    pub peer: SocketAddr,
    silence: Silence,
    /// What its peer was sent and has not taken.
    pub unsent: Arc<Unsent>,
    patience: Patience,
    cork: Cork,
    _place: ConnectionSlot,
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
        let cork = Cork::new(Arc::clone(&place.places.metrics));
        Self { io, peer, silence, unsent, patience, cork, _place: place }
    }

    /// One write, by `write`, when it is time for it.
    fn poll_sending(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TlsStream<TcpStream>>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.wait(cx)?;
        ready!(self.cork.poll(cx));
        let written = ready!(write(Pin::new(&mut self.io), cx));
        self.cork.written();
        Poll::Ready(written)
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
        self.poll_sending(cx, |io, cx| io.poll_write(cx, buf))
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
        self.poll_sending(cx, |io, cx| io.poll_write_vectored(cx, bufs))
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

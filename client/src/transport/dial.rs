//! From an address to a connection that can carry HTTP/2. One deadline is over all of it: the lookup of the name, TCP, a proxy,
//! the TLS handshake and the server's first word of HTTP/2. Who goes silent at any of these is given up, and the next
//! connection goes to the next server.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, Join, ReadBuf, ReadHalf, WriteHalf, join, split},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{endpoint::Place, names::Names, proxy::Proxy, tls::Tls};

/// Where the servers are and how to get there.
pub(crate) struct Dialer {
    /// All of one store. At least one.
    pub(crate) servers: Vec<Place>,
    pub(crate) proxy: Option<Proxy>,
    /// The name to expect in a server's certificate, if not the host of its address.
    pub(crate) name: Option<ServerName<'static>>,
    pub(crate) tls: Tls,
    pub(crate) names: Names,
    pub(crate) timeout: Duration,
    /// Which server comes first next time.
    pub(crate) first: Arc<AtomicUsize>,
}

impl Dialer {
    /// Connects to the first server that can be reached. Each has its share of the time that is left.
    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        let end = Instant::now() + self.timeout;
        let count = self.servers.len();
        let first = self.first.load(Ordering::Relaxed);
        let mut last = io::Error::other("there is no server to connect to");
        for tried in 0..count {
            let at = first.wrapping_add(tried).checked_rem(count).unwrap_or_default();
            let Some(server) = self.servers.get(at) else { continue };
            let deadline = share(end, count.saturating_sub(tried));
            match self.reach(server, deadline).await {
                Ok(stream) => {
                    self.first.store(at, Ordering::Relaxed);
                    let (stream, writer) = split(stream);
                    let silence = Some(Box::pin(sleep_until(deadline)));
                    return Ok(join(Greeted { stream, silence, first: Arc::clone(&self.first) }, writer));
                }
                Err(error) => last = io::Error::new(error.kind(), format!("{server}: {error}")),
            }
        }
        Err(last)
    }

    async fn reach(&self, server: &Place, deadline: Instant) -> io::Result<TlsStream<TcpStream>> {
        let config = self.tls.config().await.map_err(|error| io::Error::other(error.to_string()))?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => server.name().map_err(io::Error::other)?,
        };
        let mut stream =
            self.dial(self.proxy.as_ref().map_or(server, |proxy| &proxy.place), deadline).await?;
        if let Some(proxy) = &self.proxy {
            within(deadline, "the proxy did not answer in time", proxy.pass(&mut stream, server)).await?;
        }
        let handshake = TlsConnector::from(config).connect(name, stream);
        let stream =
            within(deadline, "the server did not answer the TLS handshake in time", handshake).await?;
        if stream.get_ref().1.alpn_protocol().is_none() {
            return Err(io::Error::other("whoever answers there does not speak HTTP/2"));
        }
        Ok(stream)
    }

    async fn dial(&self, place: &Place, deadline: Instant) -> io::Result<TcpStream> {
        let lookup = self.names.addresses(&place.host, place.port);
        let addresses = within(deadline, "the name was not resolved in time", lookup).await?;
        let mut last = io::Error::other("the name has no address");
        for (left, address) in (1..=addresses.len()).rev().zip(&addresses) {
            let opening = TcpStream::connect(address);
            match within(share(deadline, left), "the connection was not accepted in time", opening).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// When one of so many that are left has to be done, if all are to have the same time.
fn share(end: Instant, left: usize) -> Instant {
    let now = Instant::now();
    let parts = u32::try_from(left.max(1)).unwrap_or(u32::MAX);
    now + end.saturating_duration_since(now) / parts
}

async fn within<T>(
    deadline: Instant,
    late: &'static str,
    step: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout_at(deadline, step).await.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, late)))
}

/// A connection, whose reading half fails if the server's first byte does not arrive in time. The first word cannot be waited
/// for before the connection is given out: a server may want to hear the client's first.
pub(crate) type Connection = Join<Greeted, WriteHalf<TlsStream<TcpStream>>>;

pub(crate) struct Greeted {
    stream: ReadHalf<TlsStream<TcpStream>>,
    /// Until something has arrived.
    silence: Option<Pin<Box<Sleep>>>,
    first: Arc<AtomicUsize>,
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.silence = None;
        } else if let Some(silence) = &mut self.silence
            && silence.as_mut().poll(context).is_ready()
        {
            self.silence = None;
            self.first.fetch_add(1, Ordering::Relaxed);
            let late = "the server did not begin to speak HTTP/2 in time";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, late)));
        }
        read
    }
}

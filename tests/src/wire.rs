//! A peer that speaks TCP, TLS and HTTP/2 by hand, as well or as badly as a test wants. Frames as in RFC 9113, headers as
//! in RFC 7541 without compression.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::server::Server;

/// Kinds of frames.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const GOAWAY: u8 = 7;
    pub const CONTINUATION: u8 = 9;
}

/// Of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;
/// Of HEADERS and DATA.
pub const END_STREAM: u8 = 1;
/// The error code for who asks for too much.
pub const ENHANCE_YOUR_CALM: u32 = 11;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Where a server is and whom to trust; made once for many connections.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    tls: TlsConnector,
}

/// An HTTP/2 connection after the preface.
pub struct Wire {
    io: TlsStream<TcpStream>,
}

/// What the other end sent.
pub struct Frame {
    pub kind: u8,
    /// Of which stream; 0 is the connection.
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With GOAWAY and that code.
    GoAway(u32),
    /// With a reset of the stream and that code.
    Reset(u32),
    /// Without a word.
    Closed,
}

impl Target {
    /// That server.
    ///
    /// # Errors
    /// Its address or certificates cannot be read.
    pub fn of(server: &Server) -> io::Result<Target> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(server.ca()).map_err(io::Error::other)? {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let address = server.url.trim_start_matches("https://").parse().map_err(io::Error::other)?;
        Ok(Target { address, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// A bare connection from that address of the loopback network.
    ///
    /// # Errors
    /// It is refused.
    pub async fn tcp(&self, from: Ipv4Addr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        socket.connect(self.address).await
    }

    /// A connection that says nothing after its handshake.
    ///
    /// # Errors
    /// It is refused.
    pub async fn tls(&self, from: Ipv4Addr) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        self.tls.connect(name, self.tcp(from).await?).await
    }

    /// A connection that has introduced itself.
    ///
    /// # Errors
    /// It is refused.
    pub async fn http2(&self, from: Ipv4Addr) -> io::Result<Wire> {
        self.introduced(from, &[]).await
    }

    /// The same, of a peer that takes no more than that of each answer before it says so.
    ///
    /// # Errors
    /// It is refused.
    pub async fn http2_with_window(&self, from: Ipv4Addr, bytes: u32) -> io::Result<Wire> {
        // SETTINGS_INITIAL_WINDOW_SIZE
        self.introduced(from, &[&[0, 4], bytes.to_be_bytes().as_slice()].concat()).await
    }

    async fn introduced(&self, from: Ipv4Addr, settings: &[u8]) -> io::Result<Wire> {
        let mut wire = Wire { io: self.tls(from).await? };
        wire.send(&[PREFACE, &frame(kind::SETTINGS, 0, 0, settings)].concat()).await?;
        Ok(wire)
    }
}

impl Wire {
    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The other end is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// The next frame.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn next(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await?;
        let [a, b, c, kind, _, stream @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.io.read_exact(&mut payload).await?;
        Ok(Frame { kind, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, payload })
    }

    /// Reads until the other end has had enough, of the connection or of a stream.
    pub async fn end(&mut self) -> End {
        let code = |payload: &[u8], at: usize| {
            let bytes = payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(u32::MAX, u32::from_be_bytes)
        };
        loop {
            match self.next().await {
                Ok(Frame { kind: kind::GOAWAY, payload, .. }) => return End::GoAway(code(&payload, 4)),
                Ok(Frame { kind: kind::RST_STREAM, payload, .. }) => return End::Reset(code(&payload, 0)),
                Ok(_) => {}
                Err(_) => return End::Closed,
            }
        }
    }

    /// The answer on that stream up to its end: all header blocks and data, for a search.
    ///
    /// # Errors
    /// The connection or the stream ended before.
    pub async fn answer(&mut self, stream: u32) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let mut head = [0; 9];
            self.io.read_exact(&mut head).await?;
            let [a, b, c, kind, flags, of @ ..] = head;
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).map_err(io::Error::other)?;
            let mut payload = vec![0; length];
            self.io.read_exact(&mut payload).await?;
            if u32::from_be_bytes(of) & 0x7fff_ffff != stream {
                continue;
            }
            match kind {
                kind::RST_STREAM => return Err(io::Error::other("the stream was reset")),
                kind::HEADERS | kind::DATA => all.extend_from_slice(&payload),
                _ => {}
            }
            if flags & END_STREAM != 0 && matches!(kind, kind::HEADERS | kind::DATA) {
                return Ok(all);
            }
        }
    }
}

/// A frame. Its length is written as it is, even if the other end will not like it.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = length.get(1..).unwrap_or_default().to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The header block of a gRPC call of `rpc` (`/package.Service/Method`).
pub fn call(rpc: &str) -> Vec<u8> {
    // Indexed `:method POST` and `:scheme https`, then literals without indexing.
    let mut block = vec![0x83, 0x87];
    block.push(0x04);
    text(&mut block, rpc);
    block.push(0x01);
    text(&mut block, "localhost");
    block.extend_from_slice(&header("content-type", "application/grpc"));
    block.extend_from_slice(&header("te", "trailers"));
    block
}

/// The same of somebody who is known: `authorization` is `Bearer ...`.
pub fn call_as(authorization: &str, rpc: &str) -> Vec<u8> {
    [call(rpc), header("authorization", authorization)].concat()
}

/// A message as gRPC sends it: a flag, its length, and itself.
pub fn message(message: &impl prost::Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], length.as_slice(), &bytes].concat()
}

/// A whole call on that stream: its headers, and its message at once.
pub fn request(stream: u32, headers: &[u8], asked: &impl prost::Message) -> Vec<u8> {
    let open = frame(kind::HEADERS, END_HEADERS, stream, headers);
    [open, frame(kind::DATA, END_STREAM, stream, &message(asked))].concat()
}

/// One more field of a block: a literal with a literal name.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0x00];
    text(&mut field, name);
    text(&mut field, value);
    field
}

/// Length with a prefix of seven bits, then the bytes.
fn text(block: &mut Vec<u8>, text: &str) {
    let mut rest = text.len();
    if rest < 127 {
        block.push(u8::try_from(rest).unwrap_or_default());
    } else {
        block.push(127);
        rest -= 127;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128).unwrap_or_default() | 0x80);
            rest /= 128;
        }
        block.push(u8::try_from(rest).unwrap_or_default());
    }
    block.extend_from_slice(text.as_bytes());
}

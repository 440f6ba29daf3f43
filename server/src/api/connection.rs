//! Tells tonic who is at the other end of one of our own TLS connections.

use std::net::SocketAddr;

use tonic::transport::server::Connected;

use crate::tls::TlsConnection;

/// The peer's address; tonic puts it into each request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Connected for TlsConnection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer(self.peer)
    }
}

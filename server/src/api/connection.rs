//! Tells tonic who is at the other end of one of our own TLS connections.

use std::{net::SocketAddr, sync::Arc};

use tonic::transport::server::Connected;

use crate::{tls::TlsConnection, unsent::Unsent};

/// The peer's address, and what it was sent and has not taken; tonic puts this into each request's extensions.
#[derive(Clone)]
pub struct Peer {
    pub address: SocketAddr,
    pub unsent: Arc<Unsent>,
}

impl Connected for TlsConnection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer { address: self.peer, unsent: Arc::clone(&self.unsent) }
    }
}

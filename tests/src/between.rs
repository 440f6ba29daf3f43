//! What stands between a client and the server with its consent: a proxy that is asked for a way through, and one that ends
//! TLS and wants to know who comes.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::pki::Pki;

/// A proxy that passes on what it is asked to with CONNECT, to those who show this `Proxy-Authorization`.
pub struct Proxy {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// # Errors
    /// No port is left.
    pub async fn start(authorization: &'static str) -> io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, asked) = (listener.local_addr()?, Arc::<Mutex<Vec<String>>>::default());
        let asks = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let asks = Arc::clone(&asks);
                tokio::spawn(async move { pass(client, authorization, &asks).await });
            }
        });
        Ok(Proxy { address, asked, task })
    }

    /// Where it was asked to lead, once for each connection.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut client: TcpStream, authorization: &str, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let place = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    if !head.contains(&format!("\r\nProxy-Authorization: {authorization}\r\n")) {
        return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    }
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(place.to_owned());
    let mut server = TcpStream::connect(place).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Ends TLS with the certificate of `own`, lets in who has a certificate of `guests`, and speaks TLS with `server`, which the
/// file `ca` vouches for.
///
/// # Errors
/// A file is not what it should be, or no port is left.
pub async fn doorman(own: &Pki, guests: &Pki, server: &str, ca: &Path) -> io::Result<SocketAddr> {
    let (acceptor, connector) = (acceptor(own, guests)?, connector(ca)?);
    let server: SocketAddr = server.trim_start_matches("https://").parse().map_err(io::Error::other)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, connector) = (acceptor.clone(), connector.clone());
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                let name = ServerName::from(server.ip());
                let mut inside = connector.connect(name, TcpStream::connect(server).await?).await?;
                copy_bidirectional(&mut client, &mut inside).await
            });
        }
    });
    Ok(address)
}

fn acceptor(own: &Pki, guests: &Pki) -> io::Result<TlsAcceptor> {
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&guests.ca)?), provider.clone())
            .build()
            .map_err(io::Error::other)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(&own.certificate)?, key(&own.key)?)
        .map_err(io::Error::other)?;
    config.alpn_protocols.push(b"h2".to_vec());
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn connector(ca: &Path) -> io::Result<TlsConnector> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots(ca)?)
        .with_no_client_auth();
    config.alpn_protocols.push(b"h2".to_vec());
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(ca: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(ca)? {
        roots.add(certificate).map_err(io::Error::other)?;
    }
    Ok(roots)
}

fn chain(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(&fs::read(file)?).collect::<Result<_, _>>().map_err(io::Error::other)
}

fn key(file: &Path) -> io::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&fs::read(file)?).map_err(io::Error::other)
}

//! The network between a client and a server, which can be made bad: silent at a stage of a connection, losing what is sent, or
//! resetting.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    task::JoinHandle,
};

/// What is the matter with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sky {
    /// Nothing.
    Fair,
    /// Connections are accepted, and nothing is passed on until it is fair again: a server that hangs.
    Silent,
    /// The TLS handshake comes through in part.
    SilentInTls,
    /// The TLS handshake comes through, and nothing after it.
    SilentAfterTls,
    /// What is sent is lost, and a connection that has lost something never recovers: a network that drops.
    Dropping,
    /// Connections are reset.
    Resetting,
}

/// A way to a server.
pub struct Weather {
    address: SocketAddr,
    sky: watch::Sender<Sky>,
    opened: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Weather {
    /// Before `server`, given as `https://127.0.0.1:port`.
    ///
    /// # Errors
    /// It is no such address, or no port is left.
    pub async fn before(server: &str) -> io::Result<Weather> {
        let server = server.trim_start_matches("https://").parse().map_err(io::Error::other)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (sky, opened) = (watch::Sender::new(Sky::Fair), Arc::new(AtomicUsize::new(0)));
        let (told, count) = (sky.subscribe(), Arc::clone(&opened));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let told = told.clone();
                tokio::spawn(async move { carry(client, server, told).await });
            }
        });
        Ok(Weather { address, sky, opened, task })
    }

    /// The address that leads through it.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn becomes(&self, sky: Sky) {
        self.sky.send_replace(sky);
    }

    /// How many connections were accepted.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

impl Drop for Weather {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, server: SocketAddr, told: watch::Receiver<Sky>) -> io::Result<()> {
    client.set_zero_linger()?;
    let upstream = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = upstream.into_split();
    // A reset ends both directions, by dropping all four halves.
    let mut resets = told.clone();
    let said = Arc::new(AtomicUsize::new(0));
    tokio::select! {
        _ = resets.wait_for(|sky| *sky == Sky::Resetting) => {}
        _ = pass(from_client, to_server, told.clone(), Arc::clone(&said), true) => {}
        _ = pass(from_server, to_client, told, said, false) => {}
    }
    Ok(())
}

/// Passes on what comes, as far as the sky allows. `said` counts what the client has said: first its hello, and then the end of
/// its handshake.
async fn pass(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut told: watch::Receiver<Sky>,
    said: Arc<AtomicUsize>,
    is_client: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        let mut sent = buffer.get(..read).unwrap_or_default();
        if sent.is_empty() {
            return Ok(());
        }
        let turns =
            if is_client { said.fetch_add(1, Ordering::SeqCst) + 1 } else { said.load(Ordering::SeqCst) };
        let sky = *told.borrow_and_update();
        match sky {
            Sky::Fair | Sky::Resetting => {}
            Sky::SilentAfterTls if is_client || turns < 2 => {}
            Sky::SilentInTls if is_client => {}
            Sky::SilentInTls if turns < 2 => {
                let (some, rest) = sent.split_at(sent.len() / 2);
                to.write_all(some).await?;
                sent = rest;
                fair(&mut told).await?;
            }
            Sky::Silent | Sky::SilentInTls | Sky::SilentAfterTls => fair(&mut told).await?,
            Sky::Dropping => std::future::pending().await,
        }
        to.write_all(sent).await?;
    }
}

async fn fair(told: &mut watch::Receiver<Sky>) -> io::Result<()> {
    told.wait_for(|sky| *sky == Sky::Fair).await.map(drop).map_err(io::Error::other)
}

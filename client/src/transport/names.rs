//! The addresses of a name. A lookup cannot be called off and may hang for as long as the system's resolver likes, so each has
//! a thread of its own: it takes none of those that the application reads its files with. A client has one lookup at a time.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
    thread,
};

use tokio::sync::{Semaphore, oneshot};

/// What asks the system.
type Lookup = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// Asks for addresses.
pub(crate) struct Names {
    lookup: Lookup,
    /// Held by the thread that asks, until it has its answer.
    one: Arc<Semaphore>,
}

impl Default for Names {
    fn default() -> Self {
        Self::asking(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }
}

impl Names {
    fn asking(lookup: Lookup) -> Self {
        Self { lookup, one: Arc::new(Semaphore::new(1)) }
    }

    /// The addresses of `host`, which may be an address itself. Takes as long as it takes: the caller has the deadline.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(vec![(address, port).into()]);
        }
        let place = Arc::clone(&self.one).acquire_owned().await.map_err(io::Error::other)?;
        let (answer, answered) = oneshot::channel();
        let (lookup, name) = (self.lookup, host.to_owned());
        thread::Builder::new().name("strongroom-name".into()).spawn(move || {
            let found = lookup(&name, port);
            drop(place);
            // Nobody may be waiting any more.
            let _ = answer.send(found);
        })?;
        let found = answered.await.map_err(io::Error::other)??;
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(found)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use super::*;

    static ASKED: AtomicU32 = AtomicU32::new(0);

    /// A resolver whose servers are gone.
    pub(crate) fn silent() -> Names {
        Names::asking(|_, _| {
            ASKED.fetch_add(1, Ordering::SeqCst);
            loop {
                thread::park();
            }
        })
    }

    #[tokio::test]
    async fn an_address_is_not_looked_up() {
        let names = silent();
        let found = |host: &'static str| names.addresses(host, 7);
        assert_eq!(found("127.0.0.1").await.unwrap(), ["127.0.0.1:7".parse().unwrap()]);
        assert_eq!(found("[::1]").await.unwrap(), ["[::1]:7".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_lookup_that_hangs_takes_one_thread_and_none_of_the_application() {
        let names = silent();
        for _ in 0..3 {
            let asked = tokio::time::timeout(Duration::from_millis(20), names.addresses("store", 7)).await;
            assert!(asked.is_err());
        }
        assert!(ASKED.load(Ordering::SeqCst) <= 1);
        // The runtime's own threads for what blocks are free.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
    }
}

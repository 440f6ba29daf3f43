//! The connections of a client. One is enough for calls; streams that stay open fill one up, so there are as many as the
//! streams need. A connection on which a call had no answer in time is not given out again.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::time::Instant;
use tonic::transport::Channel;

use crate::error::Error;

/// Streams that stay open on one connection: the server takes 100, and some are left for calls.
const STREAMS: usize = 64;
/// Connections of one client: the server takes 256 of an address, which many clients may share.
const CONNECTIONS: usize = 64;

/// See the module.
pub(crate) struct Lines {
    open: Box<dyn Fn() -> Channel + Send + Sync>,
    lines: Mutex<Vec<Arc<Line>>>,
}

/// A connection.
pub(crate) struct Line {
    channel: Channel,
    streams: AtomicUsize,
    /// When the server last said something on it.
    answered: Mutex<Instant>,
}

/// The place of a stream; given back when dropped.
pub(crate) struct Place(Arc<Line>);

impl Lines {
    /// Begins with `first`; `open` makes others, each of which connects when it is used.
    pub(crate) fn new(first: Channel, open: impl Fn() -> Channel + Send + Sync + 'static) -> Self {
        Self { open: Box::new(open), lines: Mutex::new(vec![Line::over(first)]) }
    }

    /// The connection for a call: the one with the fewest streams.
    pub(crate) fn for_call(&self) -> Arc<Line> {
        let mut lines = self.lines();
        match lines.iter().min_by_key(|line| line.streams()) {
            Some(line) => Arc::clone(line),
            None => self.another(&mut lines),
        }
    }

    /// A place for a stream.
    ///
    /// # Errors
    /// There are as many as one client may have.
    pub(crate) fn for_stream(&self) -> Result<Place, Error> {
        let mut lines = self.lines();
        if let Some(line) = lines.iter().find(|line| line.streams() < STREAMS) {
            return Ok(Place::on(line));
        }
        if lines.len() >= CONNECTIONS {
            return Err(Error::config(format!(
                "this client has {} streams open, which is the limit; build another client",
                CONNECTIONS.saturating_mul(STREAMS)
            )));
        }
        Ok(Place::on(&self.another(&mut lines)))
    }

    /// A call that was sent at `since` had no answer in time. If nobody else had one since, the connection is not given out
    /// again; what is open on it stays until it breaks.
    pub(crate) fn is_silent(&self, silent: &Arc<Line>, since: Instant) {
        if *lock(&silent.answered) < since {
            self.lines().retain(|line| !Arc::ptr_eq(line, silent));
        }
    }

    fn another(&self, lines: &mut Vec<Arc<Line>>) -> Arc<Line> {
        let line = Line::over((self.open)());
        lines.push(Arc::clone(&line));
        line
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Arc<Line>>> {
        lock(&self.lines)
    }
}

impl Line {
    fn over(channel: Channel) -> Arc<Self> {
        Arc::new(Self { channel, streams: AtomicUsize::new(0), answered: Mutex::new(Instant::now()) })
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The server has said something on it.
    pub(crate) fn answered(&self) {
        *lock(&self.answered) = Instant::now();
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }
}

impl Place {
    fn on(line: &Arc<Line>) -> Self {
        line.streams.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(line))
    }

    pub(crate) fn line(&self) -> &Arc<Line> {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Nothing panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

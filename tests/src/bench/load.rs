//! A closed loop of requests over several connections, and what it measured.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// What a run measured.
pub struct Measured {
    /// Requests a second.
    pub rate: f64,
    /// All requests, those of the warm-up included.
    pub requests: f64,
    latency: Histogram<u64>,
}

impl Measured {
    /// Microseconds below which that share (0.5, 0.99) of the requests stayed.
    #[expect(clippy::cast_precision_loss, reason = "microseconds are far below 2^52")]
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }
}

#[derive(Clone, Copy)]
pub struct Shape {
    /// Requests at once on each connection.
    pub in_flight: usize,
    /// How long, after a warm-up of a fifth of it.
    pub span: Duration,
}

/// Runs `request(channel, number)` in a closed loop.
///
/// # Errors
/// A request failed: a benchmark of failures says nothing.
pub async fn run<F, R>(channels: &[Channel], shape: Shape, request: F) -> io::Result<Measured>
where
    F: Fn(Channel, u64) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), tonic::Status>> + Send,
{
    let request = Arc::new(request);
    let number = Arc::new(AtomicU64::new(0));
    let measuring = Instant::now() + shape.span / 5;
    let end = measuring + shape.span;
    let mut tasks = JoinSet::new();
    for channel in channels.iter().flat_map(|channel| std::iter::repeat_n(channel, shape.in_flight)) {
        let (channel, request, number) = (channel.clone(), Arc::clone(&request), Arc::clone(&number));
        tasks.spawn(async move {
            let mut latency = Histogram::<u64>::new(3).map_err(io::Error::other)?;
            loop {
                let started = Instant::now();
                if started >= end {
                    return Ok::<_, io::Error>(latency);
                }
                let number = number.fetch_add(1, Ordering::Relaxed);
                request(channel.clone(), number).await.map_err(io::Error::other)?;
                if started >= measuring {
                    let took = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    latency.record(took).map_err(io::Error::other)?;
                }
            }
        });
    }
    let mut latency = Histogram::<u64>::new(3).map_err(io::Error::other)?;
    while let Some(ended) = tasks.join_next().await {
        latency.add(ended??).map_err(io::Error::other)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let (rate, requests) =
        (latency.len() as f64 / shape.span.as_secs_f64(), number.load(Ordering::Relaxed) as f64);
    Ok(Measured { rate, requests, latency })
}

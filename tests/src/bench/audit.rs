//! The audit log by itself, in this process: what writing a record costs, and how fast a log is verified.

use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use strongroom_client::audit_verify::{Options, verify};
use strongroom_server::{
    audit::{Broker, Config, Durability},
    clock::SystemClock,
};
use tokio::task::JoinSet;

use crate::{
    audit_log::{pod, read, signing_key, unseal},
    bench::{cpu, rooms::Size},
    figures::{Bar, Figure},
};

/// The server's key.
const SEED: u8 = 1;
/// Records at once: the reads in flight of the table's read rows.
const IN_FLIGHT: u64 = 256;
/// Records in the log that is verified: some 150 MB.
const VERIFIED: u64 = 200_000;

/// The broker with fsync and without, and the verifier.
///
/// # Errors
/// The log could not be written or verified.
pub async fn run(work: &Path, size: Size) -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, durability) in [("fsync", Durability::Fsync), ("os", Durability::Os)] {
        let config = Config { durability, ..Config::new(work.join(format!("audit-{name}"))) };
        figures.extend(record_speed(name, &config, size.span).await?);
    }
    figures.push(verify_speed(VERIFIED).await?);
    Ok(figures)
}

async fn record_speed(name: &str, config: &Config, span: Duration) -> io::Result<Vec<Figure>> {
    let (cpu, started) = (cpu::seconds(std::process::id())?, Instant::now());
    let waits = write(config, move |_| started.elapsed() < span).await?;
    let (elapsed, cpu) = (started.elapsed().as_secs_f64(), cpu::seconds(std::process::id())? - cpu);
    let records = waits.len() as f64;
    let micros = |quantile| waits.value_at_quantile(quantile) as f64 / 1000.0;
    let row = |what: &str, value, unit| {
        Figure::plain(&format!("audit, {name}, {IN_FLIGHT} in flight: {what}"), value, unit, Bar::None)
    };
    Ok(vec![
        row("records", records / elapsed, "records/s"),
        row("CPU of a record", cpu * 1e6 / records, "us"),
        row("wait, p50", micros(0.5), "us"),
        row("wait, p99", micros(0.99), "us"),
    ])
}

/// Verifies a log of so many records as `audit verify` does, on one core.
///
/// # Errors
/// The log could not be written or verified.
pub async fn verify_speed(records: u64) -> io::Result<Figure> {
    let directory = tempfile::tempdir()?;
    let config = Config { durability: Durability::Os, ..Config::new(directory.path().join("audit")) };
    write(&config, move |number| number < records).await?;
    let options = Options { public_keys: vec![signing_key(SEED)?.public_key().0], ..Options::default() };
    let files = segments(&config.directory)?
        .into_iter()
        .map(|path| Ok((path.display().to_string(), BufReader::with_capacity(1 << 20, File::open(path)?))))
        .collect::<io::Result<Vec<_>>>()?;
    let started = Instant::now();
    let summary = verify(files, &options).map_err(io::Error::other)?;
    let rate = summary.records as f64 / started.elapsed().as_secs_f64();
    Ok(Figure::plain("audit verify, one core", rate, "records/s", Bar::AtLeast(200_000.0)))
}

/// Records as long as `more` says so of the next one's number; how long each waited, in nanoseconds.
async fn write(
    config: &Config,
    more: impl Fn(u64) -> bool + Clone + Send + 'static,
) -> io::Result<Histogram<u64>> {
    let (broker, _) = Broker::open(config, Arc::new(SystemClock), vec![]).map_err(io::Error::other)?;
    unseal(&broker, SEED).await?;
    let (broker, next) = (Arc::new(broker), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (broker, next, more) = (Arc::clone(&broker), Arc::clone(&next), more.clone());
        tasks.spawn(async move {
            let (pod, mut waits) = (pod(), Histogram::<u64>::new(3).map_err(io::Error::other)?);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if !more(number) {
                    return Ok::<_, io::Error>(waits);
                }
                let asked = Instant::now();
                broker.record(&read(&pod, number)).await.map_err(io::Error::other)?;
                let waited = u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX);
                waits.record(waited).map_err(io::Error::other)?;
            }
        });
    }
    let mut waits = Histogram::<u64>::new(3).map_err(io::Error::other)?;
    while let Some(ended) = tasks.join_next().await {
        waits.add(ended??).map_err(io::Error::other)?;
    }
    broker.close().await;
    Ok(waits)
}

fn segments(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

//! Reads and writes over the wire, in turn with the baseline: server, echo, server, echo. Each figure is judged pair by pair.

use std::{io, path::Path, time::Duration};

use strongroom_proto::v1::secrets_client::SecretsClient;
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{
    cpu, disk,
    load::{Measured, Shape, run},
    rooms::{Size, fresh, path_of, reads},
    subject::{EchoProcess, Subject, put, with},
};
use crate::{
    figures::{Bar, Figure},
    server::{Memory, Options},
};

/// Bytes of one read's line in the audit log, about.
const AUDIT_LINE: usize = 700;
/// What one small write puts down: two audit lines, the record, and the batch's own record.
const WRITE_BYTES: usize = 1200;
/// Writes in flight.
const IN_FLIGHT: usize = 64;

/// One of the two ends that are compared.
pub(super) struct End {
    pid: u32,
    pub(super) channels: Vec<Channel>,
    pub(super) token: MetadataValue<Ascii>,
    /// Secrets that are read and written.
    count: u64,
}

/// One run of one end.
pub(super) struct Sample {
    pub(super) rate: f64,
    p50: f64,
    pub(super) p99: f64,
    /// Microseconds of processor time for a request: of the server, and of this process.
    pub(super) server: f64,
    client: f64,
}

/// Runs of the server and of the baseline, in turn.
#[derive(Default)]
pub(super) struct Turns(pub(super) Vec<(Sample, Sample)>);

impl End {
    async fn reads(&self, connections: usize, shape: Shape) -> io::Result<Sample> {
        let channels = self.channels.get(..connections).unwrap_or(&self.channels);
        self.sample(reads(channels, &self.token, self.count, shape)).await
    }

    async fn writes(&self, connections: usize, shape: Shape) -> io::Result<Sample> {
        let channels = self.channels.get(..connections).unwrap_or(&self.channels);
        let (token, count) = (self.token.clone(), self.count);
        let write = move |channel, number| {
            let request = with(&token, put(&path_of(number, count)));
            async move { SecretsClient::new(channel).put(request).await.map(drop) }
        };
        self.sample(run(channels, shape, write)).await
    }

    pub(super) async fn sample(
        &self,
        load: impl Future<Output = io::Result<Measured>>,
    ) -> io::Result<Sample> {
        let own = std::process::id();
        let before = (cpu::seconds(self.pid)?, cpu::seconds(own)?);
        let measured = load.await?;
        let micros = |seconds: f64| seconds * 1e6 / measured.requests;
        Ok(Sample {
            rate: measured.rate,
            p50: measured.quantile_us(0.5),
            p99: measured.quantile_us(0.99),
            server: micros(cpu::seconds(self.pid)? - before.0),
            client: micros(cpu::seconds(own)? - before.1),
        })
    }
}

impl Turns {
    fn of(&self, what: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
        self.0.iter().map(|(ours, echo)| (what(ours), what(echo))).collect()
    }

    pub(super) fn figure(
        &self,
        name: &str,
        what: impl Fn(&Sample) -> f64,
        unit: &'static str,
        bar: Bar,
    ) -> Figure {
        Figure::pairs(name, &self.of(what), unit, bar)
    }
}

/// A server with secrets, and the baseline beside it.
pub(super) async fn both(
    directory: &Path,
    durability: &'static str,
    count: u64,
) -> io::Result<(Subject, EchoProcess, [End; 2])> {
    let subject = Subject::start(directory, &Options { durability, ..Options::default() }).await?;
    subject.fill("secret/few", 0..count).await?;
    let echo = EchoProcess::start(directory)?;
    let end = |pid, channels| End { pid, channels, token: subject.token.clone(), count };
    let ours = end(subject.server.pid(), subject.channels(4).await?);
    let theirs = end(echo.pid(), echo.channels(&subject.server.ca(), 4).await?);
    Ok((subject, echo, [ours, theirs]))
}

/// Reads: throughput, tail and processor time at 4 x 64 in flight, and one at a time; with fsync and without.
///
/// # Errors
/// A server or a request failed.
pub async fn read(work: &Path, size: Size) -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for durability in ["fsync", "os"] {
        let directory = fresh(work, &format!("read-{durability}"))?;
        let (subject, _echo, [ours, echo]) = both(&directory, durability, size.few).await?;
        let (wide, single) =
            (Shape { in_flight: 64, span: size.span }, Shape { in_flight: 1, span: size.span });
        let (mut many, mut one, mut groups) = (Turns::default(), Turns::default(), Vec::new());
        for _ in 0..size.rounds {
            many.0.push((ours.reads(4, wide).await?, echo.reads(4, wide).await?));
            one.0.push((ours.reads(1, single).await?, echo.reads(1, single).await?));
            groups.push(one_sync(&directory, size.span / 4)?);
        }
        let judged = durability == "fsync";
        let bar = |bar: Bar| if judged { bar } else { Bar::None };
        let name = |what: &str| format!("read, {durability}: {what}");
        figures.extend([
            many.figure(&name("4 x 64 in flight"), |run| run.rate, "requests/s", bar(Bar::AtLeast(0.65))),
            many.figure(&name("p99, 4 x 64 in flight"), |run| run.p99, "us", bar(Bar::AtMost(1.2))),
            many.figure(&name("CPU of a request, server"), |run| run.server, "us", bar(Bar::AtMost(2.2))),
            many.figure(&name("CPU of a request, client"), |run| run.client, "us", Bar::None),
        ]);
        let mut alone = one.of(|run| run.p50);
        if judged {
            alone.iter_mut().zip(groups).for_each(|((_, echo), group)| *echo += 1.2 * group);
            let name = name("one at a time, p50, against echo + 1.2 x one fsync");
            figures.push(Figure::pairs(&name, &alone, "us", Bar::AtMost(1.0)));
            let resident = subject.server.memory_mib(Memory::Now)?;
            figures.push(Figure::plain("memory after the reads", resident, "MiB", Bar::AtMost(60.0)));
        } else {
            figures.push(Figure::pairs(&name("one at a time, p50"), &alone, "us", Bar::AtMost(1.3)));
        }
    }
    Ok(figures)
}

/// Durable writes. With 64 in flight, against what echoing a put and appending as many bytes take one after the other: a bare
/// loop that appends in groups of 64 with the three barriers of a write (intent, data, outcome). One at a time, against an echo
/// and two and a half waits for the disk.
///
/// # Errors
/// A server, a request or the disk failed.
pub async fn write(work: &Path, size: Size) -> io::Result<Vec<Figure>> {
    let directory = fresh(work, "write")?;
    let (_subject, _echo, [ours, echo]) = both(&directory, "fsync", size.few).await?;
    let wide = Shape { in_flight: IN_FLIGHT / 4, span: size.span };
    let single = Shape { in_flight: 1, span: size.span };
    let (mut many, mut one) = (Turns::default(), Turns::default());
    let (mut bare, mut syncs) = (Vec::new(), Vec::new());
    for _ in 0..size.rounds {
        let groups = disk::groups_per_second(&directory, 3, IN_FLIGHT * WRITE_BYTES / 3, size.span / 2)?;
        #[expect(clippy::cast_precision_loss, reason = "64")]
        bare.push(groups * IN_FLIGHT as f64);
        many.0.push((ours.writes(4, wide).await?, echo.writes(4, wide).await?));
        one.0.push((ours.writes(1, single).await?, echo.writes(1, single).await?));
        syncs.push(one_sync(&directory, size.span / 4)?);
    }
    let rates = many.of(|run| run.rate);
    let mut together = rates.clone();
    together.iter_mut().zip(&bare).for_each(|((_, echo), bare)| *echo = 1.0 / (1.0 / *echo + 1.0 / bare));
    let against_bare: Vec<_> = rates.iter().zip(&bare).map(|((ours, _), bare)| (*ours, *bare)).collect();
    let mut alone = one.of(|run| run.p50);
    alone.iter_mut().zip(&syncs).for_each(|((_, echo), sync)| *echo += 2.5 * sync);
    let name = |what: &str| format!("durable write, 64 in flight: {what}");
    Ok(vec![
        Figure::pairs(&name("against echo and bare loop in turn"), &together, "writes/s", Bar::AtLeast(0.7)),
        Figure::pairs(&name("against the echo of a put"), &rates, "writes/s", Bar::None),
        Figure::pairs(&name("against a bare loop of appends"), &against_bare, "writes/s", Bar::None),
        many.figure(&name("p99"), |run| run.p99, "us", Bar::None),
        many.figure(&name("CPU of a request, server"), |run| run.server, "us", Bar::None),
        many.figure(&name("CPU of a request, client"), |run| run.client, "us", Bar::None),
        Figure::pairs(
            "durable write, one at a time, p50, against echo of a put + 2.5 x one fsync",
            &alone,
            "us",
            Bar::AtMost(1.0),
        ),
    ])
}

/// Microseconds that one append of a line of the audit log takes, until it is on the disk.
fn one_sync(directory: &Path, span: Duration) -> io::Result<f64> {
    Ok(1e6 / disk::groups_per_second(directory, 1, AUDIT_LINE, span)?)
}

//! The measurements, one function per row group of the table.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use strongroom_proto::v1::{self, secrets_client::SecretsClient};
use strongroom_server::{
    model::{Path as SecretPath, Principal, Timestamp, Verb},
    policy::{Context, Documents, PolicySet, Question},
};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{
    disk,
    load::{Measured, Shape, run},
    subject::{EchoProcess, Subject, channel, login, put, with},
};
use crate::{
    figures::{Bar, Figure},
    server::{Memory, Options, Server},
    wait::found_async,
};

/// How much of everything.
#[derive(Clone, Copy)]
pub struct Size {
    /// Of each timed run.
    pub span: Duration,
    /// Alternating runs of subject and baseline.
    pub rounds: u32,
    /// Secrets for reads and writes.
    pub few: u64,
    /// Secrets in one folder, for lists.
    pub folder: u64,
    /// Numbers of secrets to compare reads and starts at.
    pub scale: &'static [u64],
    /// Volumes mounted on several nodes.
    pub publishes: usize,
}

/// Under a minute.
pub const QUICK: Size = Size {
    span: Duration::from_millis(1500),
    rounds: 2,
    few: 1000,
    folder: 10_000,
    scale: &[1000, 10_000],
    publishes: 1000,
};
/// What the notes report.
pub const FULL: Size = Size {
    span: Duration::from_secs(4),
    rounds: 5,
    few: 1000,
    folder: 100_000,
    scale: &[1000, 100_000, 1_000_000],
    publishes: 10_000,
};

/// Bytes of one read's line in the audit log, about.
const AUDIT_LINE: usize = 700;
/// What one small write puts down: two audit lines, the record, and the batch's own record.
const WRITE_BYTES: usize = 1200;

async fn get(channel: Channel, token: MetadataValue<Ascii>, path: String) -> Result<(), tonic::Status> {
    SecretsClient::new(channel).get(with(&token, v1::GetRequest { path, version: None })).await.map(drop)
}

async fn reads(
    channels: &[Channel],
    token: &MetadataValue<Ascii>,
    count: u64,
    shape: Shape,
) -> io::Result<Measured> {
    let token = token.clone();
    run(channels, shape, move |channel, number| get(channel, token.clone(), path_of(number, count))).await
}

/// Spread over all of them, so that a cache of the last few helps nobody.
fn path_of(number: u64, count: u64) -> String {
    format!("secret/few/{:07}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % count)
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Reads: throughput and tail at 4 x 64 in flight, and one at a time; with fsync and without.
///
/// # Errors
/// A server or a request failed.
pub async fn read(work: &Path, size: Size) -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for durability in ["fsync", "os"] {
        let directory = fresh(work, &format!("read-{durability}"))?;
        let subject = Subject::start(&directory, &Options { durability, ..Options::default() }).await?;
        subject.fill("secret/few", 0..size.few).await?;
        let echo = EchoProcess::start(&directory)?;
        let (ours, theirs) = (subject.channels(4).await?, echo.channels(&subject.server.ca(), 4).await?);
        let wide = Shape { in_flight: 64, span: size.span };
        let single = Shape { in_flight: 1, span: size.span };

        let (mut rates, mut tails, mut singles) = (Vec::new(), Vec::new(), Vec::new());
        let (mut echo_rates, mut echo_tails, mut echo_singles) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..size.rounds {
            let measured = reads(&theirs, &subject.token, size.few, wide).await?;
            echo_rates.push(measured.rate);
            echo_tails.push(measured.quantile_us(0.99));
            let measured = reads(&ours, &subject.token, size.few, wide).await?;
            rates.push(measured.rate);
            tails.push(measured.quantile_us(0.99));
            let (one, other) = (ours.get(..1).unwrap_or_default(), theirs.get(..1).unwrap_or_default());
            echo_singles.push(reads(other, &subject.token, size.few, single).await?.quantile_us(0.5));
            singles.push(reads(one, &subject.token, size.few, single).await?.quantile_us(0.5));
        }
        let bar = if durability == "fsync" { Bar::AtLeast(0.7) } else { Bar::None };
        let name = |what: &str| format!("read, {durability}: {what}");
        figures.push(Figure::ratio(
            &name("4 x 64 in flight"),
            median(rates),
            "requests/s",
            median(echo_rates),
            bar,
        ));
        let bar = if durability == "fsync" { Bar::AtMost(2.0) } else { Bar::None };
        figures.push(Figure::ratio(
            &name("p99, 4 x 64 in flight"),
            median(tails),
            "us",
            median(echo_tails),
            bar,
        ));
        let echo_single = median(echo_singles);
        if durability == "fsync" {
            let group = 1e6 / disk::groups_per_second(&directory, 1, AUDIT_LINE, size.span / 2)?;
            let allowed = echo_single + group;
            figures.push(Figure::ratio(
                &name("one at a time, p50, against echo + one fsync"),
                median(singles),
                "us",
                allowed,
                Bar::AtMost(1.0),
            ));
        } else {
            figures.push(Figure::ratio(
                &name("one at a time, p50"),
                median(singles),
                "us",
                echo_single,
                Bar::AtMost(1.5),
            ));
        }
    }
    Ok(figures)
}

/// Durable writes with 64 in flight, against a bare loop that appends as many bytes in groups of 64 with the three
/// barriers a write has: intent, data, outcome.
///
/// # Errors
/// A server, a request or the disk failed.
pub async fn write(work: &Path, size: Size) -> io::Result<Vec<Figure>> {
    const IN_FLIGHT: usize = 64;
    let directory = fresh(work, "write")?;
    let subject = Subject::start(&directory, &Options::default()).await?;
    subject.fill("secret/few", 0..size.few).await?;
    let channels = subject.channels(4).await?;
    let shape = Shape { in_flight: IN_FLIGHT / 4, span: size.span };
    let (mut rates, mut bare, mut tails) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..size.rounds {
        let groups = disk::groups_per_second(&directory, 3, IN_FLIGHT * WRITE_BYTES / 3, size.span / 2)?;
        #[expect(clippy::cast_precision_loss, reason = "64")]
        bare.push(groups * IN_FLIGHT as f64);
        let (token, count) = (subject.token.clone(), size.few);
        let measured = run(&channels, shape, move |channel, number| {
            let request = with(&token, put(&path_of(number, count)));
            async move { SecretsClient::new(channel).put(request).await.map(drop) }
        })
        .await?;
        rates.push(measured.rate);
        tails.push(measured.quantile_us(0.99));
    }
    Ok(vec![
        Figure::ratio(
            "durable write, 64 in flight",
            median(rates),
            "writes/s",
            median(bare),
            Bar::AtLeast(0.7),
        ),
        Figure::plain("durable write, 64 in flight, p99", median(tails), "us", Bar::None),
    ])
}

/// One page of 1,000 in a large folder.
///
/// # Errors
/// A server or a request failed.
pub async fn list(work: &Path, size: Size) -> io::Result<Vec<Figure>> {
    let directory = fresh(work, "list")?;
    let subject = Subject::start(&directory, &Options { durability: "os", ..Options::default() }).await?;
    subject.fill("secret/many", 0..size.folder).await?;
    let mut client = SecretsClient::new(channel(&subject.server.url, &subject.server.ca()).await?);
    let (mut first, mut later, mut page_token) = (None, Vec::new(), String::new());
    for _ in 0..20 {
        let request = v1::ListRequest { path: "secret/many".to_owned(), page_size: Some(1000), page_token };
        let started = Instant::now();
        let page = client.list(with(&subject.token, request)).await.map_err(io::Error::other)?.into_inner();
        let took = started.elapsed().as_secs_f64() * 1e3;
        if first.replace(first.unwrap_or(took)).is_some() {
            later.push(took);
        }
        page_token = page.next_page_token;
    }
    let name = format!("list one page of 1,000 in a folder of {}", size.folder);
    Ok(vec![
        Figure::plain(&name, median(later), "ms", Bar::AtMost(20.0)),
        Figure::plain(
            &format!("{name}, the first after a start"),
            first.unwrap_or(f64::NAN),
            "ms",
            Bar::None,
        ),
    ])
}

/// How reads, start and memory change with the number of secrets.
///
/// # Errors
/// A server or a request failed.
pub async fn scale(work: &Path, size: Size) -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let idle = Subject::start(&fresh(work, "idle")?, &Options::default()).await?;
    figures.push(Figure::plain(
        "memory, idle and empty",
        idle.server.memory_mib(Memory::Now)?,
        "MiB",
        Bar::AtMost(30.0),
    ));
    drop(idle);

    let directory = fresh(work, "scale")?;
    let options = Options { durability: "os", ..Options::default() };
    let mut subject = Subject::start(&directory, &options).await?;
    let (mut filled, mut smallest) = (0, f64::NAN);
    let largest = size.scale.last().copied().unwrap_or(0);
    for &count in size.scale {
        subject.fill("secret/few", filled..count).await?;
        filled = count;
        let Subject { server, root, .. } = subject;
        server.stop()?;
        let started = Instant::now();
        let server = Server::start(&directory, &options)?;
        wait_until_ready(&server).await?;
        let start = started.elapsed().as_secs_f64();
        let token = login(&server).await?;
        subject = Subject { server, token, root };

        let channels = subject.channels(1).await?;
        let shape = Shape { in_flight: 1, span: size.span };
        // Twice: the first run warms what is warm in a server that has been up for a while.
        reads(&channels, &subject.token, count, shape).await?;
        let latency = reads(&channels, &subject.token, count, shape).await?.quantile_us(0.5);
        let resident = subject.server.memory_mib(Memory::Now)?;
        if smallest.is_nan() {
            smallest = latency;
        }
        let judged = count == largest;
        let bar = |bar: Bar| if judged { bar } else { Bar::None };
        let name = |what: &str| format!("{count} secrets: {what}");
        figures.push(Figure::ratio(
            &name("read p50 against the smallest"),
            latency,
            "us",
            smallest,
            bar(Bar::AtMost(1.3)),
        ));
        figures.push(Figure::plain(
            &name("start to serving, unseal included"),
            start,
            "s",
            bar(Bar::AtMost(3.0)),
        ));
        figures.push(Figure::plain(&name("resident memory"), resident, "MiB", bar(Bar::AtMost(300.0))));
    }
    Ok(figures)
}

async fn wait_until_ready(server: &Server) -> io::Result<()> {
    let channel = channel(&server.url, &server.ca()).await?;
    let client = v1::sys_client::SysClient::new(channel);
    let open = async || {
        let status = client.clone().status(v1::StatusRequest {}).await.ok()?.into_inner();
        (status.initialized && !status.sealed).then_some(())
    };
    found_async("the server has unsealed", Duration::from_secs(60), open).await
}

/// Policy decisions, in this process: the smallest and the largest set.
///
/// # Errors
/// A policy did not compile: a fault of the benchmark.
pub fn policy(size: Size) -> io::Result<Vec<Figure>> {
    let (few, _) = decision_ns(10, 100, size.span / 2)?;
    let (many, compile) = decision_ns(10_000, 100_000, size.span / 2)?;
    Ok(vec![
        Figure::plain(
            "policy decision, 10,000 roles and 100,000 bindings",
            many / 1000.0,
            "us",
            Bar::AtMost(2.0),
        ),
        Figure::ratio(
            "policy decision, against 10 roles and 100 bindings",
            many,
            "ns",
            few,
            Bar::AtMost(1.5),
        ),
        Figure::plain("policy of that size: parse and compile", compile.as_secs_f64() * 1e3, "ms", Bar::None),
    ])
}

fn decision_ns(roles: u32, bindings: u32, span: Duration) -> io::Result<(f64, Duration)> {
    use std::fmt::Write;
    let mut yaml = String::new();
    for role in 0..roles {
        let _ = write!(
            yaml,
            "---\nkind: Role\nname: role-{role}\nrules:\n\
             - paths: [\"secret/team-{role}/{{{{namespace}}}}/**\", \"secret/shared/*/config\"]\n  verbs: [read, list]\n\
             - paths: [\"secret/team-{role}/*/admin/**\"]\n  verbs: [\"*\"]\n  effect: deny\n"
        );
    }
    for binding in 0..bindings {
        let role = binding % roles;
        let _ = write!(
            yaml,
            "---\nkind: Binding\nname: binding-{binding}\nrole: role-{role}\nsubjects:\n\
             - serviceAccount: {{cluster: main, namespace: ns-{binding}, name: app}}\n"
        );
    }
    let started = Instant::now();
    let documents = Documents::parse(&yaml).map_err(|problems| io::Error::other(format!("{problems:?}")))?;
    let set = PolicySet::compile(documents).map_err(|problems| io::Error::other(format!("{problems:?}")))?;
    let compile = started.elapsed();

    let asked: Vec<(Principal, SecretPath)> = (0..1024_u32)
        .map(|n| {
            let binding = n.wrapping_mul(2_654_435_761) % bindings;
            let principal = Principal::ServiceAccount {
                cluster: "main".into(),
                namespace: format!("ns-{binding}").into(),
                name: "app".into(),
                uid: "u".into(),
                pod: None,
            };
            let path = SecretPath::parse(&format!("secret/team-{}/ns-{binding}/db", binding % roles));
            Ok((principal, path.map_err(io::Error::other)?))
        })
        .collect::<io::Result<_>>()?;
    let context = Context { peer: None, now: Timestamp::from_millis(1) };
    let started = Instant::now();
    let mut decided = 0_u32;
    while started.elapsed() < span {
        for (principal, path) in &asked {
            let question = Question { principal, verb: Verb::Read, path, context: &context };
            std::hint::black_box(set.decide(&question));
        }
        decided += 1024;
    }
    Ok((started.elapsed().as_secs_f64() * 1e9 / f64::from(decided), compile))
}

/// A directory of its own for one measurement.
pub(super) fn fresh(work: &Path, name: &str) -> io::Result<std::path::PathBuf> {
    let directory = work.join(name);
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

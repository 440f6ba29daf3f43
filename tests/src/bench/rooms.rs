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
    load::{Measured, Shape, run},
    subject::{Subject, channel, login, with},
};
use crate::{
    figures::{Bar, Figure, median},
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

/// Under two minutes.
pub const QUICK: Size = Size {
    span: Duration::from_millis(1000),
    rounds: 3,
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

async fn get(channel: Channel, token: MetadataValue<Ascii>, path: String) -> Result<(), tonic::Status> {
    SecretsClient::new(channel).get(with(&token, v1::GetRequest { path, version: None })).await.map(drop)
}

pub(super) async fn reads(
    channels: &[Channel],
    token: &MetadataValue<Ascii>,
    count: u64,
    shape: Shape,
) -> io::Result<Measured> {
    let token = token.clone();
    run(channels, shape, move |channel, number| get(channel, token.clone(), path_of(number, count))).await
}

/// Spread over all of them, so that a cache of the last few helps nobody.
pub(super) fn path_of(number: u64, count: u64) -> String {
    format!("secret/few/{:07}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % count)
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
    let empty = Server::start(&fresh(work, "empty")?, &Options::default())?;
    let resident = empty.memory_mib(Memory::Now)?;
    figures.push(Figure::plain("memory before init", resident, "MiB", Bar::AtMost(20.0)));
    drop(empty);
    let used = Subject::start(&fresh(work, "used")?, &Options::default()).await?;
    let resident = used.server.memory_mib(Memory::Now)?;
    figures.push(Figure::plain("memory after the first login", resident, "MiB", Bar::AtMost(25.0)));
    drop(used);

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
    let ((few, ..), (many, read, compile)) = (policy_of(10, 100)?, policy_of(10_000, 100_000)?);
    let (few, many) = (Asked::of(few, 10, 100)?, Asked::of(many, 10_000, 100_000)?);
    let pair = |_| (many.decision_ns(size.span / 4), few.decision_ns(size.span / 4));
    let pairs: Vec<_> = (0..size.rounds).map(pair).collect();
    Ok(vec![
        Figure::plain(
            "policy decision, 10,000 roles and 100,000 bindings",
            median(pairs.iter().map(|(many, _)| many / 1000.0).collect()),
            "us",
            Bar::AtMost(2.0),
        ),
        Figure::pairs("policy decision, against 10 roles and 100 bindings", &pairs, "ns", Bar::AtMost(1.5)),
        Figure::plain(
            "policy of that size: read as it is stored, and compile",
            (read + compile).as_secs_f64() * 1e3,
            "ms",
            Bar::AtMost(500.0),
        ),
        Figure::plain("the same: read alone", read.as_secs_f64() * 1e3, "ms", Bar::None),
        Figure::plain(
            "10,000 watches asked what an unrelated change means to them",
            unrelated_change(10_000)?.as_secs_f64() * 1e3,
            "ms",
            Bar::AtMost(200.0),
        ),
    ])
}

/// As many pods as a large cluster has, each of which watches two secrets, and a change of a role that all of them are bound to,
/// elsewhere: none is dismissed at the first look, and none is ended.
fn unrelated_change(watches: u32) -> io::Result<Duration> {
    let policy = |elsewhere: &str| {
        let yaml = format!(
            "kind: Role\nname: own\nrules:\n\
             - paths: [\"secret/apps/{{{{namespace}}}}/**\"]\n  verbs: [read]\n\
             - paths: [\"secret/shared/{elsewhere}\"]\n  verbs: [read]\n\
             ---\nkind: Binding\nname: own\nrole: own\nsubjects:\n\
             - serviceAccount: {{cluster: main, namespace: \"*\", name: \"*\"}}\n"
        );
        let wrong = |problems| io::Error::other(format!("{problems:?}"));
        PolicySet::compile(Documents::parse(&yaml).map_err(wrong)?).map_err(wrong)
    };
    let (before, after) = (policy("one")?, policy("two")?);
    let watch = |n: u32| {
        let namespace = format!("ns-{}", n % 100);
        let path = |name: &str| SecretPath::parse(&format!("secret/apps/{namespace}/{name}"));
        let places = [path("db").map_err(io::Error::other)?, path("api").map_err(io::Error::other)?];
        let principal = Principal::ServiceAccount {
            cluster: "main".into(),
            namespace: namespace.into(),
            name: format!("app-{n}").into(),
            uid: "u".into(),
            pod: None,
        };
        Ok((principal, places))
    };
    let watching: Vec<_> = (0..watches).map(watch).collect::<io::Result<_>>()?;
    let started = Instant::now();
    let all =
        watching.iter().all(|(who, places)| places.iter().all(|place| after.agrees(&before, who, place)));
    let took = started.elapsed();
    if all { Ok(took) } else { Err(io::Error::other("a watch ended that the change does not concern")) }
}

/// A set of that size, and what it took to read it as it is stored and to compile it.
fn policy_of(roles: u32, bindings: u32) -> io::Result<(PolicySet, Duration, Duration)> {
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
    let wrong = |problems| io::Error::other(format!("{problems:?}"));
    let stored: Vec<_> = Documents::parse(&yaml).map_err(wrong)?.all_stored().collect();
    let started = Instant::now();
    let documents = Documents::from_stored(stored.iter().map(String::as_str)).map_err(wrong)?;
    let read = started.elapsed();
    let set = PolicySet::compile(documents).map_err(wrong)?;
    Ok((set, read, started.elapsed() - read))
}

/// A set and questions that it says yes to.
struct Asked {
    set: PolicySet,
    questions: Vec<(Principal, SecretPath)>,
}

impl Asked {
    fn of(set: PolicySet, roles: u32, bindings: u32) -> io::Result<Self> {
        let question = |n: u32| {
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
        };
        Ok(Self { set, questions: (0..1024).map(question).collect::<io::Result<_>>()? })
    }

    fn decision_ns(&self, span: Duration) -> f64 {
        let context = Context { peer: None, now: Timestamp::from_millis(1), wrapped: false };
        let started = Instant::now();
        let mut decided = 0_u32;
        while started.elapsed() < span {
            for (principal, path) in &self.questions {
                let question = Question { principal, verb: Verb::Read, path, context: &context };
                std::hint::black_box(self.set.judge(&question));
                decided += 1;
            }
        }
        started.elapsed().as_secs_f64() * 1e9 / f64::from(decided)
    }
}

/// A directory of its own for one measurement.
pub(super) fn fresh(work: &Path, name: &str) -> io::Result<std::path::PathBuf> {
    let directory = work.join(name);
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

//! Hostile clients against good ones: connections that say nothing, streams that are opened and reset, headers without an
//! end, bodies that never come, lengths that lie. The server keeps its memory, the good clients keep their answers, and
//! once the others are gone it is as before.
//!
//! All of the attack runs on one thread, so that it takes at most one of the machine's processors away by itself.

use std::{
    io,
    net::Ipv4Addr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use strongroom_proto::v1::{self, policy_client::PolicyClient, secrets_client::SecretsClient};
use tokio::{sync::watch, task::JoinSet};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::{
    bench::{
        load::{self, Measured, Shape},
        subject::{Subject, channel, login_as, put_user, with},
    },
    figures::{Bar, Figure},
    server::{Memory, Options},
    wire::{END_HEADERS, END_STREAM, Target, Wire, call, frame, header, kind},
};

const PUT: &str = "/strongroom.v1.Secrets/Put";
/// What the good clients do.
const SHAPE: Shape = Shape { in_flight: 4, span: Duration::from_secs(5) };
/// How many they are: with what may be used at once they have 480,000 reads, more than any machine does in two runs.
const APPLICATIONS: u64 = 8;
/// Secrets they read.
const SECRETS: u64 = 100;
/// Tasks of each kind of attack but the first.
const ATTACKERS: u8 = 4;
/// Tasks that open silent connections.
const OPENERS: u64 = 16;
/// Connections from one address, below the server's limit: its places are to be taken, not one address's.
const PER_ADDRESS: u64 = 200;

/// How it went for the attackers.
#[derive(Default)]
struct Tries {
    silent: AtomicU64,
    malformed: AtomicU64,
}

/// Runs it with so many silent connections.
///
/// # Errors
/// The harness itself failed, or a good client was refused.
pub async fn run(work: &Path, silent: u64) -> io::Result<Vec<Figure>> {
    let directory = work.join("hostile");
    std::fs::create_dir_all(&directory)?;
    let subject = Subject::start(&directory, &Options::default()).await?;
    let good = Good::of(&subject).await?;
    let quiet = good.read().await?;

    let (stop, stopped) = watch::channel(false);
    let (target, tries) = (Target::of(&subject.server)?, Arc::new(Tries::default()));
    let attack = thread::spawn({
        let tries = Arc::clone(&tries);
        move || attack(&target, silent, &tries, stopped)
    });
    let under_attack = good.read().await;
    let peak = subject.server.memory_mib(Memory::Peak)?;
    stop.send_replace(true);
    attack.join().map_err(|_| io::Error::other("the attack panicked"))??;
    let under_attack = under_attack?;
    let recovered = recovery(&subject).await?;

    let what = format!(
        "hostile clients ({} silent connections, {} malformed ones)",
        tries.silent.load(Ordering::Relaxed),
        tries.malformed.load(Ordering::Relaxed)
    );
    Ok(vec![
        Figure::plain(&format!("{what}: most resident memory"), peak, "MiB", Bar::AtMost(256.0)),
        Figure::ratio(
            "hostile clients: p99 of good clients, against that without them",
            under_attack.quantile_us(0.99),
            "us",
            quiet.quantile_us(0.99),
            Bar::AtMost(5.0),
        ),
        Figure::plain(
            "hostile clients: from their end to a new client's first answer",
            recovered.as_secs_f64(),
            "s",
            Bar::AtMost(5.0),
        ),
    ])
}

/// Clients that read, and want to go on doing so: many applications, none of which uses up its quota however fast the machine is.
pub(super) struct Good {
    channels: Vec<Channel>,
    tokens: Arc<Vec<MetadataValue<Ascii>>>,
}

impl Good {
    /// With secrets to read.
    pub(super) async fn of(subject: &Subject) -> io::Result<Self> {
        subject.fill("secret/hostile", 0..SECRETS).await?;
        let channels = subject.channels(2).await?;
        let channel = channels.first().ok_or_else(|| io::Error::other("no channel"))?;
        let (mut tokens, mut subjects) = (Vec::new(), String::new());
        for number in 0..APPLICATIONS {
            let name = format!("application-{number}");
            put_user(channel, &subject.root, &name).await?;
            tokens.push(login_as(&subject.server, &name).await?);
            subjects.push_str(&format!("- user: {{method: userpass, name: {name}}}\n"));
        }
        let yaml = format!(
            "kind: Role\nname: good\nrules:\n- {{paths: [\"secret/hostile/*\"], verbs: [read]}}\n---\n\
             kind: Binding\nname: good\nrole: good\nsubjects:\n{subjects}"
        );
        let apply = v1::ApplyRequest { yaml, ..Default::default() };
        let applied = PolicyClient::new(channel.clone()).apply(with(&subject.root, apply)).await;
        applied.map_err(io::Error::other)?;
        Ok(Self { channels, tokens: Arc::new(tokens) })
    }

    pub(super) async fn read(&self) -> io::Result<Measured> {
        let tokens = Arc::clone(&self.tokens);
        load::run(&self.channels, SHAPE, move |channel, number| {
            let tokens = Arc::clone(&tokens);
            async move {
                let token = usize::try_from(number % APPLICATIONS).ok().and_then(|at| tokens.get(at));
                let token = token.ok_or_else(|| tonic::Status::internal("an application without a token"))?;
                let path = format!("secret/hostile/{:07}", number % SECRETS);
                let request = with(token, v1::GetRequest { path, version: None });
                SecretsClient::new(channel).get(request).await.map(drop)
            }
        })
        .await
    }
}

async fn recovery(subject: &Subject) -> io::Result<Duration> {
    let began = Instant::now();
    loop {
        if let Ok(channel) = channel(&subject.server.url, &subject.server.ca()).await {
            let request = v1::GetRequest { path: "secret/hostile/0000001".to_owned(), version: None };
            if SecretsClient::new(channel).get(with(&subject.token, request)).await.is_ok() {
                return Ok(began.elapsed());
            }
        }
        if began.elapsed() > Duration::from_secs(60) {
            return Err(io::Error::other("the server does not recover"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn attack(
    target: &Target,
    silent: u64,
    tries: &Arc<Tries>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for opener in 0..OPENERS {
            let (target, tries) = (target.clone(), Arc::clone(tries));
            tasks.spawn(async move { open_silent(&target, opener, silent / OPENERS, &tries).await });
        }
        for attacker in 0..ATTACKERS {
            tasks.spawn(again_and_again(target.clone(), attacker, Arc::clone(tries), reset_rapidly));
            tasks.spawn(again_and_again(target.clone(), attacker, Arc::clone(tries), send_endless_headers));
            tasks.spawn(again_and_again(target.clone(), attacker, Arc::clone(tries), lie_about_lengths));
            tasks.spawn(again_and_again(target.clone(), attacker, Arc::clone(tries), drip_bodies));
        }
        // The sender cannot be gone before it has said so.
        let _told = stop.wait_for(|stop| *stop).await;
        // Drops all connections.
        tasks.shutdown().await;
    });
    Ok(())
}

/// Opens connections and holds them, until the attack ends.
async fn open_silent(target: &Target, opener: u64, count: u64, tries: &Tries) {
    let mut held = Vec::new();
    for number in 0..count {
        let host = u8::try_from((opener * count + number) / PER_ADDRESS % 250).unwrap_or(0);
        tries.silent.fetch_add(1, Ordering::Relaxed);
        // Beyond the server's places they are hung up on.
        if let Ok(connection) = target.tls(Ipv4Addr::new(127, 0, 3, host + 1)).await {
            held.push(connection);
        }
    }
    std::future::pending::<()>().await;
}

async fn again_and_again<F>(target: Target, attacker: u8, tries: Arc<Tries>, attack: F)
where
    F: AsyncFn(Wire),
{
    loop {
        tries.malformed.fetch_add(1, Ordering::Relaxed);
        match target.http2(Ipv4Addr::new(127, 0, 4, attacker + 1)).await {
            Ok(wire) => attack(wire).await,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// CVE-2023-44487.
async fn reset_rapidly(mut wire: Wire) {
    let block = call(PUT);
    for round in 0_u32.. {
        let stream = 2 * round + 1;
        let open = frame(kind::HEADERS, END_HEADERS, stream, &block);
        if wire.send(&[open, frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()).await.is_err() {
            return;
        }
    }
}

/// CVE-2024-27316.
async fn send_endless_headers(mut wire: Wire) {
    let field = frame(kind::CONTINUATION, 0, 1, &header("x-filler", &"x".repeat(8000)));
    if wire.send(&frame(kind::HEADERS, 0, 1, &call(PUT))).await.is_ok() {
        while wire.send(&field).await.is_ok() {}
    }
}

/// A message of 4 GiB, it says.
async fn lie_about_lengths(mut wire: Wire) {
    let open = frame(kind::HEADERS, END_HEADERS, 1, &call(PUT));
    let body = frame(kind::DATA, END_STREAM, 1, &[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
    if wire.send(&[open, body].concat()).await.is_ok() {
        // What is answered does not matter.
        let _answer = wire.answer(1).await;
    }
}

/// A hundred messages of 1 MiB, of which a byte comes now and then.
async fn drip_bodies(mut wire: Wire) {
    let streams = (0..100_u32).map(|number| 2 * number + 1);
    let begin = |stream| {
        let open = frame(kind::HEADERS, END_HEADERS, stream, &call(PUT));
        [open, frame(kind::DATA, 0, stream, &[0, 0, 0x10, 0, 0])].concat()
    };
    let drip = |stream| frame(kind::DATA, 0, stream, &[1]);
    let mut bytes = streams.clone().flat_map(begin).collect::<Vec<u8>>();
    while wire.send(&bytes).await.is_ok() {
        bytes = streams.clone().flat_map(drip).collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

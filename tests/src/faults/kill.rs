//! kill -9 in the middle of acknowledged writes, and in the middle of starting: nothing acknowledged may be lost, the
//! server must come up again, and the audit log must tell of each write how it ended, as the store has it.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use strongroom_proto::v1::{self, secrets_client::SecretsClient};
use tokio::task::JoinSet;
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{dice::Dice, intents::Intents};
use crate::{
    bench::subject::{Subject, channel, login, with},
    figures::{Bar, Figure},
    server::{Options, Server},
    wait::nothing_for,
};

/// Tasks that write at the same time.
const WRITERS: u64 = 16;
/// Paths each of them writes to, again and again.
const PATHS: u64 = 50;
/// One round in so many is killed while it starts.
const START_KILL: u64 = 4;

/// The last value acknowledged for each path, and the last one tried.
#[derive(Default)]
struct Ledger {
    acknowledged: BTreeMap<String, u64>,
    tried: BTreeMap<String, u64>,
}

/// What the rounds counted.
#[derive(Default)]
struct KillTally {
    acknowledged: u64,
    lost: u64,
    unreadable: u64,
    /// Paths whose number of versions is not the one that the log tells.
    disagreeing: u64,
    slowest: Duration,
}

/// Runs the rounds.
///
/// # Errors
/// The harness itself failed, or the server did not come up again.
pub async fn run(work: &Path, rounds: u64, records: u64, seed: u64) -> io::Result<Vec<Figure>> {
    let directory = work.join("kill");
    std::fs::create_dir_all(&directory)?;
    let mut dice = Dice::new(seed);
    let filling = Subject::start(&directory, &Options { durability: "os", ..Options::default() }).await?;
    filling.fill("secret/ballast", 0..records).await?;
    filling.server.stop()?;

    let options = Options::default();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let (mut tally, mut intents) = (KillTally::default(), Intents::default());
    let audit = directory.join("audit");
    for round in 0..rounds {
        if round % START_KILL == 1 {
            kill_while_starting(&directory, &options, dice.below(300))?;
        }
        let started = Instant::now();
        let server = Server::start(&directory, &options)?;
        let channel = ready(&server).await?;
        tally.slowest = tally.slowest.max(started.elapsed());
        let token = login(&server).await?;
        intents.read_on(&audit)?;
        compare(&channel, &token, &intents, &mut tally).await?;
        check(&channel, &token, &ledger, &mut tally).await?;
        let writers = write_until_dead(&channel, &token, &ledger);
        tokio::time::sleep(Duration::from_millis(dice.below(250))).await;
        server.kill()?;
        writers.join_all().await;
    }
    let server = Server::start(&directory, &options)?;
    let channel = ready(&server).await?;
    let token = login(&server).await?;
    intents.read_on(&audit)?;
    compare(&channel, &token, &intents, &mut tally).await?;
    check(&channel, &token, &ledger, &mut tally).await?;
    server.stop()?;

    let tries = tally.acknowledged;
    Ok(vec![
        Figure::never(
            &format!("kill -9, {rounds} rounds: acknowledged writes lost"),
            tally.lost,
            "lost",
            tries,
        ),
        Figure::never(
            &format!("kill -9, {rounds} rounds: records unreadable"),
            tally.unreadable,
            "unreadable",
            tries,
        ),
        Figure::never(
            &format!("kill -9, {rounds} rounds: intents without exactly one end in the audit log"),
            intents.wrong,
            "wrong",
            intents.count(),
        ),
        Figure::never(
            &format!(
                "kill -9, {rounds} rounds: ends from the store ({} applied, {} not) that disagree with it",
                intents.recovered_applied, intents.recovered_not_applied
            ),
            tally.disagreeing,
            "wrong",
            intents.recovered_applied.min(intents.recovered_not_applied),
        ),
        Figure::plain(
            &format!("kill -9: slowest start to serving with {records} secrets"),
            tally.slowest.as_secs_f64(),
            "s",
            // Twice of what it takes on an idle machine: a start reads the whole log before sled may open it.
            Bar::AtMost(2.0),
        ),
    ])
}

fn kill_while_starting(directory: &Path, options: &Options, after_ms: u64) -> io::Result<()> {
    let mut child = std::process::Command::new(crate::server::binary("strongroom-server")?)
        .arg("--config")
        .arg(directory.join("server.toml"))
        .args(&options.arguments)
        .stderr(std::process::Stdio::null())
        .spawn()?;
    nothing_for(Duration::from_millis(after_ms));
    child.kill()?;
    child.wait().map(drop)
}

/// A connection to a server that is unsealed.
async fn ready(server: &Server) -> io::Result<Channel> {
    let channel = channel(&server.url, &server.ca()).await?;
    let status = v1::sys_client::SysClient::new(channel.clone()).status(v1::StatusRequest {}).await;
    let status = status.map_err(io::Error::other)?.into_inner();
    if status.sealed {
        return Err(io::Error::other(format!("the server came up sealed:\n{}", server.log())));
    }
    Ok(channel)
}

fn write_until_dead(
    channel: &Channel,
    token: &MetadataValue<Ascii>,
    ledger: &Arc<Mutex<Ledger>>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let (mut client, token, ledger) =
            (SecretsClient::new(channel.clone()), token.clone(), Arc::clone(ledger));
        tasks.spawn(async move {
            for turn in 0.. {
                let path = format!("secret/kill/w{writer}/p{}", turn % PATHS);
                let value = {
                    let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                    let tried = ledger.tried.entry(path.clone()).or_default();
                    *tried += 1;
                    *tried
                };
                if client.put(with(&token, put(&path, value))).await.is_err() {
                    return;
                }
                ledger.lock().unwrap_or_else(PoisonError::into_inner).acknowledged.insert(path, value);
            }
        });
    }
    tasks
}

/// Different sizes, so that some records are chunked.
fn put(path: &str, value: u64) -> v1::PutRequest {
    let size =
        if value.is_multiple_of(7) { 150_000 } else { 20 + usize::try_from(value % 3000).unwrap_or(0) };
    let mut bytes = value.to_string().into_bytes();
    bytes.resize(size, b'.');
    let data = BTreeMap::from([("value".to_owned(), v1::Sensitive { value: bytes })]);
    v1::PutRequest { path: path.to_owned(), data, ..Default::default() }
}

/// A path has as many versions as the log says that it has had puts. Each path has one writer, so each of its ends counts.
async fn compare(
    channel: &Channel,
    token: &MetadataValue<Ascii>,
    intents: &Intents,
    tally: &mut KillTally,
) -> io::Result<()> {
    let mut client = SecretsClient::new(channel.clone());
    for (path, expected) in intents.applied("secret/kill/") {
        let request = v1::GetRequest { path, version: None };
        let version = client.get(with(token, request)).await.map(|answer| answer.into_inner().version);
        tally.disagreeing += u64::from(version.ok() != Some(expected));
    }
    Ok(())
}

/// Every path holds what was acknowledged last, or what was tried after it.
async fn check(
    channel: &Channel,
    token: &MetadataValue<Ascii>,
    ledger: &Arc<Mutex<Ledger>>,
    tally: &mut KillTally,
) -> io::Result<()> {
    let expected: Vec<(String, u64, u64)> = {
        let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let tried = |path: &str| ledger.tried.get(path).copied().unwrap_or(0);
        ledger.acknowledged.iter().map(|(path, value)| (path.clone(), *value, tried(path))).collect()
    };
    let mut client = SecretsClient::new(channel.clone());
    for (path, acknowledged, tried) in expected {
        tally.acknowledged += 1;
        let request = v1::GetRequest { path: path.clone(), version: None };
        match client.get(with(token, request)).await {
            Ok(answer) => {
                let data = answer.into_inner().data;
                let value = data.get("value").map(|value| value.value.as_slice()).unwrap_or_default();
                let digits: String =
                    value.iter().take_while(|b| b.is_ascii_digit()).map(|b| char::from(*b)).collect();
                let found: u64 = digits.parse().unwrap_or(0);
                if !(acknowledged..=tried).contains(&found) {
                    tally.lost += 1;
                }
            }
            Err(status) if status.code() == tonic::Code::NotFound => tally.lost += 1,
            Err(_) => tally.unreadable += 1,
        }
    }
    Ok(())
}

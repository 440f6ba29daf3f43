//! Simulated power cuts. A recorder, preloaded into a real server, writes down each write and sync of its first start,
//! its init, acknowledged puts, a kill and another start. Then the power goes at any call of that: the disk keeps what was
//! synced and any part of the rest. A server that starts on what is left must open and have all that was acknowledged
//! before the cut.

mod broken;
mod disk;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use strongroom_proto::v1::{self, secrets_client::SecretsClient};
use tokio::task::JoinSet;

use self::disk::{Call, Disk, calls};
use super::{dice::Dice, intents::Intents};
use crate::{
    bench::subject::{Subject, channel, login, with},
    figures::{Bar, Figure},
    pki::Pki,
    server::{Options, Server},
};

const RECORDER: &str = include_str!("recorder.c");
const WRITERS: u64 = 8;
/// Puts of each writer after each of the two starts.
const PUTS: u64 = 25;
const PATHS: u64 = 5;
/// Images on a disk that lies about syncs: it must be noticed.
const LIES: u64 = 6;

/// A recorded life.
struct Life {
    before: Disk,
    calls: Vec<Call>,
    /// Where the second process begins in the trace.
    second: usize,
    initialised: usize,
    /// Path -> (length of the trace, value), in order.
    acknowledged: BTreeMap<String, Vec<(usize, u64)>>,
}

#[derive(Default)]
struct PowerTally {
    not_open: u64,
    lost: u64,
    acknowledged: u64,
    without_end: u64,
    first_error: Option<String>,
}

/// Cuts the power so many times.
///
/// # Errors
/// The harness itself failed.
pub async fn run(work: &Path, cuts: u64, seed: u64) -> io::Result<Vec<Figure>> {
    let work = fs::canonicalize(work)?.join("power");
    let live = work.join("live");
    fs::create_dir_all(&live)?;
    let library = compile(&work)?;
    let life = record(&work, &live, &library).await?;

    let (mut dice, mut tally, mut lies) = (Dice::new(seed), PowerTally::default(), PowerTally::default());
    for number in 0..cuts {
        // Every third cut is in the first start or the init.
        let range = if number % 3 == 0 { life.calls_until(life.initialised) } else { life.calls.len() };
        let cut = usize::try_from(dice.below(range as u64)).unwrap_or(0);
        life.try_cut(&live, &work.join(format!("cut-{number}")), cut, false, &mut dice, &mut tally).await?;
    }
    for number in 0..LIES {
        let cut = life.calls.len() - 1;
        life.try_cut(&live, &work.join(format!("lie-{number}")), cut, true, &mut dice, &mut lies).await?;
    }
    if let Some(error) = &tally.first_error {
        return Err(io::Error::other(error.clone()));
    }
    let noticed = if lies.lost + lies.not_open > 0 { 1.0 } else { 0.0 };
    let broken = broken::run(&work, &live, &library, cuts / 2, &mut dice).await?;
    let figures = vec![
        Figure::never(&format!("power cuts, {cuts} images: do not open"), tally.not_open, "images", cuts),
        Figure::never(
            &format!("power cuts, {cuts} images: acknowledged writes lost"),
            tally.lost,
            "lost",
            tally.acknowledged,
        ),
        Figure::never(
            &format!("power cuts, {cuts} images: intents without exactly one end"),
            tally.without_end,
            "wrong",
            tally.acknowledged,
        ),
        Figure::plain("power cuts: a disk that ignores syncs is noticed", noticed, "yes", Bar::AtLeast(1.0)),
    ];
    Ok(figures.into_iter().chain(broken).collect())
}

/// Starts a server with the recorder in it, twice, and writes with both.
async fn record(work: &Path, live: &Path, library: &Path) -> io::Result<Life> {
    let trace = work.join("trace");
    Pki::create(live)?;
    write_key(live)?;
    let before = Disk::of(live)?;
    let set = |name: &str, value: &Path| (name.to_owned(), value.display().to_string());
    let environment = vec![set("LD_PRELOAD", library), set("RECORD_ROOT", live), set("RECORD_TRACE", &trace)];
    let options = Options { environment, ..Options::default() };

    let mut acknowledged = BTreeMap::new();
    let subject = Subject::start(live, &options).await?;
    let initialised = length(&trace)?;
    put(&subject.server, &trace, 0, &mut acknowledged).await?;
    subject.server.kill()?;
    let second = length(&trace)?;
    let server = Server::start(live, &options)?;
    put(&server, &trace, PUTS, &mut acknowledged).await?;
    server.stop()?;
    let calls = calls(&fs::read(&trace)?);
    Ok(Life { before, calls, second, initialised, acknowledged })
}

fn compile(work: &Path) -> io::Result<PathBuf> {
    let (source, library) = (work.join("recorder.c"), work.join("recorder.so"));
    fs::write(&source, RECORDER)?;
    let done =
        Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status()?;
    if done.success() { Ok(library) } else { Err(io::Error::other("the recorder does not compile")) }
}

/// The server would make it with a system call of its own, past the recorder.
fn write_key(live: &Path) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let options =
        || fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(live.join("seal.key"));
    writeln!(options()?, "strongroom-file-key-1 {}", "5e".repeat(32))
}

fn length(trace: &Path) -> io::Result<usize> {
    usize::try_from(fs::metadata(trace)?.len()).map_err(io::Error::other)
}

async fn put(
    server: &Server,
    trace: &Path,
    from: u64,
    acknowledged: &mut BTreeMap<String, Vec<(usize, u64)>>,
) -> io::Result<()> {
    let (channel, token) = (channel(&server.url, &server.ca()).await?, login(server).await?);
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let (mut client, token, trace) =
            (SecretsClient::new(channel.clone()), token.clone(), trace.to_owned());
        tasks.spawn(async move {
            let mut done = Vec::new();
            for value in from + 1..=from + PUTS {
                let path = format!("secret/power/w{writer}/p{}", value % PATHS);
                let data = BTreeMap::from([("value".to_owned(), v1::Sensitive { value: content(value) })]);
                let request = v1::PutRequest { path: path.clone(), data, ..Default::default() };
                client.put(with(&token, request)).await.map_err(io::Error::other)?;
                done.push((path, length(&trace)?, value));
            }
            Ok::<_, io::Error>(done)
        });
    }
    while let Some(ended) = tasks.join_next().await {
        for (path, at, value) in ended?? {
            acknowledged.entry(path).or_default().push((at, value));
        }
    }
    Ok(())
}

/// The number, and as much behind it that some are chunked.
fn content(value: u64) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.resize(if value.is_multiple_of(7) { 100_000 } else { 300 }, b'.');
    bytes
}

fn number(content: &[u8]) -> u64 {
    let digits: String = content.iter().take_while(|b| b.is_ascii_digit()).map(|b| char::from(*b)).collect();
    digits.parse().unwrap_or(0)
}

impl Life {
    fn calls_until(&self, length: usize) -> usize {
        self.calls.iter().take_while(|call| call.end <= length).count()
    }

    /// The power goes behind the call of that number; a server starts on what is left.
    async fn try_cut(
        &self,
        live: &Path,
        image: &Path,
        cut: usize,
        lies: bool,
        dice: &mut Dice,
        tally: &mut PowerTally,
    ) -> io::Result<()> {
        let mut disk = self.before.clone();
        disk.lies = lies;
        let mut at = 0;
        for call in self.calls.iter().take(cut + 1) {
            if at <= self.second && call.end > self.second {
                disk.process_ended();
            }
            disk.play(call);
            at = call.end;
        }
        fs::create_dir_all(image)?;
        disk.cut(live, image, dice)?;
        match Server::start(image, &Options::default()) {
            Err(error) => {
                tally.not_open += 1;
                tally.first_error.get_or_insert_with(|| format!("cut behind call {cut}: {error}"));
            }
            Ok(server) if at >= self.initialised => {
                if self.compare(&server, at, tally).await.is_err() {
                    tally.not_open += 1;
                }
                let mut intents = Intents::default();
                intents.read_on(&image.join("audit"))?;
                tally.without_end += intents.wrong;
            }
            Ok(_) => {}
        }
        fs::remove_dir_all(image)
    }

    /// Every path has the last value that was acknowledged before the cut, or a later one.
    async fn compare(&self, server: &Server, at: usize, tally: &mut PowerTally) -> io::Result<()> {
        let (channel, token) = (channel(&server.url, &server.ca()).await?, login(server).await?);
        let mut client = SecretsClient::new(channel);
        for (path, values) in &self.acknowledged {
            let Some((_, expected)) = values.iter().rfind(|(when, _)| *when <= at) else { continue };
            tally.acknowledged += 1;
            let request = v1::GetRequest { path: path.clone(), version: None };
            let found = client.get(with(&token, request)).await.ok().map(|answer| answer.into_inner());
            let value = found.and_then(|found| found.data.get("value").map(|value| number(&value.value)));
            tally.lost += u64::from(value.is_none_or(|value| value < *expected));
        }
        Ok(())
    }
}

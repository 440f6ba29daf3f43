//! The audit log of a server under load, taken away under its hands: from then on nothing may be answered. And old copies of
//! log and data in every combination: only what belongs together may be unsealed. And a file system that is filled and freed
//! again and again under many writers: each write that was let in has its end in the log.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use strongroom_proto::v1::{self, secrets_client::SecretsClient};

use tokio::task::JoinSet;

use super::intents::Intents;
use crate::{
    audit_log::{self, segments},
    bench::subject::{Subject, channel, login, with},
    figures::{Bar, Figure},
    http::http_get,
    one_node::may_mount,
    server::{Options, Server},
    wait::{DEADLINE, found, until_async},
    world::copy,
};

/// How long after it the last answer may come: the server looks each second, and machines are slow at times.
const NOTICED: Duration = Duration::from_secs(3);

/// Times that the disk is filled.
const CYCLES: u64 = 4;
/// Who write meanwhile.
const WRITERS: u64 = 24;
/// Small, and large enough for what they write.
const DISK: &std::ffi::CStr = c"size=96m";
const FILLER: &str = "filler";

type Flag = Arc<AtomicBool>;
type Taken = fn(&Path) -> io::Result<()>;

const TAKEN: [Taken; 4] = [
    |path| fs::rename(path, path.with_extension("away")),
    |path| fs::remove_file(path),
    |path| fs::File::options().write(true).open(path)?.set_len(1),
    |path| match path.parent() {
        Some(folder) => fs::rename(folder, folder.with_extension("away")),
        None => Ok(()),
    },
];

/// Copies of a store and its log, each some writes further than the one before.
const COPIES: usize = 5;

/// Runs all of it.
///
/// # Errors
/// The harness itself failed.
pub async fn run(work: &Path) -> io::Result<Vec<Figure>> {
    Ok([taken_away(work).await?, older(work).await?, full_and_freed(work).await?].concat())
}

async fn taken_away(work: &Path) -> io::Result<Vec<Figure>> {
    let (mut late, mut slowest) = (0, Duration::ZERO);
    for (number, take) in TAKEN.iter().enumerate() {
        let directory = work.join(format!("log-taken-{number}"));
        fs::create_dir_all(&directory)?;
        let last = last_answer(&directory, *take).await?;
        slowest = slowest.max(last);
        late += u64::from(last > NOTICED);
    }
    Ok(vec![
        Figure::never(
            "log taken away (renamed, deleted, cut, its folder renamed): answers more than 3 s later",
            late,
            "ways",
            TAKEN.len() as u64,
        ),
        Figure::plain("log taken away: to the last answer", slowest.as_secs_f64(), "s", Bar::AtMost(1.5)),
    ])
}

/// How long a server answers writes and reads after that was done to its log.
async fn last_answer(directory: &Path, take: Taken) -> io::Result<Duration> {
    let subject = Subject::start(directory, &Options::default()).await?;
    subject.fill("secret/log", 0..50).await?;
    let channels = subject.channels(1).await?;
    let channel = channels.into_iter().next().ok_or_else(|| io::Error::other("no channel"))?;
    take(&live_segment(&directory.join("audit"))?)?;
    let (taken, mut last) = (Instant::now(), Duration::ZERO);
    loop {
        let request = v1::GetRequest { path: "secret/log/0000001".to_owned(), version: None };
        match SecretsClient::new(channel.clone()).get(with(&subject.token, request)).await {
            Ok(_) => last = taken.elapsed(),
            // It is for good.
            Err(_) => return Ok(last),
        }
        if taken.elapsed() > DEADLINE {
            return Ok(last);
        }
    }
}

/// Every log of the copies beside every data of theirs, and each pair that belongs together with the newest one's anchor.
async fn older(work: &Path) -> io::Result<Vec<Figure>> {
    let home = work.join("log-older");
    fs::create_dir_all(&home)?;
    let subject = Subject::start(&home, &Options::default()).await?;
    subject.fill("secret/log", 0..10).await?;
    subject.server.stop()?;
    let at = |number: usize| work.join(format!("log-older-{number}"));
    for number in 0..COPIES {
        let server = Server::start(&home, &Options::default())?;
        let (channel, token) = (channel(&server.url, &server.ca()).await?, login(&server).await?);
        for _ in 0..5 {
            let data = [("value".to_owned(), v1::Sensitive { value: b"x".to_vec() })].into();
            let put = v1::PutRequest { path: "secret/log/a".to_owned(), data, ..Default::default() };
            SecretsClient::new(channel.clone()).put(with(&token, put)).await.map_err(io::Error::other)?;
        }
        // The log says each second how far the data is.
        found("a checkpoint behind the last record", DEADLINE, || {
            Ok(ends_with_checkpoint(&home.join("audit"))?.then_some(()))
        })?;
        // A crash says less of the log than a clean stop.
        if number % 2 == 0 {
            server.kill()?
        } else {
            server.stop()?
        }
        for folder in ["data", "audit"] {
            copy(&home.join(folder), &at(number).join(folder))?;
        }
    }
    let (mut accepted, mut pairs, mut refused) = (0, 0, 0);
    for (log, data) in (0..COPIES).flat_map(|log| (0..COPIES).map(move |data| (log, data))) {
        let starts = starts(&home, &at(log).join("audit"), &at(data).join("data"), vec![])?;
        if log == data {
            refused += u64::from(!starts);
        } else {
            pairs += 1;
            accepted += u64::from(starts);
        }
    }
    let anchor = home.join("anchor");
    fs::write(&anchor, last_checkpoint(&at(COPIES - 1).join("audit"))?)?;
    let mut both = 0;
    for number in 0..COPIES {
        let arguments = vec!["--audit-anchor".to_owned(), anchor.display().to_string()];
        let starts = starts(&home, &at(number).join("audit"), &at(number).join("data"), arguments)?;
        if number == COPIES - 1 {
            refused += u64::from(!starts);
        } else {
            both += u64::from(starts);
        }
    }
    Ok(vec![
        Figure::never(
            "log older than the data, or data older than the log: unsealed",
            accepted,
            "pairs",
            pairs,
        ),
        Figure::never("log and data both older than an anchor: unsealed", both, "pairs", COPIES as u64 - 1),
        Figure::never("log and data of one crash or stop: not unsealed", refused, "pairs", COPIES as u64 + 1),
    ])
}

/// A file system of its own, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> io::Result<SmallDisk> {
        fs::create_dir_all(at)?;
        mount("tmpfs", at, "tmpfs", MountFlags::empty(), DISK)?;
        Ok(SmallDisk(at.to_owned()))
    }

    /// To the last block.
    fn fill(&self) -> io::Result<()> {
        let mut file = fs::File::create(self.0.join(FILLER))?;
        loop {
            match io::Write::write_all(&mut file, &[0; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn free(&self) -> io::Result<()> {
        fs::remove_file(self.0.join(FILLER))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// See the module.
///
/// # Errors
/// The harness itself failed, or the server did not go on.
pub async fn full_and_freed(work: &Path) -> io::Result<Vec<Figure>> {
    if !may_mount() {
        return Ok(Vec::new());
    }
    let home = work.join("log-full");
    let audit = home.join("audit");
    let disk = SmallDisk::mount(&audit)?;
    let subject = Subject::start(&home, &Options::default()).await?;
    let ops = subject.server.ops;
    let channels = subject.channels(4).await?;
    let (stop, done) = (Flag::default(), Arc::new(AtomicU64::new(0)));
    let mut writers = JoinSet::new();
    for (writer, channel) in (0..WRITERS).zip(channels.iter().cycle()) {
        let (mut client, token) = (SecretsClient::new(channel.clone()), subject.token.clone());
        let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
        writers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let data = [("value".to_owned(), v1::Sensitive { value: b"x".to_vec() })].into();
                let put =
                    v1::PutRequest { path: format!("secret/full/{writer}"), data, ..Default::default() };
                match client.put(with(&token, put)).await {
                    Ok(_) => _ = done.fetch_add(1, Ordering::Relaxed),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
    }
    let ready = async |code: u16| {
        until_async("readiness follows the disk", async || {
            http_get(ops, "/readyz").is_ok_and(|told| told.0 == code)
        })
        .await
    };
    for _ in 0..CYCLES {
        let before = done.load(Ordering::Relaxed);
        until_async("writes are done", async || done.load(Ordering::Relaxed) > before + WRITERS).await?;
        disk.fill()?;
        ready(503).await?;
        disk.free()?;
        ready(200).await?;
    }
    stop.store(true, Ordering::Relaxed);
    writers.join_all().await;
    let mut intents = Intents::default();
    // The server goes on: nothing of this comes from a recovery.
    intents.read_on(&audit)?;
    let failed = u64::from(subject.server.log().contains("the audit log cannot be written"));
    subject.server.stop()?;
    Ok(vec![
        Figure::never(
            &format!(
                "log's disk filled and freed {CYCLES} times under {WRITERS} writers: intents without exactly one end"
            ),
            intents.wrong,
            "intents",
            intents.count(),
        ),
        Figure::never("log's disk filled and freed: the log failed", failed, "times", CYCLES),
    ])
}

/// Whether a server starts on that log and that data, and opens.
fn starts(home: &Path, audit: &Path, data: &Path, arguments: Vec<String>) -> io::Result<bool> {
    for (from, folder) in [(audit, "audit"), (data, "data")] {
        fs::remove_dir_all(home.join(folder))?;
        copy(from, &home.join(folder))?;
    }
    match Server::start(home, &Options { arguments, ..Options::default() }) {
        Ok(server) => server.kill().map(|()| true),
        Err(error) if error.to_string().contains("--accept-rollback") => Ok(false),
        Err(error) => Err(error),
    }
}

fn ends_with_checkpoint(audit: &Path) -> io::Result<bool> {
    let text = audit_log::text(&live_segment(audit)?)?;
    Ok(text.lines().last().is_some_and(|line| line.contains("\"kind\":\"checkpoint\"")))
}

/// As `audit anchor` prints it.
fn last_checkpoint(audit: &Path) -> io::Result<String> {
    let text = audit_log::text(&live_segment(audit)?)?;
    let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Checkpoint>(line).ok());
    let last = lines.rfind(|line| line.kind == "checkpoint");
    let last = last.ok_or_else(|| io::Error::other("no checkpoint"))?;
    Ok(format!("{}:{}\n", last.seq, last.hash))
}

#[derive(serde::Deserialize)]
struct Checkpoint {
    seq: u64,
    kind: String,
    hash: String,
}

/// The file of the log that is written to.
fn live_segment(audit: &Path) -> io::Result<PathBuf> {
    segments(audit)?.pop().ok_or_else(|| io::Error::other("the audit log has no file"))
}

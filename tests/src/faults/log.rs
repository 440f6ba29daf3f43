//! The audit log of a server under load, taken away under its hands: from then on nothing may be answered.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use strongroom_proto::v1::{self, secrets_client::SecretsClient};

use crate::{
    bench::subject::{Subject, with},
    figures::{Bar, Figure},
    server::Options,
    wait::DEADLINE,
};

/// How long after it the last answer may come: the server looks each second, and machines are slow at times.
const NOTICED: Duration = Duration::from_secs(3);

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

/// Runs all of it.
///
/// # Errors
/// The harness itself failed.
pub async fn run(work: &Path) -> io::Result<Vec<Figure>> {
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

/// The file of the log that is written to.
fn live_segment(audit: &Path) -> io::Result<PathBuf> {
    let files = fs::read_dir(audit)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let segments = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    segments.max().ok_or_else(|| io::Error::other("the audit log has no file"))
}

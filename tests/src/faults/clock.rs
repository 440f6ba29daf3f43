//! Clocks that are set: a day ahead, back again, and two hours behind, while the server runs and before it starts. Whoever was
//! shut out stays out at every time, and whoever was not is let in again once the time is right.
//!
//! The server is the real one; libfaketime, loaded before it, tells it the time that stands in a file.

use std::{fs, io, path::Path};

use strongroom_proto::v1::{self, auth_client::AuthClient};
use tonic::{
    Code,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::{
    bench::subject::{self, Subject, with},
    figures::Figure,
    server::{Options, Server},
};

/// As libfaketime writes them.
const NOW: &str = "+0";
/// More than any session lives.
const DAY_AHEAD: &str = "+25h";
const BEHIND: &str = "-2h";

#[derive(Default)]
struct Tally {
    asked: u64,
    /// Revoked tokens that worked.
    worked: u64,
    asked_live: u64,
    /// Live tokens that did not work at the right time.
    refused: u64,
}

/// Runs it.
///
/// # Errors
/// libfaketime is missing, or the harness itself failed.
pub async fn run(work: &Path) -> io::Result<Vec<Figure>> {
    let directory = work.join("clock");
    fs::create_dir_all(&directory)?;
    let clock = directory.join("time");
    fs::write(&clock, NOW)?;
    let options = Options { environment: set_by(&clock)?, ..Options::default() };
    let subject = Subject::start(&directory, &options).await?;
    let (revoked, live) = (revoked(&subject).await?, subject.token.clone());

    let mut tally = Tally::default();
    let mut server = subject.server;
    for time in [NOW, DAY_AHEAD, NOW, BEHIND, NOW] {
        fs::write(&clock, time)?;
        tally.ask(&server, &revoked, (time == NOW).then_some(&live)).await?;
    }
    let mut told = 0;
    for time in [DAY_AHEAD, NOW, BEHIND, NOW] {
        server.stop()?;
        fs::write(&clock, time)?;
        server = Server::start(&directory, &options)?;
        told += u64::from(time == BEHIND && server.metric("strongroom_clock_jumps_total")? > 0);
        tally.ask(&server, &revoked, (time == NOW).then_some(&live)).await?;
    }
    server.stop()?;
    let name = |what: &str| format!("clock set 25 h ahead and 2 h back, running and at start: {what}");
    Ok(vec![
        Figure::never(&name("revoked tokens that worked"), tally.worked, "worked", tally.asked),
        Figure::never(
            &name("live tokens refused at the right time"),
            tally.refused,
            "refused",
            tally.asked_live,
        ),
        Figure::never(&name("a start before the store's own time that was not told"), 1 - told, "untold", 1),
    ])
}

/// Tokens that were ended in each way there is.
async fn revoked(subject: &Subject) -> io::Result<Vec<MetadataValue<Ascii>>> {
    let channel = subject::channel(&subject.server.url, &subject.server.ca()).await?;
    let mut tokens = Vec::new();
    for name in ["leaves", "principal", "deleted"] {
        subject::put_user(&channel, &subject.root, name).await?;
        tokens.push(subject::login_as(&subject.server, name).await?);
    }
    let mut auth = AuthClient::new(channel);
    if let [leaves, ..] = &*tokens {
        auth.logout(with(leaves, v1::LogoutRequest {})).await.map_err(io::Error::other)?;
    }
    let which = Some(v1::revoke_sessions_request::Which::Principal("userpass/principal".into()));
    let revoke = v1::RevokeSessionsRequest { which };
    auth.revoke_sessions(with(&subject.root, revoke)).await.map_err(io::Error::other)?;
    let delete = v1::DeleteUserRequest { name: "deleted".into() };
    auth.delete_user(with(&subject.root, delete)).await.map_err(io::Error::other)?;
    Ok(tokens)
}

impl Tally {
    async fn ask(
        &mut self,
        server: &Server,
        revoked: &[MetadataValue<Ascii>],
        live: Option<&MetadataValue<Ascii>>,
    ) -> io::Result<()> {
        let channel = subject::channel(&server.url, &server.ca()).await?;
        for token in revoked {
            self.asked += 1;
            self.worked += u64::from(works(&channel, token).await?);
        }
        if let Some(token) = live {
            self.asked_live += 1;
            self.refused += u64::from(!works(&channel, token).await?);
        }
        Ok(())
    }
}

async fn works(channel: &Channel, token: &MetadataValue<Ascii>) -> io::Result<bool> {
    match AuthClient::new(channel.clone()).whoami(with(token, v1::WhoamiRequest {})).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::Unauthenticated => Ok(false),
        Err(status) => Err(io::Error::other(status)),
    }
}

/// What makes a process believe the time in `file`. Only the time of day: no clock that nobody sets goes otherwise.
fn set_by(file: &Path) -> io::Result<Vec<(String, String)>> {
    let library = fs::read_dir("/usr/lib")?
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
        .find(|path| path.is_file())
        .ok_or_else(|| io::Error::other("libfaketime is missing: apt-get install libfaketime"))?;
    let set = |name: &str, value: String| (name.to_owned(), value);
    Ok(vec![
        set("LD_PRELOAD", library.display().to_string()),
        set("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        set("FAKETIME_NO_CACHE", "1".into()),
        set("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        set("DONT_FAKE_MONOTONIC", "1".into()),
    ])
}

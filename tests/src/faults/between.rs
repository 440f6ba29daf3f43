//! kill -9 between two commits of one request: a mount whose data is destroyed is many, a user who is deleted is one with the
//! end of their sessions. What the log says of it afterwards is what the store holds, and what was begun can be ended.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;
use strongroom_proto::v1::{
    self, auth_client::AuthClient, policy_client::PolicyClient, secrets_client::SecretsClient,
    sys_client::SysClient,
};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::dice::Dice;
use crate::{
    audit_log::{self, segments},
    bench::subject::{self, Subject, with},
    figures::Figure,
    server::{Options, Server},
};

/// Secrets in the mount: destroying them is about seven commits.
const SECRETS: u64 = 500;
const MOUNT: &str = "team";
const POLICY: &str = "
kind: Role
name: everything
rules:
- paths: [\"sys/**\", \"team/**\"]
  verbs: [\"*\"]
---
kind: Binding
name: everything
role: everything
subjects:
- user: {method: userpass, name: bench}
";
const VICTIM: &str = "victim";

#[derive(Default)]
struct Tally {
    /// Rounds that were killed between the first commit and the last.
    between: u64,
    /// Ends in the log that are not what the store holds.
    disagreeing: u64,
    /// Secrets that are there after all was said to be gone.
    left: u64,
    /// Users who are gone and have a session, or the other way round.
    half_gone: u64,
}

/// Runs the rounds.
///
/// # Errors
/// The harness itself failed, or the server did not come up again.
pub async fn run(work: &Path, rounds: u64, seed: u64) -> io::Result<Vec<Figure>> {
    let directory = work.join("between");
    fs::create_dir_all(&directory)?;
    let options = Options::default();
    let subject = Subject::start(&directory, &options).await?;
    let apply = v1::ApplyRequest { yaml: POLICY.to_owned(), ..Default::default() };
    let channel = subject.channels(1).await?.remove(0);
    PolicyClient::new(channel).apply(with(&subject.root, apply)).await.map_err(io::Error::other)?;
    let mut house = House::of(subject).await?;
    let (mut dice, mut tally) = (Dice::new(seed), Tally::default());
    // How long it takes when nobody interrupts it.
    let mut takes = Duration::ZERO;
    let audit = directory.join("audit");
    for round in 0..=rounds {
        let victim = house.prepare().await?;
        let before = destructions(&audit)?.len();
        let began = Instant::now();
        let destroying = tokio::spawn(house.asks.clone().destroy());
        let deleting = tokio::spawn(house.asks.clone().delete());
        if round == 0 {
            destroying.await??;
            deleting.await??;
            takes = began.elapsed();
        } else {
            let span = u64::try_from(takes.as_micros()).unwrap_or(u64::MAX);
            tokio::time::sleep(Duration::from_micros(dice.below(span))).await;
        }
        let Subject { server, token, root } = house.subject;
        server.kill()?;
        let server = Server::start(&directory, &options)?;
        house = House::of(Subject { server, token, root }).await?;
        let told = destructions(&audit)?.get(before).copied();
        house.judge(&victim, told, &mut tally).await?;
    }
    house.subject.server.stop()?;

    let name = |what: &str| format!("kill -9 between two commits of a request, {rounds} rounds: {what}");
    Ok(vec![
        Figure::never(
            &name("ends in the log that the store denies"),
            tally.disagreeing,
            "wrong",
            tally.between,
        ),
        Figure::never(&name("secrets left of a destroyed mount"), tally.left, "left", tally.between),
        Figure::never(&name("users gone by half"), tally.half_gone, "wrong", rounds),
    ])
}

/// A server and its administrator.
struct House {
    subject: Subject,
    asks: Administrator,
}

#[derive(Clone)]
struct Administrator {
    channel: Channel,
    token: MetadataValue<Ascii>,
}

impl Administrator {
    fn sys(&self) -> SysClient<Channel> {
        SysClient::new(self.channel.clone())
    }

    async fn mount(&self) -> io::Result<()> {
        let mount = v1::MountRequest { name: MOUNT.into(), kind: "kv".into(), ..Default::default() };
        self.sys().mount(with(&self.token, mount)).await.map(drop).map_err(io::Error::other)
    }

    async fn destroy(self) -> io::Result<()> {
        let request = v1::UnmountRequest { name: MOUNT.into(), destroy_data: MOUNT.into() };
        self.sys().unmount(with(&self.token, request)).await.map(drop).map_err(io::Error::other)
    }

    async fn delete(self) -> io::Result<()> {
        let request = v1::DeleteUserRequest { name: VICTIM.into() };
        let mut auth = AuthClient::new(self.channel.clone());
        auth.delete_user(with(&self.token, request)).await.map(drop).map_err(io::Error::other)
    }
}

impl House {
    async fn of(subject: Subject) -> io::Result<Self> {
        let channel = subject::channel(&subject.server.url, &subject.server.ca()).await?;
        let token = subject.token.clone();
        Ok(Self { subject, asks: Administrator { channel, token } })
    }

    /// A mount with secrets, and a user with a session.
    async fn prepare(&self) -> io::Result<MetadataValue<Ascii>> {
        self.asks.mount().await?;
        self.subject.fill(MOUNT, 0..SECRETS).await?;
        subject::put_user(&self.asks.channel, &self.asks.token, VICTIM).await?;
        subject::login_as(&self.subject.server, VICTIM).await
    }

    /// `told`: whether the log says that the mount was destroyed; nothing if the request was not even begun.
    async fn judge(
        &self,
        victim: &MetadataValue<Ascii>,
        told: Option<bool>,
        tally: &mut Tally,
    ) -> io::Result<()> {
        let Administrator { channel, token } = &self.asks;
        let mounts = self.asks.sys().list_mounts(with(token, v1::ListMountsRequest {})).await;
        let mounts = mounts.map_err(io::Error::other)?.into_inner().mounts;
        let left = mounts.into_iter().find(|mount| mount.name == MOUNT);
        // One that was not begun left all of it.
        tally.disagreeing += u64::from(told.unwrap_or(false) == left.is_some());
        if let Some(mount) = left {
            tally.between += u64::from(mount.state() == v1::list_mounts_response::mount::State::Destroying);
            self.asks.clone().destroy().await?;
        }
        self.asks.mount().await?;
        let list = v1::ListRequest { path: MOUNT.into(), ..Default::default() };
        let listed = SecretsClient::new(channel.clone()).list(with(token, list)).await;
        tally.left += listed.map_err(io::Error::other)?.into_inner().names.len() as u64;
        self.asks.clone().destroy().await?;

        let whoami = v1::WhoamiRequest {};
        let alive = AuthClient::new(channel.clone()).whoami(with(victim, whoami)).await.is_ok();
        let known = subject::login_as(&self.subject.server, VICTIM).await.is_ok();
        tally.half_gone += u64::from(alive != known);
        match self.asks.clone().delete().await {
            Err(error) if alive => Err(error),
            _ => Ok(()),
        }
    }
}

/// The ends of all destructions that the log tells of: whether each of them happened.
fn destructions(audit: &Path) -> io::Result<Vec<bool>> {
    let mut ends = Vec::new();
    for segment in segments(audit)? {
        for line in audit_log::text(&segment)?.lines() {
            let line: Value = serde_json::from_str(line)?;
            let of = |field: &str| line.get(field).and_then(Value::as_str).unwrap_or_default();
            match (of("operation"), of("kind")) {
                ("Sys.Unmount", "outcome") => ends.push(of("status") == "ok"),
                ("Sys.Unmount", "recovered") => ends.push(of("recovered") == "applied"),
                _ => {}
            }
        }
    }
    Ok(ends)
}

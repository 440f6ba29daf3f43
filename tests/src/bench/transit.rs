//! Encryption as a service, in turn with the baseline.

use std::{io, path::Path};

use strongroom_proto::v1::{self, sys_client::SysClient, transit_client::TransitClient};

use super::{
    load::{Shape, run},
    rooms::{Size, fresh},
    subject::with,
    wire::{End, Sample, Turns, both},
};
use crate::figures::{Bar, Figure};

const KEY: &str = "transit/bench";
/// What is encrypted.
const PLAINTEXT_BYTES: usize = 1024;
/// What it becomes: 80 bytes more, in base64, behind its version.
pub(super) const CIPHERTEXT_BYTES: usize = (PLAINTEXT_BYTES + 80).div_ceil(3) * 4 + "strongroom:v1:".len();

/// # Errors
/// A server or a request failed.
pub async fn encrypt(work: &Path, size: Size) -> io::Result<Vec<Figure>> {
    let directory = fresh(work, "transit")?;
    let (subject, _echo, [ours, echo]) = both(&directory, "fsync", 1).await?;
    let channel = subject.channels(1).await?.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
    let mount =
        v1::MountRequest { name: "transit".to_owned(), kind: "transit".to_owned(), ..Default::default() };
    SysClient::new(channel.clone()).mount(with(&subject.root, mount)).await.map_err(io::Error::other)?;
    let key = v1::CreateKeyRequest { path: KEY.to_owned(), ..Default::default() };
    TransitClient::new(channel).create_key(with(&subject.root, key)).await.map_err(io::Error::other)?;

    let wide = Shape { in_flight: 64, span: size.span };
    let mut turns = Turns::default();
    for _ in 0..size.rounds {
        turns.0.push((encryptions(&ours, wide).await?, encryptions(&echo, wide).await?));
    }
    let name = |what: &str| format!("transit, encrypt 1 KiB, fsync: {what}");
    Ok(vec![
        turns.figure(&name("4 x 64 in flight"), |run| run.rate, "requests/s", Bar::AtLeast(0.6)),
        turns.figure(&name("p99, 4 x 64 in flight"), |run| run.p99, "us", Bar::None),
        turns.figure(&name("CPU of a request, server"), |run| run.server, "us", Bar::None),
    ])
}

async fn encryptions(end: &End, shape: Shape) -> io::Result<Sample> {
    let token = end.token.clone();
    let encrypt = move |channel, _| {
        let plaintext = Some(v1::Sensitive { value: vec![b'x'; PLAINTEXT_BYTES] });
        let items = vec![v1::PlainItem { plaintext, ..Default::default() }];
        let request = with(&token, v1::EncryptRequest { path: KEY.to_owned(), items, version: None });
        async move { TransitClient::new(channel).encrypt(request).await.map(drop) }
    };
    end.sample(run(&end.channels, shape, encrypt)).await
}

//! Logins of pods: how many a second, and what they write.

use std::{io, path::Path, sync::Arc, time::Duration};

use tonic::transport::Channel;

use super::{
    load::{Measured, Shape, run},
    rooms::{Size, fresh},
    subject::{EchoProcess, Subject},
};
use crate::{
    fake_kubernetes::FakeKubernetes,
    faults::coverage::http_get,
    figures::{Bar, Figure},
    server::Options,
    wait::until_async,
    world::log_in_as_pod,
};

/// Of a pod's session token, about: what the baseline answers with.
pub(super) const TOKEN_BYTES: usize = 420;
/// Pods of a full node.
const PODS: usize = 250;
/// Longer than any run.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Logins with service-account tokens in local mode, 4 x 64 in flight, and the batches that the store wrote for them.
///
/// # Errors
/// A server or a request failed.
pub async fn login(work: &Path, size: Size) -> io::Result<Vec<Figure>> {
    let directory = fresh(work, "login")?;
    let kubernetes = FakeKubernetes::start().await?;
    let token = |n: usize| {
        let pod = kubernetes.create_pod("bench", "bench", &format!("bench-{n}"));
        kubernetes.token(&pod, "strongroom", LIFETIME)
    };
    let tokens: Arc<Vec<String>> = Arc::new((0..PODS).map(token).collect());
    let config = kubernetes.config_toml_local("main");
    let subject = Subject::start(&directory, &Options { config, ..Options::default() }).await?;
    let echo = EchoProcess::start(&directory)?;
    let (ours, theirs) = (subject.channels(4).await?, echo.channels(&subject.server.ca(), 4).await?);
    wait_for(&ours, &tokens).await?;

    // All come from one address, which has a part of the places.
    let shape = Shape { in_flight: 16, span: size.span };
    let (mut rates, mut tails) = (vec![], vec![]);
    let before = batches(&subject).await?;
    for _ in 0..size.rounds {
        let (echo, own) = (logins(&theirs, &tokens, shape).await?, logins(&ours, &tokens, shape).await?);
        rates.push((own.rate, echo.rate));
        tails.push((own.quantile_us(0.99), echo.quantile_us(0.99)));
    }
    let written = batches(&subject).await? - before;
    let name = "login with a service-account token (local mode), 4 x 16 in flight";
    let tail = format!("{name}: p99");
    Ok(vec![
        Figure::pairs(name, &rates, "logins/s", Bar::AtLeast(0.5)),
        Figure::pairs(&tail, &tails, "us", Bar::None),
        Figure::plain("store writes of all these logins", written, "batches", Bar::AtMost(0.0)),
    ])
}

async fn logins(channels: &[Channel], tokens: &Arc<Vec<String>>, shape: Shape) -> io::Result<Measured> {
    let tokens = Arc::clone(tokens);
    run(channels, shape, move |channel, number| {
        let tokens = Arc::clone(&tokens);
        async move {
            let token = usize::try_from(number).ok().and_then(|number| tokens.get(number % tokens.len()));
            log_in_as_pod(&channel, "main", token.map_or("", String::as_str)).await.map(drop)
        }
    })
    .await
}

/// The server has to have seen its pods.
async fn wait_for(channels: &[Channel], tokens: &[String]) -> io::Result<()> {
    let (Some(channel), Some(token)) = (channels.first(), tokens.first()) else { return Ok(()) };
    until_async("pods are let in", async || log_in_as_pod(channel, "main", token).await.is_ok()).await
}

/// Batches that the store has written, as the server counts them.
async fn batches(subject: &Subject) -> io::Result<f64> {
    let metrics = String::from_utf8_lossy(&http_get(subject.server.ops, "/metrics").await?).into_owned();
    let line = metrics.lines().find_map(|line| line.strip_prefix("strongroom_store_batches "));
    line.and_then(|count| count.trim().parse().ok()).ok_or_else(|| io::Error::other("no count of batches"))
}

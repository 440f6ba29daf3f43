//! The CSI driver: how long a mount takes, how fast a change is in the pod, and what many pods cost the server and the node.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::rooms::Size;
use crate::{
    fake_kubernetes::Pod,
    figures::{Bar, Figure},
    http::http_get,
    node::{Kubelet, Node, Volume},
    one_node::{OneNode, SECRETS, may_mount},
    server::{Memory, memory_mib},
    wait::{pause, until},
};

/// Pods that are mounted one after the other, and puts that are waited for.
const SINGLE: usize = 50;
/// Pods of a full node.
const FULL_NODE: usize = 250;
/// Drivers that stand for the nodes of a cluster.
const NODES: usize = 4;

/// All rows.
///
/// # Errors
/// A part did not come up, or a call failed.
pub async fn run(size: Size) -> io::Result<Vec<Figure>> {
    if !may_mount() {
        return Err(io::Error::other("mounting needs root; leave these rows out with --only"));
    }
    let mut figures = single().await?;
    figures.extend(full_node().await?);
    figures.extend(many(size.publishes).await?);
    Ok(figures)
}

/// One pod at a time.
async fn single() -> io::Result<Vec<Figure>> {
    let cluster = OneNode::start(false).await?;
    let kubelet = cluster.kubelet().await?;
    let mut mounts = Vec::new();
    let mut last = None;
    for number in 0..SINGLE {
        let (pod, volume) = cluster.pod(&format!("single-{number}"))?;
        let request = volume.publish(&cluster.shop.token(&pod));
        let began = Instant::now();
        kubelet.publish(request).await.map_err(io::Error::other)?;
        mounts.push(began.elapsed());
        last = Some(volume);
    }
    let volume = last.ok_or_else(|| io::Error::other("nothing was mounted"))?;
    let mut rotations = Vec::new();
    for number in 0..SINGLE {
        let value = format!("rotation-{number}");
        let began = Instant::now();
        cluster.shop.put(&value).await?;
        until("the new content", || volume.read("password") == value)?;
        rotations.push(began.elapsed());
    }
    let own = metric(cluster.node.ops(), "strongroom_csi_mount_seconds_sum")? * 1e3
        / metric(cluster.node.ops(), "strongroom_csi_mount_seconds_count")?;
    Ok(vec![
        Figure::plain(
            "mount: kubelet's call to files in place, p50",
            ms(&mut mounts, 50),
            "ms",
            Bar::AtMost(10.0),
        ),
        Figure::plain("mount: the same, p99", ms(&mut mounts, 99), "ms", Bar::None),
        Figure::plain("mount: the driver's own part, mean", own, "ms", Bar::AtMost(2.0)),
        Figure::plain(
            &format!("rotation: put to new content, {SINGLE} pods watching it, p50"),
            ms(&mut rotations, 50),
            "ms",
            Bar::None,
        ),
        Figure::plain("rotation: the same, p99", ms(&mut rotations, 99), "ms", Bar::AtMost(1000.0)),
    ])
}

/// Memory of one driver with a full node, and how long a put takes to reach every pod of it.
async fn full_node() -> io::Result<Vec<Figure>> {
    let cluster = OneNode::start(false).await?;
    let pid = cluster.node.pid().ok_or_else(|| io::Error::other("no driver"))?;
    let idle = memory_mib(pid, Memory::Now)?;
    let pods = pods(&cluster, &cluster.node, "full", FULL_NODE)?;
    let mut calls = JoinSet::new();
    start_all(&cluster, &cluster.kubelet().await?, &pods, &mut calls);
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    let full = memory_mib(pid, Memory::Now)?;
    let began = Instant::now();
    cluster.shop.put("for all").await?;
    until("the new content everywhere", || {
        pods.iter().all(|(_, volume)| volume.read("password") == "for all")
    })?;
    let everywhere = began.elapsed();
    let after = memory_mib(pid, Memory::Now)?;
    Ok(vec![
        Figure::plain("driver: memory, idle", idle, "MiB", Bar::None),
        Figure::plain(
            &format!("driver: memory with {FULL_NODE} pods"),
            full.max(after),
            "MiB",
            Bar::AtMost(32.0),
        ),
        Figure::plain(
            &format!("rotation: put to new content in all of {FULL_NODE} pods"),
            everywhere.as_secs_f64() * 1e3,
            "ms",
            Bar::None,
        ),
    ])
}

/// Waves of publishes on several nodes at the same time, until so many were made.
async fn many(publishes: usize) -> io::Result<Vec<Figure>> {
    let cluster = OneNode::start(false).await?;
    let nodes =
        (0..NODES).map(|n| cluster.add_node(&format!("n{n}"), &[])).collect::<io::Result<Vec<_>>>()?;
    let batches = || metric(cluster.shop.world.server.ops, "strongroom_store_batches");
    let (mut times, mut span, mut written) = (Vec::new(), Duration::ZERO, 0.0);
    for wave in 0..publishes.div_ceil(NODES * FULL_NODE) {
        let mut calls = JoinSet::new();
        let mut mounted = Vec::new();
        let (before, began) = (quiet(&batches)?, Instant::now());
        for (number, node) in nodes.iter().enumerate() {
            let kubelet = Kubelet::new(node.channel().await?);
            let pods = pods(&cluster, node, &format!("wave-{wave}-{number}"), FULL_NODE)?;
            start_all(&cluster, &kubelet, &pods, &mut calls);
            mounted.push((kubelet, pods));
        }
        while let Some(ended) = calls.join_next().await {
            times.push(ended??);
        }
        span += began.elapsed();
        written += batches()? - before;
        for (kubelet, pods) in mounted {
            for (_, volume) in pods {
                kubelet.unpublish(volume.unpublish()).await.map_err(io::Error::other)?;
            }
        }
    }
    let logins = nodes.iter().map(|node| metric(node.ops(), "strongroom_csi_logins_total"));
    let logins: f64 = logins.sum::<io::Result<f64>>()?;
    let count = times.len();
    #[expect(clippy::cast_precision_loss, reason = "a table for people")]
    let of_each = |number: f64| number / count as f64;
    let name = |what: &str| format!("{count} publishes, {NODES} nodes, {FULL_NODE} at once each: {what}");
    Ok(vec![
        Figure::plain(&name("logins for each pod"), of_each(logins), "logins", Bar::AtMost(1.2)),
        Figure::plain(&name("store writes"), written, "writes", Bar::AtMost(0.0)),
        Figure::plain(&name("p99"), ms(&mut times, 99), "ms", Bar::AtMost(5000.0)),
        Figure::plain(&name("time of each"), of_each(span.as_secs_f64() * 1e3), "ms", Bar::None),
    ])
}

/// The number once it stands still: the sessions of the wave before are ended after their volumes are gone, and that is
/// written.
fn quiet(number: &impl Fn() -> io::Result<f64>) -> io::Result<f64> {
    const LOOKS: usize = 100;
    let (mut last, mut same) = (number()?, 0);
    while same < LOOKS {
        pause(Duration::ZERO);
        let now = number()?;
        same = if now > last { 0 } else { same + 1 };
        last = now;
    }
    Ok(last)
}

/// Pods of the account that may read, on a node.
fn pods(cluster: &OneNode, node: &Node, name: &str, count: usize) -> io::Result<Vec<(Pod, Volume)>> {
    let pod = |number| {
        let pod = cluster.shop.kubernetes.create_pod("shop", "web", &format!("{name}-{number}"));
        let volume = node.volume(&pod, "secrets", SECRETS)?;
        Ok((pod, volume))
    };
    (0..count).map(pod).collect()
}

/// A call for each of them, all at once; each tells how long it took.
fn start_all(
    cluster: &OneNode,
    kubelet: &Kubelet,
    pods: &[(Pod, Volume)],
    calls: &mut JoinSet<io::Result<Duration>>,
) {
    for (pod, volume) in pods {
        let (kubelet, request) = (kubelet.clone(), volume.publish(&cluster.shop.token(pod)));
        calls.spawn(async move {
            let began = Instant::now();
            kubelet.publish(request).await.map_err(io::Error::other)?;
            Ok(began.elapsed())
        });
    }
}

fn ms(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default().as_secs_f64() * 1e3
}

/// A metric without labels.
fn metric(ops: SocketAddr, name: &str) -> io::Result<f64> {
    let (_, text) = http_get(ops, "/metrics")?;
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    let value = line.and_then(|line| line.split(' ').nth(1)?.parse().ok());
    value.ok_or_else(|| io::Error::other(format!("{name} is not measured")))
}

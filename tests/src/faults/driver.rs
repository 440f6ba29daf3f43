//! The CSI driver, killed at any moment of a publish or an unpublish: after its next start and the kubelet's next call
//! nothing is left of the volume, and at no moment is a volume mounted that is not whole.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use super::dice::Dice;
use crate::{
    figures::Figure,
    node::{Kubelet, Node, Volume},
    one_node::OneNode,
};

/// Longest time from a call to the kill: what such a call takes on a slow machine. In microseconds.
const PUBLISH: u64 = 12_000;
/// See [`PUBLISH`].
const UNPUBLISH: u64 = 2000;
/// Files of the volume.
const FILES: usize = 2;

/// What went wrong in the rounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct DriverTally {
    /// Kills before the call was answered.
    pub cut_off: u64,
    /// Mounts, targets and state files that were left.
    pub left: u64,
    /// Mounts with some of the files only.
    pub partial: u64,
}

/// As rows of the table.
///
/// # Errors
/// The harness itself failed, or the driver did not come up again.
pub async fn run(kills: u64, seed: u64) -> io::Result<Vec<Figure>> {
    let tally = rounds(kills, seed).await?;
    let name = |what: &str| format!("driver killed {kills} times, {} in mid-call: {what}", tally.cut_off);
    Ok(vec![
        Figure::never(&name("mounts, targets, state files left"), tally.left, "left", kills),
        Figure::never(&name("mounts that were not whole"), tally.partial, "partial", kills),
    ])
}

/// Runs the rounds.
///
/// # Errors
/// As [`run`].
pub async fn rounds(kills: u64, seed: u64) -> io::Result<DriverTally> {
    let (mut cluster, mut dice, mut tally) =
        (OneNode::start(false).await?, Dice::new(seed), DriverTally::default());
    for round in 0..kills {
        let (pod, volume) = cluster.pod(&format!("web-{round}"))?;
        let token = cluster.shop.token(&pod);
        let kubelet = cluster.kubelet().await?;
        let unpublish = round % 2 == 1;
        if unpublish {
            kubelet.publish(volume.publish(&token)).await.map_err(io::Error::other)?;
        }
        let call = tokio::spawn(call(kubelet, volume.clone(), token, unpublish));
        spin(Duration::from_micros(dice.below(if unpublish { UNPUBLISH } else { PUBLISH })));
        cluster.node.kill()?;
        tally.cut_off += u64::from(!call.await?);
        tally.partial += partial(&cluster.node)?;
        cluster.node.restart()?;
        let kubelet = cluster.kubelet().await?;
        kubelet.unpublish(volume.unpublish()).await.map_err(io::Error::other)?;
        tally.left += u64::try_from(cluster.node.leftovers()?.len()).unwrap_or(u64::MAX);
    }
    Ok(tally)
}

/// Whether it was answered.
async fn call(kubelet: Kubelet, volume: Volume, token: String, unpublish: bool) -> bool {
    match unpublish {
        true => kubelet.unpublish(volume.unpublish()).await.is_ok(),
        false => kubelet.publish(volume.publish(&token)).await.is_ok(),
    }
}

/// A volume that is being emptied has no `..data` any more, or fewer links than files; one that appears has everything.
fn partial(node: &Node) -> io::Result<u64> {
    let mut partial = 0;
    for path in node.mounts()? {
        let data = path.join("..data");
        if data.exists() && path.join("password").exists() && fs::read_dir(data)?.count() != FILES {
            partial += 1;
        }
    }
    Ok(partial)
}

/// Sleeping is too coarse for this.
fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::thread::yield_now();
    }
}

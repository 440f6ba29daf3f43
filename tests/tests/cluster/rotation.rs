//! How soon, and how whole, a new version is in a running pod.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use strongroom_client::SecretBytes;
use strongroom_tests::{cluster::pod::Pod, wait::found};

use crate::{Outcome, Scene, mounts::role_of, process::pid_of};

const PUTS: usize = 50;
const WITHIN: Duration = Duration::from_secs(1);
/// Long enough to be half-written if somebody writes in place.
const PADDING: usize = 32 * 1024;

/// Reads without an end, and tells only what must not be, and how often it has read.
const READER: &str = r#"
reads=0
while :; do
  text=$(cat /secrets/value) || echo "missing"
  case "$text" in begin-*-end) ;; *) echo "torn: ${#text} bytes" ;; esac
  reads=$((reads + 1))
  [ $((reads % READS)) != 0 ] || echo "read $reads"
done
"#;
/// How often at least, while new versions come.
const READS: usize = 200;

/// 50 puts one after the other, each seen by the pod's own eyes, while a reader in another pod never stops.
pub(crate) fn within_a_second(scene: &Scene<'_>) -> Outcome {
    let namespace = &scene.namespace;
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    let path = format!("secret/apps/{namespace}/rotating");
    let text = |n: usize| format!("begin-{n}-{}-end\n", "x".repeat(PADDING));
    scene.wait(async {
        world.store.put(&path, &[("value", &text(0))]).await?;
        world.store.policy(&role_of(namespace)).await
    })?;
    let secrets = format!("- path: {path}\n");
    kubectl.apply(&[
        Pod::new(namespace, "sees", &secrets).object(),
        Pod::new(namespace, "reads", &secrets).script(&READER.replace("READS", &READS.to_string())).object(),
    ])?;
    kubectl.until_ready(namespace, "sees")?;
    kubectl.until_ready(namespace, "reads")?;

    // The file as the processes of the pod see it, in their mount namespace; `kubectl exec` would cost more than what is
    // to be measured.
    let file = format!("/proc/{}/root/secrets/value", pid_of(&kubectl.get(namespace, "pod/sees")?)?);
    let client = scene.wait(world.store.root())?;
    let mut times = Vec::with_capacity(PUTS);
    for n in 1..=PUTS {
        let text = text(n);
        let begin = Instant::now();
        scene.wait(client.put(&path).value("value", SecretBytes::from(text.as_bytes())).send())?;
        found(&format!("version {n} is in the pod"), Duration::from_secs(20), || {
            Ok((fs::read_to_string(&file)? == text).then_some(()))
        })?;
        times.push(begin.elapsed());
    }
    times.sort();
    let (p50, p99) = (times[PUTS / 2], times[PUTS - 1]);
    println!(
        "\nput to new content in the pod, {PUTS} puts: p50 {p50:.1?}, p99 {p99:.1?} (bar: p99 at most 1 s)"
    );
    assert!(p99 <= WITHIN, "{times:?}");

    // More of them, until the reader has had its chances.
    let mut n = PUTS;
    let log = found("the reader has read often enough", Duration::from_secs(60), || {
        n += 1;
        scene
            .wait(client.put(&path).value("value", SecretBytes::from(text(n).as_bytes())).send())
            .map_err(io::Error::other)?;
        let log = kubectl.ok(&["-n", namespace, "logs", "reads"])?;
        Ok(log.contains(&format!("read {READS}")).then_some(log))
    })?;
    let bad: Vec<&str> = log.lines().filter(|line| !line.starts_with("read ")).collect();
    assert!(bad.is_empty(), "the reader saw {bad:?}");
    let reads = log.lines().last().unwrap_or_default();
    println!("a reader in another pod, {n} versions: {reads} times, none of them missing or half-written");
    Ok(())
}

//! Many pods at once on the one node.

use std::time::{Duration, Instant};

use serde_json::Value;
use strongroom_tests::{
    cluster::{kubectl::is_ready, pod::Pod, store::driver_ready},
    wait::found,
};

use crate::{
    Outcome, Scene,
    mounts::role_of,
    process::{pid_of, resident_mib},
};

const PODS: usize = 100;
/// The bar for 250 pods; for fewer it is a weaker test.
const DRIVER_MIB: f64 = 32.0;
/// Of its container, where the kernel ends it.
const LIMIT_MIB: f64 = 256.0;
/// What takes the time is the node: sandboxes, namespaces, address by address. Ten minutes are for a slow machine.
const DEADLINE: Duration = Duration::from_secs(600);

/// All of them start, each with its secret; the driver's memory stays small.
pub(crate) fn a_hundred_pods(scene: &Scene<'_>) -> Outcome {
    let namespace = &scene.namespace;
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    let path = format!("secret/apps/{namespace}/db");
    scene.wait(async {
        world.store.put(&path, &[("password", "x")]).await?;
        world.store.policy(&role_of(namespace)).await
    })?;
    let secrets = format!("- path: {path}\n");
    let pods: Vec<Value> =
        (0..PODS).map(|n| Pod::new(namespace, &format!("pod-{n}"), &secrets).object()).collect();
    let start = Instant::now();
    kubectl.apply(&pods)?;
    found(&format!("{PODS} pods are ready"), DEADLINE, || {
        let list = kubectl.ok(&["-n", namespace, "get", "pods", "-o", "json"])?;
        let list: Value = serde_json::from_str(&list).map_err(std::io::Error::other)?;
        let ready = list["items"].as_array().into_iter().flatten().filter(|pod| is_ready(pod)).count();
        Ok((ready == PODS).then_some(()))
    })?;
    let resident = resident_mib(pid_of(&driver_ready(&world.cluster)?)?)?;
    let server = resident_mib(pid_of(&kubectl.get("strongroom", "pod/strongroom-0")?)?)?;
    let reached = if resident <= DRIVER_MIB { "reached" } else { "NOT REACHED" };
    println!(
        "\n{PODS} pods with a secret each, ready after {:.0?}; resident: driver {resident:.1} MiB (bar: at most \
         {DRIVER_MIB} MiB, {reached}), server {server:.1} MiB",
        start.elapsed()
    );
    assert!(resident <= LIMIT_MIB / 2.0, "the driver has {resident:.1} MiB of {LIMIT_MIB} MiB");
    Ok(())
}

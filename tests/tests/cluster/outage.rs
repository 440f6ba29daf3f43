//! The server goes away and comes back.

use std::time::{Duration, Instant};

use strongroom_tests::{
    cluster::{
        kubectl::{DEADLINE, is_ready},
        pod::Pod,
    },
    wait::{found, nothing_for},
};

use crate::{Outcome, Scene, mounts::role_of};

/// The kubelet republishes each volume several times at this cluster's pace of 10 s, and every wait between two attempts has
/// reached its longest.
const OUTAGE: Duration = Duration::from_secs(60);
/// What docs/csi.md promises: a watch waits at most 5 s, a volume at most 2 s more; the rest is for reading and for this look.
const BACK: Duration = Duration::from_secs(10);

/// Running pods keep what they have and hear of no error; new ones wait and start when it is back; rotation goes on.
pub(crate) fn pods_outlive_the_server(scene: &Scene<'_>) -> Outcome {
    let namespace = &scene.namespace;
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    let path = format!("secret/apps/{namespace}/db");
    let secrets = format!("- path: {path}\n");
    scene.wait(async {
        world.store.put(&path, &[("password", "before")]).await?;
        world.store.policy(&role_of(namespace)).await
    })?;
    kubectl.apply(&[Pod::new(namespace, "old", &secrets).object()])?;
    kubectl.until_ready(namespace, "old")?;

    kubectl.ok(&["-n", "strongroom", "scale", "statefulset/strongroom", "--replicas=0"])?;
    kubectl.until_gone("strongroom", "pod/strongroom-0")?;
    kubectl.apply(&[Pod::new(namespace, "new", &secrets).object()])?;
    nothing_for(OUTAGE);
    let content = |pod: &str| kubectl.exec(namespace, pod, &["cat", "/secrets/password"]);
    assert_eq!(content("old")?, "before", "the pod lost its secret");
    let events = kubectl.events(namespace, "old")?;
    assert!(
        !events.iter().any(|event| event.contains("MountVolume") || event.contains("rpc error")),
        "{events:#?}"
    );
    assert!(!is_ready(&kubectl.get(namespace, "pod/new")?), "a pod started without its secret");

    kubectl.ok(&["-n", "strongroom", "scale", "statefulset/strongroom", "--replicas=1"])?;
    world.store.until_ready(&world.cluster)?;
    // Before anybody else: the running pod hears of a change as soon as its watch stands again.
    let back = Instant::now();
    scene.wait(world.store.put(&path, &[("password", "meanwhile")]))?;
    found("the running pod is up to date", BACK, || Ok((content("old")? == "meanwhile").then_some(())))?;
    println!("\nup to date {:.1?} after the server's return", back.elapsed());
    // Not the kubelet's next try, which may be two minutes away: the driver waits for the server inside of the call.
    kubectl.until_ready(namespace, "new")?;
    assert_eq!(content("new")?, "meanwhile");
    scene.wait(world.store.put(&path, &[("password", "after")]))?;
    for pod in ["old", "new"] {
        found(&format!("the new password is in {pod}"), DEADLINE, || {
            Ok((content(pod)? == "after").then_some(()))
        })?;
    }
    Ok(())
}

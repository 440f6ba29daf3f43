//! The server goes away and comes back.

use std::{thread, time::Duration};

use strongroom_tests::cluster::{
    kubectl::{DEADLINE, is_ready, until},
    pod::Pod,
};

use crate::{Outcome, Scene, mounts::role_of};

/// Long enough for the kubelet to republish each volume twice at this cluster's pace of 10 s.
const OUTAGE: Duration = Duration::from_secs(25);

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
    stay_down();
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
    // Not the kubelet's next try, which may be two minutes away: the driver waits for the server inside of the call.
    kubectl.until_ready(namespace, "new")?;
    assert_eq!(content("new")?, "before");
    scene.wait(world.store.put(&path, &[("password", "after")]))?;
    for pod in ["old", "new"] {
        until(&format!("the new password is in {pod}"), DEADLINE, || {
            Ok((content(pod)? == "after").then_some(()))
        })?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the outage is the point: nothing may happen in this time")]
fn stay_down() {
    thread::sleep(OUTAGE);
}

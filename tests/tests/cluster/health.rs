//! How a volume is doing, told to the pod's owner in an event: by the kubelet, which asks the driver, and by the driver itself.

use std::time::Duration;

use serde_json::Value;
use strongroom_tests::{
    cluster::{
        kubectl::{DEADLINE, Kubectl},
        pod::Pod,
        repository,
        store::driver_ready,
    },
    wait::{found, nothing_for},
};

use crate::{Outcome, Scene, mounts::role_of};

/// A secret that is gone leaves its files in the pod; an event says that they are outdated.
pub(crate) fn a_condition_is_an_event(scene: &Scene<'_>) -> Outcome {
    let namespace = &scene.namespace;
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    let path = scene.store_password("1")?;
    kubectl.apply(&[Pod::new(namespace, "keeps", &format!("- path: {path}\n")).object()])?;
    kubectl.until_ready(namespace, "keeps")?;
    scene.wait(async {
        world.store.root().await?.delete(&path, vec![1]).await.map_err(std::io::Error::other)
    })?;
    let event = found("an event that names the secret", Duration::from_secs(90), || {
        let events = kubectl.events(namespace, "keeps")?;
        Ok(events.into_iter().find(|event| event.contains(&path)))
    })?;
    println!("\n{event}");
    assert_eq!(kubectl.exec(namespace, "keeps", &["cat", "/secrets/password"])?, "1", "the content stays");
    Ok(())
}

/// Several of the kubelet's republishes at this cluster's pace of 10 s, each with a token that the driver could ask with again.
const REFUSED_FOR: Duration = Duration::from_secs(35);
/// The driver asks again a minute after its second refusal, with the token of the next republish.
const ASKED_AGAIN: Duration = Duration::from_secs(150);

/// A right is taken away from a running pod, given back and taken away again: its owner reads each in an event of the driver's, and
/// the same words are one event that counts. With the component, which this cluster has only here.
pub(crate) fn the_driver_tells_the_pods_owner(scene: &Scene<'_>) -> Outcome {
    let namespace = scene.namespace.as_str();
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    install(scene, "tests/cluster/pod-events")?;
    let path = scene.store_password("1")?;
    kubectl.apply(&[Pod::new(namespace, "keeps", &format!("- path: {path}\n")).object()])?;
    kubectl.until_ready(namespace, "keeps")?;
    let events = || of_the_driver(kubectl, namespace, "keeps");
    assert_eq!(events()?, [], "nothing is wrong");

    let allowed = role_of(namespace);
    let denied = allowed.replace("/**", "/other");
    let denial = |count: u64| {
        let told = |event: &&Told| event.reason == "SecretsDenied" && event.count == count;
        found(&format!("the denial is told {count} times"), DEADLINE, || {
            Ok(events()?.iter().find(told).cloned())
        })
    };
    scene.wait(world.store.policy(&denied))?;
    let event = denial(1)?;
    println!("\n{}", event.message);
    assert!(event.message.contains(&format!("may not read {path}")), "{}", event.message);
    assert!(!event.message.contains("decision"), "{}", event.message);
    nothing_for(REFUSED_FOR);
    assert_eq!(events()?, [event], "one event, whatever the driver asked meanwhile");
    assert_eq!(kubectl.exec(namespace, "keeps", &["cat", "/secrets/password"])?, "1", "the content stays");

    scene.wait(world.store.policy(&allowed))?;
    found("the end of it is told", ASKED_AGAIN, || {
        Ok(events()?.iter().any(|event| event.reason == "SecretsCurrent").then_some(()))
    })?;
    scene.wait(world.store.policy(&denied))?;
    denial(2)?;
    let mut told: Vec<_> = events()?.into_iter().map(|event| (event.reason, event.count)).collect();
    told.sort();
    assert_eq!(told, [("SecretsCurrent".to_owned(), 1), ("SecretsDenied".to_owned(), 2)]);

    for object in ["rbac.yaml", "networkpolicy.yaml"] {
        let file = repository().join("deploy/components/pod-events").join(object);
        kubectl.ok(&["delete", "-f", &file.display().to_string()])?;
    }
    install(scene, "deploy/csi-driver")
}

/// Another driver than the one that runs, from this folder.
fn install(scene: &Scene<'_>, folder: &str) -> Outcome {
    let kubectl = &scene.world.cluster.kubectl;
    kubectl.ok(&["apply", "-k", &repository().join(folder).display().to_string()])?;
    let timeout = format!("--timeout={}s", DEADLINE.as_secs());
    kubectl.ok(&["-n", "strongroom-csi", "rollout", "status", "daemonset/strongroom-csi", &timeout])?;
    driver_ready(&scene.world.cluster).map(drop)?;
    Ok(())
}

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    reason: String,
    message: String,
    count: u64,
}

/// The events of a pod that are the driver's own; the kubelet has some of its volume, too.
fn of_the_driver(kubectl: &Kubectl, namespace: &str, pod: &str) -> std::io::Result<Vec<Told>> {
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let events = kubectl.events_of(namespace, pod)?.into_iter();
    let ours = events.filter(|event| event["source"]["component"] == "csi.strongroom.dev");
    let told = ours.map(|event| Told {
        reason: text(&event, "reason"),
        message: text(&event, "message"),
        count: event["count"].as_u64().unwrap_or_default(),
    });
    Ok(told.collect())
}

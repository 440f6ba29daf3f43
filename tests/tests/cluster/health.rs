//! The kubelet asks the driver how a volume is doing, and tells the pod's owner in an event.

use std::time::Duration;

use strongroom_tests::{cluster::pod::Pod, wait::found};

use crate::{Outcome, Scene};

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

//! Where the kubelet puts the pods' tokens: with the volume's attributes, or since 1.35 apart from them, as secrets, if the
//! CSIDriver object asks for it. That object may change while pods run.

use std::time::Duration;

use strongroom_tests::{
    cluster::{kubectl::DEADLINE, pod::Pod},
    wait::{found, nothing_for},
};

use crate::{Outcome, Scene};

/// Unset, then on, then off: each time a new pod starts, and those of before go on to get new versions.
pub(crate) fn in_both_places(scene: &Scene<'_>) -> Outcome {
    let namespace = &scene.namespace;
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    let path = scene.store_password("0")?;
    let mut running: Vec<String> = Vec::new();
    for (round, value) in ["null", "true", "false", "null"].into_iter().enumerate() {
        let patch = format!(r#"{{"spec": {{"serviceAccountTokenInSecrets": {value}}}}}"#);
        kubectl.ok(&["patch", "csidriver", "csi.strongroom.dev", "--type=merge", "-p", &patch])?;
        let set = kubectl.get("default", "csidriver/csi.strongroom.dev")?;
        let set = set["spec"]["serviceAccountTokenInSecrets"].to_string();
        // The API server's own default stands for what is unset.
        assert!(set == value || (value == "null" && set == "false"), "{value} became {set}");

        let name = format!("pod-{round}");
        kubectl.apply(&[Pod::new(namespace, &name, &format!("- path: {path}\n")).object()])?;
        kubectl.until_ready(namespace, &name)?;
        running.push(name);
        let password = format!("{}", round + 1);
        scene.wait(world.store.put(&path, &[("password", &password)]))?;
        for pod in &running {
            let content = || kubectl.exec(namespace, pod, &["cat", "/secrets/password"]);
            found(&format!("{pod} has the password of round {round}"), DEADLINE, || {
                Ok((content()? == password).then_some(()))
            })?;
        }
    }
    // Each was republished under another setting than it was mounted under, and nobody complained.
    nothing_for(Duration::from_secs(12));
    for pod in &running {
        let events = kubectl.events(namespace, pod)?;
        assert!(!events.iter().any(|event| event.contains("rpc error")), "{events:#?}");
    }
    Ok(())
}

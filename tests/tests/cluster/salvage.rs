//! A damaged store on a volume of the cluster, brought back with the manifest and the commands of docs/operator.md.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use strongroom_tests::{
    cluster::{
        kubectl::{DEADLINE, Kubectl},
        pod::Pod,
        repository,
    },
    wait::found,
};

use crate::{Outcome, Scene};

const SALVAGED: &str = "/var/lib/strongroom/data/salvaged";

pub(crate) fn a_damaged_store_is_brought_back(scene: &Scene<'_>) -> Outcome {
    let (world, namespace) = (scene.world, &scene.namespace);
    let kubectl = &world.cluster.kubectl;
    let path = scene.store_password("still there")?;
    scale(kubectl, 0)?;
    let database = data_volume(kubectl)?.join("store/db");
    let mut bytes = fs::read(&database)?;
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    bytes[used / 3] ^= 1;
    fs::write(&database, &bytes)?;

    scale(kubectl, 1)?;
    found("the server refuses and says why", DEADLINE, || {
        let log = kubectl.ok(&["-n", "strongroom", "logs", "strongroom-0"]).unwrap_or_default();
        Ok(log.contains("is not whole").then_some(()))
    })?;
    scale(kubectl, 0)?;
    assert!(fs::read(&database)? == bytes, "the refused start wrote to the store");

    let (code, report) = salvage(kubectl)?;
    println!("\nexit code {code}\n{report}");
    assert!(matches!(code, 0 | 3), "{report}");
    let variable = format!("STRONGROOM_STORAGE_DIRECTORY={SALVAGED}");
    kubectl.ok(&["-n", "strongroom", "set", "env", "statefulset/strongroom", &variable])?;
    if code == 3 {
        let add = json!([{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--accept-rollback"}]);
        let patch =
            ["-n", "strongroom", "patch", "statefulset/strongroom", "--type=json", "-p", &add.to_string()];
        kubectl.ok(&patch)?;
    }
    kubectl.ok(&["-n", "strongroom", "delete", "pod", "salvage"])?;
    scale(kubectl, 1)?;
    world.store.until_ready(&world.cluster)?;
    if report.contains(&path) {
        // What may be lost is named, and can be written again.
        scene.wait(world.store.put(&path, &[("password", "still there")]))?;
    }
    let secrets = format!("- path: {path}\n");
    kubectl.apply(&[Pod::new(namespace, "reader", &secrets).object()])?;
    kubectl.until_ready(namespace, "reader")?;
    assert_eq!(kubectl.exec(namespace, "reader", &["cat", "/secrets/password"])?, "still there");
    Ok(())
}

fn scale(kubectl: &Kubectl, replicas: u8) -> Outcome {
    let replicas_flag = format!("--replicas={replicas}");
    kubectl.ok(&["-n", "strongroom", "scale", "statefulset/strongroom", &replicas_flag])?;
    if replicas == 0 {
        kubectl.until_gone("strongroom", "pod/strongroom-0")?;
    }
    Ok(())
}

/// The folder on this node that is the server's data.
fn data_volume(kubectl: &Kubectl) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let text = |object: &Value, place: &str| {
        object.pointer(place).and_then(Value::as_str).map(str::to_owned).ok_or(format!("no {place}"))
    };
    let claim = kubectl.get("strongroom", "persistentvolumeclaim/data-strongroom-0")?;
    let volume = format!("persistentvolume/{}", text(&claim, "/spec/volumeName")?);
    Ok(text(&kubectl.get("strongroom", &volume)?, "/spec/local/path")?.into())
}

/// Runs the manifest. The store of these tests is sealed by a key file, so the key is mounted as in the StatefulSet, and nobody
/// has a share to give: standard input ends at once.
fn salvage(kubectl: &Kubectl) -> Result<(i64, String), Box<dyn std::error::Error>> {
    let manifest = repository().join("deploy/recovery/salvage.yaml").display().to_string();
    let made = kubectl.ok(&["create", "--dry-run=client", "-o", "json", "-f", &manifest])?;
    let mut pod: Value = serde_json::from_str(&made)?;
    let claim = json!({"name": "seal", "persistentVolumeClaim": {"claimName": "seal-strongroom-0"}});
    pod["spec"]["volumes"].as_array_mut().ok_or("no volumes")?.push(claim);
    let container = &mut pod["spec"]["containers"][0];
    let key = json!({"name": "STRONGROOM_SEAL_KEY_FILE", "value": "/var/lib/strongroom/seal/seal.key"});
    container["env"].as_array_mut().ok_or("no variables")?.push(key);
    let mount = json!({"name": "seal", "mountPath": "/var/lib/strongroom/seal"});
    container["volumeMounts"].as_array_mut().ok_or("no mounts")?.push(mount);
    kubectl.apply(&[pod])?;
    let ended = |what: &str| {
        let pod = kubectl.get("strongroom", "pod/salvage")?;
        Ok(pod.pointer(&format!("/status/containerStatuses/0/state/{what}")).cloned())
    };
    found("it waits for shares", DEADLINE, || Ok(ended("running")?.or(ended("terminated")?)))?;
    kubectl.with_input(&["-n", "strongroom", "attach", "-i", "salvage"], b"")?;
    let end = found("it has ended", DEADLINE, || ended("terminated"))?;
    let report = kubectl.ok(&["-n", "strongroom", "logs", "salvage"])?;
    Ok((end["exitCode"].as_i64().ok_or("no exit code")?, report))
}

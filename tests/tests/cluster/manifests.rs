//! The overlay that the other scenarios do not run: the API server accepts each of its objects.

use strongroom_tests::cluster::repository;

use crate::{Outcome, Scene};

/// The production overlay, as a server-side dry run. The development overlay is what this cluster runs.
pub(crate) fn both_overlays_are_accepted(scene: &Scene<'_>) -> Outcome {
    let kubectl = &scene.world.cluster.kubectl;
    let overlay = repository().join("deploy/overlays/production").display().to_string();
    let objects = kubectl.ok(&["kustomize", &overlay])?;
    let objects: Vec<String> = objects.split("---\n").map(under_another_name).collect();
    let said =
        kubectl.with_input(&["apply", "--dry-run=server", "-f", "-"], objects.join("---\n").as_bytes())?;
    for object in [
        "statefulset.apps/production created",
        "daemonset.apps/strongroom-csi configured",
        "poddisruptionbudget.policy/strongroom created",
        "networkpolicy.networking.k8s.io/default-deny",
    ] {
        assert!(said.contains(object), "{object} is missing in\n{said}");
    }
    Ok(())
}

/// The volumes of a StatefulSet cannot be changed, so this has to be another one than the one that runs.
fn under_another_name(object: &str) -> String {
    if object.contains("kind: StatefulSet\n") {
        return object.replacen("\n  name: strongroom\n", "\n  name: production\n", 1);
    }
    object.to_owned()
}

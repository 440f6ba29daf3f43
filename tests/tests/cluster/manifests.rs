//! The overlay and the components that the other scenarios do not run: the API server accepts each object of the overlay, and a
//! component changes what it is for.

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

/// Each component on top of both bases, as an overlay would name it. Nobody here has such clusters, so they are only rendered.
pub(crate) fn components_change_what_they_say(scene: &Scene<'_>) -> Outcome {
    let kubectl = &scene.world.cluster.kubectl;
    let folder = tempfile::tempdir()?;
    // Kustomize takes no absolute path.
    let place = folder.path().canonicalize()?;
    let up = "../".repeat(place.components().count().saturating_sub(1));
    let deploy =
        format!("{up}{}/deploy", repository().canonicalize()?.display().to_string().trim_start_matches('/'));
    for (component, words) in [
        ("openshift", &["csi-ephemeral-volume-profile: restricted", "scc:nonroot-v2", "port: 5353"][..]),
        ("gke", &["kind: ResourceQuota", "- system-node-critical"]),
        ("k0s", &["mountPath: /var/lib/k0s/kubelet/pods", "unix:///var/lib/k0s/kubelet/plugins/"]),
        ("microk8s", &["path: /var/snap/microk8s/common/var/lib/kubelet/plugins_registry"]),
        (
            "secrets-store-provider",
            &["path: /var/run/secrets-store-csi-providers", "STRONGROOM_PROVIDER_SOCKET"],
        ),
        (
            "pod-events",
            &[
                "STRONGROOM_POD_EVENTS",
                "kind: ClusterRoleBinding",
                "name: csi-driver-to-api-server",
                "- patch",
            ],
        ),
    ] {
        let text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
             resources: [{deploy}/server, {deploy}/csi-driver]\ncomponents: [{deploy}/components/{component}]\n"
        );
        std::fs::write(place.join("kustomization.yaml"), text)?;
        let objects = kubectl.ok(&["kustomize", &place.display().to_string()])?;
        for word in words {
            assert!(objects.contains(word), "{component}: {word} is missing in\n{objects}");
        }
        let moved = matches!(component, "k0s" | "microk8s");
        assert_eq!(objects.contains(" /var/lib/kubelet/"), !moved, "{component}");
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

//! Each component on top of both bases, as an overlay would name it. Nobody here has such clusters, so they are only rendered.

use strongroom_tests::cluster::repository;

use crate::render::Render;

#[test]
fn components_change_what_they_say() {
    let Some(render) = Render::new() else { return };
    for (component, words) in [
        ("openshift", &["csi-ephemeral-volume-profile: restricted", "scc:nonroot-v2", "port: 5353"][..]),
        ("gke", &["kind: ResourceQuota", "- system-node-critical"]),
        ("k0s", &["mountPath: /var/lib/k0s/kubelet/pods", "unix:///var/lib/k0s/kubelet/plugins/"]),
        ("microk8s", &["path: /var/snap/microk8s/common/var/lib/kubelet/plugins_registry"]),
        (
            "secrets-store-provider",
            &["path: /var/run/secrets-store-csi-providers", "STRONGROOM_PROVIDER_SOCKET"],
        ),
    ] {
        let objects = render.kustomization(&format!(
            "resources: [DEPLOY/server, DEPLOY/csi-driver]\ncomponents: [DEPLOY/components/{component}]\n"
        ));
        for word in words {
            assert!(objects.contains(word), "{component}: {word} is missing in\n{objects}");
        }
        let moved = matches!(component, "k0s" | "microk8s");
        assert_eq!(objects.contains(" /var/lib/kubelet/"), !moved, "{component}");
    }
}

/// Each kustomization as it stands there, without a warning.
#[test]
fn nothing_in_deploy_is_deprecated() {
    let Some(render) = Render::new() else { return };
    for folder in
        ["server", "csi-driver", "monitoring", "admission", "overlays/development", "overlays/production"]
    {
        let rendered = render.folder(&repository().join("deploy").join(folder).display().to_string());
        assert!(rendered.contains("kind: "), "{folder}");
    }
}

//! Each component on top of both bases, as an overlay would name it. Nobody here has such clusters, so they are only rendered.

use strongroom_tests::cluster::repository;

use crate::render::{Render, only_in};

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
        (
            "pod-events",
            &[
                "STRONGROOM_POD_EVENTS",
                "kind: ClusterRoleBinding",
                "name: csi-driver-to-api-server",
                "- patch",
            ],
        ),
        ("trust-manager", &["kind: Bundle", "strongroom.dev/trust: \"true\"\n  name: strongroom-csi"]),
        ("cluster-trust-bundle", &["clusterTrustBundle:\n              name: strongroom\n"]),
    ] {
        let objects = render.kustomization(&format!(
            "resources: [DEPLOY/server, DEPLOY/csi-driver]\ncomponents: [DEPLOY/components/{component}]\n"
        ));
        for word in words {
            assert!(objects.contains(word), "{component}: {word} is missing in\n{objects}");
        }
        // The driver has its authority from one place.
        assert_eq!(
            objects.contains("configMap:\n          name: strongroom-ca"),
            component != "cluster-trust-bundle"
        );
        let moved = matches!(component, "k0s" | "microk8s");
        assert_eq!(objects.contains(" /var/lib/kubelet/"), !moved, "{component}");
    }
}

/// As an overlay would have it, and with everything that names a namespace.
#[test]
fn server_and_driver_go_into_namespaces_of_ones_own() {
    let Some(render) = Render::new() else { return };
    let own = "configMapGenerator:
- name: strongroom-namespaces
  literals: [server=store, driver=mounts]
  options: {annotations: {config.kubernetes.io/local-config: \"true\"}}
";
    for others in ["", "openshift", "gke", "secrets-store-provider", "trust-manager", "pod-events"] {
        let other = if others.is_empty() { String::new() } else { format!("DEPLOY/components/{others}, ") };
        let manifest = render.kustomization(&format!(
            "resources: [DEPLOY/overlays/production, DEPLOY/monitoring, certificate.yaml]\n\
             components: [{other}DEPLOY/components/own-namespaces]\n{own}"
        ));
        let objects = render.objects(&manifest);
        only_in(&objects, "store", "mounts");
        let names = objects["Certificate store/strongroom-tls"]["spec"]["dnsNames"].to_string();
        for name in ["strongroom.store.svc", "strongroom-0.strongroom-servers.store.svc"] {
            assert!(names.contains(&format!("\"{name}\"")), "{name} is not in {names}");
            assert!(
                names.contains(&format!("\"{name}.cluster.local\"")),
                "the full {name} is not in {names}"
            );
        }
        assert!(!manifest.contains("strongroom-namespaces"), "what the component reads is applied nowhere");
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

/// A name below .invalid can be nobody's: without an overlay that says where the images are, nothing is pulled.
#[test]
fn no_image_is_pulled_from_anybody() {
    let Some(render) = Render::new() else { return };
    for (lines, registry) in [
        ("resources: [DEPLOY/server, DEPLOY/csi-driver]\n", "strongroom.invalid/"),
        ("resources: [DEPLOY/overlays/production]\n", "registry.example.com/strongroom/"),
    ] {
        let rendered = render.kustomization(lines);
        let images: Vec<&str> =
            rendered.lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
        assert_eq!(images.len(), 2, "{images:?}");
        assert!(images.iter().all(|image| image.starts_with(registry)), "{images:?}");
    }
}

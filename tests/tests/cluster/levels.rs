//! What the API server refuses before any of our programs sees it: Pod Security levels, and the admission policies that
//! `deploy/admission` has for users.

use serde_json::Value;
use strongroom_tests::{
    cluster::{kubectl::DEADLINE, pod::Pod, repository},
    wait::found,
};

use crate::{Outcome, Scene};

/// The namespaces of `deploy/` take what belongs there and nothing else. That server and driver run says that their own
/// pods pass.
pub(crate) fn pod_security(scene: &Scene<'_>) -> Outcome {
    let kubectl = &scene.world.cluster.kubectl;
    let level = |namespace: &str| -> std::io::Result<Value> {
        let object = kubectl.get("default", &format!("namespace/{namespace}"))?;
        Ok(object["metadata"]["labels"]["pod-security.kubernetes.io/enforce"].clone())
    };
    assert_eq!(level("strongroom")?, "restricted");
    assert_eq!(level("strongroom-csi")?, "privileged");

    // The account of every namespace, so that nothing but its level can speak against a pod.
    let pod_in = |namespace: &str| Pod::new(namespace, "visitor", "").account("default").object();
    let good = pod_in("strongroom");
    assert_eq!(refusal(scene, &good)?, None);
    for (what, pointer, value) in [
        ("a privileged one", "/spec/containers/0/securityContext/privileged", Value::Bool(true)),
        (
            "one with a capability",
            "/spec/containers/0/securityContext/capabilities/add",
            serde_json::json!(["IPC_LOCK"]),
        ),
        ("one that may be root", "/spec/securityContext/runAsUser", 0.into()),
        ("one of the node's network", "/spec/hostNetwork", Value::Bool(true)),
    ] {
        for namespace in ["strongroom", &scene.namespace] {
            let mut pod = pod_in(namespace);
            let (parent, field) = pointer.rsplit_once('/').unwrap_or_default();
            let parent = pod.pointer_mut(parent).and_then(Value::as_object_mut).ok_or("no such field")?;
            parent.insert(field.to_owned(), value.clone());
            if what == "a privileged one" {
                pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = Value::Null;
            }
            let refused = refusal(scene, &pod)?.ok_or_else(|| format!("{what} was let in to {namespace}"))?;
            assert!(refused.contains("violates PodSecurity \"restricted"), "{what}: {refused}");
        }
    }
    Ok(())
}

/// Volumes that are not read-only, and images that are not pinned by digest, are refused with a sentence, in namespaces that
/// ask for it by a label.
pub(crate) fn admission_policies(scene: &Scene<'_>) -> Outcome {
    let (kubectl, namespace) = (&scene.world.cluster.kubectl, &scene.namespace);
    let folder = repository().join("deploy/admission").display().to_string();
    kubectl.ok(&["apply", "-k", &folder])?;
    let digest = format!("registry.example.com/shop/web@sha256:{}", "0".repeat(64));
    let pinned = Pod::new(namespace, "pinned", "- path: secret/x\n").image(&digest).object();
    let mut writable = pinned.clone();
    writable["spec"]["volumes"][0]["csi"]["readOnly"] = Value::Bool(false);
    let mut unsaid = pinned.clone();
    unsaid["spec"]["volumes"][0]["csi"]["readOnly"] = Value::Null;
    let tagged =
        Pod::new(namespace, "tagged", "- path: secret/x\n").image("registry.example.com/shop/web:1").object();
    let foreign = Pod::new(namespace, "foreign", "")
        .image(&digest.replace("registry.example.com", "docker.io"))
        .object();

    for pod in [&pinned, &writable, &unsaid, &tagged, &foreign] {
        assert_eq!(refusal(scene, pod)?, None, "nobody asked for the policies in this namespace yet");
    }
    kubectl.ok(&["label", "namespace", namespace, "strongroom.dev/admission=enforce"])?;
    // From an applied policy to one that is enforced the API server takes a moment.
    found("the policies are enforced", DEADLINE, || refusal(scene, &writable))?;
    for (pod, words) in [
        (&writable, "must be readOnly: true"),
        (&unsaid, "must be readOnly: true"),
        (&tagged, "by its digest"),
        (&foreign, "registry.example.com/"),
    ] {
        let refused = refusal(scene, pod)?.ok_or_else(|| format!("let in: {pod}"))?;
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(refusal(scene, &pinned)?, None);
    kubectl.ok(&["delete", "-k", &folder])?;
    Ok(())
}

/// Why the API server would not take the pod; `None` if it would.
fn refusal(scene: &Scene<'_>, pod: &Value) -> std::io::Result<Option<String>> {
    let kubectl = &scene.world.cluster.kubectl;
    let output = kubectl.run(&["create", "--dry-run=server", "-f", "-"], pod.to_string().as_bytes())?;
    Ok((!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned()))
}

//! Pods that may not have what they ask for: they wait, an event says why, and they start once they may.

use std::time::Duration;

use strongroom_tests::{
    cluster::{
        kubectl::is_ready,
        pod::{self, Pod},
    },
    wait::found,
};

use crate::{Outcome, Scene, mounts::role_of};

/// Another account, another namespace, no role at all, a mistake in the volume; then the right role.
pub(crate) fn waits_and_says_why(scene: &Scene<'_>) -> Outcome {
    let namespace = scene.namespace.as_str();
    let other = format!("{namespace}-b");
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    scene.wait(async {
        world.store.put(&format!("secret/apps/{namespace}/db"), &[("password", "x")]).await?;
        world.store.put("secret/apps/free/db", &[("password", "x")]).await?;
        world.store.policy(&role_of(namespace)).await
    })?;
    let mut objects = pod::namespace(&other).to_vec();
    objects.push(serde_json::json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": "b"}}));
    let theirs = format!("- path: secret/apps/{namespace}/db\n");
    objects.push(Pod::new(namespace, "wrong-account", &theirs).account("b").object());
    objects.push(Pod::new(&other, "wrong-namespace", &theirs).object());
    objects.push(Pod::new(namespace, "no-role", "- path: secret/apps/free/db\n").object());
    objects.push(
        Pod::new(namespace, "mistake", &format!("- path: secret/apps/{namespace}/db\n  mod: '0400'\n"))
            .object(),
    );
    objects
        .push(Pod::new(namespace, "missing", &format!("- path: secret/apps/{namespace}/nothing\n")).object());
    kubectl.apply(&objects)?;

    let denied_path = format!("secret/apps/{namespace}/db");
    for (namespace, pod, words) in [
        (namespace, "wrong-account", vec![denied_path.as_str(), "kubernetes/main"]),
        (&other, "wrong-namespace", vec![denied_path.as_str()]),
        (namespace, "no-role", vec!["secret/apps/free/db", "read"]),
        (namespace, "mistake", vec!["mod"]),
        (namespace, "missing", vec!["nothing"]),
    ] {
        let event =
            found(&format!("an event of {pod} that names {words:?}"), Duration::from_secs(30), || {
                let events = kubectl.events(namespace, pod)?;
                let named = |event: &&String| words.iter().all(|word| event.contains(word));
                Ok(events.iter().find(named).cloned())
            });
        let event =
            event.map_err(|error| format!("{error}; there are {:#?}", kubectl.events(namespace, pod)))?;
        println!("\n{pod}: {event}");
        assert!(!is_ready(&kubectl.get(namespace, &format!("pod/{pod}"))?), "{pod} runs");
    }

    // The right role, and the pods that wait start by themselves: nobody touches them.
    scene.wait(async {
        world.store.policy(&FREE.replace("NAMESPACE", namespace)).await?;
        world.store.put(&format!("secret/apps/{namespace}/nothing"), &[("k", "now there")]).await
    })?;
    for pod in ["no-role", "missing"] {
        let object = format!("pod/{pod}");
        // The kubelet's own retries have a backoff of up to two minutes; after a few refusals it is at 16 s.
        found(&format!("{pod} starts"), Duration::from_secs(60), || {
            Ok(is_ready(&kubectl.get(namespace, &object)?).then_some(()))
        })?;
    }
    assert!(
        !is_ready(&kubectl.get(namespace, "pod/wrong-account")?),
        "it got a role that was meant for another"
    );
    kubectl.ok(&["delete", "namespace", &other, "--wait=false"])?;
    Ok(())
}

const FREE: &str = r#"
kind: Role
name: free
rules:
- paths: ["secret/apps/free/**"]
  verbs: [read]
---
kind: Binding
name: free
role: free
subjects:
- serviceAccount: {cluster: main, namespace: NAMESPACE, name: app}
"#;

//! A pod's token and session are worth something only while the pod is there, and only here.

use std::{
    io,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use strongroom_client::AuditQuery;
use strongroom_tests::{
    cluster::{evidence::mounts_of_volumes, kubectl::DEADLINE, pod::Pod, repository},
    fake_kubernetes::FakeKubernetes,
    wait::found,
};

use crate::{Outcome, Scene, mounts::role_of};

/// The bar in local mode. Review mode has 80 s; the watch makes it as quick.
const WITHIN: Duration = Duration::from_secs(5);

/// Its session is refused within seconds, in review mode.
pub(crate) fn a_deleted_pod_is_cut_off(scene: &Scene<'_>) -> Outcome {
    cut_off(scene, "main")
}

/// The same where tokens are checked by their signature alone. For this the server gets to know the cluster a second time.
pub(crate) fn local_mode(scene: &Scene<'_>) -> Outcome {
    let world = scene.world;
    let kubectl = &world.cluster.kubectl;
    let statefulset = kubectl.get("strongroom", "statefulset/strongroom")?;
    let volumes = statefulset["spec"]["template"]["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    let name =
        volumes.iter().find_map(|volume| volume["configMap"]["name"].as_str()).unwrap_or_default().to_owned();
    let config = std::fs::read_to_string(repository().join("deploy/server/server.toml"))?;
    let config = format!(
        "{config}\n[auth.kubernetes.local]\nmode = \"local\"\nissuer = \"https://kubernetes.default.svc\"\n"
    );
    let patch = json!({"data": {"server.toml": config}}).to_string();
    kubectl.ok(&["-n", "strongroom", "patch", "configmap", &name, "--type=merge", "-p", &patch])?;
    let before = kubectl.get("strongroom", "pod/strongroom-0")?["metadata"]["uid"].clone();
    kubectl.ok(&["-n", "strongroom", "delete", "pod", "strongroom-0"])?;
    found("the server is replaced", DEADLINE, || {
        Ok((kubectl.get("strongroom", "pod/strongroom-0")?["metadata"]["uid"] != before).then_some(()))
    })?;
    world.store.until_ready(&world.cluster)?;
    cut_off(scene, "local")
}

fn cut_off(scene: &Scene<'_>, cluster: &str) -> Outcome {
    let namespace = &scene.namespace;
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    let path = format!("secret/apps/{namespace}/db");
    scene.wait(async {
        world.store.put(&path, &[("password", "x")]).await?;
        let role = role_of(namespace);
        // The driver mounts as a pod of `main`; the thief logs in where the scenario says.
        let subject = role.lines().last().unwrap_or_default().replace("main", cluster);
        world.store.policy(&if cluster == "main" { role } else { format!("{role}{subject}\n") }).await
    })?;
    let pod = with_tokens(&Pod::new(namespace, "victim", &nothing(namespace)));
    kubectl.apply(&[pod])?;
    kubectl.until_ready(namespace, "victim")?;
    let uid =
        kubectl.get(namespace, "pod/victim")?["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    assert!(mounts_of_volumes()?.iter().any(|mount| mount.contains(&uid)), "the volume is mounted");
    let token = kubectl.exec(namespace, "victim", &["cat", "/tokens/strongroom"])?;
    let session = found("the token is accepted", DEADLINE, || {
        scene.wait(world.store.log_in(cluster, &token)).map(Some).map_err(io::Error::other)
    })?;
    scene.wait(session.get(&path))?;

    let gone = Instant::now();
    kubectl.ok(&[
        "-n",
        namespace,
        "delete",
        "pod",
        "victim",
        "--wait=false",
        "--grace-period=0",
        "--force",
    ])?;
    let refused = found("the session of the deleted pod is refused", Duration::from_secs(80), || {
        Ok(scene.wait(session.get(&path)).err())
    })?;
    println!("\na deleted pod's session is refused after {:.1?}: {refused}", gone.elapsed());
    assert!(gone.elapsed() <= WITHIN, "bar: {WITHIN:?}");
    let Err(refused) = scene.wait(world.store.log_in(cluster, &token)) else {
        return Err("its token still opens a session".into());
    };
    println!("its token: {}", refused.message());
    found("its volume is unmounted and its folder removed", DEADLINE, || {
        let folder = std::path::Path::new("/var/lib/kubelet/pods").join(&uid);
        let mounted = mounts_of_volumes()?.iter().any(|mount| mount.contains(&uid));
        Ok((!mounted && !folder.exists()).then_some(()))
    })?;
    Ok(())
}

/// A token for another audience, a token of another cluster, a token of a pod that is gone: refused, and written down.
pub(crate) fn a_stolen_token(scene: &Scene<'_>) -> Outcome {
    let namespace = &scene.namespace;
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    scene.wait(world.store.policy(&role_of(namespace)))?;
    kubectl.apply(&[with_tokens(&Pod::new(namespace, "victim", &nothing(namespace)))])?;
    kubectl.until_ready(namespace, "victim")?;
    let of_pod = |file: &str| kubectl.exec(namespace, "victim", &["cat", file]);
    let (token, other) = (of_pod("/tokens/strongroom")?, of_pod("/tokens/other")?);
    scene.wait(world.store.log_in("main", &token))?;

    let elsewhere = scene.wait(FakeKubernetes::start())?;
    let pod = elsewhere.create_pod(namespace, "app", "victim");
    let hour = Duration::from_secs(3600);
    let issuer = json!("https://kubernetes.default.svc");
    let foreign =
        elsewhere.token_text(&pod, "strongroom", hour).with(&["iss"], issuer).sign(&elsewhere.signing_key());
    kubectl.ok(&["-n", namespace, "delete", "pod", "victim", "--grace-period=0", "--force"])?;
    kubectl.until_gone(namespace, "pod/victim")?;
    // The API server may say yes for up to ten seconds more; the watch of the server knows before.
    for (what, cluster, token) in [
        ("for another audience", "main", &other),
        ("of another cluster", "main", &foreign),
        ("for a cluster that the server does not know", "elsewhere", &token),
        ("of a pod that is gone", "main", &token),
    ] {
        let refused = found(&format!("a token {what} is refused"), Duration::from_secs(10), || {
            Ok(scene.wait(world.store.log_in(cluster, token)).err())
        })?;
        println!("\na token {what}: {}", refused.message());
        let token = token.as_str();
        assert!(!refused.message().contains(token), "the token is in the answer");
    }
    let query = AuditQuery { operation: "Auth.Login".into(), limit: 200, ..AuditQuery::default() };
    let records = scene.wait(world.store.audit(query))?;
    // Each of the tries, in their order; how it was refused is for the log, more than what the thief is told.
    for reason in
        ["LOGIN_REJECTED: audience", "LOGIN_REJECTED", "INVALID_ARGUMENT", "LOGIN_REJECTED: pod_gone"]
    {
        let refused = records.iter().any(|record| record["reason"] == reason && record["status"] != "ok");
        assert!(refused, "no record of {reason} in {records:#?}");
    }
    let text = Value::from(records).to_string();
    for token in [&token, &other, &foreign] {
        assert!(!text.contains(token.as_str()), "a token is in the audit log");
    }
    Ok(())
}

/// A volume that may be empty.
fn nothing(namespace: &str) -> String {
    format!("- path: secret/apps/{namespace}/nothing\n  optional: true\n")
}

/// The pod, with tokens of its account as files for a thief to read.
fn with_tokens(pod: &Pod) -> Value {
    let mut pod = pod.object();
    let token = |audience: &str| json!({"serviceAccountToken": {"audience": audience, "path": audience, "expirationSeconds": 3600}});
    let volume = json!({"name": "tokens", "projected": {"sources": [token("strongroom"), token("other")]}});
    let mount = json!({"name": "tokens", "mountPath": "/tokens"});
    if let Some(volumes) = pod["spec"]["volumes"].as_array_mut() {
        volumes.push(volume);
    }
    if let Some(mounts) = pod["spec"]["containers"][0]["volumeMounts"].as_array_mut() {
        mounts.push(mount);
    }
    pod["spec"]["securityContext"]["fsGroup"] = json!(1000);
    pod
}

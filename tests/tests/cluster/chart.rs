//! The Helm chart on a real cluster, by the real Helm: a second server and another driver, in namespaces of their own.

use std::process::Command;

use strongroom_client::{Client, SealKind, SecretBytes};
use strongroom_tests::{
    cluster::{
        kubectl::DEADLINE,
        pod::Pod,
        programs, repository,
        store::{certificate, driver_ready, driver_ready_in, server_started},
    },
    wait::found,
};

use crate::{Outcome, Scene, mounts};

/// From nothing to a pod that reads its secret, and away again.
pub(crate) fn helm_installs_it_elsewhere(scene: &Scene<'_>) -> Outcome {
    let (server, driver) = (&scene.namespace, format!("{}-csi", scene.namespace));
    let (cluster, kubectl) = (&scene.world.cluster, &scene.world.cluster.kubectl);
    let home = tempfile::tempdir()?;
    let ca = home.path().join("ca.pem");
    certificate(cluster, &ca, server, &driver)?;
    // A node has one driver of a name.
    kubectl.ok(&["delete", "csidriver", "csi.strongroom.dev"])?;
    kubectl.ok(&["-n", "strongroom-csi", "delete", "daemonset", "strongroom-csi"])?;
    found("the other driver is gone", DEADLINE, || {
        let left = kubectl.ok(&["-n", "strongroom-csi", "get", "pods", "-o", "name"])?;
        Ok(left.trim().is_empty().then_some(()))
    })?;

    let helm = |arguments: &[&str]| -> Outcome {
        let program = programs()?.ok_or("no Helm")?.join("helm/helm");
        let mut helm = Command::new(program);
        helm.args(arguments).args(["--namespace", server]).arg("--kubeconfig").arg(kubectl.kubeconfig());
        let output = helm.env("HOME", home.path()).current_dir(repository()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(format!("helm {arguments:?}: {said}").into()) }
    };
    let version = env!("CARGO_PKG_VERSION");
    let values = [
        format!("server.image=strongroom.invalid/server:{version}"),
        format!("driver.image=strongroom.invalid/csi-driver:{version}"),
        format!("driver.namespace.name={driver}"),
        "driver.namespace.create=false".to_owned(),
        "server.fileSeal=true".to_owned(),
        "server.storage.data.size=1Gi".to_owned(),
        "server.storage.audit.size=1Gi".to_owned(),
    ];
    helm(&["install", "second", "deploy/chart", "--set", &values.join(",")])?;

    server_started(cluster, server)?;
    let forward = kubectl.forward(server, "pod/strongroom-0", 7420)?;
    let builder = || Client::builder(format!("https://localhost:{}", forward.port)).ca_file(&ca);
    let path = format!("secret/apps/{server}/db");
    scene.wait(async {
        let keys = builder().connect().await?.sys().init(SealKind::File).await?;
        let root = builder().token(keys.root_token).connect().await?;
        root.policy().apply(&mounts::role_of(server), Vec::new(), false).await?;
        let password = [("password".to_owned(), SecretBytes::from(&b"by helm"[..]))];
        root.put(&path).values(password).send().await?;
        Ok::<_, strongroom_client::Error>(())
    })?;
    kubectl.until_ready(server, "strongroom-0")?;
    driver_ready_in(cluster, &driver)?;
    kubectl.apply(&[Pod::new(server, "reads", &format!("- path: {path}\n")).object()])?;
    kubectl.until_ready(server, "reads")?;
    assert_eq!(kubectl.exec(server, "reads", &["cat", "/secrets/password"])?, "by helm");

    // Pods first, then the driver: without it the kubelet cannot unmount.
    kubectl.ok(&["-n", server, "delete", "pod", "reads"])?;
    helm(&["uninstall", "second", "--wait"])?;
    let claims = kubectl.ok(&["-n", server, "get", "persistentvolumeclaims", "-o", "name"])?;
    assert!(claims.contains("data-strongroom-0"), "the store is gone: {claims:?}");
    for gone in ["csidriver/csi.strongroom.dev", "clusterrole/second", "clusterrolebinding/second"] {
        kubectl.until_gone(server, gone)?;
    }
    kubectl.ok(&["delete", "namespace", &driver, "--wait=false"])?;
    kubectl.ok(&["apply", "-k", &repository().join("deploy/csi-driver").display().to_string()])?;
    driver_ready(cluster).map(drop)?;
    Ok(())
}

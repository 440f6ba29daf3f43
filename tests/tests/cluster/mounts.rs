//! What a pod finds in its volume.

use strongroom_tests::{
    cluster::{
        kubectl::DEADLINE,
        pod::{MOUNT, Pod},
    },
    wait::found,
};

use crate::{Outcome, Scene};

/// Each way to ask for a file, in a pod that is not root and has a read-only root file system.
pub(crate) fn files_owners_and_modes(scene: &Scene<'_>) -> Outcome {
    let namespace = &scene.namespace;
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    scene.wait(async {
        let at = |name: &str| format!("secret/apps/{namespace}/{name}");
        world.store.put(&at("db"), &[("username", "shop"), ("password", "p@ss word")]).await?;
        world.store.put(&at("stripe"), &[("api_key", "sk_live_1")]).await?;
        world.store.put(&at("keystore"), &[("jks", "AAECAwQ=")]).await?;
        world.store.policy(&role_of(namespace)).await
    })?;
    let secrets = r#"
- path: secret/apps/{{namespace}}/db
  dir: db
- path: secret/apps/{{namespace}}/stripe
  keys: {api_key: stripe/api-key}
  mode: "0444"
- path: secret/apps/{{namespace}}/keystore
  decode: base64
- path: secret/apps/{{namespace}}/db
  template: {database.url: "postgres://{{username}}:{{password}}@db:5432/shop"}
- from: {db: "secret/apps/{{namespace}}/db", stripe: "secret/apps/{{namespace}}/stripe"}
  template: {app.env: "USER={{db.username}}\nKEY={{stripe.api_key}}\n"}
- path: secret/apps/{{namespace}}/not-there
  optional: true
"#;
    let pod = Pod::new(namespace, "files", secrets).attribute("gid", "2000").attribute("mode", "0440");
    kubectl.apply(&[pod.object()])?;
    kubectl.until_ready(namespace, "files")?;

    let sh = |script: &str| kubectl.exec(namespace, "files", &["sh", "-c", script]);
    for (file, content, mode) in [
        ("db/username", "shop", "440"),
        ("db/password", "p@ss word", "440"),
        ("stripe/api-key", "sk_live_1", "444"),
        ("database.url", "postgres://shop:p@ss word@db:5432/shop", "440"),
        ("app.env", "USER=shop\nKEY=sk_live_1\n", "440"),
    ] {
        assert_eq!(sh(&format!("cat {MOUNT}/{file}"))?, content, "{file}");
        let shown = sh(&format!("stat -L -c '%a %u:%g' {MOUNT}/{file}"))?;
        assert_eq!(shown.trim(), format!("{mode} 1000:2000"), "{file}");
    }
    assert_eq!(sh(&format!("od -An -tx1 {MOUNT}/jks"))?.trim(), "00 01 02 03 04", "decoded");
    let listed = sh(&format!("cd {MOUNT} && find . -type l -o -type f | grep -v '/\\.\\.' | sort"))?;
    assert!(!listed.contains("not-there"), "{listed}");
    let mount = sh(&format!("grep ' {MOUNT} ' /proc/mounts"))?;
    assert!(mount.contains("tmpfs ro,"), "{mount}");
    // The container's own view of it keeps only what the runtime passes on; these count where the files are.
    let uid = kubectl.get(namespace, "pod/files")?["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let table = std::fs::read_to_string("/proc/mounts")?;
    let mount = table
        .lines()
        .find(|line| line.contains(&uid) && line.contains("kubernetes.io~csi"))
        .unwrap_or_default();
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(mount.contains(option), "{option} is missing: {mount}");
    }
    for refused in ["echo x > /secrets/new", "echo x > /new"] {
        assert!(sh(refused).is_err_and(|error| error.to_string().contains("Read-only")), "{refused}");
    }
    Ok(())
}

/// A pod that is not root and says nothing but `fsGroup`: the kubelet hands the group to the driver (VOLUME_MOUNT_GROUP), and
/// the files are readable through it and for nobody else.
pub(crate) fn a_group_of_the_pod(scene: &Scene<'_>) -> Outcome {
    let namespace = &scene.namespace;
    let kubectl = &scene.world.cluster.kubectl;
    let path = scene.store_password("1")?;
    let secrets = format!("- path: {path}\n");
    kubectl.apply(&[Pod::new(namespace, "group", &secrets).group(2000).object()])?;
    kubectl.until_ready(namespace, "group")?;
    let sh = |script: &str| kubectl.exec(namespace, "group", &["sh", "-c", script]);
    assert_eq!(sh(&format!("cat {MOUNT}/password"))?, "1");
    assert_eq!(sh(&format!("stat -L -c '%a %u:%g' {MOUNT}/password"))?.trim(), "440 0:2000");
    assert_eq!(sh(&format!("stat -L -c '%a %g' {MOUNT}/."))?.trim(), "750 2000");
    Ok(())
}

/// A pod whose users are not the node's (`hostUsers: false`): the runtime maps the owners of the volume's files.
pub(crate) fn users_of_its_own(scene: &Scene<'_>) -> Outcome {
    let namespace = &scene.namespace;
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    let path = scene.store_password("1")?;
    let secrets = format!("- path: {path}\n");
    let pods = [
        Pod::new(namespace, "by-owner", &secrets).own_users(),
        Pod::new(namespace, "by-group", &secrets).group(2000).own_users(),
    ];
    kubectl.apply(&pods.map(|pod| pod.object()))?;
    for (pod, owner) in [("by-owner", "400 1000:0"), ("by-group", "440 0:2000")] {
        kubectl.until_ready(namespace, pod)?;
        let sh = |script: &str| kubectl.exec(namespace, pod, &["sh", "-c", script]);
        let mapped = sh("cat /proc/self/uid_map")?;
        assert!(mapped.split_whitespace().nth(1) != Some("0"), "{pod} has the node's users: {mapped}");
        assert_eq!(sh(&format!("stat -L -c '%a %u:%g' {MOUNT}/password"))?.trim(), owner, "{pod}");
        assert_eq!(sh(&format!("cat {MOUNT}/password"))?, "1", "{pod}");
    }
    scene.wait(world.store.put(&path, &[("password", "2")]))?;
    for pod in ["by-owner", "by-group"] {
        let content = || kubectl.exec(namespace, pod, &["cat", &format!("{MOUNT}/password")]);
        found(&format!("the new password is in {pod}"), DEADLINE, || Ok((content()? == "2").then_some(())))?;
    }
    Ok(())
}

/// The service account `app` of that namespace reads its folder.
pub(crate) fn role_of(namespace: &str) -> String {
    format!(
        r#"
kind: Role
name: {namespace}
rules:
- paths: ["secret/apps/{namespace}/**"]
  verbs: [read]
---
kind: Binding
name: {namespace}
role: {namespace}
subjects:
- serviceAccount: {{cluster: main, namespace: {namespace}, name: app}}
"#
    )
}

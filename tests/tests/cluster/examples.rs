//! The examples of `deploy/examples/`, as they stand there.

use std::{fs, io};

use strongroom_tests::{
    cluster::{kubectl::DEADLINE, repository},
    wait::found,
};

use crate::{Outcome, Scene};

/// Of each example: its file, what runs then, and what its log says when it works.
const EXAMPLES: &[(&str, &str, &[&str])] = &[
    ("whole-secret.yaml", "pod/whole-secret", &["username", "password"]),
    ("renamed-files.yaml", "pod/renamed-files", &["tls/server.key", "api-key"]),
    ("template.yaml", "pod/template", &["database.url", "app.env"]),
    ("owner-and-mode.yaml", "pod/owner-and-mode", &["-r--r-----", "-r--------", "1000", "2000"]),
    ("optional-and-pinned.yaml", "pod/optional-and-pinned", &["api_key"]),
    ("rollout/deployment.yaml", "deployment/shop", &["database.url"]),
    ("app/pod.yaml", "pod/app", &["secret/apps/shop/db version 1", "password 13 bytes"]),
];

/// Of these the pod needs more than the cluster has; where they are tried instead.
const ELSEWHERE: &[(&str, &str)] = &[("database-user.yaml", "tests/tests/issued.rs")];

/// Each file is applied as it is, and its pod does what it is there for.
pub(crate) fn every_example_runs(scene: &Scene<'_>) -> Outcome {
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    let folder = repository().join("deploy/examples");
    every_file_is_tested(&folder)?;
    let at = |name: &str| folder.join(name).display().to_string();
    kubectl.ok(&["apply", "-f", &at("namespace.yaml")])?;
    let ca = format!("--from-file=ca.crt={}", world.store.ca().display());
    kubectl.ok(&["-n", "shop", "create", "configmap", "strongroom-ca", &ca])?;
    let policy = fs::read_to_string(repository().join("deploy/policy/pods.yaml"))?;
    scene.wait(async {
        world
            .store
            .put("secret/apps/shop/db", &[("username", "shop"), ("password", "correct horse")])
            .await?;
        world.store.put("secret/apps/shop/stripe", &[("api_key", "sk_test_1")]).await?;
        world.store.put("secret/apps/shop/tls", &[("key", "LS0tLS1CRUdJTg==")]).await?;
        world.store.policy(&policy).await
    })?;
    for (file, ..) in EXAMPLES {
        kubectl.ok(&["apply", "-f", &at(file)])?;
    }
    let says = |what: &str, words: &[&str]| {
        found(&format!("{what} says {words:?}"), DEADLINE, || {
            let log = kubectl.ok(&["-n", "shop", "logs", what])?;
            if words.iter().all(|word| log.contains(word)) {
                Ok(Some(log))
            } else {
                Err(io::Error::other(log))
            }
        })
    };
    for (_, what, words) in EXAMPLES {
        let log = says(what, words)?;
        assert!(!log.contains("correct horse") && !log.contains("sk_test_1"), "{what} prints a secret");
    }

    // The application follows its secret without being restarted.
    scene.wait(
        world.store.put("secret/apps/shop/db", &[("username", "shop"), ("password", "another horse")]),
    )?;
    says("pod/app", &["secret/apps/shop/db version 2"])?;
    kubectl.ok(&["delete", "namespace", "shop", "--wait=false"])?;
    Ok(())
}

/// No example is forgotten here.
fn every_file_is_tested(folder: &std::path::Path) -> io::Result<()> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            let name = path.strip_prefix(folder).map(|path| path.display().to_string()).unwrap_or_default();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".yaml") && name != "namespace.yaml" {
                let mut tested =
                    EXAMPLES.iter().map(|(file, ..)| file).chain(ELSEWHERE.iter().map(|(file, _)| file));
                assert!(tested.any(|file| name == *file), "the example {name} is not tested");
            }
        }
    }
    Ok(())
}

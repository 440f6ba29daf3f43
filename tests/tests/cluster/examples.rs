//! The pods of `deploy/examples/`, as they stand there.

use std::{fs, io};

use strongroom_tests::cluster::{
    kubectl::{DEADLINE, until},
    repository,
};

use crate::{Outcome, Scene};

/// What each example's log says when it works.
const SAYS: &[(&str, &[&str])] = &[
    ("whole-secret", &["username", "password"]),
    ("renamed-files", &["tls/server.key", "api-key"]),
    ("template", &["database.url", "app.env"]),
    ("owner-and-mode", &["-r--r-----", "1000", "2000"]),
    ("optional-and-pinned", &["api_key"]),
    ("grpc-app", &["version"]),
];

/// Each file is applied as it is, and its pod does what it is there for.
pub(crate) fn every_example_runs(scene: &Scene<'_>) -> Outcome {
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    let folder = repository().join("deploy/examples");
    let at = |name: &str| folder.join(name).display().to_string();
    kubectl.ok(&["apply", "-f", &at("namespace.yaml")])?;
    let policy = fs::read_to_string(folder.join("policy.yaml"))?;
    scene.wait(async {
        world.store.put("secret/apps/shop/db", &[("username", "shop"), ("password", "correct horse")]).await?;
        world.store.put("secret/apps/shop/stripe", &[("api_key", "sk_test_1")]).await?;
        world.store.put("secret/apps/shop/tls", &[("key", "LS0tLS1CRUdJTg==")]).await?;
        world.store.policy(&policy).await
    })?;
    let known = |name: &str| SAYS.iter().any(|(example, _)| name == format!("{example}.yaml"));
    for entry in fs::read_dir(&folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let other = ["namespace.yaml", "policy.yaml"].contains(&name.as_str()) || !name.ends_with(".yaml");
        assert!(other || known(&name), "the example {name} is not tested");
    }
    for (example, _) in SAYS {
        kubectl.ok(&["apply", "-f", &at(&format!("{example}.yaml"))])?;
    }
    for (example, words) in SAYS {
        kubectl.until_ready("shop", example)?;
        let log = until(&format!("{example} says {words:?}"), DEADLINE, || {
            let log = kubectl.ok(&["-n", "shop", "logs", example])?;
            if words.iter().all(|word| log.contains(word)) {
                return Ok(Some(log));
            }
            Err(io::Error::other(log))
        })?;
        assert!(!log.contains("correct horse") && !log.contains("sk_test_1"), "{example} prints a secret");
    }
    kubectl.ok(&["delete", "namespace", "shop", "--wait=false"])?;
    Ok(())
}

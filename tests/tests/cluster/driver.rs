//! The driver goes away and comes back.

use std::time::Duration;

use strongroom_tests::{
    cluster::{
        evidence::{mounts_of_volumes, state_files},
        kubectl::{DEADLINE, is_ready},
        pod::Pod,
        store::driver_ready,
    },
    wait::{found, nothing_for},
};

use crate::{Outcome, Scene, process::pid_of};

/// A deleted driver pod is followed by a new one: pods keep their files meanwhile, and get new ones from the new driver.
pub(crate) fn takes_over(scene: &Scene<'_>) -> Outcome {
    let namespace = &scene.namespace;
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    let path = scene.store_password("1")?;
    kubectl.apply(&[Pod::new(namespace, "stays", &format!("- path: {path}\n")).object()])?;
    kubectl.until_ready(namespace, "stays")?;
    let content = || kubectl.exec(namespace, "stays", &["cat", "/secrets/password"]);

    // In good order, as an upgrade does it.
    let old = driver_ready(&world.cluster)?["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    kubectl.ok(&["-n", "strongroom-csi", "delete", "pod", &old])?;
    assert_eq!(content()?, "1", "without a driver");
    let new = driver_ready(&world.cluster)?;
    assert_ne!(new["metadata"]["name"], old.as_str());
    scene.wait(world.store.put(&path, &[("password", "2")]))?;
    found("the new driver brings the new password", DEADLINE, || Ok((content()? == "2").then_some(())))?;

    // By SIGKILL, as the kernel does it when memory is short: the same pod, another container.
    kill(pid_of(&new)?)?;
    found("the kubelet has restarted it", DEADLINE, || {
        Ok(driver_ready(&world.cluster)?["status"]["containerStatuses"][0]["restartCount"]
            .as_u64()
            .filter(|n| *n > 0))
    })?;
    scene.wait(world.store.put(&path, &[("password", "3")]))?;
    found("and then a newer one", DEADLINE, || Ok((content()? == "3").then_some(())))?;
    Ok(())
}

/// Longer than the kubelet's patience with one call, and than its republishing.
const ABSENCE: Duration = Duration::from_secs(60);

/// A node without a driver for a minute: pods keep what they have and hear nothing, new ones wait, and all goes on when it
/// is back, without anybody's help.
pub(crate) fn absent(scene: &Scene<'_>) -> Outcome {
    let namespace = &scene.namespace;
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    let path = scene.store_password("1")?;
    let secrets = format!("- path: {path}\n");
    kubectl.apply(&[Pod::new(namespace, "old", &secrets).object()])?;
    kubectl.until_ready(namespace, "old")?;

    let node_selector = |value: &str| {
        let patch =
            format!(r#"{{"spec": {{"template": {{"spec": {{"nodeSelector": {{"absent": {value}}}}}}}}}}}"#);
        kubectl.ok(&["-n", "strongroom-csi", "patch", "daemonset", "strongroom-csi", "-p", &patch])
    };
    node_selector(r#""yes""#)?;
    found("the driver is gone", DEADLINE, || {
        let left = kubectl.ok(&["-n", "strongroom-csi", "get", "pods", "-o", "name"])?;
        Ok(left.trim().is_empty().then_some(()))
    })?;
    kubectl.apply(&[Pod::new(namespace, "new", &secrets).object()])?;
    scene.wait(world.store.put(&path, &[("password", "2")]))?;
    nothing_for(ABSENCE);
    let content = |pod: &str| kubectl.exec(namespace, pod, &["cat", "/secrets/password"]);
    assert_eq!(content("old")?, "1", "without a driver");
    assert!(!is_ready(&kubectl.get(namespace, "pod/new")?), "a pod started without its secret");

    node_selector("null")?;
    driver_ready(&world.cluster)?;
    // The kubelet's own next try may be two minutes away.
    found("the new pod starts", Duration::from_secs(150), || {
        Ok(is_ready(&kubectl.get(namespace, "pod/new")?).then_some(()))
    })?;
    for pod in ["old", "new"] {
        found(&format!("{pod} has what changed meanwhile"), DEADLINE, || {
            Ok((content(pod)? == "2").then_some(()))
        })?;
    }
    Ok(())
}

/// The kubelet is restarted, as at each upgrade of a node: it finds the driver again by its socket, pods lose nothing, and
/// new ones start.
pub(crate) fn kubelet_restarts(scene: &Scene<'_>) -> Outcome {
    let namespace = &scene.namespace;
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    let path = scene.store_password("1")?;
    let secrets = format!("- path: {path}\n");
    kubectl.apply(&[Pod::new(namespace, "old", &secrets).object()])?;
    kubectl.until_ready(namespace, "old")?;
    let registrations = || -> std::io::Result<usize> {
        let driver = driver_ready(&world.cluster)?;
        let name = driver["metadata"]["name"].as_str().unwrap_or_default();
        Ok(kubectl
            .ok(&["-n", "strongroom-csi", "logs", name])?
            .matches("registered with the kubelet")
            .count())
    };
    let before = registrations()?;
    world.cluster.stop_process("kubelet")?;
    world.cluster.start_process("kubelet")?;
    found("the kubelet has registered the driver again", DEADLINE, || {
        Ok((registrations()? > before).then_some(()))
    })?;

    kubectl.apply(&[Pod::new(namespace, "new", &secrets).object()])?;
    kubectl.until_ready(namespace, "new")?;
    // A kubelet that has just started calls every pod unready until it has probed it, and the service leads nowhere.
    world.store.until_ready(&world.cluster)?;
    scene.wait(world.store.put(&path, &[("password", "2")]))?;
    for pod in ["old", "new"] {
        let content = || kubectl.exec(namespace, pod, &["cat", "/secrets/password"]);
        found(&format!("the new password is in {pod}"), DEADLINE, || Ok((content()? == "2").then_some(())))?;
    }
    Ok(())
}

const ROUNDS: usize = 5;
const PODS: usize = 4;

/// The driver is killed again and again while pods come and go. When all pods are gone nothing of them is left on the node.
pub(crate) fn killed(scene: &Scene<'_>) -> Outcome {
    let namespace = &scene.namespace;
    let (world, kubectl) = (scene.world, &scene.world.cluster.kubectl);
    let path = scene.store_password("1")?;
    let secrets = format!("- path: {path}\n");
    let name = |round: usize, n: usize| format!("pod-{round}-{n}");
    for round in 0..ROUNDS {
        let pods: Vec<_> =
            (0..PODS).map(|n| Pod::new(namespace, &name(round, n), &secrets).object()).collect();
        kubectl.apply(&pods)?;
        if round > 0 {
            let before: Vec<String> = (0..PODS).map(|n| name(round - 1, n)).collect();
            let mut arguments = vec!["-n", namespace, "delete", "pod", "--wait=false"];
            arguments.extend(before.iter().map(String::as_str));
            kubectl.ok(&arguments)?;
        }
        // In the middle of both: as soon as the first of the new volumes shows up.
        found("a volume of this round is mounted", DEADLINE, || {
            Ok(mounts_of_volumes()?.iter().any(|_| true).then_some(()))
        })?;
        let driver = driver_ready(&world.cluster)?;
        kill(pid_of(&driver)?)?;
        // A container that ends again and again waits for longer and longer; a new pod does not.
        let driver = driver["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        kubectl.ok(&["-n", "strongroom-csi", "delete", "pod", &driver, "--grace-period=0", "--force"])?;
    }
    for n in 0..PODS {
        kubectl.until_ready(namespace, &name(ROUNDS - 1, n))?;
    }
    kubectl.ok(&["-n", namespace, "delete", "pods", "--all", "--wait=false"])?;
    nothing_left(namespace, scene)
}

/// No pod, mount or note of the driver of this namespace.
fn nothing_left(namespace: &str, scene: &Scene<'_>) -> Outcome {
    let kubectl = &scene.world.cluster.kubectl;
    found("all pods of it are gone", Duration::from_secs(90), || {
        Ok(kubectl.ok(&["-n", namespace, "get", "pods", "-o", "name"])?.trim().is_empty().then_some(()))
    })?;
    // Earlier scenarios' pods are on their way out, too.
    found("no volume is mounted and none is noted", Duration::from_secs(90), || {
        Ok((mounts_of_volumes()?.is_empty() && state_files()?.is_empty()).then_some(()))
    })
    .map_err(|error| {
        format!("{error}; mounted: {:?}; noted: {:?}", mounts_of_volumes(), state_files()).into()
    })
}

fn kill(pid: u32) -> std::io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| std::io::Error::other("no process id"))?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
}

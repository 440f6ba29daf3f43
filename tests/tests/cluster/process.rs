//! What the kernel says of the processes in our containers: who they are and what they may do.

use std::{fs, io};

use serde_json::Value;
use strongroom_tests::cluster::{kubectl::Kubectl, store::driver_ready};

use crate::{Outcome, Scene};

/// The server: nobody, with no capability, filtered by seccomp, not able to gain more. The driver: root, and no token of the
/// API server in it.
pub(crate) fn only_the_rights_they_need(scene: &Scene<'_>) -> Outcome {
    let kubectl = &scene.world.cluster.kubectl;
    let server = status(pid_of(&kubectl.get("strongroom", "pod/strongroom-0")?)?)?;
    for line in [
        "Uid:\t65532\t65532",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(server.contains(line), "the server is not {line:?}:\n{server}");
    }
    let driver = driver_ready(&scene.world.cluster)?;
    let volumes = driver["spec"]["volumes"].to_string();
    assert!(!volumes.contains("serviceAccountToken"), "the driver has a token: {volumes}");
    may_nothing(kubectl, "system:serviceaccount:strongroom-csi:strongroom-csi", "get", "pods")?;
    may_nothing(kubectl, "system:serviceaccount:strongroom-csi:strongroom-csi", "create", "tokenreviews")?;
    may_nothing(kubectl, "system:serviceaccount:strongroom:strongroom", "get", "secrets")?;
    may_nothing(kubectl, "system:serviceaccount:strongroom:strongroom", "create", "pods")?;
    Ok(())
}

/// The API server says no.
fn may_nothing(kubectl: &Kubectl, account: &str, verb: &str, what: &str) -> Outcome {
    let answer = kubectl.run(&["auth", "can-i", verb, what, "-A", "--as", account], b"")?;
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "no", "{account} may {verb} {what}");
    Ok(())
}

/// The process of a pod's first container, on this host: its cgroup has the container's id.
pub(crate) fn pid_of(pod: &Value) -> io::Result<u32> {
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default();
    let id = id.trim_start_matches("containerd://");
    let is_it = |pid: &u32| {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        !id.is_empty() && cgroups.contains(id)
    };
    let processes = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // The first process of a container is the one with the smallest id.
    processes
        .filter(is_it)
        .min()
        .ok_or_else(|| io::Error::other(format!("no process of the container {id:?}")))
}

fn status(pid: u32) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/status"))
}

/// Resident memory in MiB.
pub(crate) fn resident_mib(pid: u32) -> io::Result<f64> {
    let status = status(pid)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| io::Error::other("no VmRSS"))
}

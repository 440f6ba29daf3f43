//! What somebody needs who reads that a test on the cluster failed, and cannot look at the cluster any more.

use std::{fs, path::Path};

use super::{Cluster, kubectl::Kubectl};

/// Lines of each log.
const LINES: usize = 60;

/// Everything about a namespace, the driver and the server, as text.
pub fn collect(cluster: &Cluster, namespace: &str) -> String {
    let kubectl = &cluster.kubectl;
    let mut text = String::new();
    let mut ask = |arguments: &[&str]| section(&mut text, kubectl, arguments);
    ask(&["get", "pods", "-A", "-o", "wide"]);
    ask(&["-n", namespace, "describe", "pods"]);
    for (namespace, selector) in [
        ("strongroom-csi", "app.kubernetes.io/component=csi-driver"),
        ("strongroom", "app.kubernetes.io/component=server"),
    ] {
        ask(&["-n", namespace, "describe", "pods", "-l", selector]);
        ask(&["-n", namespace, "logs", "-l", selector, "--tail=60", "--all-containers"]);
    }
    ask(&[
        "-n",
        "strongroom-csi",
        "logs",
        "-l",
        "app.kubernetes.io/component=csi-driver",
        "--tail=60",
        "--previous",
    ]);
    let kubelet = fs::read_to_string(cluster.logs.join("kubelet.log")).unwrap_or_default();
    text.push_str(&format!(
        "== the end of {}\n{}\n",
        cluster.logs.join("kubelet.log").display(),
        tail(&kubelet)
    ));
    text
}

fn section(text: &mut String, kubectl: &Kubectl, arguments: &[&str]) {
    text.push_str(&format!("== kubectl {}\n", arguments.join(" ")));
    match kubectl.run(arguments, b"") {
        Ok(output) => {
            text.push_str(&String::from_utf8_lossy(&output.stdout));
            text.push_str(&String::from_utf8_lossy(&output.stderr));
        }
        Err(error) => text.push_str(&format!("{error}\n")),
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(LINES)).copied().collect::<Vec<_>>().join("\n")
}

/// The mounts of the driver in the host's mount table.
///
/// # Errors
/// The table cannot be read.
pub fn mounts_of_volumes() -> std::io::Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let targets = table.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(targets.filter(|target| target.contains("/volumes/kubernetes.io~csi/")).map(str::to_owned).collect())
}

/// The driver's own notes of volumes on the node.
///
/// # Errors
/// They cannot be listed.
pub fn state_files() -> std::io::Result<Vec<String>> {
    let folder = Path::new("/var/lib/kubelet/plugins/csi.strongroom.dev/state");
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

//! The NetworkPolicies of `deploy/`, enforced: who reaches whom, tried from pods and from the network namespaces of our own
//! processes, whose images hold nothing to try it with.

use std::{io, process::Command};

use serde_json::{Value, json};
use strongroom_tests::{
    cluster::{kubectl::DEADLINE, pod::Pod, store::driver_ready},
    wait::found,
};

use crate::{Outcome, Scene, process::pid_of};

const GRPC: u16 = 7420;
const OPS: u16 = 7421;
const DRIVER_OPS: u16 = 7431;
/// Seconds that an attempt may take; a policy drops, so a refused one takes all of it.
const PATIENCE: &str = "3";

/// In and out of server and driver: what the policies name works, and nothing else does.
pub(crate) fn policies(scene: &Scene<'_>) -> Outcome {
    let kubectl = &scene.world.cluster.kubectl;
    let namespace = scene.namespace.as_str();
    let client = format!("{namespace}-client");
    let monitoring = format!("{namespace}-monitoring");
    let mut objects = vec![visitor(namespace)];
    for (name, label) in [(&client, "strongroom.dev/client"), (&monitoring, "strongroom.dev/monitoring")] {
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {label: "true"}}}));
        objects.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": name, "name": "app"}}));
        objects.push(visitor(name));
    }
    kubectl.apply(&objects)?;
    for namespace in [namespace, &client, &monitoring] {
        kubectl.until_ready(namespace, "visitor")?;
    }
    let server = kubectl.get("strongroom", "pod/strongroom-0")?;
    let driver = driver_ready(&scene.world.cluster)?;
    let (server_ip, driver_ip) = (address(&server)?, address(&driver)?);
    let visitor_ip = address(&kubectl.get(namespace, "pod/visitor")?)?;
    let from_pod = |namespace: &str, ip: &str, port: u16| {
        let port = port.to_string();
        kubectl.exec(namespace, "visitor", &["nc", "-w", PATIENCE, ip, &port]).is_ok()
    };

    // Who may come in.
    found("the client's namespace reaches the server", DEADLINE, || {
        Ok(from_pod(&client, &server_ip, GRPC).then_some(()))
    })?;
    found("the monitoring reaches the server", DEADLINE, || {
        Ok(from_pod(&monitoring, &server_ip, OPS).then_some(()))
    })?;
    found("the monitoring reaches the driver", DEADLINE, || {
        Ok(from_pod(&monitoring, &driver_ip, DRIVER_OPS).then_some(()))
    })?;
    for (whose, ip, port) in [
        (namespace, &server_ip, GRPC),
        (namespace, &server_ip, OPS),
        (namespace, &driver_ip, DRIVER_OPS),
        (&client, &server_ip, OPS),
        (&client, &driver_ip, DRIVER_OPS),
        (&monitoring, &server_ip, GRPC),
    ] {
        assert!(!from_pod(whose, ip, port), "{whose} reaches {ip}:{port}");
    }

    // Where our own processes may go.
    let (server, driver) = (pid_of(&server)?, pid_of(&driver)?);
    let api = "10.96.0.1";
    assert!(reaches(driver, &server_ip, GRPC)?, "the driver does not reach the server");
    assert!(reaches(server, api, 443)?, "the server does not reach the API server");
    // The visitor listens, and others reach it: nothing but a policy stands in the way.
    assert!(from_pod(&client, &visitor_ip, 8080), "the visitor does not listen");
    for (who, pid) in [("server", server), ("driver", driver)] {
        assert!(!reaches(pid, &visitor_ip, 8080)?, "the {who} reaches a pod of anybody");
    }
    assert!(
        !reaches(driver, api, 443)?,
        "the driver reaches the API server, which it never asks for anything"
    );
    assert!(!reaches(driver, &server_ip, OPS)?, "the driver reaches the server's plain port");
    for namespace in [client, monitoring] {
        kubectl.ok(&["delete", "namespace", &namespace, "--wait=false"])?;
    }
    Ok(())
}

/// A pod that listens on 8080 and can knock on doors.
fn visitor(namespace: &str) -> Value {
    let mut pod = Pod::new(namespace, "visitor", "").script("while true; do nc -l -p 8080; done").object();
    pod["spec"]["volumes"] = json!([]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([]);
    pod
}

fn address(pod: &Value) -> io::Result<String> {
    let ip = pod.pointer("/status/podIP").and_then(Value::as_str);
    ip.map(str::to_owned).ok_or_else(|| io::Error::other("a pod without an address"))
}

/// Whether a connection can be opened from the network namespace of that process.
fn reaches(pid: u32, ip: &str, port: u16) -> io::Result<bool> {
    let network = format!("--net=/proc/{pid}/ns/net");
    let knock = format!("exec 3<>/dev/tcp/{ip}/{port}");
    let status =
        Command::new("nsenter").args([&network, "timeout", PATIENCE, "bash", "-c", &knock]).output()?.status;
    Ok(status.success())
}

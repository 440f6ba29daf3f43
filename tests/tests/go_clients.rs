//! The sockets of the driver take Go clients as they are: grpc-go of today and of 2022, in all the ways in which kubelets
//! and the Secrets Store CSI driver dial. The cluster's tests have the real kubelet; this has the ones it does not run.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test ends at the first surprise")]

use std::{fs, io::Write, os::unix::net::UnixStream, path::Path, process::Command, time::Duration};

use prost::Message;
use strongroom_tests::{
    go,
    http::http_get,
    node::{Node, mount_request},
    one_node::{OneNode, SECRETS, may_mount},
    wait::{found, until},
};

/// What the program calls the ways of dialling.
const WAYS: [&str; 6] = ["bare-path", "unix-scheme", "localhost", "raw-path", "empty", "secrets-store"];
/// The same program with the grpc-go that Kubernetes 1.36 has, and with the one of late 2022, which does not escape paths.
const CLIENTS: [&str; 2] = ["go.mod", "2022.mod"];

#[tokio::test(flavor = "multi_thread")]
async fn every_socket_takes_every_go_client() {
    if !may_mount() {
        return;
    }
    let cluster = OneNode::start(false).await.unwrap();
    let home = cluster.home.path().join("other");
    let provider = home.join("provider.sock");
    let node = cluster.add_node("other", &[&format!("--provider-socket={}", provider.display())]).unwrap();
    // What the Secrets Store CSI driver sends for a pod; Go writes `null` for no secrets.
    let pod = cluster.shop.pod("web-0");
    let mount = cluster.home.path().join("mount-request");
    fs::write(&mount, mount_request(&pod, SECRETS, &cluster.shop.token(&pod)).encode_to_vec()).unwrap();
    let nothing: Option<&Path> = None;
    let sockets = [
        (
            home.join("kubelet/plugins_registry/csi.strongroom.dev-reg.sock"),
            "/pluginregistration.Registration/GetInfo",
            nothing,
        ),
        (home.join("csi.sock"), "/csi.v1.Identity/GetPluginInfo", nothing),
        (provider.clone(), "/v1alpha1.CSIDriverProvider/Version", nothing),
        (provider, "/v1alpha1.CSIDriverProvider/Mount", Some(mount.as_path())),
    ];
    for client in CLIENTS {
        let Some(program) = go::program("grpc-go", client, cluster.home.path()).unwrap() else { return };
        for (socket, method, request) in &sockets {
            let mut calls = Command::new(&program);
            calls.arg(socket).arg(method).args(*request);
            let said = go::said(calls).unwrap();
            let ways: Vec<&str> =
                said.lines().filter_map(|line| line.split_once(" ok ")).map(|(way, _)| way).collect();
            assert_eq!(ways, WAYS, "{client} {method}: {said}");
            assert!(!said.contains(" ok 0"), "an empty answer: {said}");
        }
    }
    // It was only looked at: nobody has said that it is registered.
    let (status, body) = http_get(node.ops(), "/readyz").unwrap();
    assert_eq!(status, 503);
    assert!(body.contains("has asked this driver to register but has not accepted it"), "{body}");
}

/// The line of an operator at 3 a.m.: the DaemonSet is 0/1, and the log says where to look.
#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_nobody_registers_says_so_and_where_to_look() {
    let cluster = OneNode::start(false).await.unwrap();
    let node = &cluster.node;
    let (status, body) = http_get(node.ops(), "/readyz").unwrap();
    assert_eq!(status, 503);
    let socket = cluster.home.path().join("kubelet/plugins_registry/csi.strongroom.dev-reg.sock");
    for part in ["plugins_registry", "--root-dir", &socket.display().to_string()] {
        assert!(body.contains(part), "{body}");
    }
    let told = || Ok(node.log().contains("no pod gets its secrets yet").then_some(()));
    found("the warning after 30 s", Duration::from_secs(60), told).unwrap();
    let log = node.log();
    let line = log.lines().find(|line| line.contains("no pod gets its secrets yet")).unwrap();
    assert!(line.contains("\"WARN\"") && line.contains(&socket.display().to_string()), "{line}");

    // Late is not never; and a kubelet that was restarted asks again.
    for _ in 0..2 {
        node.register(None).await.unwrap();
        assert_eq!(http_get(node.ops(), "/readyz").unwrap(), (200, "ready\n".into()));
    }
    assert_eq!(node.log().matches("registered with the kubelet").count(), 2);
}

/// What is not HTTP/2 costs its own connection and nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_speaks_nonsense_is_closed_and_told() {
    let cluster = OneNode::start(false).await.unwrap();
    let node: &Node = &cluster.node;
    let mut stream = UnixStream::connect(cluster.home.path().join("csi.sock")).unwrap();
    // A HEADERS frame of 20,000 bytes.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x4e\x20\x01\x04\x00\x00\x00\x01").unwrap();
    until("the line in the log", || node.log().contains("more than 16384 bytes")).unwrap();
    assert!(fs::metadata(cluster.home.path().join("csi.sock")).is_ok());
    cluster.node.register(None).await.unwrap();
}

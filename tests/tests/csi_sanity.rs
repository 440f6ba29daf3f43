//! The tests that the CSI project has for drivers (csi-sanity), as published, against the real driver over its socket.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends at the first surprise")]

use std::{fs, path::PathBuf};

use strongroom_tests::{
    go,
    one_node::{OneNode, may_mount},
};

/// What our driver has: no controller, because its volumes are made by a pod's description.
const SERVICES: &str = "Identity Service|Node Service";
/// All of their tests that can apply without a controller and without capabilities that we do not claim.
const PASSED: [&str; 13] = [
    "Identity Service GetPluginCapabilities should return appropriate capabilities",
    "Identity Service GetPluginInfo should return appropriate information",
    "Identity Service Probe should return appropriate information",
    "Node Service NodeGetCapabilities should return appropriate capabilities",
    "Node Service NodeGetInfo should return appropriate values",
    "Node Service NodeGetVolumeStats should fail when no volume id is provided",
    "Node Service NodeGetVolumeStats should fail when no volume path is provided",
    "Node Service NodeGetVolumeStats should fail when volume is not found",
    "Node Service NodePublishVolume should fail when no target path is provided",
    "Node Service NodePublishVolume should fail when no volume capability is provided",
    "Node Service NodePublishVolume should fail when no volume id is provided",
    "Node Service NodeUnpublishVolume should fail when no target path is provided",
    "Node Service NodeUnpublishVolume should fail when no volume id is provided",
];
/// These make a volume by a controller first, without asking whether there is one. What they look for is in `csi.rs`.
const NEED_A_CONTROLLER: &str =
    "should remove target path|should fail when volume does not exist on the specified path";

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_passes_what_csi_sanity_has_for_node_drivers() {
    if !may_mount() {
        return;
    }
    let sanity = go::command("conformance/csi-sanity", "go.mod", &["tool", "csi-sanity"]).unwrap();
    let Some(mut sanity) = sanity else { return };
    let cluster = OneNode::start(false).await.unwrap();
    let (pod, volume) = cluster.pod("sanity").unwrap();
    let token = cluster.shop.token(&pod);
    let file = |name: &str| -> PathBuf { cluster.home.path().join(name) };
    let request = volume.publish_with_secrets(&token);
    let secrets = serde_json::json!({ "NodePublishVolumeSecret": request.secrets });
    fs::write(file("secrets.yaml"), secrets.to_string()).unwrap();
    let options = [
        ("csi.endpoint", format!("unix://{}", file("csi.sock").display())),
        ("csi.mountdir", volume.target.display().to_string()),
        ("csi.stagingdir", file("staging").display().to_string()),
        ("csi.secrets", file("secrets.yaml").display().to_string()),
        ("ginkgo.focus", SERVICES.to_owned()),
        ("ginkgo.skip", NEED_A_CONTROLLER.to_owned()),
        ("ginkgo.no-color", "true".to_owned()),
        ("ginkgo.json-report", file("report.json").display().to_string()),
    ];
    let run = sanity.args(options.map(|(option, value)| format!("--{option}={value}"))).output().unwrap();
    let output = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{output}\n{}", cluster.node.log());

    let report = fs::read(file("report.json")).unwrap();
    assert_eq!(passed(&serde_json::from_slice(&report).unwrap()), PASSED, "{output}");
    let log = cluster.node.log();
    assert!(log.contains("publish refused") && !log.contains(&token), "{log}");
    assert_eq!(cluster.node.leftovers().unwrap(), Vec::<String>::new());
}

/// The names of what was run and passed, sorted.
fn passed(report: &serde_json::Value) -> Vec<String> {
    let specs = report[0]["SpecReports"].as_array().unwrap();
    let specs = specs.iter().filter(|spec| spec["LeafNodeType"] == "It" && spec["State"] == "passed");
    let mut names: Vec<String> = specs.map(name).collect();
    names.sort();
    names
}

fn name(spec: &serde_json::Value) -> String {
    let groups = spec["ContainerHierarchyTexts"].as_array().unwrap().iter();
    let words = groups.chain([&spec["LeafNodeText"]]).map(|text| text.as_str().unwrap());
    words.collect::<Vec<_>>().join(" ")
}

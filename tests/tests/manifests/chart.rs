//! The Helm chart is a second way to write what the bases say, and may not become another system: with the same choices, both
//! render the same objects. So a change of a manifest that forgets the chart fails here.

use std::{collections::BTreeSet, fs};

use serde_json::Value;
use strongroom_tests::cluster::repository;

use crate::render::{Objects, Render};

const IMAGES: [&str; 2] =
    ["server.image=strongroom.invalid/server:0.1.0", "driver.image=strongroom.invalid/csi-driver:0.1.0"];

/// The same choice in both ways: lines of a kustomization, and values of the chart.
const CHOICES: &[(&str, &[&str])] = &[
    ("resources: [DEPLOY/server, DEPLOY/csi-driver]", &[]),
    ("resources: [DEPLOY/server, DEPLOY/csi-driver, DEPLOY/monitoring]", &["monitoring.enabled=true"]),
    (
        "resources: [DEPLOY/server, DEPLOY/csi-driver]\ncomponents: [DEPLOY/components/openshift]",
        &["platform=openshift"],
    ),
    ("resources: [DEPLOY/server, DEPLOY/csi-driver]\ncomponents: [DEPLOY/components/gke]", &["platform=gke"]),
    ("resources: [DEPLOY/server, DEPLOY/csi-driver]\ncomponents: [DEPLOY/components/k0s]", &["platform=k0s"]),
    (
        "resources: [DEPLOY/server, DEPLOY/csi-driver]\ncomponents: [DEPLOY/components/microk8s]",
        &["platform=microk8s"],
    ),
    (
        "resources: [DEPLOY/server, DEPLOY/csi-driver]\ncomponents: [DEPLOY/components/secrets-store-provider]",
        &["driver.secretsStoreProvider=true"],
    ),
    (
        "resources: [DEPLOY/server, DEPLOY/csi-driver]\ncomponents: [DEPLOY/components/pod-events]",
        &["driver.podEvents=true"],
    ),
    ("resources: [DEPLOY/server]", &["driver.enabled=false"]),
    ("resources: [DEPLOY/csi-driver]", &["server.enabled=false"]),
    (
        "resources: [DEPLOY/overlays/development]",
        &["server.fileSeal=true", "server.storage.data.size=1Gi", "server.storage.audit.size=1Gi"],
    ),
    ("resources: [DEPLOY/overlays/production]", &["@deploy/chart/production.yaml"]),
];

#[test]
fn the_chart_says_what_the_bases_say() {
    let Some(render) = Render::new() else { return };
    for (lines, values) in CHOICES {
        let bases = as_in_both(render.objects(&render.kustomization(lines)));
        let images: &[&str] = if lines.contains("production") { &[] } else { &IMAGES };
        let values = [images, values].concat();
        let chart = as_in_both(render.objects(&render.chart("strongroom", "strongroom", &values).unwrap()));
        let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&chart), names(&bases), "{lines}");
        for (name, object) in &bases {
            let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap();
            let (said, wanted) = (pretty(&chart[name]), pretty(object));
            assert!(said == wanted, "{lines}\n{name} of the chart:\n{said}\nof the bases:\n{wanted}");
        }
    }
}

/// Takes away everything in which the two may differ. There is no more than this.
fn as_in_both(objects: Objects) -> Objects {
    let mut same = Objects::new();
    for (name, mut object) in objects {
        // Helm makes the namespace of a release itself, or it is there before; the notes say how to label it.
        if name == "Namespace /strongroom" {
            continue;
        }
        // A changed configuration replaces the pod: kustomize gives its ConfigMap another name, the chart an annotation to the pod.
        without_digest(&mut object);
        if let Some(annotations) = object.pointer_mut("/spec/template/metadata/annotations") {
            annotations.as_object_mut().unwrap().remove("checksum/config");
        }
        // What has a name is found by it.
        by_name(&mut object);
        let name = if name.starts_with("ConfigMap strongroom/strongroom-server") {
            "ConfigMap strongroom/strongroom-server".to_owned()
        } else {
            name
        };
        same.insert(name, object);
    }
    same
}

fn without_digest(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("strongroom-server-") => "strongroom-server".clone_into(text),
        Value::Array(values) => values.iter_mut().for_each(without_digest),
        Value::Object(fields) => fields.values_mut().for_each(without_digest),
        _ => {}
    }
}

fn by_name(value: &mut Value) {
    match value {
        Value::Array(values) => {
            values.iter_mut().for_each(by_name);
            if values.iter().all(|value| value["name"].is_string()) {
                values.sort_by_key(|value| value["name"].as_str().map(str::to_owned));
            }
        }
        Value::Object(fields) => fields.values_mut().for_each(by_name),
        _ => {}
    }
}

#[test]
fn the_chart_goes_into_namespaces_of_ones_own() {
    let Some(render) = Render::new() else { return };
    for platform in ["kubernetes", "openshift", "gke"] {
        let platform = format!("platform={platform}");
        let mut values = IMAGES.to_vec();
        values.extend(["driver.namespace.name=mounts", "monitoring.enabled=true", &platform]);
        let objects = render.objects(&render.chart("second", "store", &values).unwrap());
        crate::render::only_in(&objects, "store", "mounts");
        assert!(objects.contains_key("ClusterRole /second"), "{:?}", objects.keys());
    }
    let mut values = IMAGES.to_vec();
    values.push("driver.namespace.name=store");
    let refused = render.chart("second", "store", &values).unwrap_err();
    assert!(refused.contains("the driver is privileged and needs a namespace of its own"), "{refused}");
}

/// What a kustomization would say with a patch of its own.
#[test]
fn values_without_a_twin_in_the_bases_arrive() {
    let Some(render) = Render::new() else { return };
    let (server, driver) = ("StatefulSet strongroom/strongroom", "DaemonSet strongroom-csi/strongroom-csi");
    for (value, object, place, wanted) in [
        ("imagePullSecrets={ours}", server, "/spec/template/spec/imagePullSecrets/0/name", "ours"),
        ("imagePullSecrets={ours}", driver, "/spec/template/spec/imagePullSecrets/0/name", "ours"),
        ("server.imagePullPolicy=Never", server, "/spec/template/spec/containers/0/imagePullPolicy", "Never"),
        ("driver.imagePullPolicy=Never", driver, "/spec/template/spec/containers/0/imagePullPolicy", "Never"),
        ("server.config=# mine", "ConfigMap strongroom/strongroom-server", "/data/server.toml", "# mine\n"),
        (
            "server.env.STRONGROOM_AUDIT_DURABILITY=os",
            server,
            "/spec/template/spec/containers/0/env/0/value",
            "os",
        ),
        (
            "driver.env.STRONGROOM_CLUSTER=west",
            driver,
            "/spec/template/spec/containers/0/env/4/value",
            "west",
        ),
        ("server.tlsSecret=mine", server, "/spec/template/spec/volumes/1/secret/secretName", "mine"),
        ("driver.caConfigMap=mine", driver, "/spec/template/spec/volumes/3/configMap/name", "mine"),
        (
            "server.storage.data.class=fast",
            server,
            "/spec/volumeClaimTemplates/0/spec/storageClassName",
            "fast",
        ),
        ("server.nodeSelector.disk=fast", server, "/spec/template/spec/nodeSelector/disk", "fast"),
        ("server.tolerations[0].key=stores", server, "/spec/template/spec/tolerations/0/key", "stores"),
        (
            "driver.address=https://elsewhere:7420",
            driver,
            "/spec/template/spec/containers/0/env/0/value",
            "https://elsewhere:7420",
        ),
        ("driver.priorityClassName=ours", driver, "/spec/template/spec/priorityClassName", "ours"),
        (
            "driver.resources.limits.memory=1Gi",
            driver,
            "/spec/template/spec/containers/0/resources/limits/memory",
            "1Gi",
        ),
        (
            "server.apiServerBlocks={10.0.0.1/32}",
            "NetworkPolicy strongroom/server",
            "/spec/egress/0/to/0/ipBlock/cidr",
            "10.0.0.1/32",
        ),
    ] {
        let rendered = render.chart("strongroom", "strongroom", &[IMAGES[0], IMAGES[1], value]).unwrap();
        let objects = render.objects(&rendered);
        assert_eq!(objects[object].pointer(place).and_then(Value::as_str), Some(wanted), "{value}");
    }
    let values = [IMAGES[0], IMAGES[1], "networkPolicies=false"];
    let objects = render.objects(&render.chart("strongroom", "strongroom", &values).unwrap());
    assert!(!objects.keys().any(|name| name.starts_with("NetworkPolicy")), "{:?}", objects.keys());
}

#[test]
fn a_wrong_value_is_refused_with_its_name() {
    let Some(render) = Render::new() else { return };
    let refused = |values: &[&str]| render.chart("strongroom", "strongroom", values).unwrap_err();
    let said = refused(&[]);
    for part in ["at '/server': missing property 'image'", "at '/driver': missing property 'image'"] {
        assert!(said.contains(part), "{said}");
    }
    for (wrong, part) in [
        ("server.imagePulPolicy=Always", "at '/server': additional properties 'imagePulPolicy' not allowed"),
        ("servers.enabled=true", "additional properties 'servers' not allowed"),
        ("platform=openshfit", "at '/platform': value must be one of 'kubernetes', 'openshift', 'gke'"),
        ("server.image=registry.example.com/strongroom/server", "at '/server/image'"),
        ("driver.address=http://strongroom:7420", "at '/driver/address'"),
        ("driver.namespace.name=Not_A_Name", "at '/driver/namespace/name'"),
        ("server.storage.data.size=large", "at '/server/storage/data/size'"),
        ("server.fileSeal=please", "at '/server/fileSeal': got string, want boolean"),
        ("server.env.STRONGROOM_LIMITS_IN_FLIGHT=7", "at '/server/env/STRONGROOM_LIMITS_IN_FLIGHT': got"),
    ] {
        let said = refused(&[IMAGES[0], IMAGES[1], wrong]);
        assert!(said.contains(part), "{wrong}: {said}");
    }
}

#[test]
fn helm_finds_nothing_wrong_and_packs_what_it_needs() {
    let Some(render) = Render::new() else { return };
    let lint = render.helm(&["lint", "--strict", "deploy/chart", "--set", IMAGES[0], "--set", IMAGES[1]]);
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
    // The files are links to where they are at home; a package has to have them.
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().display().to_string();
    assert!(render.helm(&["package", "deploy/chart", "--destination", &into]).status.success());
    let version = env!("CARGO_PKG_VERSION");
    let package = folder.path().join(format!("strongroom-{version}.tgz")).display().to_string();
    let packed = render.helm(&[
        "template",
        "strongroom",
        &package,
        "--set",
        IMAGES[0],
        "--set",
        IMAGES[1],
        "--set",
        "monitoring.enabled=true",
    ]);
    let said = String::from_utf8_lossy(&packed.stdout);
    for part in ["[auth.kubernetes.main]", "alert: StrongroomSealed", "\"panels\""] {
        assert!(
            said.contains(part),
            "{part} is not in the package: {}",
            String::from_utf8_lossy(&packed.stderr)
        );
    }
}

/// Every value that can be set is in the file that people read, and the chart has the version of what it installs.
#[test]
fn the_values_that_can_be_set_are_written_down() {
    let read = |file: &str| fs::read_to_string(repository().join("deploy/chart").join(file)).unwrap();
    let values = strongroom_yaml::read(&read("values.yaml"), 16).unwrap().to_json();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let (mut known, mut written) = (BTreeSet::new(), BTreeSet::new());
    properties(&schema, "", &mut known);
    keys(&values, &schema, "", &mut written);
    // Helm passes `global` to every chart; an image has no default that could be right, and stands there as a comment.
    let without_default = [".global", ".server.image", ".driver.image"].map(str::to_owned);
    assert_eq!(&known - &BTreeSet::from(without_default), written);

    let chart = strongroom_yaml::read(&read("Chart.yaml"), 4).unwrap().to_json();
    for field in ["version", "appVersion"] {
        assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{field}");
    }
}

fn properties(schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        properties(schema, &path, into);
        into.insert(path);
    }
}

/// As deep as the schema names its keys.
fn keys(values: &Value, schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    for (name, value) in values.as_object().into_iter().flatten() {
        let schema = &schema["properties"][name];
        let path = format!("{path}.{name}");
        if !schema.is_null() {
            keys(value, schema, &path, into);
            into.insert(path);
        }
    }
}

//! Kubernetes manifests as far as they matter to a mount: who the pod is and what it mounts how. Everything else in them is
//! skipped; the API server judges it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use strongroom_client::volume::{DRIVER, PodRef};
use strongroom_yaml::{Limits, Node};

use crate::failure::Failure;

/// What a person, or a template, writes into one file; the deepest of Kubernetes' own objects, an affinity of a CronJob in a
/// List, has 16 levels, and custom resources beside it may have some more.
const LIMITS: Limits = Limits { documents: 10_000, depth: 64 };

/// Something that makes pods.
#[derive(Debug)]
pub(super) struct Workload {
    /// `Deployment shop`
    pub(super) title: String,
    /// Who its pods are.
    pub(super) pod: PodRef,
    /// Whether `pod.pod` is the name of the pod; only a Pod itself has one before it runs.
    pub(super) has_pod_name: bool,
    pub(super) spec: PodSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    service_account_name: Option<String>,
    /// The old name of the same field.
    service_account: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    volumes: Vec<Volume>,
    #[serde(default, deserialize_with = "or_default")]
    containers: Vec<Container>,
    #[serde(default, deserialize_with = "or_default")]
    init_containers: Vec<Container>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) security_context: SecurityContext,
}

#[derive(Debug, Deserialize)]
struct Volume {
    name: String,
    csi: Option<Csi>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Csi {
    driver: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) read_only: bool,
    /// Any value, because people forget quotes.
    #[serde(default, deserialize_with = "or_default")]
    pub(super) volume_attributes: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    volume_mounts: Vec<VolumeMount>,
    #[serde(default, deserialize_with = "or_default")]
    security_context: SecurityContext,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeMount {
    name: String,
    sub_path: Option<String>,
    sub_path_expr: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecurityContext {
    pub(super) fs_group: Option<i64>,
    run_as_user: Option<i64>,
    run_as_non_root: Option<bool>,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default, deserialize_with = "or_default")]
    kind: String,
    #[serde(default, deserialize_with = "or_default")]
    metadata: Metadata,
    #[serde(default, deserialize_with = "or_default")]
    spec: Value,
    /// The items of a List.
    #[serde(default, deserialize_with = "or_default")]
    items: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    generate_name: String,
    namespace: Option<String>,
}

/// Templates leave fields without a value behind; to Kubernetes they are not there.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(field: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(field)?.unwrap_or_default())
}

/// What is in a file.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) workloads: Vec<Workload>,
    /// Objects of other kinds; some of them may make pods all the same.
    pub(super) skipped: Vec<String>,
}

/// What makes pods in any number of YAML documents. `namespace` is for objects that name none.
pub(super) fn read(yaml: &str, namespace: &str) -> Result<Manifest, Failure> {
    let documents =
        strongroom_yaml::read_all(yaml, LIMITS).map_err(|error| Failure::local("the manifest", error))?;
    let mut manifest = Manifest::default();
    for document in documents.iter().map(Node::to_json).filter(|document| !document.is_null()) {
        let object: Object = serde_json::from_value(document)
            .map_err(|error| Failure::local("not a Kubernetes object", error))?;
        for item in object.items.iter().cloned() {
            let item =
                serde_json::from_value(item).map_err(|error| Failure::local("an item of a List", error))?;
            manifest.add(item, namespace)?;
        }
        manifest.add(object, namespace)?;
    }
    Ok(manifest)
}

impl Manifest {
    fn add(&mut self, object: Object, namespace: &str) -> Result<(), Failure> {
        let title = format!("{} {}", object.kind, object.metadata.name);
        let is_list = !object.items.is_empty();
        match workload(object, namespace)? {
            Some(workload) => self.workloads.push(workload),
            None if is_list => {}
            None => self.skipped.push(title),
        }
        Ok(())
    }
}

fn workload(object: Object, namespace: &str) -> Result<Option<Workload>, Failure> {
    let within = match object.kind.as_str() {
        "Pod" => "",
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => "/template/spec",
        "CronJob" => "/jobTemplate/spec/template/spec",
        _ => return Ok(None),
    };
    let Metadata { name, generate_name, namespace: own } = object.metadata;
    let name = if name.is_empty() { generate_name } else { name };
    let title = format!("{} {name}", object.kind);
    let spec = object.spec.pointer(within).cloned();
    let spec =
        spec.ok_or_else(|| Failure::local(&title, format!("has no spec{}", within.replace('/', "."))))?;
    let spec: PodSpec = serde_json::from_value(spec).map_err(|error| Failure::local(&title, error))?;
    let pod = PodRef {
        namespace: own.unwrap_or_else(|| namespace.to_owned()),
        pod: match object.kind.as_str() {
            "Pod" => name,
            "StatefulSet" => format!("{name}-0"),
            _ => format!("{name}-xxxxx"),
        },
        service_account: spec.account().unwrap_or("default").to_owned(),
    };
    Ok(Some(Workload { title, pod, has_pod_name: object.kind == "Pod", spec }))
}

impl PodSpec {
    /// The service account that is named.
    pub(super) fn account(&self) -> Option<&str> {
        let named = self.service_account_name.as_deref().or(self.service_account.as_deref());
        named.filter(|name| !name.is_empty())
    }

    /// The volumes of our driver, with their names.
    pub(super) fn volumes(&self) -> impl Iterator<Item = (&str, &Csi)> {
        self.volumes.iter().filter_map(|volume| {
            let csi = volume.csi.as_ref().filter(|csi| csi.driver == DRIVER)?;
            Some((volume.name.as_str(), csi))
        })
    }

    /// Containers that mount a part of that volume instead of all of it.
    pub(super) fn sub_paths(&self, volume: &str) -> Vec<&str> {
        let is_part = |mount: &VolumeMount| {
            mount.name == volume && (mount.sub_path.is_some() || mount.sub_path_expr.is_some())
        };
        self.all_containers()
            .filter(|container| container.volume_mounts.iter().any(is_part))
            .map(|container| container.name.as_str())
            .collect()
    }

    /// Whether a container that mounts the volume runs as somebody else than root, by what the manifest says.
    pub(super) fn is_read_by_non_root(&self, volume: &str) -> bool {
        let pod = &self.security_context;
        self.all_containers()
            .filter(|container| container.volume_mounts.iter().any(|mount| mount.name == volume))
            .any(|container| {
                let own = &container.security_context;
                let user = own.run_as_user.or(pod.run_as_user);
                let non_root = own.run_as_non_root.or(pod.run_as_non_root).unwrap_or(false);
                user.map_or(non_root, |user| user != 0)
            })
    }

    fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().chain(&self.containers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD_SPEC: &str = "{serviceAccountName: web, containers: [{name: a, volumeMounts: [{name: s, mountPath: /s}]}], \
                            volumes: [{name: s, csi: {driver: csi.strongroom.dev}}, {name: t, emptyDir: {}}, \
                            {name: u, csi: {driver: other.example.com}}]}";

    #[test]
    fn pods_are_found_in_whatever_makes_them() {
        let template = format!("{{template: {{metadata: {{}}, spec: {POD_SPEC}}}}}");
        let mut yaml =
            format!("kind: Pod\nmetadata: {{name: p, namespace: shop}}\nspec: {POD_SPEC}\n---\n---\n");
        for kind in ["Deployment", "StatefulSet", "DaemonSet", "Job"] {
            yaml.push_str(&format!("kind: {kind}\nmetadata: {{name: x}}\nspec: {template}\n---\n"));
        }
        yaml.push_str(&format!(
            "kind: CronJob\nmetadata: {{name: c}}\nspec: {{jobTemplate: {{spec: {template}}}}}\n"
        ));
        yaml.push_str("---\nkind: Service\nmetadata: {name: s}\nspec: {}\n---\n");
        yaml.push_str(&format!(
            "kind: List\nitems:\n- {{kind: Pod, metadata: {{generateName: g-}}, spec: {POD_SPEC}}}\n"
        ));
        let manifest = read(&yaml, "given").unwrap();
        assert_eq!(manifest.skipped, ["Service s"]);
        let found = manifest.workloads;
        let shown: Vec<_> =
            found.iter().map(|w| format!("{}: {}/{}", w.title, w.pod.namespace, w.pod.pod)).collect();
        assert_eq!(
            shown,
            [
                "Pod p: shop/p",
                "Deployment x: given/x-xxxxx",
                "StatefulSet x: given/x-0",
                "DaemonSet x: given/x-xxxxx",
                "Job x: given/x-xxxxx",
                "CronJob c: given/c-xxxxx",
                "Pod g-: given/g-",
            ]
        );
        for workload in &found {
            assert_eq!(workload.pod.service_account, "web");
            assert_eq!(workload.spec.volumes().map(|(name, _)| name).collect::<Vec<_>>(), ["s"]);
        }
    }

    #[test]
    fn a_field_without_a_value_is_not_there() {
        let yaml = "kind: Pod\nmetadata:\nspec: {volumes: , initContainers: , securityContext: , containers: [{name: a, volumeMounts: }]}";
        assert_eq!(read(yaml, "shop").unwrap().workloads[0].pod.namespace, "shop");
    }

    #[test]
    fn what_is_no_manifest_is_told() {
        let problem = |yaml: &str| read(yaml, "default").unwrap_err().to_string();
        assert!(problem("a: [").starts_with("the manifest: is not YAML (line "));
        assert!(problem("just text").starts_with("not a Kubernetes object"));
        assert_eq!(
            problem("kind: Deployment\nmetadata: {name: x}\nspec: {}"),
            "Deployment x: has no spec.template.spec"
        );
    }
}

//! The two programs that render, and what they render as objects that can be compared.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, Output},
    sync::OnceLock,
};

use serde_json::Value;
use strongroom_tests::cluster::{programs, repository};
use strongroom_yaml::{Limits, read_all};

/// Far more than there are.
const LIMITS: Limits = Limits { documents: 100, depth: 64 };

/// Objects by kind, namespace and name.
pub(crate) type Objects = BTreeMap<String, Value>;

pub(crate) struct Render {
    helm: PathBuf,
    kubectl: PathBuf,
    home: tempfile::TempDir,
}

impl Render {
    /// None on a machine that cannot have the programs, which is said; CI has to have them.
    pub(crate) fn new() -> Option<Render> {
        static PROGRAMS: OnceLock<Option<PathBuf>> = OnceLock::new();
        let programs = PROGRAMS.get_or_init(|| programs().unwrap()).as_ref()?;
        let (helm, kubectl) = (programs.join("helm/helm"), programs.join("kubernetes-1.36/kubectl"));
        Some(Render { helm, kubectl, home: tempfile::tempdir().unwrap() })
    }

    /// `kubectl kustomize` of a folder. A warning is a failure.
    pub(crate) fn folder(&self, folder: &str) -> String {
        let output = Command::new(&self.kubectl).arg("kustomize").arg(folder).output().unwrap();
        let (said, warned) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && warned.is_empty(), "kubectl kustomize {folder}: {warned}");
        said
    }

    /// A kustomization with these lines, in which `DEPLOY` stands for the way to `deploy/`. As in a copy of the production overlay,
    /// `certificate.yaml` is beside it.
    pub(crate) fn kustomization(&self, lines: &str) -> String {
        let folder = tempfile::tempdir_in(self.home.path()).unwrap();
        // Kustomize takes no absolute path.
        let place = folder.path().canonicalize().unwrap();
        let up = "../".repeat(place.components().count() - 1);
        let root = repository().canonicalize().unwrap().display().to_string();
        let lines = lines.replace("DEPLOY", &format!("{up}{}/deploy", root.trim_start_matches('/')));
        let head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
        fs::write(place.join("kustomization.yaml"), format!("{head}{lines}")).unwrap();
        let certificate = repository().join("deploy/overlays/production/certificate.yaml");
        fs::copy(certificate, place.join("certificate.yaml")).unwrap();
        self.folder(&place.display().to_string())
    }

    /// Runs Helm; it sees nothing of the person's own.
    pub(crate) fn helm(&self, arguments: &[&str]) -> Output {
        let mut helm = Command::new(&self.helm);
        helm.args(arguments).current_dir(repository()).env_clear().env("HOME", self.home.path());
        helm.output().unwrap()
    }

    /// The chart as it is with these values (`key=value`, or `@` and a file), or why it is not.
    pub(crate) fn chart(&self, release: &str, namespace: &str, values: &[&str]) -> Result<String, String> {
        let mut arguments = vec!["template", release, "deploy/chart", "--namespace", namespace];
        arguments.extend(values.iter().flat_map(|value| match value.strip_prefix('@') {
            Some(file) => ["--values", file],
            None => ["--set", *value],
        }));
        let output = self.helm(&arguments);
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// What Kubernetes would read, whoever wrote it: both go through the same reader, which refuses an object that is there twice.
    pub(crate) fn objects(&self, manifest: &str) -> Objects {
        let folder = tempfile::tempdir_in(self.home.path()).unwrap();
        fs::write(folder.path().join("all.yaml"), manifest).unwrap();
        let kustomization = "resources: [all.yaml]\n";
        fs::write(folder.path().join("kustomization.yaml"), kustomization).unwrap();
        let normal = self.folder(&folder.path().display().to_string());
        let objects = read_all(&normal, LIMITS).unwrap().into_iter().map(|node| node.to_json());
        objects.map(|object| (name_of(&object), object)).collect()
    }
}

fn name_of(object: &Value) -> String {
    let word = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}/{}", word("/kind"), word("/metadata/namespace"), word("/metadata/name"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every object is in one of these two namespaces or in none, and nothing speaks of the usual ones any more.
pub(crate) fn only_in(objects: &Objects, server: &str, driver: &str) {
    for (name, object) in objects {
        let own = [server, driver, ""].map(|namespace| format!(" {namespace}/"));
        assert!(own.iter().any(|own| name.contains(own)), "{name} is elsewhere");
        assert_eq!(usual(object, ""), Vec::<String>::new(), "{name} speaks of the usual namespaces");
    }
    let of_driver = &objects[&format!("DaemonSet {driver}/strongroom-csi")];
    let address = format!("https://strongroom.{server}.svc:7420");
    assert!(of_driver.to_string().contains(&address), "{of_driver}");
    let policy = objects[&format!("NetworkPolicy {server}/server")].to_string();
    assert!(policy.contains(&format!(r#"{{"kubernetes.io/metadata.name":"{driver}"}}"#)), "{policy}");
    let policy = objects[&format!("NetworkPolicy {driver}/csi-driver")].to_string();
    assert!(policy.contains(&format!(r#"{{"kubernetes.io/metadata.name":"{server}"}}"#)), "{policy}");
    let binding = objects.iter().find(|(name, _)| name.starts_with("ClusterRoleBinding ")).unwrap().1;
    assert_eq!(binding["subjects"][0]["namespace"], server);
}

/// Where a value names the namespaces `strongroom` and `strongroom-csi`.
fn usual(value: &Value, key: &str) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().flat_map(|value| usual(value, key)).collect(),
        Value::Object(fields) => fields.iter().flat_map(|(key, value)| usual(value, key)).collect(),
        Value::String(text) => {
            let is_namespace = ["namespace", "kubernetes.io/metadata.name"].contains(&key);
            let named = is_namespace && ["strongroom", "strongroom-csi"].contains(&text.as_str());
            let spoken = text.contains(".strongroom.svc") || text.contains(".strongroom-csi.svc");
            if named || spoken { vec![format!("{key}: {text}")] } else { Vec::new() }
        }
        _ => Vec::new(),
    }
}

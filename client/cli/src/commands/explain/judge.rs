//! Whether a volume would mount, file by file, from what the server said. It asks nobody itself, so that a table of cases
//! can test it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use strongroom_client::{
    SecretBytes,
    volume::{Entry, Fetched, Layout, Mode, PodRef, Source, Volume},
};

use super::manifest::{Csi, Workload};

/// What the server said about the secrets of a volume.
#[derive(Default)]
pub(super) struct Answers {
    /// For each path: whether the pod may read it, and why.
    pub(super) may: BTreeMap<String, (bool, String)>,
    pub(super) lookups: BTreeMap<Source, Lookup>,
}

/// What the caller sees of a secret.
pub(super) enum Lookup {
    Values(BTreeMap<String, SecretBytes>),
    /// Nothing readable is there.
    Missing(String),
    /// The caller may not read it.
    Hidden,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// The file will be there.
    Yes,
    /// The mount is refused.
    No,
    /// It is optional and will not be there.
    Skipped,
    /// The pod may read it, but the caller cannot see whether it exists.
    Unknown,
}

/// A file of a volume, or a mistake in its description.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) file: String,
    pub(super) from: String,
    pub(super) verdict: Verdict,
    pub(super) why: String,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Skipped => "skipped",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it keeps the mount from being certain.
    pub(super) fn is_good(self) -> bool {
        matches!(self, Self::Yes | Self::Skipped)
    }
}

fn mistake(field: impl Into<String>, why: impl Into<String>) -> Row {
    Row { file: "-".into(), from: field.into(), verdict: Verdict::No, why: why.into() }
}

/// The volume, as the driver would read it, or every mistake in it.
pub(super) fn parse(csi: &Csi, pod: &PodRef) -> Result<Volume, Vec<Row>> {
    let (mut attributes, mut mistakes) = (BTreeMap::new(), Vec::new());
    if !csi.read_only {
        mistakes.push(mistake("csi.readOnly", "is not true; the driver mounts only read-only volumes"));
    }
    for (name, value) in &csi.volume_attributes {
        let problem = match value {
            Value::String(text) => {
                attributes.insert(name.clone(), text.clone());
                continue;
            }
            Value::Array(_) | Value::Object(_) => format!("is YAML, not text; write `{name}: |`"),
            other => format!("is {other}, not text; put it in quotes"),
        };
        mistakes.push(mistake(name, problem));
    }
    match Volume::parse(&attributes, pod) {
        Ok(volume) if mistakes.is_empty() => Ok(volume),
        Ok(_) => Err(mistakes),
        Err(problems) => {
            // A field that is not text was reported above.
            let is_new = |field: &str| csi.volume_attributes.get(field).is_none_or(Value::is_string);
            let new = problems.into_iter().filter(|problem| is_new(&problem.field));
            let new: Vec<_> = new.map(|problem| mistake(problem.field, problem.problem)).collect();
            mistakes.extend(new);
            Err(mistakes)
        }
    }
}

/// A row for each file; one more if the files do not fit together.
pub(super) fn files(volume: &Volume, answers: &Answers) -> Vec<Row> {
    let mut rows: Vec<_> = volume.entries.iter().flat_map(|entry| entry_files(entry, answers)).collect();
    let is_whole = rows.iter().all(|row| row.verdict.is_good());
    // Everything is known to be there, so what is left to go wrong is what the driver would say at the mount.
    // What is issued has its fields only then.
    if is_whole
        && volume.issues().is_empty()
        && let Err(error) = volume.render(&fetched(answers))
    {
        rows.push(mistake("secrets", error.to_string()));
    }
    rows
}

fn fetched(answers: &Answers) -> Fetched {
    let mut fetched = Fetched::default();
    for (source, lookup) in &answers.lookups {
        if let Lookup::Values(values) = lookup {
            let copy = values.iter().map(|(key, value)| (key.clone(), SecretBytes::from(value.expose())));
            fetched.insert(source.clone(), copy.collect());
        }
    }
    fetched
}

fn entry_files(entry: &Entry, answers: &Answers) -> Vec<Row> {
    let row = |file: String, needs: &[(&Source, &str)]| {
        let from: Vec<_> = needs.iter().map(|(source, key)| format!("{}#{key}", shown(source))).collect();
        let (verdict, why) = judge(entry, needs, answers);
        Row { file, from: from.join(", "), verdict, why }
    };
    match &entry.layout {
        Layout::Whole { source, dir, .. } => {
            let within = dir.as_ref().map(|dir| format!("{dir}/")).unwrap_or_default();
            match answers.lookups.get(source) {
                Some(Lookup::Values(values)) => values
                    .keys()
                    .map(|key| row(format!("{within}{key}"), &[(source, key.as_str())]))
                    .collect(),
                _ => vec![row(format!("{within}*"), &[(source, "*")])],
            }
        }
        Layout::Keys { source, files, .. } => {
            files.iter().map(|(key, name)| row(name.to_string(), &[(source, key.as_str())])).collect()
        }
        Layout::Template { sources, files } => files
            .iter()
            .map(|(name, template)| {
                let needs: Vec<_> = template
                    .placeholders()
                    .filter_map(|value| Some((sources.get(value.source)?, value.key.as_str())))
                    .collect();
                row(name.to_string(), &needs)
            })
            .collect(),
    }
}

/// The worst of all that the file needs.
fn judge(entry: &Entry, needs: &[(&Source, &str)], answers: &Answers) -> (Verdict, String) {
    // The driver reads all of an entry's secrets, also those that no placeholder names.
    for source in entry.sources() {
        match answers.may.get(source.path()) {
            Some((true, _)) => {}
            Some((false, why)) => return (Verdict::No, format!("{}: {why}", source.path())),
            None => return (Verdict::Unknown, format!("{}: the server was not asked", source.path())),
        }
    }
    let missing = if entry.optional { Verdict::Skipped } else { Verdict::No };
    let mut hidden = None;
    for (source, key) in needs.iter().filter(|(source, _)| !source.is_issued()) {
        match answers.lookups.get(*source) {
            Some(Lookup::Values(values)) if *key == "*" || values.contains_key(*key) => {}
            Some(Lookup::Values(_)) => return (missing, format!("{} has no key {key}", shown(source))),
            Some(Lookup::Missing(why)) => return (missing, format!("{}: {why}", shown(source))),
            Some(Lookup::Hidden) | None => hidden = Some(source),
        }
    }
    if let Some(source) = hidden {
        return (
            Verdict::Unknown,
            format!("the pod may read {}, but you may not, so it may be missing", source.path()),
        );
    }
    if let Some((source, _)) = needs.iter().find(|(source, _)| source.is_issued()) {
        return (
            Verdict::Yes,
            format!("the pod may use {}; the field is there once it is issued", source.path()),
        );
    }
    let why = entry.sources().first().and_then(|source| answers.may.get(source.path()));
    (Verdict::Yes, why.map(|(_, why)| why.clone()).unwrap_or_default())
}

/// `secret/a`, or `secret/a@3` for a pinned version.
fn shown(source: &Source) -> String {
    source.version().map_or_else(|| source.path().to_owned(), |v| format!("{}@{v}", source.path()))
}

/// What would mount, but perhaps not as intended.
pub(super) fn warnings(workload: &Workload, name: &str, csi: &Csi, volume: Option<&Volume>) -> Vec<String> {
    let mut warnings = Vec::new();
    let spec = &workload.spec;
    if spec.account().is_none() {
        warnings.push(format!(
            "there is no serviceAccountName, so the pod is {}/default, as is every other pod that names none",
            workload.pod.namespace
        ));
    }
    let sub_paths = spec.sub_paths(name);
    if !sub_paths.is_empty() {
        warnings.push(format!(
            "container {} mounts a subPath of the volume {name}: such a mount never sees a rotation",
            sub_paths.join(", ")
        ));
    }
    let text = csi.volume_attributes.get("secrets").and_then(Value::as_str).unwrap_or_default();
    let names_pod = text.split("{{").skip(1).any(|rest| rest.trim_start().starts_with("pod"));
    if names_pod && !workload.has_pod_name {
        warnings.push(format!(
            "{{{{pod}}}} is not known before the pod exists; this is the answer for {}",
            workload.pod.pod
        ));
    }
    if let Some(volume) = volume {
        warnings.extend(unreadable(workload, name, volume));
    }
    warnings
}

/// Files that belong to root, or to a group that may not read them, in a pod that runs as somebody else.
fn unreadable(workload: &Workload, name: &str, volume: &Volume) -> Option<String> {
    let spec = &workload.spec;
    let grouped = match spec.security_context.fs_group.and_then(|group| u32::try_from(group).ok()) {
        Some(group) => volume.clone().or_group(group),
        None => volume.clone(),
    };
    if volume.uid.is_some_and(|uid| uid != 0) || !spec.is_read_by_non_root(name) {
        return None;
    }
    let mut modes = grouped.entries.iter().map(|entry| grouped.mode_of(entry));
    let readable = |mode: Mode| mode.bits() & 0o004 != 0 || (grouped.gid.is_some() && mode.lets_group_read());
    let mode = modes.find(|mode| !readable(*mode))?;
    let help = match grouped.gid {
        Some(gid) => format!("the group {gid} may not read them: use 0440, or leave the mode out"),
        None => "set securityContext.fsGroup, or uid or gid in the attributes".to_owned(),
    };
    Some(format!(
        "the files of the volume {name} belong to root with mode {mode}, but the pod does not run as root; {help}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::explain::manifest;

    /// A pod with this text behind `secrets` and this beside the volume.
    fn workload(secrets: &str, attributes: &str, pod: &str) -> Workload {
        let yaml = format!(
            "kind: Pod\nmetadata: {{name: web, namespace: shop}}\nspec:\n  serviceAccountName: web\n{pod}\n  volumes:\n  \
             - name: s\n    csi:\n      driver: csi.strongroom.dev\n      readOnly: true\n      volumeAttributes:\n        \
             {attributes}\n        secrets: {}\n",
            serde_json::to_string(secrets).unwrap()
        );
        manifest::read(&yaml, "default").unwrap().workloads.remove(0)
    }

    fn rows(secrets: &str, answers: &Answers) -> Vec<String> {
        let workload = workload(secrets, "", "");
        let (_, csi) = workload.spec.volumes().next().unwrap();
        let rows = match parse(csi, &workload.pod) {
            Ok(volume) => files(&volume, answers),
            Err(rows) => rows,
        };
        rows.iter().map(|r| format!("{} <- {}: {} ({})", r.file, r.from, r.verdict.word(), r.why)).collect()
    }

    fn source(path: &str) -> Source {
        let text = format!("[{{path: {path}}}]");
        let workload = workload(&text, "", "");
        let (_, csi) = workload.spec.volumes().next().unwrap();
        parse(csi, &workload.pod).unwrap().entries[0].sources()[0].clone()
    }

    fn answers() -> Answers {
        let mut answers = Answers::default();
        for (path, allowed) in
            [("secret/db", true), ("secret/no", false), ("secret/none", true), ("secret/dark", true)]
        {
            let why = if allowed { "role web" } else { "no rule allows it" };
            answers.may.insert(path.into(), (allowed, why.into()));
        }
        let values = ["password", "user"].map(|key| (key.to_owned(), SecretBytes::from(b"v!".as_slice())));
        answers.lookups.insert(source("secret/db"), Lookup::Values(values.into()));
        answers.lookups.insert(source("secret/none"), Lookup::Missing("not found".into()));
        answers.lookups.insert(source("secret/dark"), Lookup::Hidden);
        answers
    }

    #[test]
    fn each_file_has_its_verdict() {
        let secrets = "
- {path: secret/db, dir: d}
- {path: secret/no, keys: {k: f}}
- {path: secret/none, dir: e}
- {path: secret/none, dir: g, optional: true}
- {path: secret/dark, keys: {k: h}}
- {path: secret/db, keys: {port: p}}
- {from: {a: secret/db, b: secret/none}, template: {t: \"{{a.user}}{{b.x}}\"}}
";
        assert_eq!(
            rows(secrets, &answers()),
            [
                "d/password <- secret/db#password: yes (role web)",
                "d/user <- secret/db#user: yes (role web)",
                "f <- secret/no#k: no (secret/no: no rule allows it)",
                "e/* <- secret/none#*: no (secret/none: not found)",
                "g/* <- secret/none#*: skipped (secret/none: not found)",
                "h <- secret/dark#k: unknown (the pod may read secret/dark, but you may not, so it may be missing)",
                "p <- secret/db#port: no (secret/db has no key port)",
                "t <- secret/db#user, secret/none#x: no (secret/none: not found)",
            ]
        );
    }

    #[test]
    fn what_would_be_issued_is_judged_by_the_right_to_it() {
        let mut answers = answers();
        answers.may.insert("database/app".into(), (true, "role web".into()));
        answers.may.insert("database/no".into(), (false, "no rule allows it".into()));
        let secrets = "
- {issue: database/app, dir: d}
- {issue: database/no, keys: {username: f}}
- {from: {a: secret/db, b: {issue: database/app}}, template: {t: \"{{a.user}}{{b.password}}\"}}
";
        assert_eq!(
            rows(secrets, &answers),
            [
                "d/* <- database/app#*: yes (the pod may use database/app; the field is there once it is issued)",
                "f <- database/no#username: no (database/no: no rule allows it)",
                "t <- secret/db#user, database/app#password: yes (the pod may use database/app; the field is there once it is issued)",
            ]
        );
    }

    #[test]
    fn what_only_the_contents_tell_is_told() {
        assert_eq!(
            rows("[{path: secret/db, decode: base64, keys: {user: u}}]", &answers()),
            [
                "u <- secret/db#user: yes (role web)",
                "- <- secrets: no (the key \"user\" of secret/db is not base64)",
            ]
        );
        let twice = rows("[{path: secret/db}, {path: secret/db}]", &answers());
        assert!(twice.last().unwrap().contains("makes the file password"), "{twice:?}");
    }

    #[test]
    fn mistakes_are_told_together() {
        let workload = workload("[{path: secret/a b}]", "gid: 2000\n        colour: red", "");
        let (_, csi) = workload.spec.volumes().next().unwrap();
        let rows = parse(csi, &workload.pod).unwrap_err();
        let fields: Vec<_> = rows.iter().map(|row| row.from.as_str()).collect();
        assert_eq!(fields, ["gid", "colour", "secrets[0].path"]);

        let unquoted = "kind: Pod\nspec: {volumes: [{name: s, csi: {driver: csi.strongroom.dev, readOnly: true, \
                        volumeAttributes: {mode: 0440, secrets: [{path: secret/a}]}}}]}";
        let workload = manifest::read(unquoted, "default").unwrap().workloads.remove(0);
        let rows = parse(workload.spec.volumes().next().unwrap().1, &workload.pod).unwrap_err();
        let told: Vec<_> = rows.iter().map(|row| format!("{} {}", row.from, row.why)).collect();
        assert!(told[0].starts_with("mode is ") && told[0].ends_with("put it in quotes"), "{told:?}");
        assert_eq!(told[1..], ["secrets is YAML, not text; write `secrets: |`"]);

        let writable = "kind: Pod\nspec: {volumes: [{name: s, csi: {driver: csi.strongroom.dev}}]}";
        let workload = manifest::read(writable, "default").unwrap().workloads.remove(0);
        let rows = parse(workload.spec.volumes().next().unwrap().1, &workload.pod).unwrap_err();
        assert_eq!(rows.iter().map(|row| row.from.as_str()).collect::<Vec<_>>(), ["csi.readOnly", "secrets"]);
    }

    fn warned(attributes: &str, pod: &str) -> String {
        let workload = workload("[{path: secret/a}]", attributes, pod);
        let (name, csi) = workload.spec.volumes().next().unwrap();
        let volume = parse(csi, &workload.pod).unwrap();
        warnings(&workload, name, csi, Some(&volume)).join("; ")
    }

    #[test]
    fn what_mounts_but_is_not_meant_is_warned_of() {
        let containers = "  containers: [{name: c, volumeMounts: [{name: s, mountPath: /s}]}]\n";
        assert_eq!(warned("", containers), "");
        let part = "  containers: [{name: c, volumeMounts: [{name: s, mountPath: /s, subPath: a}]}]\n";
        assert!(warned("", part).contains("container c mounts a subPath of the volume s"));

        let with = |context: &str| format!("  securityContext: {context}\n{containers}");
        assert!(warned("", &with("{runAsNonRoot: true}")).contains("set securityContext.fsGroup"));
        assert!(warned("", &with("{runAsUser: 1000}")).contains("mode 0400"));
        assert_eq!(warned("", &with("{runAsUser: 0}")), "");
        assert_eq!(warned("", &with("{runAsUser: 1000, fsGroup: 2000}")), "");
        assert_eq!(warned("gid: \"2000\"", &with("{runAsUser: 1000}")), "");
        assert_eq!(warned("uid: \"1000\"", &with("{runAsUser: 1000}")), "");
        assert_eq!(warned("mode: \"0444\"", &with("{runAsUser: 1000}")), "");
        assert!(
            warned("mode: \"0400\"", &with("{runAsUser: 1000, fsGroup: 2000}"))
                .contains("group 2000 may not read")
        );

        let unnamed = "kind: Deployment\nmetadata: {name: x}\nspec: {template: {spec: {volumes: [{name: s, csi: \
                       {driver: csi.strongroom.dev, readOnly: true, volumeAttributes: {secrets: '[{path: \"secret/{{pod}}\"}]'}}}]}}}";
        let workload = manifest::read(unnamed, "shop").unwrap().workloads.remove(0);
        let (name, csi) = workload.spec.volumes().next().unwrap();
        let told = warnings(&workload, name, csi, None).join("; ");
        assert!(
            told.contains("the pod is shop/default") && told.contains("the answer for x-xxxxx"),
            "{told}"
        );
    }
}

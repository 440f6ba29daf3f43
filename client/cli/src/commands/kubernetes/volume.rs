//! `kubernetes volume`: the volume of our driver that gives a pod the files of a SecretProviderClass.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use serde::Serialize;
use strongroom_client::volume::{DRIVER, PodRef, Problem, Volume};

use crate::{
    context::Context,
    failure::Failure,
    forms::{
        Document,
        provider_class::{self, ProviderClass},
        vault_objects,
    },
    input::content,
    output::{Format, Presentation},
};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom kubernetes volume -f secretproviderclass.yaml
  kubectl get secretproviderclass -n shop -o yaml | strongroom kubernetes volume -f -")]
pub(super) struct VolumeArgs {
    /// The manifest, or - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
}

/// As it stands under `volumes` of a pod.
#[derive(Serialize)]
struct PodVolume {
    name: String,
    csi: Csi,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Csi {
    driver: &'static str,
    read_only: bool,
    volume_attributes: BTreeMap<String, String>,
}

pub(super) fn run(context: &Context, args: &VolumeArgs) -> Result<(), Failure> {
    let bytes = content::whole(&args.file)?;
    let document = Document { name: &content::name(&args.file), bytes: &bytes };
    let manifest = provider_class::read(&document)?;
    for other in &manifest.others {
        context.output.note(&format!("note: {other} is no SecretProviderClass and is left out"));
    }
    for class in manifest.classes.iter().filter(|class| class.makes_secrets) {
        context.output.note(&format!(
            "note: {}: secretObjects is left out; no Secret of Kubernetes is made from a volume",
            class.name
        ));
    }
    let volumes =
        manifest.classes.iter().map(|class| volume(&document, class)).collect::<Result<Vec<_>, _>>()?;
    if context.output.format() != Format::Table {
        return context.output.show(&volumes, Presentation::Text(String::new()));
    }
    volumes.iter().try_for_each(|volume| context.output.raw(written(volume).as_bytes()))
}

fn volume(document: &Document<'_>, class: &ProviderClass) -> Result<PodVolume, Failure> {
    let attributes = match class.provider.as_str() {
        "strongroom" => class.parameters.iter().map(|(name, text, _)| (name.clone(), text.clone())).collect(),
        "vault" => BTreeMap::from([("secrets".to_owned(), vault_objects::secrets(document, class)?)]),
        other => {
            return Err(document.wrong(
                class.line,
                format_args!("{} is for the provider {other:?}; expected strongroom or vault", class.name),
            ));
        }
    };
    // What is printed is what the driver takes; names of a pod stand in for those that are not known yet.
    let pod = PodRef { namespace: "namespace".into(), pod: "pod".into(), service_account: "account".into() };
    Volume::parse(&attributes, &pod).map_err(|problems| {
        let told = |Problem { field, problem }: Problem| format!("{field} {problem}");
        let told = problems.into_iter().map(told).collect::<Vec<_>>().join("; ");
        document.wrong(class.line, format_args!("{}: {told}", class.name))
    })?;
    let csi = Csi { driver: DRIVER, read_only: true, volume_attributes: attributes };
    // The name of an object may have dots, that of a volume may not.
    Ok(PodVolume { name: class.name.replace('.', "-"), csi })
}

/// As people write it: each text of several lines stands as such.
fn written(volume: &PodVolume) -> String {
    let mut yaml = format!(
        "- name: {:?}\n  csi:\n    driver: {DRIVER}\n    readOnly: true\n    volumeAttributes:\n",
        volume.name
    );
    for (name, text) in &volume.csi.volume_attributes {
        if text.contains('\n') {
            // Where it begins with a space, its indent cannot be told from that of the block.
            let indent = if text.starts_with(' ') { "2" } else { "" };
            yaml.push_str(&format!("      {name}: |{indent}\n"));
            text.lines().for_each(|line| yaml.push_str(&format!("        {line}\n")));
        } else {
            yaml.push_str(&format!("      {name}: {text:?}\n"));
        }
    }
    yaml
}

#[cfg(test)]
mod tests {
    use strongroom_client::SecretBytes;

    use super::*;

    fn convert(yaml: &str) -> Result<String, Failure> {
        let document = Document { name: "class.yaml", bytes: &SecretBytes::from(yaml.as_bytes()) };
        let manifest = provider_class::read(&document)?;
        manifest.classes.iter().map(|class| Ok(written(&volume(&document, class)?))).collect()
    }

    fn class(provider: &str, parameters: &str) -> String {
        format!(
            "kind: SecretProviderClass\nmetadata: {{name: web}}\nspec:\n  provider: {provider}\n  parameters:\n{parameters}"
        )
    }

    #[test]
    fn our_own_parameters_are_attributes_already() {
        let secrets = "    mode: \"0440\"\n    secrets: |\n      - path: secret/apps/{{namespace}}/db\n        dir: db\n";
        let expected = "- name: \"web\"\n  csi:\n    driver: csi.strongroom.dev\n    readOnly: true\n    volumeAttributes:\n      \
                        mode: \"0440\"\n      secrets: |\n        - path: secret/apps/{{namespace}}/db\n          dir: db\n";
        assert_eq!(convert(&class("strongroom", secrets)).unwrap(), expected);
        let sentence = convert(&class("strongroom", "    modes: \"0440\"\n")).unwrap_err().to_string();
        assert!(sentence.contains("web: ") && sentence.contains("modes is not known"), "{sentence}");
    }

    /// What it prints is read as what was meant.
    #[test]
    fn objects_of_vault_become_entries() {
        let objects = "    vaultAddress: https://vault:8200\n    roleName: web\n    objects: |\n      \
            - {objectName: db-password, secretPath: secret/data/apps/db, secretKey: password}\n      \
            - {objectName: db-user, secretPath: secret/data/apps/db, secretKey: user}\n      \
            - {objectName: again, secretPath: secret/data/apps/db, secretKey: user}\n      \
            - {objectName: pin, secretPath: /kv/pin, secretKey: app.pin, filePermission: 0440, encoding: base64,\n         \
               secretArgs: {version: 3}}\n";
        let printed = convert(&class("vault", objects)).unwrap();
        let list = strongroom_yaml::read(&printed, 16).unwrap().to_json();
        let attributes = &list[0]["csi"]["volumeAttributes"];
        let secrets = strongroom_yaml::read(attributes["secrets"].as_str().unwrap(), 8).unwrap().to_json();
        let expected = serde_json::json!([
            {"path": "secret/apps/db", "keys": {"password": "db-password", "user": "db-user"}},
            {"path": "secret/apps/db", "keys": {"user": "again"}},
            {"path": "kv/pin", "version": 3, "keys": {"app.pin": "pin"}, "mode": "0440", "decode": "base64"},
        ]);
        assert_eq!(secrets, expected, "{printed}");
    }

    #[test]
    fn what_has_no_equal_is_told() {
        let object = |fields: &str| {
            let objects =
                format!("    objects: |\n      - {{objectName: a, secretPath: secret/data/a, {fields}}}\n");
            convert(&class("vault", &objects)).unwrap_err().to_string()
        };
        for (fields, told) in [
            ("method: GET", "has no secretKey"),
            ("secretKey: k, method: PUT", "method"),
            ("secretKey: k, encoding: hex", "encoding"),
            ("secretKey: k, secretArgs: {ttl: 1h}", "secretArgs"),
            ("secretKey: k, filePermission: \"0666\"", "everybody can write"),
            ("secretKey: k, secretKeys: k", "secretKeys"),
        ] {
            let sentence = object(fields);
            assert!(
                sentence.starts_with("class.yaml, line ") && sentence.contains(told),
                "{fields}: {sentence}"
            );
        }
        let other = convert(&class("azure", "    objects: x\n")).unwrap_err().to_string();
        assert!(other.contains("\"azure\"; expected strongroom or vault"), "{other}");
        assert!(
            convert("kind: Pod\nmetadata: {name: p}\n")
                .unwrap_err()
                .to_string()
                .contains("no SecretProviderClass")
        );
        assert!(
            convert(&class("vault", "    roleName: x\n")).unwrap_err().to_string().contains("has no objects")
        );
    }
}

//! The `objects` of Vault's provider for the Secrets Store CSI driver, as the `secrets` of our volumes.

use std::collections::BTreeMap;

use serde::Serialize;
use strongroom_yaml::{Fields, Node, Value, field};

use super::{Document, provider_class::ProviderClass};
use crate::failure::Failure;

/// A list of objects, and their `secretArgs`.
const DEPTH: usize = 4;
/// As many as a volume may have files; more of them are too many anyway.
const OBJECTS: usize = strongroom_client::volume::FILES;
const FIELDS: [&str; 7] =
    ["objectName", "secretPath", "secretKey", "filePermission", "encoding", "method", "secretArgs"];

/// An entry of `secrets`.
#[derive(Serialize)]
struct Entry {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// Keys and their files.
    keys: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decode: Option<&'static str>,
}

/// The attribute `secrets` that makes the same files.
pub(crate) fn secrets(document: &Document<'_>, class: &ProviderClass) -> Result<String, Failure> {
    let objects = class.parameters.iter().find(|(name, ..)| name == "objects");
    let (_, text, line) =
        objects.ok_or_else(|| document.wrong(class.line, format_args!("{} has no objects", class.name)))?;
    let told = |problem: String| document.wrong(*line, format_args!("{}: {problem}", class.name));
    let list = strongroom_yaml::read(text, DEPTH).map_err(|error| told(format!("objects {error}")))?;
    let objects = list.items(OBJECTS).map_err(|problem| told(format!("objects {problem}")))?;
    let mut entries: Vec<Entry> = Vec::new();
    for (at, object) in objects.iter().enumerate() {
        let entry = entry(object).map_err(|problem| told(format!("objects[{at}] {problem}")))?;
        // The last one of the same secret takes it, unless it has the key already.
        match entries.last_mut().filter(|last| last.takes(&entry)) {
            Some(last) => last.keys.extend(entry.keys),
            None => entries.push(entry),
        }
    }
    strongroom_yaml::write(&entries).map_err(|error| Failure::local("YAML", error))
}

impl Entry {
    fn takes(&self, other: &Self) -> bool {
        (&self.path, self.version, &self.mode, self.decode)
            == (&other.path, other.version, &other.mode, other.decode)
            && other.keys.keys().all(|key| !self.keys.contains_key(key))
    }
}

fn entry(object: &Node) -> Result<Entry, String> {
    let fields = object.fields()?;
    if let Some((unknown, _)) = fields.iter().find(|(name, _)| !FIELDS.contains(&name.as_str())) {
        return Err(format!("has the field {unknown:?}, which is not known here"));
    }
    let file = required(fields, "objectName")?;
    let Some(key) = text(fields, "secretKey")? else {
        return Err(format!(
            "({file}) has no secretKey, so that its file is all of the secret as JSON; name a key for each file"
        ));
    };
    let decode = match text(fields, "encoding")? {
        None | Some("" | "utf-8") => None,
        Some("base64") => Some("base64"),
        Some(other) => return Err(format!("({file}) has the encoding {other:?}; expected utf-8 or base64")),
    };
    if let Some(method) = text(fields, "method")?.filter(|method| *method != "GET") {
        return Err(format!("({file}) has the method {method:?}; a volume only reads"));
    }
    Ok(Entry {
        path: path(required(fields, "secretPath")?),
        version: version(fields).map_err(|problem| format!("({file}) {problem}"))?,
        keys: BTreeMap::from([(key.to_owned(), file.to_owned())]),
        mode: mode(fields)?,
        decode,
    })
}

/// In Vault's versioned engine the second segment says what is read of a secret: `secret/data/app`.
fn path(of_vault: &str) -> String {
    let path = of_vault.trim_matches('/');
    match path.split_once('/') {
        Some((mount, rest)) => format!("{mount}/{}", rest.strip_prefix("data/").unwrap_or(rest)),
        None => path.to_owned(),
    }
}

/// `secretArgs` may ask for a version; whatever else it holds is for other engines.
fn version(fields: Fields<'_>) -> Result<Option<u64>, String> {
    let Some(node) = field(fields, "secretArgs").filter(|node| node.value != Value::Null) else {
        return Ok(None);
    };
    match node.fields()? {
        [(name, Node { value: Value::Number(text) | Value::Text(text), .. })] if name == "version" => {
            text.parse().map(Some).map_err(|_| "has a version that is no number".to_owned())
        }
        _ => Err("has secretArgs other than a version".to_owned()),
    }
}

/// Without quotes, 0440 arrives here as the number 440: its digits are what is meant.
fn mode(fields: Fields<'_>) -> Result<Option<String>, String> {
    match field(fields, "filePermission").map(|node| &node.value) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text.clone())),
        Some(Value::Number(text)) => Ok(Some(format!("{text:0>4}"))),
        Some(other) => Err(format!("has a filePermission that is {other}")),
    }
}

fn required<'a>(fields: Fields<'a>, name: &str) -> Result<&'a str, String> {
    text(fields, name)?.filter(|text| !text.is_empty()).ok_or_else(|| format!("has no {name}"))
}

fn text<'a>(fields: Fields<'a>, name: &str) -> Result<Option<&'a str>, String> {
    match field(fields, name).filter(|node| node.value != Value::Null) {
        Some(node) => node.text().map(Some).map_err(|problem| format!("{name} {problem}")),
        None => Ok(None),
    }
}

//! Kubernetes Secrets, as `kubectl get secret -o yaml` prints them and people write them: any number of documents, and Lists.

use data_encoding::BASE64;
use strongroom_client::SecretBytes;
use strongroom_yaml::{Limits, Node, Value};

use super::{Document, Values, yaml};
use crate::failure::Failure;

/// All Secrets of a large namespace; a Secret in a List has five levels, other objects beside it have more.
const LIMITS: Limits = Limits { documents: 10_000, depth: 64 };

/// A Secret of the manifest.
pub(crate) struct KubernetesSecret {
    pub(crate) name: String,
    pub(crate) values: Values,
}

/// The Secrets, and which other objects there are.
pub(crate) struct Manifest {
    pub(crate) secrets: Vec<KubernetesSecret>,
    pub(crate) others: Vec<String>,
}

/// An object of any kind.
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) name: Option<String>,
    pub(super) line: u64,
    fields: Vec<(String, Node)>,
}

impl Object {
    pub(super) fn take(&mut self, name: &str) -> Option<Node> {
        take(&mut self.fields, name)
    }

    /// `ConfigMap shop (line 3)`
    pub(super) fn describe(&self) -> String {
        format!("{} {} (line {})", self.kind, self.name.as_deref().unwrap_or_default(), self.line)
    }
}

pub(crate) fn read(document: &Document<'_>) -> Result<Manifest, Failure> {
    let mut manifest = Manifest { secrets: Vec::new(), others: Vec::new() };
    for object in objects(document)? {
        manifest.add(document, object)?;
    }
    if manifest.secrets.is_empty() {
        return Err(Failure::usage(format!("{} has no Secret of Kubernetes", document.name)));
    }
    Ok(manifest)
}

/// All objects of all documents, and those of Lists.
pub(super) fn objects(document: &Document<'_>) -> Result<Vec<Object>, Failure> {
    let documents = strongroom_yaml::read_all(document.text()?, LIMITS)
        .map_err(|error| Failure::usage(format!("{} {error}", document.name)))?;
    let mut objects = Vec::new();
    for node in documents.into_iter().filter(|node| node.value != Value::Null) {
        object(document, node, &mut objects)?;
    }
    Ok(objects)
}

fn object(document: &Document<'_>, node: Node, objects: &mut Vec<Object>) -> Result<(), Failure> {
    let line = node.line;
    let Value::Map(mut fields) = node.value else {
        return Err(document.wrong(line, "this is no object of Kubernetes"));
    };
    let kind = text_of(take(&mut fields, "kind")).unwrap_or_default();
    if let (true, Some(Node { value: Value::List(items), .. })) =
        (kind.ends_with("List"), take(&mut fields, "items"))
    {
        return items.into_iter().try_for_each(|item| object(document, item, objects));
    }
    let name = take(&mut fields, "metadata").and_then(|metadata| match metadata.value {
        Value::Map(mut fields) => text_of(take(&mut fields, "name")),
        _ => None,
    });
    objects.push(Object { kind, name, line, fields });
    Ok(())
}

impl Manifest {
    fn add(&mut self, document: &Document<'_>, mut object: Object) -> Result<(), Failure> {
        if object.kind != "Secret" {
            self.others.push(object.describe());
            return Ok(());
        }
        let line = object.line;
        let name = object.name.clone().ok_or_else(|| document.wrong(line, "the Secret has no name"))?;
        if self.secrets.iter().any(|known| known.name == name) {
            return Err(document.wrong(
                line,
                format_args!("there is a second Secret {name:?}; import each namespace by itself"),
            ));
        }
        let values = values(document, &name, object.take("data"), object.take("stringData"))?;
        if values.is_empty() {
            return Err(document.wrong(line, format_args!("the Secret {name:?} has no data")));
        }
        self.secrets.push(KubernetesSecret { name, values });
        Ok(())
    }
}

/// As the API server does it: what `stringData` has goes before `data`.
fn values(
    document: &Document<'_>,
    name: &str,
    data: Option<Node>,
    strings: Option<Node>,
) -> Result<Values, Failure> {
    let mut values = Values::new();
    if let Some(data) = data.filter(|data| data.value != Value::Null) {
        let lines: Vec<_> =
            data.fields().unwrap_or_default().iter().map(|(key, node)| (key.clone(), node.line)).collect();
        let mut encoded = yaml::texts(document, data, &format!("{name}/data/"))?;
        for (key, line) in lines {
            let Some(text) = encoded.remove(&key) else { continue };
            let bytes = decode(&text)
                .ok_or_else(|| document.wrong_key(line, &format!("{name}/data/{key}"), "is not base64"))?;
            values.insert(key, bytes);
        }
    }
    if let Some(strings) = strings.filter(|strings| strings.value != Value::Null) {
        values.extend(yaml::texts(document, strings, &format!("{name}/stringData/"))?);
    }
    Ok(values)
}

/// Line breaks are skipped: people paste what `base64` prints.
fn decode(text: &SecretBytes) -> Option<SecretBytes> {
    let text: Vec<u8> = text.expose().iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let text = SecretBytes::new(text);
    BASE64.decode(text.expose()).ok().map(SecretBytes::new)
}

fn take(fields: &mut Vec<(String, Node)>, name: &str) -> Option<Node> {
    let at = fields.iter().position(|(field, _)| field == name)?;
    Some(fields.swap_remove(at).1)
}

fn text_of(node: Option<Node>) -> Option<String> {
    match node?.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest, Failure> {
        read(&Document { name: "s.yaml", bytes: &SecretBytes::from(text.as_bytes()) })
    }

    const DB: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\ntype: Opaque\n\
                      data:\n  password: aHVudGVyMg==\n  bytes: |\n    AP\n    8=\nstringData: {user: shop, password: \"other\"}\n";

    #[test]
    fn secrets_are_found_in_documents_and_lists() {
        let list = "kind: List\nitems:\n- kind: Secret\n  metadata: {name: tls}\n  data: {tls.key: AA==}\n- {kind: ConfigMap, metadata: {name: c}}\n";
        let manifest = parse(&format!("---\n{DB}---\n{list}---\n")).unwrap();
        let names: Vec<_> = manifest.secrets.iter().map(|secret| secret.name.as_str()).collect();
        assert_eq!(names, ["db", "tls"]);
        let db = &manifest.secrets[0].values;
        assert_eq!((db["user"].expose(), db["password"].expose()), (&b"shop"[..], &b"other"[..]));
        assert_eq!(db["bytes"].expose(), [0, 255]);
        assert_eq!(manifest.others.len(), 1);
        assert!(manifest.others[0].starts_with("ConfigMap c (line "), "{:?}", manifest.others);
    }

    #[test]
    fn a_mistake_has_its_line_and_its_key_and_never_the_value() {
        let secret = |rest: &str| format!("kind: Secret\nmetadata: {{name: db}}\n{rest}\n");
        for (text, told) in [
            (secret("data: {a: hunter2!}"), "line 3: the key \"db/data/a\" is not base64"),
            (
                secret("stringData: {pin: 4217}"),
                "the key \"db/stringData/pin\" is a number; put it in quotes",
            ),
            (secret("data: {}"), "the Secret \"db\" has no data"),
            (secret("data: hunter2"), "there is text"),
            (format!("{DB}---\n{DB}"), "there is a second Secret \"db\""),
            ("kind: Secret\ndata: {a: AA==}".to_owned(), "line 1: the Secret has no name"),
            ("kind: Pod\nmetadata: {name: p}".to_owned(), "has no Secret"),
            ("hunter2".to_owned(), "this is no object"),
        ] {
            let sentence = parse(&text).err().unwrap().to_string();
            assert!(
                sentence.contains(told) && !sentence.contains("hunter2") && !sentence.contains("4217"),
                "{sentence}"
            );
        }
    }
}

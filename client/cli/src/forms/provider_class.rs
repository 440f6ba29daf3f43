//! SecretProviderClasses of the Secrets Store CSI driver, as far as they say which files a pod gets.

use strongroom_yaml::{Node, Value, field};

use super::{
    Document,
    kubernetes::{self, Object},
};
use crate::failure::Failure;

#[derive(Debug)]
pub(crate) struct ProviderClass {
    pub(crate) name: String,
    pub(crate) line: u64,
    pub(crate) provider: String,
    /// The provider's own: name, text and line of each.
    pub(crate) parameters: Vec<(String, String, u64)>,
    /// Whether Secrets of Kubernetes are made from the files.
    pub(crate) makes_secrets: bool,
}

/// The classes, and which other objects there are.
pub(crate) struct Manifest {
    pub(crate) classes: Vec<ProviderClass>,
    pub(crate) others: Vec<String>,
}

pub(crate) fn read(document: &Document<'_>) -> Result<Manifest, Failure> {
    let mut manifest = Manifest { classes: Vec::new(), others: Vec::new() };
    for object in kubernetes::objects(document)? {
        match object.kind.as_str() {
            "SecretProviderClass" => manifest.classes.push(class(document, object)?),
            _ => manifest.others.push(object.describe()),
        }
    }
    if manifest.classes.is_empty() {
        return Err(Failure::usage(format!("{} has no SecretProviderClass", document.name)));
    }
    Ok(manifest)
}

fn class(document: &Document<'_>, mut object: Object) -> Result<ProviderClass, Failure> {
    let line = object.line;
    let name =
        object.name.clone().ok_or_else(|| document.wrong(line, "the SecretProviderClass has no name"))?;
    let told = |line, problem: String| document.wrong(line, format_args!("{name}: {problem}"));
    let spec = object.take("spec").ok_or_else(|| told(line, "has no spec".to_owned()))?;
    let fields = spec.fields().map_err(|problem| told(spec.line, format!("spec {problem}")))?;
    let provider = field(fields, "provider").and_then(|node| node.text().ok());
    let provider = provider.ok_or_else(|| told(spec.line, "has no provider".to_owned()))?.to_owned();
    let mut parameters = Vec::new();
    if let Some(node) = field(fields, "parameters").filter(|node| node.value != Value::Null) {
        for (parameter, node) in
            node.fields().map_err(|problem| told(node.line, format!("parameters {problem}")))?
        {
            let text = node.text().map_err(|problem| told(node.line, format!("{parameter} {problem}")))?;
            parameters.push((parameter.clone(), text.to_owned(), node.line));
        }
    }
    let makes_secrets = field(fields, "secretObjects").is_some_and(|node: &Node| node.value != Value::Null);
    Ok(ProviderClass { name, line, provider, parameters, makes_secrets })
}

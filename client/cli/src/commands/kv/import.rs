//! `import`: secrets from files of other forms.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{meta, write::Conditions};
use crate::{
    context::Context,
    failure::Failure,
    forms::{
        Document, Values, environment,
        json::{self, Rules},
        kubernetes, yaml,
    },
    input::content,
};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom import secret/apps/shop/env .env --from env
  strongroom import secret/apps/shop/env .env --from env --expected-version 0
  kubectl get secrets -n shop -o yaml | strongroom import secret/shop - --from kubernetes")]
pub(crate) struct Import {
    /// The path of the secret; for Kubernetes the folder, in which each Secret becomes the secret of its name
    path: String,
    /// The file, or - for standard input
    file: PathBuf,
    /// The form of the file
    #[arg(long, value_name = "FORM")]
    from: Form,
    /// Store lists and objects of JSON as JSON text
    #[arg(long)]
    nested_as_json: bool,
    #[command(flatten)]
    conditions: Conditions,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A .env file: KEY=value; quotes, export and comments are understood, and $ is a $
    Env,
    /// A JSON object; numbers become their own text
    Json,
    /// A YAML map of texts
    Yaml,
    /// Manifests with Secrets: data and stringData, any number of documents, Lists
    Kubernetes,
}

pub(crate) async fn run(context: &Context, args: Import) -> Result<(), Failure> {
    // All of it is read before anything is written.
    let secrets = read(context, &args)?;
    let client = context.client().await?;
    let all = secrets.len();
    for (done, (path, values)) in secrets.into_iter().enumerate() {
        let mut put = client.put(&path).values(values);
        if let Some(version) = args.conditions.expected_version {
            put = put.expected_version(version);
        }
        if let Some(ttl) = args.conditions.ttl {
            put = put.ttl(ttl);
        }
        let written = put.send().await;
        if written.is_err() && all > 1 {
            context
                .output
                .note(&format!("note: {done} of {all} secrets are written; {path} is the first that is not"));
        }
        let metadata = written?;
        let line = format!("{path} is at version {}", metadata.current_version);
        context.output.item(&meta::structured(&metadata), &line)?;
    }
    Ok(())
}

/// Paths and their values.
fn read(context: &Context, args: &Import) -> Result<Vec<(String, Values)>, Failure> {
    if args.nested_as_json && args.from != Form::Json {
        return Err(Failure::usage("--nested-as-json is only for --from json"));
    }
    let bytes = match args.from {
        Form::Kubernetes => content::whole_of_many(&args.file)?,
        _ => content::whole(&args.file)?,
    };
    let document = Document { name: &content::name(&args.file), bytes: &bytes };
    let values = match args.from {
        Form::Env => environment::read(&document)?,
        Form::Json => json::read(&document, Rules { nested: args.nested_as_json, removes: false })?.values,
        Form::Yaml => yaml::read(&document)?,
        Form::Kubernetes => {
            let manifest = kubernetes::read(&document)?;
            for other in &manifest.others {
                context.output.note(&format!("note: {other} is no Secret and is left out"));
            }
            let folder = args.path.strip_suffix('/').unwrap_or(&args.path);
            let path =
                |secret: kubernetes::KubernetesSecret| (format!("{folder}/{}", secret.name), secret.values);
            return Ok(manifest.secrets.into_iter().map(path).collect());
        }
    };
    Ok(vec![(args.path.clone(), values)])
}

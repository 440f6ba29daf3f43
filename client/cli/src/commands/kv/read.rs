//! `get`: the values of a secret; masked where somebody may look over the shoulder.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use clap::Args;
use serde::Serialize;
use strongroom_client::{Secret, SecretBytes};

use crate::{
    commands::unwrap,
    context::Context,
    failure::Failure,
    forms::{
        environment::{self, Dialect},
        json::JsonValue,
    },
    input::span,
    output::{Format, MASK, Output, Presentation, structured},
};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom get secret/apps/shop/db --show
  strongroom get secret/apps/shop/db --key password --out-file password.txt
  strongroom get secret/apps/shop/env -o env --out-file .env
  strongroom get secret/apps/shop/db --wrap 10m > token")]
pub(crate) struct Get {
    /// The path of the secret, such as secret/app/db
    path: String,
    /// Read this version instead of the latest
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Print only the value of this key, byte for byte
    #[arg(short, long)]
    key: Option<String>,
    /// Show values on a terminal
    #[arg(long)]
    show: bool,
    /// Write to this file, which only you may read; - is standard output, also if it is a terminal
    #[arg(long, value_name = "FILE")]
    out_file: Option<PathBuf>,
    /// Do not show it: print a token that opens it once, within this time, for `strongroom unwrap`
    #[arg(long, value_name = "TIME", value_parser = span::parse, conflicts_with_all = ["key", "show", "out_file"])]
    wrap: Option<Duration>,
}

/// A secret as programs see it; values are masked for a terminal.
#[derive(Serialize)]
pub(crate) struct Shown<'a> {
    path: &'a str,
    version: u64,
    created_at: String,
    created_by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    custom: &'a BTreeMap<String, String>,
    values: BTreeMap<&'a str, ShownValue<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ShownValue<'a> {
    Open(JsonValue<'a>),
    Masked(&'static str),
}

pub(crate) async fn run(context: &Context, args: Get) -> Result<(), Failure> {
    if let Some(ttl) = args.wrap {
        let client = context.client().await?;
        let wrapped = client.wrapping().secret(&args.path, args.version, ttl).await?;
        return unwrap::show_token(&context.output, &wrapped);
    }
    // Before anything is read: the read would stand in the audit log for nothing.
    check_destination(&args, &context.output)?;
    let client = context.client().await?;
    let secret = match args.version {
        None => client.get(&args.path).await?,
        Some(version) => client.get_version(&args.path, version).await?,
    };
    let value = args.key.as_deref().map(|key| find(&secret, key)).transpose()?;
    if let Some(dialect) = dialect(context.output.format()) {
        let lines = environment::write(&secret.values, dialect)?;
        return match &args.out_file {
            Some(file) => context.output.deliver(file, &lines),
            None => context.output.raw(&lines),
        };
    }
    match (&args.out_file, value) {
        (Some(file), Some(value)) => context.output.deliver(file, value.expose()),
        (Some(file), None) => {
            let format = if context.output.format() == Format::Yaml { Format::Yaml } else { Format::Json };
            context.output.deliver(file, &structured(&shown(&secret, true), format)?)
        }
        (None, Some(value)) => context.output.raw(value.expose()),
        (None, None) => {
            let open = args.show || !context.output.is_terminal();
            context.output.show(&shown(&secret, open), table(&secret, open))
        }
    }
}

/// The forms that have variables for an environment.
fn dialect(format: Format) -> Option<Dialect> {
    match format {
        Format::Env => Some(Dialect::Env),
        Format::Shell => Some(Dialect::Shell),
        Format::Docker => Some(Dialect::Docker),
        Format::Table | Format::Json | Format::Yaml => None,
    }
}

/// Values go to a program whole, or to a person who asked to see them.
fn check_destination(args: &Get, output: &Output) -> Result<(), Failure> {
    let variables = dialect(output.format()).is_some();
    if variables && args.key.is_some() {
        return Err(Failure::usage("-o env, shell and docker print all values; --key prints one, as it is"));
    }
    if args.out_file.is_some() || args.show {
        return Ok(());
    }
    match (output.is_terminal(), &args.key, output.format()) {
        (true, key, _) if key.is_some() || variables => output.check_consent(args.show),
        (false, None, Format::Table) => Err(Failure::usage(
            "standard output is not a terminal: name one key with --key, or choose -o json, yaml, env, shell or docker",
        )),
        _ => Ok(()),
    }
}

fn find<'a>(secret: &'a Secret, key: &str) -> Result<&'a SecretBytes, Failure> {
    secret.get(key).ok_or_else(|| {
        let keys: Vec<_> = secret.values.keys().map(String::as_str).collect();
        Failure::NotThere(format!("{} has no key {key:?}; its keys are: {}", secret.path, keys.join(", ")))
    })
}

pub(crate) fn shown(secret: &Secret, open: bool) -> Shown<'_> {
    let value = |value| if open { ShownValue::Open(JsonValue(value)) } else { ShownValue::Masked(MASK) };
    Shown {
        path: &secret.path,
        version: secret.version,
        created_at: secret.created_at.to_string(),
        created_by: &secret.created_by,
        expires_at: secret.expires_at.map(|time| time.to_string()),
        custom: &secret.custom,
        values: secret.values.iter().map(|(key, v)| (key.as_str(), value(v))).collect(),
    }
}

pub(crate) fn table(secret: &Secret, open: bool) -> Presentation {
    let value = |value: &SecretBytes| match (open, value.expose_str()) {
        (false, _) => MASK.to_owned(),
        (true, Ok(text)) => text.to_owned(),
        (true, Err(_)) => format!("({} bytes, not text: use --key)", value.len()),
    };
    let rows = secret.values.iter().map(|(key, v)| vec![key.clone(), value(v)]).collect();
    Presentation::Table(vec!["KEY", "VALUE"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        let value = |bytes: &[u8]| SecretBytes::from(bytes);
        let values = BTreeMap::from([
            ("short".into(), value(b"x")),
            ("long".into(), value(b"hunter2hunter2")),
            ("binary".into(), value(&[0xff, 0])),
        ]);
        Secret::new("secret/a", 3, values)
    }

    #[test]
    fn masks_hide_the_length_too() {
        let Presentation::Table(_, rows) = table(&secret(), false) else { panic!("a table") };
        assert!(rows.iter().all(|row| row[1] == MASK));
        let json = serde_json::to_string(&shown(&secret(), false)).unwrap();
        assert!(!json.contains("hunter2") && json.matches(MASK).count() == 3, "{json}");
    }

    #[test]
    fn open_values_are_whole() {
        let json = serde_json::to_string(&shown(&secret(), true)).unwrap();
        assert!(
            json.contains(r#""long":"hunter2hunter2""#) && json.contains(r#"{"base64":"/wA="}"#),
            "{json}"
        );
    }

    #[test]
    fn a_missing_key_names_those_there() {
        let secret = secret();
        assert_eq!(find(&secret, "long").unwrap().expose(), b"hunter2hunter2");
        let sentence = find(&secret, "nope").unwrap_err().to_string();
        assert!(sentence.contains("binary, long, short"), "{sentence}");
    }
}

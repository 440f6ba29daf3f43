//! `diff`: which keys differ between two versions; their values only if that is asked for.

use std::collections::BTreeSet;

use clap::Args;
use serde::Serialize;
use strongroom_client::{Secret, SecretBytes};

use crate::{context::Context, failure::Failure, forms::json::JsonValue, output::Presentation};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom diff secret/apps/shop/db
  strongroom diff secret/apps/shop/db --versions 3 5 --show")]
pub(crate) struct Diff {
    /// The path of the secret
    path: String,
    /// The two versions; without it, the latest and the one before it
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"])]
    versions: Vec<u64>,
    /// Show the values
    #[arg(long)]
    show: bool,
}

/// A key that differs.
#[derive(Serialize)]
struct Difference<'a> {
    key: &'a str,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<JsonValue<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<JsonValue<'a>>,
}

pub(crate) async fn run(context: &Context, args: Diff) -> Result<(), Failure> {
    let client = context.client().await?;
    let (from, to) = match args.versions.as_slice() {
        [from, to, ..] => {
            (client.get_version(&args.path, *from).await?, client.get_version(&args.path, *to).await?)
        }
        _ => {
            let latest = client.get(&args.path).await?;
            if latest.version < 2 {
                return Err(Failure::NotThere(format!("{} has no version before the first one", args.path)));
            }
            (client.get_version(&args.path, latest.version.saturating_sub(1)).await?, latest)
        }
    };
    let differences = differences(&from, &to, args.show);
    let rows: Vec<Vec<String>> = differences
        .iter()
        .map(|one| match args.show {
            false => vec![one.key.to_owned(), one.change.to_owned()],
            true => vec![
                one.key.to_owned(),
                one.change.to_owned(),
                cell(one.from.as_ref()),
                cell(one.to.as_ref()),
            ],
        })
        .collect();
    let presentation = match (rows.is_empty(), args.show) {
        (true, _) => {
            Presentation::Text(format!("versions {} and {} have the same values", from.version, to.version))
        }
        (false, false) => Presentation::Table(vec!["KEY", "CHANGE"], rows),
        (false, true) => Presentation::Table(vec!["KEY", "CHANGE", "FROM", "TO"], rows),
    };
    context.output.show(&differences, presentation)
}

fn differences<'a>(from: &'a Secret, to: &'a Secret, show: bool) -> Vec<Difference<'a>> {
    let keys: BTreeSet<&str> = from.values.keys().chain(to.values.keys()).map(String::as_str).collect();
    let value = |value: Option<&'a SecretBytes>| value.filter(|_| show).map(JsonValue);
    let difference = |key: &'a str| {
        let (before, after) = (from.get(key), to.get(key));
        let change = match (before, after) {
            (None, _) => "added",
            (_, None) => "removed",
            (Some(before), Some(after)) if before.expose() != after.expose() => "changed",
            _ => return None,
        };
        Some(Difference { key, change, from: value(before), to: value(after) })
    };
    keys.into_iter().filter_map(difference).collect()
}

fn cell(value: Option<&JsonValue<'_>>) -> String {
    match value.map(|JsonValue(value)| (value.expose_str(), value.len())) {
        None => String::new(),
        Some((Ok(text), _)) => text.to_owned(),
        Some((Err(_), length)) => format!("({length} bytes, not text)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(values: &[(&str, &str)]) -> Secret {
        let value = |(key, value): &(&str, &str)| ((*key).to_owned(), SecretBytes::from(value.as_bytes()));
        Secret::new("secret/a", 1, values.iter().map(value).collect())
    }

    #[test]
    fn values_are_shown_only_if_that_is_asked_for() {
        let (from, to) =
            (secret(&[("a", "1"), ("b", "2"), ("c", "3")]), secret(&[("b", "2"), ("c", "4"), ("d", "5")]));
        let quiet = serde_json::to_string(&differences(&from, &to, false)).unwrap();
        assert_eq!(
            quiet,
            r#"[{"key":"a","change":"removed"},{"key":"c","change":"changed"},{"key":"d","change":"added"}]"#
        );
        let open = serde_json::to_string(&differences(&from, &to, true)).unwrap();
        assert!(
            open.contains(r#""from":"3","to":"4""#) && open.contains(r#""change":"added","to":"5""#),
            "{open}"
        );
    }
}

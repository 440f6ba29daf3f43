//! `key=@file`, `key=-`, `key=`: how values reach a secret without standing on the command line, where `/proc` shows them
//! to everybody and the shell writes them to its history.

use std::{collections::BTreeMap, path::Path};

use clap::Args;
use strongroom_client::SecretBytes;

use super::{content, prompt};
use crate::{failure::Failure, output, secret_json};

#[derive(Args)]
pub(crate) struct ValueArgs {
    /// key=@FILE (from a file), key=- (from standard input), key= or key (asked without echo)
    #[arg(value_name = "KEY=SOURCE")]
    assignments: Vec<String>,
    /// Take keys and values from a JSON object: @FILE or - ; binary values as {"base64": "..."}
    #[arg(long, value_name = "@FILE|-")]
    json: Option<String>,
    /// Have the server make the value and show it to nobody: a password, or what PATH names, such as random/hex
    #[arg(long, value_name = "KEY[=PATH]")]
    generate: Vec<String>,
    /// Put the value on the command line all the same, for what is not secret
    #[arg(long, value_name = "KEY=VALUE")]
    insecure_literal: Vec<String>,
}

/// What is made when nothing else is said.
const PASSWORD: &str = "random/password";

/// Where a value comes from.
#[derive(Debug, PartialEq, Eq)]
enum Source<'a> {
    File(&'a Path),
    Stdin,
    Prompt,
}

impl ValueArgs {
    pub(crate) fn is_empty(&self) -> bool {
        self.assignments.is_empty()
            && self.json.is_none()
            && self.generate.is_empty()
            && self.insecure_literal.is_empty()
    }

    /// Keys whose values the server makes, and where it makes them.
    pub(crate) fn generated(&self) -> impl Iterator<Item = (&str, &str)> {
        self.generate.iter().map(|text| text.split_once('=').unwrap_or((text, PASSWORD)))
    }

    /// Reads all that are given.
    pub(crate) fn read(&self) -> Result<BTreeMap<String, SecretBytes>, Failure> {
        let assignments =
            self.assignments.iter().map(|text| parse(text)).collect::<Result<Vec<_>, Failure>>()?;
        let from_stdin = assignments.iter().filter(|(_, source)| *source == Source::Stdin).count()
            + usize::from(self.json.as_deref() == Some("-"));
        if from_stdin > 1 {
            return Err(Failure::usage("only one value can come from standard input"));
        }

        let mut values = BTreeMap::new();
        if let Some(json) = &self.json {
            let text = content::whole(json_source(json)?)?;
            values = secret_json::read(&text)?;
        }
        for (key, source) in assignments {
            let value = match source {
                Source::File(path) => content::whole(path)?,
                Source::Stdin => kept_as_it_is(key, content::whole(Path::new("-"))?),
                Source::Prompt => prompt::hidden(&format!("Value of {key}"))?,
            };
            insert(&mut values, key, value)?;
        }
        for literal in &self.insecure_literal {
            let (key, value) = literal
                .split_once('=')
                .ok_or_else(|| Failure::usage("--insecure-literal wants KEY=VALUE"))?;
            output::complain(&format!(
                "warning: the value of {key} was visible to every process on this machine"
            ));
            insert(&mut values, key, SecretBytes::from(value.as_bytes()))?;
        }
        Ok(values)
    }
}

/// Adds one, which must not be there.
pub(crate) fn insert(
    values: &mut BTreeMap<String, SecretBytes>,
    key: &str,
    value: SecretBytes,
) -> Result<(), Failure> {
    match values.insert(key.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(Failure::usage(format!("key {key:?} is given twice"))),
    }
}

/// `echo` adds a line break that nobody wants in a password; it is kept, but not silently.
fn kept_as_it_is(key: &str, value: SecretBytes) -> SecretBytes {
    if value.expose().ends_with(b"\n") {
        output::complain(&format!("note: the value of {key} ends with a line break (printf %s leaves none)"));
    }
    value
}

fn parse(text: &str) -> Result<(&str, Source<'_>), Failure> {
    let (key, source) = match text.split_once('=') {
        None => (text, Source::Prompt),
        Some((key, "")) => (key, Source::Prompt),
        Some((key, "-")) => (key, Source::Stdin),
        Some((key, source)) => match source.strip_prefix('@') {
            Some(path) if !path.is_empty() => (key, Source::File(Path::new(path))),
            // The value itself is not repeated: it may be the secret.
            _ => {
                return Err(Failure::usage(format!(
                    "a value on the command line can be read by every process (/proc) and stays in the shell's \
                     history: use {key}=@FILE, {key}=- for standard input, or {key}= to be asked"
                )));
            }
        },
    };
    if key.is_empty() {
        return Err(Failure::usage("a key is missing before the ="));
    }
    Ok((key, source))
}

fn json_source(text: &str) -> Result<&Path, Failure> {
    match text.strip_prefix('@') {
        Some(path) if !path.is_empty() => Ok(Path::new(path)),
        _ if text == "-" => Ok(Path::new("-")),
        _ => Err(Failure::usage("--json wants @FILE, or - for standard input")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        assert_eq!(parse("a=@b=c").unwrap(), ("a", Source::File(Path::new("b=c"))));
        assert_eq!(parse("a=-").unwrap(), ("a", Source::Stdin));
        assert_eq!(parse("a=").unwrap(), ("a", Source::Prompt));
        assert_eq!(parse("a").unwrap(), ("a", Source::Prompt));
    }

    #[test]
    fn a_literal_is_refused_with_the_ways_out_and_is_not_repeated() {
        let sentence = parse("password=hunter2").unwrap_err().to_string();
        for part in ["/proc", "password=@FILE", "password=-", "password= "] {
            assert!(sentence.contains(part), "{part}: {sentence}");
        }
        assert!(!sentence.contains("hunter2"));
        assert!(parse("=@x").is_err() && parse("a=@").is_err() && parse("").is_err());
    }

    #[test]
    fn values_come_from_where_they_should() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("user.txt");
        std::fs::write(&path, "alice").unwrap();
        let mut arguments = ValueArgs {
            assignments: vec![format!("user=@{}", path.display())],
            json: None,
            generate: vec!["password".into(), "key=other/hex".into()],
            insecure_literal: vec!["region=eu".into()],
        };
        let values = arguments.read().unwrap();
        assert_eq!((values["user"].expose(), values["region"].expose()), (&b"alice"[..], &b"eu"[..]));
        let generated: Vec<_> = arguments.generated().collect();
        assert_eq!(generated, [("password", "random/password"), ("key", "other/hex")]);
        arguments.insecure_literal.push("user=again".into());
        assert!(arguments.read().unwrap_err().to_string().contains("twice"));
    }
}

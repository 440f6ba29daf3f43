//! `edit`: a secret in one's own editor, by way of a private file in memory. Somebody else's change in the meantime is told, and
//! what was written is never lost.

use std::{
    collections::BTreeMap,
    env,
    io::{self, IsTerminal},
    path::Path,
    process::Command,
    time::Duration,
};

use clap::Args;
use jiff::Timestamp;
use strongroom_client::{Client, ErrorKind, SecretBytes};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::write::written;
use crate::{
    context::Context,
    failure::Failure,
    forms::{Document, Values, json::JsonValue, yaml},
    input::{content, prompt},
    output::{Format, Presentation, structured},
    private_file::Scratch,
};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom edit secret/apps/shop/db
  EDITOR=nano strongroom edit secret/apps/shop/db")]
pub(crate) struct Edit {
    /// The path of the secret; one that does not exist is made
    path: String,
}

/// What is edited.
struct Base {
    values: Values,
    /// 0 if there is no secret yet.
    version: u64,
    expires_at: Option<Timestamp>,
}

pub(crate) async fn run(context: &Context, args: Edit) -> Result<(), Failure> {
    let client = context.client().await?;
    let base = read(&client, &args.path).await?;
    let scratch = Scratch::create("secret.yaml", &yaml_of(&base.values)?)?;
    let values = match edited(&scratch) {
        Ok(Some(values)) => values,
        Ok(None) => return Err(Failure::No),
        Err(failure) => return Err(kept(context, scratch, &args.path, base.version, failure)),
    };
    if same(&values, &base.values) {
        let text = format!("{} is not changed", args.path);
        let value = serde_json::json!({ "path": args.path, "changed": false });
        return context.output.show(&value, Presentation::Text(text));
    }
    let mut put = client.put(&args.path).values(values).expected_version(base.version);
    if let Some(end) = base.expires_at {
        // The new version lives as long as the old one would have.
        let left = end.as_second().saturating_sub(Timestamp::now().as_second());
        put = put.ttl(Duration::from_secs(u64::try_from(left).unwrap_or(0).max(1)));
    }
    match put.send().await {
        Ok(metadata) => written(context, &args.path, &metadata),
        Err(error) => Err(kept(context, scratch, &args.path, base.version, error.into())),
    }
}

async fn read(client: &Client, path: &str) -> Result<Base, Failure> {
    match client.get(path).await {
        Ok(secret) => {
            Ok(Base { values: secret.values, version: secret.version, expires_at: secret.expires_at })
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound) => {
            Ok(Base { values: Values::new(), version: 0, expires_at: None })
        }
        Err(error) => Err(error.into()),
    }
}

fn yaml_of(values: &Values) -> Result<zeroize::Zeroizing<Vec<u8>>, Failure> {
    let shown: BTreeMap<_, _> = values.iter().map(|(key, value)| (key, JsonValue(value))).collect();
    if shown.is_empty() {
        return Ok(b"# One line for each key, such as:\n# user: alice\n".to_vec().into());
    }
    structured(&shown, Format::Yaml)
}

/// Opens the editor until the file can be read; nothing if the person gave up, or was interrupted.
fn edited(scratch: &Scratch) -> Result<Option<Values>, Failure> {
    loop {
        let mut interruptions = Interruptions::hold()?;
        open(scratch.file())?;
        if interruptions.came() {
            return Ok(None);
        }
        let bytes = content::whole(scratch.file())?;
        match yaml::read(&Document { name: "what you wrote", bytes: &bytes }) {
            Ok(values) => return Ok(Some(values)),
            Err(failure) if io::stdin().is_terminal() => {
                crate::output::complain(&format!("error: {failure}"));
                if !prompt::confirm("Edit it again?")? {
                    return Err(failure);
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// The editor that the person chose, with its own arguments.
fn open(file: &Path) -> Result<(), Failure> {
    let chosen = |name| env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = chosen("VISUAL").or_else(|| chosen("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let status = Command::new("sh").args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(file).status();
    match status.map_err(|error| Failure::local("sh", error))? {
        status if status.success() => Ok(()),
        status => Err(Failure::local(format!("the editor ({editor})"), status)),
    }
}

/// Signals that would end this process before its file is wiped wait until the editor has ended.
struct Interruptions(Vec<Signal>);

impl Interruptions {
    fn hold() -> io::Result<Self> {
        let kinds =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        kinds.into_iter().map(signal).collect::<io::Result<_>>().map(Self)
    }

    fn came(&mut self) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        self.0.iter_mut().any(|signal| signal.poll_recv(&mut context).is_ready())
    }
}

/// Leaves what was written where it is, and says how to go on from there.
fn kept(context: &Context, scratch: Scratch, path: &str, version: u64, failure: Failure) -> Failure {
    let file = scratch.keep();
    context.output.note(&format!(
        "note: what you wrote is in {file}, for you alone and until the next start of this machine; it began from version \
         {version}. To store it: strongroom import {path} {file} --from yaml, then delete it"
    ));
    failure
}

fn same(some: &Values, others: &Values) -> bool {
    let equal = |(one, other): ((&String, &SecretBytes), (&String, &SecretBytes))| {
        one.0 == other.0 && one.1.expose() == other.1.expose()
    };
    some.len() == others.len() && some.iter().zip(others).all(equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_edited_comes_back_as_it_was() {
        let texts: [&[u8]; 16] = [
            b"", b"x", b"0042", b"1.10", b"true", b"null", b"~", b"no", b" a ", b"a\nb", b"a\nb\n",
            b"a: b #c", b"'\"\\", b"- x", b"\r\n\t", b"\xff\0",
        ];
        let values: Values =
            texts.iter().enumerate().map(|(at, text)| (format!("k{at}"), SecretBytes::from(*text))).collect();
        let bytes = SecretBytes::from(yaml_of(&values).unwrap().as_slice());
        let read = yaml::read(&Document { name: "f", bytes: &bytes }).unwrap();
        for (key, value) in &values {
            assert_eq!(read[key].expose(), value.expose(), "{key}");
        }
        assert!(same(&read, &values) && !same(&read, &Values::new()));
    }
}

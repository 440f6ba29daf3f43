//! `apply`: roles and bindings from files; shows what would change before it changes.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;
use strongroom_client::{ObjectName, PolicyAction, PolicyChange, limits};
use strongroom_yaml::{Limits, Node, field};

use crate::{
    context::Context,
    failure::Failure,
    input::{content, prompt},
    output::{Format, Output, Presentation, plural},
};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom apply -f policy/ --dry-run
  strongroom apply -f role.yaml -f binding.yaml
  strongroom apply --remove Binding/shop")]
pub(crate) struct Apply {
    /// A YAML file, a folder of YAML files, or - for standard input; may be repeated
    #[arg(short, long, value_name = "FILE", required_unless_present = "remove")]
    file: Vec<PathBuf>,
    /// Remove an object: Role/NAME or Binding/NAME; may be repeated
    #[arg(long, value_name = "KIND/NAME")]
    remove: Vec<String>,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// Apply it even if nobody may change the policy afterwards; the way back then takes the shares
    #[arg(long)]
    force: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(context: &Context, args: Apply) -> Result<(), Failure> {
    let yaml = read_all(&args.file)?;
    for note in notes(&yaml) {
        context.output.note(&note);
    }
    let remove = args.remove.iter().map(|text| object(text)).collect::<Result<Vec<_>, _>>()?;
    let client = context.client().await?;

    let policy = if args.force { client.policy().forced() } else { client.policy() };
    let planned = policy.apply(&yaml, remove.clone(), true).await?;
    let changing = planned.iter().filter(|change| change.action != PolicyAction::Unchanged).count();
    if args.dry_run || changing == 0 {
        return show(&context.output, &planned, changing, true);
    }
    // Standard input may be the file itself: then nobody can answer.
    let can_ask = io::stdin().is_terminal() && !args.yes;
    if !can_ask && !args.remove.is_empty() {
        prompt::confirm_loss("Remove them?", args.yes)?;
    }
    if can_ask {
        if context.output.format() == Format::Table {
            show(&context.output, &planned, changing, true)?;
        }
        if !prompt::confirm("Apply?")? {
            return Err(Failure::No);
        }
    }
    let applied = policy.apply(&yaml, remove, false).await?;
    match context.output.format() {
        Format::Table if can_ask => context.output.line("applied"),
        _ => show(&context.output, &applied, changing, false),
    }
}

fn show(output: &Output, changes: &[PolicyChange], changing: usize, planned: bool) -> Result<(), Failure> {
    let value: Vec<_> = changes
        .iter()
        .map(|change| json!({ "object": change.object.to_string(), "action": word(change.action), "diff": change.diff }))
        .collect();
    if output.format() != Format::Table {
        return output.show(&value, Presentation::Text(String::new()));
    }
    for change in changes.iter().filter(|change| change.action != PolicyAction::Unchanged) {
        output.line(&format!("{} {}", change.object, word(change.action)))?;
        for line in change.diff.lines() {
            output.diff_line(line)?;
        }
    }
    match (changing, planned) {
        (0, _) => output.line("nothing changes"),
        (count, true) => output.line(&format!("{} would change", plural(count, "object"))),
        (count, false) => output.line(&format!("{} changed", plural(count, "object"))),
    }
}

fn word(action: PolicyAction) -> &'static str {
    match action {
        PolicyAction::Created => "created",
        PolicyAction::Changed => "changed",
        PolicyAction::Unchanged => "unchanged",
        PolicyAction::Removed => "removed",
        _ => "unknown",
    }
}

fn object(text: &str) -> Result<ObjectName, Failure> {
    match text.split_once('/') {
        Some(("Role", name)) if !name.is_empty() => Ok(ObjectName::role(name)),
        Some(("Binding", name)) if !name.is_empty() => Ok(ObjectName::binding(name)),
        _ => Err(Failure::usage(format!("--remove {text:?}: expected Role/NAME or Binding/NAME"))),
    }
}

/// All documents of all files, in the order of their names.
fn read_all(files: &[PathBuf]) -> Result<String, Failure> {
    let mut yaml = String::new();
    for path in files {
        for file in expand(path)? {
            let bytes = content::whole(&file)?;
            let text = bytes.expose_str().map_err(|error| Failure::local(file.display(), error))?;
            if !yaml.is_empty() {
                yaml.push_str("\n---\n");
            }
            yaml.push_str(text);
            if yaml.len() > limits::POLICY_BYTES {
                return Err(Failure::usage(format!(
                    "the files have more than {} KiB of YAML, which is the limit",
                    limits::POLICY_BYTES >> 10
                )));
            }
        }
    }
    Ok(yaml)
}

/// What is right and yet may not be meant. The server judges the rest.
fn notes(yaml: &str) -> Vec<String> {
    let limits = Limits { documents: yaml.len().max(1), depth: 16 };
    let documents = strongroom_yaml::read_all(yaml, limits).unwrap_or_default();
    let mut notes = plus_signs(&documents);
    notes.extend(capitals(&documents));
    notes
}

/// A user has no capitals in the name, so one that is bound with them is nobody.
fn capitals(documents: &[Node]) -> Vec<String> {
    let subjects = documents.iter().filter_map(|document| field(document.fields().ok()?, "subjects"));
    let subjects = subjects.filter_map(|subjects| subjects.items(usize::MAX).ok()).flatten();
    let users = subjects.filter_map(|subject| field(subject.fields().ok()?, "user")?.fields().ok());
    let names = users.filter_map(|user| match field(user, "method")?.text() {
        Ok("userpass") => field(user, "name")?.text().ok(),
        _ => None,
    });
    names
        .filter(|name| name.chars().any(char::is_uppercase))
        .map(|name| format!("note: no user is called {name:?}: their names are written in small letters"))
        .collect()
}

/// What comes from elsewhere may mean any one name by `+`; here it is a character like others.
fn plus_signs(documents: &[Node]) -> Vec<String> {
    let rules = documents.iter().filter_map(|document| field(document.fields().ok()?, "rules"));
    let rules = rules.filter_map(|rules| rules.items(usize::MAX).ok()).flatten();
    let paths =
        rules.filter_map(|rule| field(rule.fields().ok()?, "paths")?.items(usize::MAX).ok()).flatten();
    let texts =
        paths.filter_map(|path| path.text().ok()).filter(|path| path.split('/').any(|name| name == "+"));
    texts
        .map(|path| {
            format!("note: in the path {path:?}, + is an ordinary character; * stands for any one name")
        })
        .collect()
}

fn expand(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| Failure::local(path.display(), error))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(Failure::usage(format!("{}: this folder has no .yaml or .yml file", path.display())));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("b.yaml", "b: 1\n"), ("a.yml", "a: 1\n"), ("readme.md", "no")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let text = read_all(&[folder.path().to_owned()]).unwrap();
        assert_eq!(text, "a: 1\n\n---\nb: 1\n");
    }

    #[test]
    fn a_plus_sign_is_no_wildcard() {
        let yaml = "kind: Role\nname: r\nrules:\n- {paths: [secret/+/x, secret/a+b], verbs: [read]}\n---\nkind: Binding\n";
        let notes = notes(yaml);
        assert!(
            notes.len() == 1 && notes[0].contains("\"secret/+/x\"") && notes[0].contains('*'),
            "{notes:?}"
        );
        assert!(super::notes("a: [").is_empty());
    }

    #[test]
    fn a_bound_user_with_capitals_is_nobody() {
        let binding = |method, name| {
            format!(
                "kind: Binding\nname: b\nrole: r\nsubjects:\n- user: {{method: {method}, name: {name}}}\n"
            )
        };
        let said = notes(&binding("userpass", "Alice"));
        assert!(
            said.len() == 1 && said[0].contains("\"Alice\"") && said[0].contains("small letters"),
            "{said:?}"
        );
        assert!(notes(&binding("userpass", "alice+ops@example.com")).is_empty());
        assert!(notes(&binding("oidc", "Alice")).is_empty());
    }

    #[test]
    fn an_empty_folder_is_a_mistake() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_all(&[folder.path().to_owned()]).is_err());
    }

    #[test]
    fn objects_are_named_by_kind() {
        assert_eq!(object("Role/a").unwrap(), ObjectName::role("a"));
        assert_eq!(object("Binding/a").unwrap(), ObjectName::binding("a"));
        for text in ["a", "role/a", "Role/", "Secret/a"] {
            assert!(object(text).is_err(), "{text}");
        }
    }
}

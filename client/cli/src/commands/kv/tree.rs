//! `tree`: all secrets below a folder, as a tree, and with `--long` whether they can be read.

use clap::Args;
use jiff::Timestamp;
use strongroom_client::{TryStreamExt, VersionInfo};

use super::{
    list::{Entry, look, structured},
    meta,
};
use crate::{
    context::Context,
    failure::Failure,
    output::{Format, Presentation},
};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom tree
  strongroom tree --long secret/apps")]
pub(crate) struct Tree {
    /// The folder, such as secret/app
    #[arg(default_value = "secret")]
    folder: String,
    /// Show the latest version of each secret and whether it can be read, is deleted or has expired. This asks about each secret
    /// by itself, and shows - for those that you may not read
    #[arg(short, long)]
    long: bool,
}

/// A secret's place below the folder, and what is said beside its name.
struct Leaf<'a> {
    segments: Vec<&'a str>,
    beside: String,
}

pub(crate) async fn run(context: &Context, args: Tree) -> Result<(), Failure> {
    let client = context.client().await?;
    let folder = args.folder.strip_suffix('/').unwrap_or(&args.folder);
    let paths = client.list_recursive(folder).await?;
    let mut entries = match args.long {
        true => look(&client, "", paths).await?,
        false => paths.map_ok(|name| Entry { name, latest: None }).try_collect().await?,
    };
    let now = Timestamp::now();
    if context.output.format() != Format::Table {
        let nothing = Presentation::Text(String::new());
        if args.long {
            return context.output.show(&structured(&entries, now), nothing);
        }
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        return context.output.show(&names, nothing);
    }
    // By segments: `a/b` comes before `a-c`.
    entries.sort_by(|one, other| one.name.split('/').cmp(other.name.split('/')));
    let leaves: Vec<Leaf<'_>> = entries
        .iter()
        .filter_map(|Entry { name, latest }| {
            let segments = name.strip_prefix(folder)?.strip_prefix('/')?.split('/').collect();
            let beside = if args.long { beside(latest.as_ref(), now) } else { String::new() };
            Some(Leaf { segments, beside })
        })
        .collect();
    context.output.line(folder)?;
    let mut lines = Vec::new();
    draw(&leaves.iter().collect::<Vec<_>>(), 0, "", &mut lines);
    lines.iter().try_for_each(|line| context.output.line(line))
}

/// In the words of `list --long`.
fn beside(latest: Option<&VersionInfo>, now: Timestamp) -> String {
    let known = |latest: &VersionInfo| format!("  {}  {}", latest.version, meta::state(latest, now));
    latest.map_or_else(|| "  -".to_owned(), known)
}

/// A line for each secret and each folder; what they have in common, up to `depth`, stands next to each other.
fn draw(leaves: &[&Leaf<'_>], depth: usize, margin: &str, lines: &mut Vec<String>) {
    let name = |leaf: &Leaf<'_>| leaf.segments.get(depth).copied().unwrap_or_default().to_owned();
    let mut groups = leaves.chunk_by(|one, other| name(one) == name(other)).peekable();
    while let Some(group) = groups.next() {
        let (branch, next) =
            if groups.peek().is_some() { ("├── ", "│   ") } else { ("└── ", "    ") };
        // A secret and a folder may have the same name.
        let (secrets, inner): (Vec<&Leaf<'_>>, _) =
            group.iter().partition(|leaf| leaf.segments.len() == depth + 1);
        for secret in &secrets {
            let branch = if inner.is_empty() { branch } else { "├── " };
            lines.push(format!("{margin}{branch}{}{}", name(secret), secret.beside));
        }
        if let Some(first) = inner.first() {
            lines.push(format!("{margin}{branch}{}/", name(first)));
            draw(&inner, depth + 1, &format!("{margin}{next}"), lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_a_line_for_each_secret_and_folder() {
        let paths = [("a", ""), ("a/b", ""), ("a/c/d", "  -"), ("e-f", "  3  readable"), ("g/h", "")];
        let leaf = |(path, beside): (&'static str, &str)| Leaf {
            segments: path.split('/').collect(),
            beside: beside.to_owned(),
        };
        let leaves = paths.map(leaf);
        let mut lines = Vec::new();
        draw(&leaves.iter().collect::<Vec<_>>(), 0, "", &mut lines);
        let expected = [
            "├── a",
            "├── a/",
            "│   ├── b",
            "│   └── c/",
            "│       └── d  -",
            "├── e-f  3  readable",
            "└── g/",
            "    └── h",
        ];
        assert_eq!(lines, expected);
    }
}

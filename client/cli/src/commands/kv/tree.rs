//! `tree`: all secrets below a folder, as a tree.

use clap::Args;
use strongroom_client::TryStreamExt;

use crate::{
    context::Context,
    failure::Failure,
    output::{Format, Presentation},
};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom tree
  strongroom tree secret/apps")]
pub(crate) struct Tree {
    /// The folder, such as secret/app
    #[arg(default_value = "secret")]
    folder: String,
}

pub(crate) async fn run(context: &Context, args: Tree) -> Result<(), Failure> {
    let folder = args.folder.strip_suffix('/').unwrap_or(&args.folder);
    let mut paths: Vec<String> = context.client().await?.list_recursive(folder).await?.try_collect().await?;
    if context.output.format() != Format::Table {
        return context.output.show(&paths, Presentation::Text(String::new()));
    }
    // By segments: `a/b` comes before `a-c`.
    paths.sort_by(|one, other| one.split('/').cmp(other.split('/')));
    let below: Vec<Vec<&str>> = paths
        .iter()
        .filter_map(|path| path.strip_prefix(folder)?.strip_prefix('/'))
        .map(|path| path.split('/').collect())
        .collect();
    context.output.line(folder)?;
    let below: Vec<&[&str]> = below.iter().map(Vec::as_slice).collect();
    let mut lines = Vec::new();
    draw(&below, "", &mut lines);
    lines.iter().try_for_each(|line| context.output.line(line))
}

/// A line for each secret and each folder; what they have in common stands next to each other.
fn draw(paths: &[&[&str]], margin: &str, lines: &mut Vec<String>) {
    let mut groups = paths.chunk_by(|one, other| one.first() == other.first()).peekable();
    while let Some(group) = groups.next() {
        let Some(name) = group.first().and_then(|path| path.first()) else { continue };
        let (branch, next) =
            if groups.peek().is_some() { ("├── ", "│   ") } else { ("└── ", "    ") };
        let inner: Vec<&[&str]> =
            group.iter().filter_map(|path| path.get(1..)).filter(|rest| !rest.is_empty()).collect();
        // A secret and a folder may have the same name.
        if inner.len() < group.len() {
            lines.push(format!("{margin}{}{name}", if inner.is_empty() { branch } else { "├── " }));
        }
        if !inner.is_empty() {
            lines.push(format!("{margin}{branch}{name}/"));
            draw(&inner, &format!("{margin}{next}"), lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_a_line_for_each_secret_and_folder() {
        let paths: [&[&str]; 5] = [&["a"], &["a", "b"], &["a", "c", "d"], &["e-f"], &["g", "h"]];
        let mut lines = Vec::new();
        draw(&paths, "", &mut lines);
        let expected =
            ["├── a", "├── a/", "│   ├── b", "│   └── c/", "│       └── d", "├── e-f", "└── g/", "    └── h"];
        assert_eq!(lines, expected);
    }
}

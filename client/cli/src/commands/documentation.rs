//! `completion` and `man`: what the grammar of the command line gives to shells and to readers of manuals.

use std::{fs, path::PathBuf};

use clap::Args;
use clap_complete::Shell;
use serde_json::json;

use crate::{
    context::Context,
    failure::Failure,
    output::{Format, Presentation},
};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom completion bash > ~/.local/share/bash-completion/completions/strongroom
  strongroom completion zsh > ~/.zfunc/_strongroom
  strongroom completion fish > ~/.config/fish/completions/strongroom.fish")]
pub(crate) struct Completion {
    /// The shell
    shell: Shell,
}

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom man | man -l -
  strongroom man --out-dir /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// Write a page for each command into this folder, instead of printing the first one
    #[arg(long, value_name = "FOLDER")]
    out_dir: Option<PathBuf>,
}

pub(crate) fn completion(
    context: &Context,
    args: &Completion,
    mut grammar: clap::Command,
) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut grammar, "strongroom", &mut script);
    print(context, "script", &script)
}

pub(crate) fn man(context: &Context, args: &Man, grammar: clap::Command) -> Result<(), Failure> {
    let Some(folder) = &args.out_dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(grammar).render(&mut page)?;
        return print(context, "page", &page);
    };
    let told = |error| Failure::local(folder.display(), error);
    fs::create_dir_all(folder).map_err(told)?;
    clap_mangen::generate_to(grammar, folder).map_err(told)?;
    let text = format!("the pages are in {}", folder.display());
    context.output.done(&json!({ "folder": folder }), &text)
}

fn print(context: &Context, name: &'static str, text: &[u8]) -> Result<(), Failure> {
    match context.output.format() {
        Format::Table => context.output.raw(text),
        _ => context
            .output
            .show(&json!({ name: String::from_utf8_lossy(text) }), Presentation::Text(String::new())),
    }
}

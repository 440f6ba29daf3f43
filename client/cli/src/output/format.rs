//! In which form results are printed.

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Yaml,
    // Variables of an environment, only for the values of a secret; `forms/environment.rs` writes them.
    Env,
    Shell,
    Docker,
}

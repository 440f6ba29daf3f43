//! The command line's grammar: global flags and the list of commands. Each command's own arguments stand in its file.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::{
    apply, audit, explain, init, kubernetes, list, meta, mount, operator, policy, read, remove, session,
    token, unseal, user, watch, write,
};

/// A secrets store for Kubernetes.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 denied or not logged in, 4 not found, 5 sealed or not reachable.
#[derive(Parser)]
#[command(name = "strongroom", version, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args)]
pub(crate) struct Global {
    /// The server: https://host:port
    #[arg(long, global = true, env = "STRONGROOM_ADDR", value_name = "URL")]
    pub(crate) address: Option<String>,
    /// PEM file of the authorities that may have signed the server's certificate
    #[arg(long, global = true, env = "STRONGROOM_CACERT", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The name to expect in the server's certificate, if it is not the host of the address
    #[arg(long, global = true, env = "STRONGROOM_SERVER_NAME", value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// Which profile of config.toml to use
    #[arg(long, global = true, env = "STRONGROOM_PROFILE", value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// How to print
    #[arg(short, long, global = true, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// Seconds a call may take, its retries included
    #[arg(long, global = true, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
    /// Log to standard error; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Yaml,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Whether the server is initialised and unsealed
    Status,
    /// Initialise the store, once in its life
    Init(init::Init),
    /// Give a share of the unseal key
    Unseal(unseal::Unseal),
    /// Make the server forget its keys
    Seal,
    /// Log in and keep the token for later commands
    Login(session::LoginArgs),
    /// Revoke the session and forget its token
    Logout,
    /// Show who the token stands for
    Whoami,
    /// Show, renew or revoke tokens
    Token(token::Token),
    /// Write a new version of a secret
    Put(write::Put),
    /// Read a secret
    Get(read::Get),
    /// List the secrets of a folder
    List(list::List),
    /// Delete versions of a secret; undelete brings them back
    #[command(alias = "delete")]
    Rm(remove::Delete),
    /// Bring deleted versions back
    Undelete(remove::Undelete),
    /// Erase versions, or all of a secret, for good
    Destroy(remove::Destroy),
    /// Show the versions of a secret
    History(meta::History),
    /// Write an old version's content as a new version
    Rollback(write::Rollback),
    /// Write a new version that differs in some keys
    Patch(write::Patch),
    /// Show or change the metadata of a secret
    Meta(meta::Meta),
    /// Tell of changes as they happen
    Watch(watch::Watch),
    /// Create, change and remove roles and bindings, all or nothing
    Apply(apply::Apply),
    /// Whether you, or another, may do something, and which rule says so
    CanI(policy::CanI),
    /// Who may do something
    WhoCan(policy::WhoCan),
    /// Why something would, or would not, work
    Explain(explain::Explain),
    /// What a Kubernetes cluster needs
    Kubernetes(kubernetes::Kubernetes),
    /// Print all roles and bindings as YAML
    Roles,
    /// Users of the userpass method
    User(user::User),
    /// Read and check the audit log
    Audit(audit::Audit),
    /// Which engines are where
    Mount(mount::Mount),
    /// Keys and the health of the store
    Operator(operator::Operator),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }
}

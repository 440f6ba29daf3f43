//! The command line's grammar: the list of commands. Each command's own arguments stand in its file, those of all of them in
//! `context/options.rs`.

use clap::{Parser, Subcommand};

use crate::{
    commands::{
        audit, explain,
        identity::{login, token, user},
        kubernetes,
        kv::{list, meta, read, remove, watch, write},
        policy::{apply, ask},
        random,
        server::{init, mount, operator, unseal},
    },
    context::options::Global,
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
    Login(login::LoginArgs),
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
    /// Make a password or a key; the server does not keep it
    Random(random::Random),
    /// Create, change and remove roles and bindings, all or nothing
    Apply(apply::Apply),
    /// Whether you, or another, may do something, and which rule says so
    CanI(ask::CanI),
    /// Who may do something
    WhoCan(ask::WhoCan),
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

//! The command line's grammar: the list of commands. Each command's own arguments stand in its file, those of all of them in
//! `context/options.rs`.

use clap::{Parser, Subcommand};

use crate::{
    commands::{
        audit, database, documentation, explain,
        identity::{login, token, user},
        key, kubernetes,
        kv::{diff, edit, import, list, meta, read, remove, run, tree, watch, write},
        lease, pki,
        policy::{apply, ask},
        profile, random,
        server::{init, mount, operator, unseal},
        unwrap,
    },
    context::options::Global,
};

/// A secrets store for Kubernetes.
///
/// Exit codes: 0 done, 1 failed or no, 2 wrong usage, 3 denied or not logged in, 4 not found, 5 sealed or not reachable.
#[derive(Parser)]
#[command(name = "strongroom", version, max_term_width = 110, after_help = TOKENS)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// No options, so that no token stands in an argv.
const TOKENS: &str = "Environment: STRONGROOM_TOKEN, or STRONGROOM_TOKEN_FILE with the path of a file, is the token to use instead of \
    that of the last login; strongroom whoami says which one is used. NO_COLOR turns colours off.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show whether the server is initialised and unsealed
    Status,
    /// Initialise the store, which is possible only once
    Init(init::Init),
    /// Give a share of the unseal key
    Unseal(unseal::Unseal),
    /// Make the server forget its keys
    Seal(unseal::Seal),
    /// Log in and keep the token for later commands
    Login(login::LoginArgs),
    /// Revoke the session and forget its token
    Logout,
    /// Show who you are logged in as
    Whoami,
    /// Show, renew or revoke tokens
    Token(token::Token),
    /// Write a new version of a secret
    Put(write::Put),
    /// Edit a secret in your editor; a change by somebody else in the meantime is told
    Edit(edit::Edit),
    /// Write secrets from a file of another form: .env, JSON, YAML, or Secrets of Kubernetes
    Import(import::Import),
    /// Read a secret
    Get(read::Get),
    /// Open what somebody wrapped for you, once
    Unwrap(unwrap::Unwrap),
    /// Run a program with the values of secrets in its environment
    Run(run::Run),
    /// List the secrets in a folder
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Show all secrets below a folder as a tree
    Tree(tree::Tree),
    /// Delete versions of a secret; undelete brings them back
    #[command(alias = "delete")]
    Rm(remove::Delete),
    /// Bring deleted versions back
    Undelete(remove::Undelete),
    /// Erase versions, or a whole secret, for good
    Destroy(remove::Destroy),
    /// Show the versions of a secret
    History(meta::History),
    /// Show which keys differ between two versions
    Diff(diff::Diff),
    /// Write an old version's content as a new version
    Rollback(write::Rollback),
    /// Write a new version that changes some keys
    Patch(write::Patch),
    /// Show or change the metadata of a secret
    Meta(meta::Meta),
    /// Show changes as they happen
    Watch(watch::Watch),
    /// Generate a password or a key, which the server does not keep
    Random(random::Random),
    /// Encrypt a file of any size, with a key that stays in the server
    Encrypt(key::file::Encrypt),
    /// Decrypt a file
    Decrypt(key::file::Decrypt),
    /// Manage keys that stay in the server, and encrypt, sign and authenticate with them
    Key(key::Key),
    /// Get users of databases that end by themselves, and manage how they are made
    Database(database::Database),
    /// Get certificates, and manage who issues them and to whom
    Pki(pki::Pki),
    /// List, renew and end what was issued for a while, such as database users
    Lease(lease::Lease),
    /// Create, change and remove roles and bindings, all or nothing
    Apply(apply::Apply),
    /// Show whether you, or somebody else, may do something, and which rule decides
    CanI(ask::CanI),
    /// List who may do something
    WhoCan(ask::WhoCan),
    /// Explain why something would or would not work
    Explain(explain::Explain),
    /// Print or apply what a Kubernetes cluster needs
    Kubernetes(kubernetes::Kubernetes),
    /// Print all roles and bindings as YAML
    Roles,
    /// Manage the users of the userpass method
    User(user::User),
    /// Read and check the audit log
    Audit(audit::Audit),
    /// Mount engines, and list, change or unmount them
    Mount(mount::Mount),
    /// Replace the keys of the store and check its health
    Operator(operator::Operator),
    /// List the profiles of this machine, and choose one
    Profile(profile::Profile),
    /// Print what a shell needs to complete commands
    Completion(documentation::Completion),
    /// Print the manual page, or write the pages of all commands
    Man(documentation::Man),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }

    /// Every command that does something.
    fn commands(command: &clap::Command, found: &mut Vec<clap::Command>) {
        if command.get_subcommands().next().is_none() {
            return found.push(command.clone());
        }
        command.get_subcommands().for_each(|inner| commands(inner, found));
    }

    /// As a shell takes them apart; of its quotes there are only single ones here.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut quoted) = (vec![String::new()], false);
        for character in line.chars() {
            match character {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                other => words.last_mut().unwrap().push(other),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn the_examples_of_the_help_can_be_typed() {
        let mut all = Vec::new();
        commands(&Arguments::command(), &mut all);
        let mut tried = 0;
        for help in all.iter().filter_map(clap::Command::get_after_help) {
            let help = help.to_string().replace("\\\n", "");
            for line in help.lines().filter(|line| line.contains("strongroom ")) {
                // What stands before it sets variables or is a pipe; behind it come pipes and files.
                let words = words(line.get(line.find("strongroom ").unwrap()..).unwrap()).into_iter();
                let words: Vec<_> = words.take_while(|word| !matches!(&**word, "|" | ">" | "<")).collect();
                let parsed = Arguments::try_parse_from(&words);
                assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap());
                tried += 1;
            }
        }
        assert!(tried > 40, "{tried}");
    }
}

//! `pki role`: who gets which certificates.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom_client::{Client, PkiRole, StreamExt, TryStreamExt};

use crate::{
    failure::Failure,
    input::{prompt, span},
    output::{Output, Presentation},
};

#[derive(Args)]
pub(super) struct Role {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a role; in its names * stands for any one segment, and {{namespace}}, {{serviceaccount}}, {{pod}}, {{cluster}},
    /// {{user}} and {{method}} for who asks
    #[command(after_help = "Examples:
  strongroom pki role put pki/pods --uri 'spiffe://example.org/ns/{{namespace}}/sa/{{serviceaccount}}' \\
    --dns '*.{{namespace}}.svc' --ttl 1h
  strongroom pki role put pki/web --dns '*.shop.example' --server")]
    Put(Box<Put>),
    /// Show a role
    Show {
        /// The path of the role
        path: String,
    },
    /// List the roles below a folder or in a mount
    List {
        /// A mount, or a folder of it
        #[arg(default_value = "pki")]
        folder: String,
    },
    /// Forget a role; certificates that it issued stay good
    Delete {
        /// The path of the role
        path: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Args)]
struct Put {
    /// The path of the role: MOUNT/NAME
    path: String,
    /// The path of the issuer [default: the default one of the mount]
    #[arg(long, value_name = "PATH")]
    issuer: Option<String>,
    /// A DNS name that certificates may have; may be repeated
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// A URI that they may have; may be repeated
    #[arg(long, value_name = "URI")]
    uri: Vec<String>,
    /// A network that their addresses may be of: 10.0.0.0/8; may be repeated
    #[arg(long, value_name = "CIDR")]
    network: Vec<String>,
    /// They may have names that begin with *. themselves
    #[arg(long)]
    wildcards: bool,
    /// A kind of key: ecdsa-p256, ecdsa-p384, ed25519, or rsa for requests only; may be repeated, and the first is made
    #[arg(long, value_name = "KIND")]
    key: Vec<String>,
    /// They are good for servers only, unless --client is there too
    #[arg(long)]
    server: bool,
    /// They are good for clients only, unless --server is there too
    #[arg(long)]
    client: bool,
    /// How long they are good if nobody says [default: 24h]
    #[arg(long, value_parser = span::parse)]
    ttl: Option<Duration>,
    /// How long they may be good [default: 30d]
    #[arg(long, value_parser = span::parse)]
    max_ttl: Option<Duration>,
    /// Each has a lease, and is revoked when that ends: with the pod or the session that asked for it
    #[arg(long)]
    lease: bool,
}

pub(super) async fn run(output: &Output, client: &Client, args: Role) -> Result<(), Failure> {
    let pki = client.pki();
    match args.command {
        Command::Put(args) => put(output, client, *args).await,
        Command::Show { path } => show(output, &pki.role(&path).await?),
        Command::List { folder } => {
            let roles: Vec<String> = pki.roles(folder).boxed().try_collect().await?;
            let rows = roles.iter().map(|role| vec![role.clone()]).collect();
            output.show(&roles, Presentation::Table(vec!["ROLE"], rows))
        }
        Command::Delete { path, yes } => {
            prompt::confirm_loss(&format!("Forget the role {path}?"), yes)?;
            pki.delete_role(&path).await?;
            output.done(&json!({ "path": path, "deleted": true }), &format!("role {path} is deleted"))
        }
    }
}

async fn put(output: &Output, client: &Client, args: Put) -> Result<(), Failure> {
    let mut put = client
        .pki()
        .put_role(args.path)
        .issuer(args.issuer.unwrap_or_default())
        .dns(args.dns)
        .uris(args.uri)
        .networks(args.network)
        .wildcards(args.wildcards)
        .keys(args.key)
        .usages(args.server, args.client)
        .lease(args.lease);
    if let Some(ttl) = args.ttl {
        put = put.ttl(ttl);
    }
    if let Some(ttl) = args.max_ttl {
        put = put.max_ttl(ttl);
    }
    show(output, &put.send().await?)
}

fn show(output: &Output, role: &PkiRole) -> Result<(), Failure> {
    let value = json!({
        "path": role.path, "issuer": role.issuer, "dns": role.dns, "uris": role.uris,
        "networks": role.networks, "wildcards": role.wildcards, "keys": role.keys, "server": role.server,
        "client": role.client, "ttl_seconds": role.ttl.as_secs(), "max_ttl_seconds": role.max_ttl.as_secs(),
        "lease": role.lease,
    });
    let or = |texts: &[String], nothing: &str| match texts {
        [] => nothing.to_owned(),
        texts => texts.join(", "),
    };
    let usages = [(role.server, "servers"), (role.client, "clients")];
    let usages: Vec<&str> = usages.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
    let issuer = if role.issuer.is_empty() { "the default one" } else { &role.issuer };
    output.show(
        &value,
        Presentation::Pairs(vec![
            ("path", role.path.clone()),
            ("issuer", issuer.to_owned()),
            ("dns", or(&role.dns, "none")),
            ("uris", or(&role.uris, "none")),
            ("networks", or(&role.networks, "none")),
            ("wildcards", if role.wildcards { "allowed" } else { "no" }.to_owned()),
            ("keys", role.keys.join(", ")),
            ("for", usages.join(" and ")),
            ("good for", format!("{} s, at most {} s", role.ttl.as_secs(), role.max_ttl.as_secs())),
            ("lease", if role.lease { "each has one" } else { "none" }.to_owned()),
        ]),
    )
}

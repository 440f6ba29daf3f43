//! `pki issuer`: authorities, their requests and their certificates.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom_client::{Client, PkiIssuer, StreamExt, TryStreamExt};

use super::{plain, signed, text};
use crate::{
    failure::Failure,
    input::{content, span},
    output::{Output, Presentation},
};

#[derive(Args)]
pub(super) struct Issuer {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an issuer with a key of its own: a root, or one that others sign
    #[command(after_help = "Examples:
  strongroom pki issuer create pki/root --subject 'CN=Example Root,O=Example' --path-length 1
  strongroom pki issuer create pki/2027 --subject 'CN=Example 2027' --intermediate")]
    Create(Create),
    /// Take over an issuer from elsewhere, with its key
    Import {
        /// The path of the issuer: MOUNT/NAME
        path: String,
        /// Its private key (PKCS #8 in PEM), or - for standard input
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        /// Its certificate and those that it follows from, in PEM
        #[arg(long, value_name = "FILE")]
        chain_file: PathBuf,
        /// Where its certificates say that its list of revoked ones is
        #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
        crl_url: String,
    },
    /// Print the request of an issuer, for others to sign
    Csr {
        /// The path of the issuer
        path: String,
    },
    /// Give an issuer the certificates that others signed for its key
    SetSigned {
        /// The path of the issuer
        path: String,
        /// Its certificate and those that it follows from, in PEM, or - for standard input
        #[arg(value_name = "FILE")]
        chain: PathBuf,
    },
    /// Sign another issuer, here or elsewhere, by its request
    Sign {
        /// The path of the issuer that signs
        path: String,
        /// The request in PEM, or - for standard input
        #[arg(value_name = "FILE")]
        csr: PathBuf,
        /// How long it is good [default: 1826d, which is five years]
        #[arg(long, value_parser = span::parse)]
        ttl: Option<Duration>,
        /// How many authorities may follow below it [default: as many as the issuer allows]
        #[arg(long, value_name = "N")]
        path_length: Option<u32>,
    },
    /// Show an issuer
    Show {
        /// The path of the issuer
        path: String,
    },
    /// List the issuers below a folder or in a mount
    List {
        /// A mount, or a folder of it
        #[arg(default_value = "pki")]
        folder: String,
    },
    /// Let roles that name no issuer use this one
    Default {
        /// The path of the issuer
        path: String,
    },
}

#[derive(Args)]
struct Create {
    /// The path of the issuer: MOUNT/NAME
    path: String,
    /// Its name
    #[arg(long, value_name = "NAME")]
    subject: String,
    /// The kind of its key: ecdsa-p256, ecdsa-p384 or ed25519
    #[arg(long, value_name = "KIND", default_value = "ecdsa-p256")]
    key: String,
    /// How long a root is good [default: 3652d, which is ten years]
    #[arg(long, value_parser = span::parse, conflicts_with = "intermediate")]
    ttl: Option<Duration>,
    /// How many authorities may follow below a root [default: any number]
    #[arg(long, value_name = "N", conflicts_with = "intermediate")]
    path_length: Option<u32>,
    /// Others sign it: it has a request for them
    #[arg(long)]
    intermediate: bool,
    /// Where its certificates say that its list of revoked ones is
    #[arg(long, value_name = "URL")]
    crl_url: Option<String>,
}

pub(super) async fn run(output: &Output, client: &Client, args: Issuer) -> Result<(), Failure> {
    let pki = client.pki();
    match args.command {
        Command::Create(args) => create(output, client, args).await,
        Command::Import { path, key_file, chain_file, crl_url } => {
            let (key, chain) = (content::whole(&key_file)?, text(&chain_file)?);
            show(output, &pki.import_issuer(&path, key, &chain, &crl_url).await?)
        }
        Command::Csr { path } => {
            let issuer = pki.issuer(&path).await?;
            plain(output, &json!({ "path": issuer.path, "csr": issuer.csr_pem }), &issuer.csr_pem)
        }
        Command::SetSigned { path, chain } => show(output, &pki.set_signed(&path, &text(&chain)?).await?),
        Command::Sign { path, csr, ttl, path_length } => {
            signed(output, &pki.sign_issuer(&path, &text(&csr)?, ttl, path_length).await?)
        }
        Command::Show { path } => show(output, &pki.issuer(&path).await?),
        Command::List { folder } => {
            let issuers: Vec<String> = pki.issuers(folder).boxed().try_collect().await?;
            let rows = issuers.iter().map(|issuer| vec![issuer.clone()]).collect();
            output.show(&issuers, Presentation::Table(vec!["ISSUER"], rows))
        }
        Command::Default { path } => show(output, &pki.set_default(&path).await?),
    }
}

async fn create(output: &Output, client: &Client, args: Create) -> Result<(), Failure> {
    let mut create = client
        .pki()
        .create_issuer(args.path, args.subject)
        .key(args.key)
        .intermediate(args.intermediate)
        .crl_url(args.crl_url.unwrap_or_default());
    if let Some(ttl) = args.ttl {
        create = create.ttl(ttl);
    }
    if let Some(length) = args.path_length {
        create = create.path_length(length);
    }
    show(output, &create.send().await?)
}

fn show(output: &Output, issuer: &PkiIssuer) -> Result<(), Failure> {
    let until = issuer.not_after.map(|at| format!("{at:.0}"));
    let value = json!({
        "path": issuer.path, "subject": issuer.subject, "key": issuer.key, "not_after": until,
        "is_default": issuer.is_default, "crl_url": issuer.crl_url, "chain": issuer.chain_pem,
        "csr": issuer.csr_pem,
    });
    let crl = if issuer.crl_url.is_empty() { "certificates do not say where" } else { &issuer.crl_url };
    output.show(
        &value,
        Presentation::Pairs(vec![
            ("path", issuer.path.clone()),
            ("subject", issuer.subject.clone()),
            ("key", issuer.key.clone()),
            ("good until", until.unwrap_or_else(|| "waits for its certificate".to_owned())),
            ("default", if issuer.is_default { "yes" } else { "no" }.to_owned()),
            ("list", crl.to_owned()),
        ]),
    )
}

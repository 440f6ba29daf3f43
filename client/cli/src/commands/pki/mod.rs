//! `pki`: certificates. Issuers are in `issuer.rs`, roles in `role.rs`.

mod issuer;
mod role;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgGroup, Args, Subcommand};
use data_encoding::BASE64;
use serde::Serialize;
use serde_json::json;
use strongroom_client::{Certificate, IssuedCertificate};

use crate::{
    context::Context,
    failure::Failure,
    forms::json::JsonValue,
    input::{content, span},
    output::{Format, Output, Presentation},
};

/// Characters on a line of PEM.
const PEM_LINE: usize = 64;

#[derive(Args)]
pub(crate) struct Pki {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Manage issuers, which are authorities whose keys stay in the server
    Issuer(issuer::Issuer),
    /// Manage roles, which say who gets which certificates
    Role(role::Role),
    /// Have a key and a certificate made; the server does not keep the key
    #[command(after_help = "Examples:
  strongroom pki issue pki/pods --key-out tls.key --certificate-out tls.crt
  strongroom pki issue pki/web --dns shop.example --ttl 7d -o json > shop.json")]
    Issue(Issue),
    /// Have a certificate made for the key of a request (PKCS #10)
    Sign {
        /// The path of the role
        path: String,
        /// The request in PEM, or - for standard input
        #[arg(value_name = "FILE")]
        csr: PathBuf,
        /// How long it is good: 12h, 7d [default: as long as the role says]
        #[arg(long, value_parser = span::parse)]
        ttl: Option<Duration>,
    },
    /// Revoke a certificate; the issuer's next list has it
    #[command(group = ArgGroup::new("which").required(true))]
    Revoke {
        /// The path of the issuer
        path: String,
        /// Its serial, in hex digits
        #[arg(long, value_name = "HEX", group = "which")]
        serial: Option<String>,
        /// The certificate in PEM
        #[arg(long, value_name = "FILE", group = "which")]
        certificate: Option<PathBuf>,
        /// unspecified, keyCompromise, affiliationChanged, superseded or cessationOfOperation
        #[arg(long, value_name = "REASON", default_value = "unspecified")]
        reason: String,
    },
    /// Print the list of what an issuer has revoked, in PEM
    Crl {
        /// The path of the issuer
        path: String,
        /// Only what was revoked since a full list of the last day
        #[arg(long)]
        delta: bool,
    },
    /// Print the certificate of an issuer and those that it follows from, in PEM
    Chain {
        /// The path of the issuer
        path: String,
    },
}

#[derive(Args)]
struct Issue {
    /// The path of the role
    path: String,
    /// A DNS name; may be repeated [default: the names that the role says outright]
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// A URI, such as a SPIFFE ID; may be repeated
    #[arg(long, value_name = "URI")]
    uri: Vec<String>,
    /// An address; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
    /// How long it is good: 12h, 7d [default: as long as the role says]
    #[arg(long, value_parser = span::parse)]
    ttl: Option<Duration>,
    /// Write the private key to this file, which nobody else may read
    #[arg(long, value_name = "FILE", requires = "certificate_out")]
    key_out: Option<PathBuf>,
    /// Write the certificate and its chain to this file
    #[arg(long, value_name = "FILE", requires = "key_out")]
    certificate_out: Option<PathBuf>,
    /// Show the private key on a terminal
    #[arg(long)]
    show: bool,
}

/// A certificate, as programs see it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<JsonValue<'a>>,
    certificate: &'a str,
    chain: &'a str,
    serial: &'a str,
    not_after: String,
    lease: Option<&'a str>,
}

pub(crate) async fn run(context: &Context, args: Pki) -> Result<(), Failure> {
    let output = &context.output;
    match args.command {
        Command::Issuer(args) => issuer::run(output, &context.client().await?, args).await,
        Command::Role(args) => role::run(output, &context.client().await?, args).await,
        Command::Issue(args) => issue(context, args).await,
        Command::Sign { path, csr, ttl } => {
            let csr = text(&csr)?;
            signed(output, &context.client().await?.pki().sign(&path, &csr, ttl).await?)
        }
        Command::Revoke { path, serial, certificate, reason } => {
            let client = context.client().await?;
            let revoked = match certificate {
                Some(file) => client.pki().revoke_certificate(&path, &text(&file)?, &reason).await?,
                None => client.pki().revoke(&path, &serial.unwrap_or_default(), &reason).await?,
            };
            let at = format!("{:.0}", revoked.revoked_at);
            let value = json!({ "serial": revoked.serial, "revoked_at": at });
            output.done(&value, &format!("certificate {} is revoked since {at}", revoked.serial))
        }
        Command::Crl { path, delta } => {
            let crl = context.client().await?.pki().crl(&path, delta).await?;
            let pem = pem("X509 CRL", &crl.der);
            let value = json!({
                "crl": pem, "number": crl.number, "this_update": format!("{:.0}", crl.this_update),
                "next_update": format!("{:.0}", crl.next_update),
            });
            plain(output, &value, &pem)
        }
        Command::Chain { path } => {
            let issuer = context.client().await?.pki().issuer(&path).await?;
            plain(output, &json!({ "path": issuer.path, "chain": issuer.chain_pem }), &issuer.chain_pem)
        }
    }
}

async fn issue(context: &Context, args: Issue) -> Result<(), Failure> {
    let output = &context.output;
    // Before anything is made that nobody would see.
    if args.key_out.is_none() {
        output.check_consent(args.show)?;
    }
    let client = context.client().await?;
    let mut issue = client.pki().issue(args.path);
    for name in args.dns {
        issue = issue.dns(name);
    }
    for uri in args.uri {
        issue = issue.uri(uri);
    }
    for ip in args.ip {
        issue = issue.ip(ip);
    }
    if let Some(ttl) = args.ttl {
        issue = issue.ttl(ttl);
    }
    let IssuedCertificate { key_pem, certificate, .. } = issue.send().await?;
    let both = format!("{}{}", certificate.certificate_pem, certificate.chain_pem);
    if let (Some(key), Some(file)) = (&args.key_out, &args.certificate_out) {
        output.deliver(key, key_pem.expose())?;
        output.deliver(file, both.as_bytes())?;
        let text = format!("certificate {} is good until {:.0}", certificate.serial, certificate.not_after);
        return output.done(&shown(&certificate, None), &text);
    }
    match output.format() {
        Format::Table => {
            output.raw(key_pem.expose())?;
            output.raw(both.as_bytes())
        }
        _ => {
            let value = shown(&certificate, Some(JsonValue(&key_pem)));
            output.show(&value, Presentation::Text(String::new()))
        }
    }
}

fn shown<'a>(certificate: &'a Certificate, private_key: Option<JsonValue<'a>>) -> Shown<'a> {
    Shown {
        private_key,
        certificate: &certificate.certificate_pem,
        chain: &certificate.chain_pem,
        serial: &certificate.serial,
        not_after: format!("{:.0}", certificate.not_after),
        lease: certificate.lease.as_ref().map(|lease| lease.id.as_str()),
    }
}

/// A certificate without a key: the certificate itself, then its chain.
fn signed(output: &Output, certificate: &Certificate) -> Result<(), Failure> {
    let both = format!("{}{}", certificate.certificate_pem, certificate.chain_pem);
    plain(output, &shown(certificate, None), &both)
}

/// For people what other programs take, for programs that ask for it all that is known.
fn plain(output: &Output, value: &impl Serialize, text: &str) -> Result<(), Failure> {
    match output.format() {
        Format::Table => output.raw(text.as_bytes()),
        _ => output.show(value, Presentation::Text(String::new())),
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines = text.as_bytes().chunks(PEM_LINE).filter_map(|line| std::str::from_utf8(line).ok());
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.collect::<Vec<_>>().join("\n"))
}

/// A file that is no secret.
fn text(file: &Path) -> Result<String, Failure> {
    let bytes = content::whole(file)?;
    let text = bytes.expose_str().map_err(|error| Failure::local(content::name(file), error))?;
    Ok(text.to_owned())
}

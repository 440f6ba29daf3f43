//! What a key does: standard input goes in, a line of text comes out, or the other way round.

use std::path::Path;

use clap::{Args, ValueEnum};
use serde_json::json;
use strongroom_client::{Ciphertext, Plaintext, SecretBytes, SignatureEncoding, Transit, limits};

use crate::{
    failure::Failure,
    forms::json::JsonValue,
    input::content,
    output::{Format, Output, Presentation, structured},
};

/// What is not secret, and has to be the same again.
#[derive(Args)]
struct Terms {
    /// Which of a derived key's keys
    #[arg(long, value_name = "TEXT", default_value = "")]
    context: String,
    /// What has to be given again to decrypt; it is not in the ciphertext
    #[arg(long, value_name = "TEXT", default_value = "")]
    associated_data: String,
}

#[derive(Args)]
pub(crate) struct Sealing {
    /// The path of the key
    path: String,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom key decrypt transit/orders --associated-data order/7 < card.txt")]
pub(crate) struct Opening {
    /// The path of the key
    path: String,
    #[command(flatten)]
    terms: Terms,
    /// Show the result on a terminal
    #[arg(long)]
    show: bool,
}

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom key rewrap transit/orders < old.txt > new.txt")]
pub(crate) struct Rewrap {
    /// The path of the key
    path: String,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Args)]
pub(crate) struct Sign {
    /// The path of the key
    path: String,
    /// How an ECDSA signature is written
    #[arg(long, value_enum, default_value_t = Encoding::Asn1)]
    encoding: Encoding,
}

#[derive(Args)]
pub(crate) struct Verify {
    /// The path of the key
    path: String,
    /// The signature
    #[arg(long, value_name = "TEXT")]
    signature: String,
    /// How an ECDSA signature is written
    #[arg(long, value_enum, default_value_t = Encoding::Asn1)]
    encoding: Encoding,
}

#[derive(Args)]
pub(crate) struct Mac {
    /// The path of the key
    path: String,
    /// Which of a derived key's keys
    #[arg(long, value_name = "TEXT", default_value = "")]
    context: String,
}

#[derive(Args)]
pub(crate) struct VerifyMac {
    /// The path of the key
    path: String,
    /// The message authentication code
    #[arg(long, value_name = "TEXT")]
    mac: String,
    /// Which of a derived key's keys
    #[arg(long, value_name = "TEXT", default_value = "")]
    context: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Encoding {
    /// DER, as X.509 and OpenSSL have it
    Asn1,
    /// As JSON Web Signatures have it
    Jws,
}

impl From<Encoding> for SignatureEncoding {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Asn1 => Self::Asn1,
            Encoding::Jws => Self::Jws,
        }
    }
}

pub(super) async fn encrypt(output: &Output, transit: Transit<'_>, args: Sealing) -> Result<(), Failure> {
    let plaintext = Plaintext::from(standard_input()?).context(args.terms.context);
    let ciphertext =
        transit.encrypt(&args.path, plaintext.associated_data(args.terms.associated_data)).await?;
    output.done(&json!({ "path": args.path, "ciphertext": ciphertext }), &ciphertext)
}

pub(super) async fn decrypt(output: &Output, transit: Transit<'_>, args: Opening) -> Result<(), Failure> {
    output.check_consent(args.show)?;
    let text = lines()?.into_iter().next().unwrap_or_default();
    let plaintext = transit.decrypt(&args.path, ciphertext(text, &args.terms)).await?;
    match output.format() {
        Format::Table => output.value(plaintext.expose()),
        format => {
            /// The result, as programs see it.
            #[derive(serde::Serialize)]
            struct Opened<'a> {
                path: &'a str,
                plaintext: JsonValue<'a>,
            }
            output.raw(&structured(&Opened { path: &args.path, plaintext: JsonValue(&plaintext) }, format)?)
        }
    }
}

/// A line that cannot be rewrapped ends it with nothing printed: half a file would look like a whole one.
pub(super) async fn rewrap(output: &Output, transit: Transit<'_>, args: Rewrap) -> Result<(), Failure> {
    let mut rewrapped = Vec::new();
    for some in lines()?.chunks(limits::TRANSIT_ITEMS) {
        let ciphertexts = some.iter().map(|text| ciphertext(text.clone(), &args.terms)).collect();
        for answer in transit.rewrap_all(&args.path, ciphertexts).await? {
            let line = rewrapped.len() + 1;
            rewrapped.push(answer.map_err(|error| Failure::local(format!("line {line}"), error))?);
        }
    }
    output.show(
        &json!({ "path": args.path, "ciphertexts": rewrapped }),
        Presentation::Text(rewrapped.join("\n")),
    )
}

pub(super) async fn sign(output: &Output, transit: Transit<'_>, args: Sign) -> Result<(), Failure> {
    let signature = transit.sign(&args.path, standard_input()?.expose(), args.encoding.into()).await?;
    output.done(&json!({ "path": args.path, "signature": signature }), &signature)
}

pub(super) async fn verify(output: &Output, transit: Transit<'_>, args: Verify) -> Result<(), Failure> {
    let (message, encoding) = (standard_input()?, args.encoding.into());
    let valid = transit.verify(&args.path, message.expose(), &args.signature, encoding).await?;
    verdict(output, &args.path, "signature", valid)
}

pub(super) async fn mac(output: &Output, transit: Transit<'_>, args: Mac) -> Result<(), Failure> {
    let mac = transit.mac(&args.path, Plaintext::from(standard_input()?).context(args.context)).await?;
    output.done(&json!({ "path": args.path, "mac": mac }), &mac)
}

pub(super) async fn verify_mac(
    output: &Output,
    transit: Transit<'_>,
    args: VerifyMac,
) -> Result<(), Failure> {
    let message = Plaintext::from(standard_input()?).context(args.context);
    let valid = transit.verify_mac(&args.path, message, &args.mac).await?;
    verdict(output, &args.path, "message authentication code", valid)
}

fn verdict(output: &Output, path: &str, what: &str, valid: bool) -> Result<(), Failure> {
    let word = if valid { "is" } else { "is not" };
    output.done(&json!({ "path": path, "valid": valid }), &format!("the {what} {word} that of {path}"))?;
    if valid { Ok(()) } else { Err(Failure::No) }
}

fn standard_input() -> Result<SecretBytes, Failure> {
    content::whole(Path::new("-"))
}

/// The lines of standard input: ciphertexts, which are no secrets.
fn lines() -> Result<Vec<String>, Failure> {
    let input = content::whole_of_many(Path::new("-"))?;
    let text =
        input.expose_str().map_err(|_| Failure::usage("standard input is not text; expected ciphertexts"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn ciphertext(text: String, terms: &Terms) -> Ciphertext {
    Ciphertext::from(text).context(terms.context.as_str()).associated_data(terms.associated_data.as_str())
}

//! `can-i`, `who-can`, `roles`: what policy says.

use clap::Args;
use serde_json::json;

use crate::{
    context::Context,
    failure::Failure,
    output::{Format, View},
};

#[derive(Args)]
pub(crate) struct CanI {
    /// read list create update delete destroy use manage
    verb: String,
    /// Where
    path: String,
    /// Somebody else, such as userpass/alice or kubernetes/main/payments/web
    #[arg(long = "as", value_name = "PRINCIPAL")]
    principal: Option<String>,
    /// A group of that principal, such as userpass/platform; may be repeated
    #[arg(long = "group", value_name = "METHOD/NAME", requires = "principal")]
    groups: Vec<String>,
}

#[derive(Args)]
pub(crate) struct WhoCan {
    /// read list create update delete destroy use manage
    verb: String,
    /// Where
    path: String,
}

pub(crate) async fn can_i(context: &Context, args: CanI) -> Result<(), Failure> {
    let client = context.client().await?;
    let answer =
        client.policy().can_i(&args.verb, &args.path, args.principal.as_deref(), args.groups).await?;
    let value = json!({
        "allowed": answer.allowed,
        "reason": answer.reason,
        "role": answer.role,
        "binding": answer.binding,
        "rule": answer.rule,
    });
    let text = format!("{}: {}", if answer.allowed { "yes" } else { "no" }, answer.reason);
    context.output.show(&value, View::Text(text))?;
    if answer.allowed { Ok(()) } else { Err(Failure::No) }
}

pub(crate) async fn who_can(context: &Context, args: WhoCan) -> Result<(), Failure> {
    let entries = context.client().await?.policy().who_can(&args.verb, &args.path).await?;
    let value: Vec<_> = entries
        .iter()
        .map(|e| json!({ "subject": e.subject, "role": e.role, "binding": e.binding, "conditions": e.conditions }))
        .collect();
    let rows = entries.into_iter().map(|e| vec![e.subject, e.role, e.binding, e.conditions]).collect();
    context.output.show(&value, View::Table(vec!["SUBJECT", "ROLE", "BINDING", "CONDITIONS"], rows))
}

pub(crate) async fn export(context: &Context) -> Result<(), Failure> {
    let yaml = context.client().await?.policy().export().await?;
    match context.output.format() {
        Format::Json => context.output.show(&json!({ "yaml": yaml }), View::Text(String::new())),
        // As it is, so that `apply -f -` takes it.
        _ => context.output.raw(yaml.as_bytes()),
    }
}

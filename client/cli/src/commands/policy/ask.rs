//! `can-i`, `who-can`, `roles`: what policy says.

use std::net::IpAddr;

use clap::Args;
use serde_json::json;
use strongroom_yaml::{Limits, Node};

use crate::{
    context::Context,
    failure::Failure,
    output::{Format, Presentation},
};

/// Levels of a role or a binding, with some to spare.
const DEPTH: usize = 16;

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom can-i read secret/apps/shop/db
  strongroom can-i read secret/apps/shop/db --as kubernetes/main/shop/web")]
pub(crate) struct CanI {
    /// The verb: read, list, create, update, delete, destroy, use or manage
    verb: String,
    /// The path
    path: String,
    /// Ask for this principal, such as userpass/alice or kubernetes/main/payments/web
    #[arg(long = "as", value_name = "PRINCIPAL")]
    principal: Option<String>,
    /// A group of the principal, such as userpass/platform; may be repeated
    #[arg(long = "group", value_name = "METHOD/NAME", requires = "principal")]
    groups: Vec<String>,
    /// The address that the principal comes from; without it, what is allowed only from some addresses is not allowed
    #[arg(long, value_name = "ADDRESS", requires = "principal")]
    from: Option<IpAddr>,
}

#[derive(Args)]
#[command(after_help = "Example:
  strongroom who-can read secret/apps/shop/db")]
pub(crate) struct WhoCan {
    /// The verb: read, list, create, update, delete, destroy, use or manage
    verb: String,
    /// The path
    path: String,
}

pub(crate) async fn can_i(context: &Context, args: CanI) -> Result<(), Failure> {
    let client = context.client().await?;
    let answer = client
        .policy()
        .can_i(&args.verb, &args.path, args.principal.as_deref(), args.groups, args.from)
        .await?;
    let value = json!({
        "allowed": answer.allowed,
        "reason": answer.reason,
        "role": answer.role,
        "binding": answer.binding,
        "rule": answer.rule,
    });
    let text = format!("{}: {}", if answer.allowed { "yes" } else { "no" }, answer.reason);
    context.output.show(&value, Presentation::Text(text))?;
    if answer.allowed { Ok(()) } else { Err(Failure::No) }
}

pub(crate) async fn who_can(context: &Context, args: WhoCan) -> Result<(), Failure> {
    let entries = context.client().await?.policy().who_can(&args.verb, &args.path).await?;
    let value: Vec<_> = entries
        .iter()
        .map(|e| json!({ "subject": e.subject, "role": e.role, "binding": e.binding, "conditions": e.conditions }))
        .collect();
    let rows = entries.into_iter().map(|e| vec![e.subject, e.role, e.binding, e.conditions]).collect();
    context.output.show(&value, Presentation::Table(vec!["SUBJECT", "ROLE", "BINDING", "CONDITIONS"], rows))
}

pub(crate) async fn export(context: &Context) -> Result<(), Failure> {
    let yaml = context.client().await?.policy().export().await?;
    match context.output.format() {
        Format::Json => {
            let limits = Limits { documents: usize::MAX, depth: DEPTH };
            let nodes = strongroom_yaml::read_all(&yaml, limits)
                .map_err(|error| Failure::local("the policy", error.problem))?;
            let objects: Vec<_> = nodes.iter().map(Node::to_json).collect();
            context.output.show(&objects, Presentation::Text(String::new()))
        }
        // Printed unchanged, so that `apply -f -` accepts it.
        _ => context.output.raw(yaml.as_bytes()),
    }
}

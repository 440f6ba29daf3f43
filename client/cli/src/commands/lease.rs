//! `lease`: what was issued for a while, and its end.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};
use strongroom_client::{LeaseInfo, LeaseSelector};

use super::identity::session::until;
use crate::{
    context::Context,
    failure::Failure,
    input::{prompt, span},
    output::{Presentation, plural},
};

#[derive(Args)]
pub(crate) struct Lease {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List leases: your own, or those below a path, of a principal, a session or a pod
    #[command(after_help = "Examples:
  strongroom lease list
  strongroom lease list --prefix db
  strongroom lease list --all --stuck")]
    List {
        #[command(flatten)]
        which: Which,
        /// All leases of the server
        #[arg(long, group = "which")]
        all: bool,
        /// Only those that the server could not end in several attempts
        #[arg(long)]
        stuck: bool,
    },
    /// Show what is known of a lease
    Show {
        /// The id of the lease
        id: String,
    },
    /// Make a lease live longer, up to its maximum
    Renew {
        /// The id of the lease
        id: String,
        /// How long from now, such as 30m; as long as it was issued for if this is not given
        #[arg(long = "for", value_name = "SPAN", value_parser = span::parse)]
        increment: Option<Duration>,
    },
    /// End leases before their time
    #[command(after_help = "Examples:
  strongroom lease revoke --id 0123456789abcdef0123456789abcdef
  strongroom lease revoke --prefix db/reporting")]
    Revoke(Revoke),
    /// Give up on a lease that cannot be ended; what it stands for may still be there
    Forget {
        /// The id of the lease
        id: String,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Args)]
#[command(group(ArgGroup::new("which").required(true)))]
struct Revoke {
    #[command(flatten)]
    which: Which,
    /// The lease with this id
    #[arg(long, group = "which")]
    id: Option<String>,
    /// All leases that were issued to you
    #[arg(long, group = "which")]
    own: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

#[derive(Args)]
struct Which {
    /// All at this path and below it; the name of a mount for all of that mount
    #[arg(long, value_name = "PATH", group = "which")]
    prefix: Option<String>,
    /// All of a principal, such as userpass/alice
    #[arg(long, group = "which")]
    principal: Option<String>,
    /// All of the session with this id
    #[arg(long, value_name = "ID", group = "which")]
    session: Option<String>,
    /// All of the pod with this uid
    #[arg(long, value_name = "UID", group = "which")]
    pod: Option<String>,
}

impl Which {
    fn selector(self) -> Option<LeaseSelector> {
        let Self { prefix, principal, session, pod } = self;
        prefix
            .map(LeaseSelector::Prefix)
            .or(principal.map(LeaseSelector::Principal))
            .or(session.map(LeaseSelector::Session))
            .or(pod.map(LeaseSelector::Pod))
    }
}

pub(crate) async fn run(context: &Context, args: Lease) -> Result<(), Failure> {
    match args.command {
        Command::List { which, all, stuck } => {
            let which = if all { None } else { Some(which.selector().unwrap_or(LeaseSelector::Own)) };
            let leases = context.client().await?.leases().list(which.as_ref(), stuck).await?;
            list(context, &leases)
        }
        Command::Show { id } => {
            let lease = context.client().await?.leases().get(&id).await?;
            let rows = lines(&lease);
            context.output.show(&value(&lease), Presentation::Text(rows.join("\n")))
        }
        Command::Renew { id, increment } => {
            let lease = context.client().await?.leases().renew(&id, increment).await?;
            let value = json!({
                "id": lease.id,
                "expires_at": lease.expires_at.to_string(),
                "max_expires_at": lease.max_expires_at.to_string(),
            });
            let text = format!("renewed until {}", until(lease.expires_at, Timestamp::now()));
            context.output.show(&value, Presentation::Text(text))
        }
        Command::Revoke(args) => revoke(context, args).await,
        Command::Forget { id, yes } => {
            let client = context.client().await?;
            let lease = client.leases().get(&id).await?;
            let question = format!("Give up on {}? It is NOT removed where it was made.", lease.what);
            prompt::confirm_loss(&question, yes)?;
            client.leases().forget(&id).await?;
            let text = format!("forgotten; remove {} by hand where it was made", lease.what);
            context.output.done(&json!({ "id": id, "what": lease.what, "forgotten": true }), &text)
        }
    }
}

async fn revoke(context: &Context, args: Revoke) -> Result<(), Failure> {
    let Revoke { which, id, own, yes } = args;
    let one = id.is_some();
    let which = match (id, own) {
        (Some(id), _) => LeaseSelector::Id(id),
        (None, true) => LeaseSelector::Own,
        (None, false) => which.selector().ok_or_else(|| Failure::usage("say which leases; see --help"))?,
    };
    let client = context.client().await?;
    if !one {
        let count = client.leases().list(Some(&which), false).await?.len();
        prompt::confirm_loss(&format!("End {}?", plural(count, "lease")), yes)?;
    }
    let revoked = client.leases().revoke(&which).await?;
    let (ended, pending) = (revoked.ended, revoked.pending);
    let mut text = format!("ended {}", plural(usize::try_from(ended).unwrap_or(usize::MAX), "lease"));
    if pending > 0 {
        let error = revoked.last_error.as_deref().unwrap_or("they take their time");
        text.push_str(&format!("; {pending} could not be ended yet and are tried again: {error}"));
    }
    let value = json!({ "ended": ended, "pending": pending, "last_error": revoked.last_error });
    context.output.done(&value, &text)
}

fn list(context: &Context, leases: &[LeaseInfo]) -> Result<(), Failure> {
    let now = Timestamp::now();
    let rows = leases.iter().map(|info| {
        let state = match (&info.ending, info.failures) {
            (None, 0) => format!("expires {}", until(info.lease.expires_at, now)),
            (cause, failures) => {
                let cause = cause.as_deref().unwrap_or("expired");
                format!(
                    "ending ({cause}), failed {failures} times: {}",
                    info.last_error.as_deref().unwrap_or("")
                )
            }
        };
        vec![info.lease.id.clone(), info.path.clone(), info.what.clone(), info.principal.clone(), state]
    });
    let rows = rows.collect();
    let values: Vec<Value> = leases.iter().map(value).collect();
    context.output.show(&values, Presentation::Table(vec!["ID", "PATH", "WHAT", "HOLDER", "STATE"], rows))
}

fn value(info: &LeaseInfo) -> Value {
    json!({
        "id": info.lease.id, "path": info.path, "what": info.what,
        "principal": info.principal, "session": info.session, "pod": info.pod,
        "issued_at": info.issued_at.to_string(), "expires_at": info.lease.expires_at.to_string(),
        "max_expires_at": info.lease.max_expires_at.to_string(),
        "ending": info.ending, "failures": info.failures, "last_error": info.last_error,
        "next_attempt_at": info.next_attempt_at.map(|at| at.to_string()),
    })
}

fn lines(info: &LeaseInfo) -> Vec<String> {
    let now = Timestamp::now();
    let mut lines = vec![
        format!("path       {}", info.path),
        format!("what       {}", info.what),
        format!("holder     {}", info.principal),
        format!("issued     {:.0}", info.issued_at),
        format!("expires    {}", until(info.lease.expires_at, now)),
        format!("at most    {}", until(info.lease.max_expires_at, now)),
    ];
    if let Some(cause) = &info.ending {
        lines.push(format!("ending     {cause}"));
    }
    if info.failures > 0 {
        lines.push(format!(
            "failed     {} times: {}",
            info.failures,
            info.last_error.as_deref().unwrap_or("")
        ));
    }
    if let Some(at) = info.next_attempt_at {
        lines.push(format!("next try   {at:.0}"));
    }
    lines
}

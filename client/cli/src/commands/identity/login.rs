//! `login`, `logout`, `whoami`: one's own session.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use clap::Args;
use jiff::Timestamp;
use serde_json::json;
use strongroom_client::{KUBERNETES_TOKEN_FILE, SecretBytes, Session};

use super::session::{structured, until};
use crate::{
    context::{Context, profile::Server, token::Source},
    failure::Failure,
    input::{content, prompt},
    output::Presentation,
};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom --address https://strongroom.example.com:7420 --ca ca.pem login -u alice --save
  strongroom login -u alice
  strongroom login --kubernetes")]
pub(crate) struct LoginArgs {
    /// The name of the user
    #[arg(short, long, required_unless_present = "kubernetes")]
    user: Option<String>,
    /// A file with the password, or - for standard input; without it you are asked for the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Log in as the pod that this command runs in, with the token that is projected into it
    #[arg(long, conflicts_with_all = ["user", "password_file"])]
    kubernetes: bool,
    /// The server's name for the cluster of the pod
    #[arg(long, value_name = "NAME", default_value = "main", requires = "kubernetes")]
    cluster: String,
    /// The file with the pod's token
    #[arg(long, value_name = "FILE", default_value = KUBERNETES_TOKEN_FILE, requires = "kubernetes")]
    token_file: PathBuf,
    /// Remember --address and --ca in the profile
    #[arg(long)]
    save: bool,
}

pub(crate) async fn login(context: &Context, args: LoginArgs) -> Result<(), Failure> {
    let (token, session) = match &args.user {
        Some(user) => as_user(context, user, args.password_file.as_deref()).await?,
        None => as_pod(context, &args.cluster, &args.token_file).await?,
    };
    context.profile.save_token(&token, &context.address())?;
    if args.save {
        let server = context.server();
        // Relative to this folder, not to the one of the next command.
        let ca = server.ca.map(std::path::absolute).transpose()?;
        let path = context.profile.save_server(Server { ca, ..server })?;
        context.output.note(&format!("note: profile {} is in {}", context.profile.name, path.display()));
    }
    let source = context.token_source();
    if source != Source::Profile(context.profile.name.clone()) {
        context
            .output
            .note(&format!("warning: commands go on with the token from {source} until it is unset"));
    }
    let text =
        format!("logged in as {} until {}", session.principal, until(session.expires_at, Timestamp::now()));
    context.output.show(&structured(&session), Presentation::Text(text))
}

async fn as_user(
    context: &Context,
    user: &str,
    password_file: Option<&Path>,
) -> Result<(SecretBytes, Session), Failure> {
    let client = context.anonymous().await?;
    let password = match password_file {
        Some(file) => content::word(file)?,
        None if io::stdin().is_terminal() => prompt::hidden(&format!("Password of {user}"))?,
        None => return Err(prompt::nobody_to_ask("--password-file")),
    };
    let login = client.auth().login(user, &password).await?;
    Ok((login.token, login.session))
}

async fn as_pod(
    context: &Context,
    cluster: &str,
    token_file: &Path,
) -> Result<(SecretBytes, Session), Failure> {
    let client = context.pod(cluster, token_file).await?;
    let session = client.auth().whoami().await?.session;
    Ok((client.expose_token().ok_or(Failure::NotLoggedIn)?, session))
}

pub(crate) async fn logout(context: &Context) -> Result<(), Failure> {
    let revoked = context.client().await?.auth().logout().await;
    // A token that the server no longer takes is of no use either.
    let gone = matches!(&revoked, Err(error) if is_gone(error));
    if revoked.is_ok() || gone {
        context.token_source().forget(&context.profile)?;
    }
    if !gone {
        revoked?;
    }
    context.output.done(&json!({ "logged_out": true }), "logged out")
}

fn is_gone(error: &strongroom_client::Error) -> bool {
    matches!(error.kind(), strongroom_client::ErrorKind::Unauthenticated(_))
}

pub(crate) async fn whoami(context: &Context) -> Result<(), Failure> {
    let who = context.client().await?.auth().whoami().await?;
    let source = context.token_source().to_string();
    let mut value = structured(&who.session);
    if let Some(object) = value.as_object_mut() {
        object.insert("roles".into(), json!(who.roles));
        object.insert("token_source".into(), json!(source));
    }
    let now = Timestamp::now();
    let mut pairs = vec![("principal", who.session.principal), ("method", who.session.method)];
    if let Some(pod) = who.session.pod {
        let node = pod.node.map(|node| format!(" on {node}")).unwrap_or_default();
        pairs.push(("pod", format!("{} ({}){node}", pod.name, pod.uid)));
    }
    pairs.extend([
        ("session", who.session.id),
        ("groups", who.session.groups.join(", ")),
        ("roles", who.roles.join(", ")),
        ("expires", until(who.session.expires_at, now)),
        ("renewable until", until(who.session.max_expires_at, now)),
        ("token from", source),
    ]);
    context.output.show(&value, Presentation::Pairs(pairs))
}

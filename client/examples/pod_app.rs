//! An application in a pod: logs in as that pod, reads one secret over gRPC and follows it until SIGTERM. It holds no
//! credential of its own; what it prints are versions and lengths, never values.
//!
//! `STRONGROOM_ADDR=https://strongroom.strongroom.svc:7420 STRONGROOM_CACERT=ca.pem SECRET_PATH=secret/apps/shop/db pod_app`
//!
//! `deploy/examples/app` has the pod around it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example speaks on the terminal")]

use std::{
    env,
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use strongroom_client::{Client, KUBERNETES_TOKEN_FILE, Secret, SecretState, StreamExt};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        // The kubelet starts it again, with growing pauses: a server that is away is no reason for more code here.
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    // PID 1 gets no default handler: without this SIGTERM would do nothing, and the pod would take 30 s to end.
    let mut stop = signal(SignalKind::terminate())?;
    let path = variable("SECRET_PATH")?;
    let client = Client::builder(variable("STRONGROOM_ADDR")?)
        .ca_file(variable("STRONGROOM_CACERT")?)
        .kubernetes(env::var("STRONGROOM_CLUSTER").unwrap_or_else(|_| "main".into()))
        .kubernetes_token_file(env::var("TOKEN_FILE").unwrap_or_else(|_| KUBERNETES_TOKEN_FILE.into()))
        .connect()
        .await?;

    // The value now, then each change. Renewals of the session and restarts of the server stay behind the stream.
    let mut states = client.watch_secret(&path);
    loop {
        tokio::select! {
            state = states.next() => match state.transpose()? {
                Some(SecretState::Value(secret)) => say(&secret)?,
                // Here an application decides whether it goes on with the value that it has.
                Some(SecretState::Gone(why)) => eprintln!("{path}: {why}"),
                None => return Err("the watch has ended".into()),
            },
            _ = stop.recv() => break,
        }
    }
    client.auth().logout().await?;
    Ok(())
}

/// Here an application would open new connections with the new password, and let the old ones finish.
fn say(secret: &Secret) -> io::Result<()> {
    let lengths: Vec<_> =
        secret.values.iter().map(|(key, value)| format!("{key} {} bytes", value.len())).collect();
    println!("{} version {}: {}", secret.path, secret.version, lengths.join(", "));
    io::stdout().flush()
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set"))
}

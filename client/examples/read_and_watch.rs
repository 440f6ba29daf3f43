//! Reads a secret, then prints the number of each new version as it is written, and when there is none any more. The
//! password file holds the password and no line break.
//!
//! `STRONGROOM_ADDR=https://localhost:7420 STRONGROOM_CACERT=ca.pem STRONGROOM_USER=alice PASSWORD_FILE=password \
//!  cargo run -p strongroom-client --example read_and_watch -- secret/app/db`
#![allow(clippy::print_stdout, reason = "an example speaks on the terminal")]

use std::{env, error::Error, fs};

use strongroom_client::{Client, SecretBytes, SecretState, StreamExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("which secret? give its path")?;
    let password = SecretBytes::new(fs::read(env::var("PASSWORD_FILE")?)?);
    let client = Client::from_env()?.userpass(env::var("STRONGROOM_USER")?, password).connect().await?;

    let secret = client.get(&path).await?;
    for (key, value) in &secret.values {
        println!("{key}: {} bytes", value.len());
    }

    // The current version again, then each change; survives restarts of the server.
    let mut states = client.watch_secret(&path);
    while let Some(state) = states.next().await {
        match state? {
            SecretState::Value(secret) => println!("version {}", secret.version),
            SecretState::Gone(why) => println!("{why}"),
        }
    }
    Ok(())
}

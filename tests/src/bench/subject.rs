//! What is measured: a real server with a user, a role and secrets, and bare tonic channels to it and to the baseline.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use strongroom_proto::v1::{
    self, auth_client::AuthClient, policy_client::PolicyClient, secrets_client::SecretsClient,
    sys_client::SysClient,
};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::server::{Options, Server};

/// Size of the value in every secret of the benchmark.
pub const VALUE_BYTES: usize = 64;
/// Whoever measures.
const USER: &str = "bench";
/// Their password; a throw-away server on the loopback address.
const PASSWORD: &[u8] = b"benchmark password";
const POLICY: &str = "
kind: Role
name: bench
rules:
- paths: [\"secret/**\", \"transit/**\"]
  verbs: [\"*\"]
---
kind: Binding
name: bench
role: bench
subjects:
- user: {method: userpass, name: bench}
";

/// A server under measurement.
pub struct Subject {
    pub server: Server,
    /// Authorization of an ordinary user.
    pub token: MetadataValue<Ascii>,
    /// The root token of init.
    pub root: MetadataValue<Ascii>,
}

impl Subject {
    /// Starts, initialises (with a key file, so that it unseals by itself), and makes the user.
    ///
    /// # Errors
    /// Any step failed.
    pub async fn start(directory: &Path, options: &Options) -> io::Result<Subject> {
        let server = Server::start(directory, options)?;
        let channel = channel(&server.url, &server.ca()).await?;
        let seal = v1::SealConfig { kind: Some(v1::seal_config::Kind::File(v1::seal_config::File {})) };
        let made = SysClient::new(channel.clone()).init(v1::InitRequest { seal: Some(seal) }).await;
        let made = made.map_err(io::Error::other)?.into_inner();
        let root = bearer(&made.root_token.unwrap_or_default())?;

        let apply = v1::ApplyRequest { yaml: POLICY.to_owned(), ..Default::default() };
        let applied = PolicyClient::new(channel.clone()).apply(with(&root, apply)).await;
        applied.map_err(io::Error::other)?;
        put_user(&channel, &root, USER).await?;
        let token = login(&server).await?;
        Ok(Subject { server, token, root })
    }

    /// Bare channels to it.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn channels(&self, count: usize) -> io::Result<Vec<Channel>> {
        channels(&self.server.url, &self.server.ca(), count).await
    }

    /// Writes the secrets of that numbers under `folder`.
    ///
    /// # Errors
    /// A write failed.
    pub async fn fill(&self, folder: &str, numbers: std::ops::Range<u64>) -> io::Result<()> {
        const AT_ONCE: usize = 64;
        let channels = self.channels(4).await?;
        let mut tasks = tokio::task::JoinSet::new();
        let next = Arc::new(AtomicU64::new(numbers.start));
        for channel in channels.iter().flat_map(|channel| std::iter::repeat_n(channel, AT_ONCE)) {
            let mut client = SecretsClient::new(channel.clone());
            let (next, token, folder) = (Arc::clone(&next), self.token.clone(), folder.to_owned());
            let end = numbers.end;
            tasks.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        return Ok::<_, io::Error>(());
                    }
                    let put = put(&format!("{folder}/{number:07}"));
                    client.put(with(&token, put)).await.map_err(io::Error::other)?;
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// Makes a user, who has the benchmark's password.
///
/// # Errors
/// It was refused.
pub async fn put_user(channel: &Channel, token: &MetadataValue<Ascii>, name: &str) -> io::Result<()> {
    let password = Some(v1::Sensitive { value: PASSWORD.to_vec() });
    let user = v1::PutUserRequest { name: name.to_owned(), password, ..Default::default() };
    AuthClient::new(channel.clone()).put_user(with(token, user)).await.map(drop).map_err(io::Error::other)
}

/// An ordinary session of the benchmark's user.
///
/// # Errors
/// The login failed.
pub async fn login(server: &Server) -> io::Result<MetadataValue<Ascii>> {
    login_as(server, USER).await
}

/// A session of a user who was made by [`put_user`].
///
/// # Errors
/// The login failed.
pub async fn login_as(server: &Server, name: &str) -> io::Result<MetadataValue<Ascii>> {
    let channel = channel(&server.url, &server.ca()).await?;
    let password = Some(v1::Sensitive { value: PASSWORD.to_vec() });
    let given = v1::login_request::Userpass { name: name.to_owned(), password };
    let credential = Some(v1::login_request::Credential::Userpass(given));
    let answer =
        AuthClient::new(channel).login(v1::LoginRequest { credential }).await.map_err(io::Error::other)?;
    bearer(&answer.into_inner().token.unwrap_or_default())
}

/// A put of the benchmark's size.
pub fn put(path: &str) -> v1::PutRequest {
    let value = v1::Sensitive { value: vec![b'x'; VALUE_BYTES] };
    v1::PutRequest {
        path: path.to_owned(),
        data: BTreeMap::from([("value".to_owned(), value)]),
        ..Default::default()
    }
}

/// A request with a token.
pub fn with<M>(token: &MetadataValue<Ascii>, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", token.clone());
    request
}

/// `Bearer ...`
///
/// # Errors
/// Not text.
pub fn bearer(token: &v1::Sensitive) -> io::Result<MetadataValue<Ascii>> {
    let text = std::str::from_utf8(&token.value).map_err(io::Error::other)?;
    format!("Bearer {text}").parse().map_err(io::Error::other)
}

/// The baseline's process; killed when dropped.
pub struct EchoProcess {
    child: Child,
    url: String,
}

impl EchoProcess {
    /// Starts this very program as the baseline.
    ///
    /// # Errors
    /// It did not come up.
    pub fn start(pki: &Path) -> io::Result<EchoProcess> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("--echo").arg(pki).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        Ok(EchoProcess { child, url: format!("https://{}", line.trim()) })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bare channels to it.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn channels(&self, ca: &Path, count: usize) -> io::Result<Vec<Channel>> {
        channels(&self.url, ca, count).await
    }
}

impl Drop for EchoProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn channels(url: &str, ca: &Path, count: usize) -> io::Result<Vec<Channel>> {
    let mut channels = Vec::with_capacity(count);
    for _ in 0..count {
        channels.push(channel(url, ca).await?);
    }
    Ok(channels)
}

/// One bare TLS connection.
///
/// # Errors
/// It cannot be made.
pub async fn channel(url: &str, ca: &Path) -> io::Result<Channel> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(std::fs::read(ca)?));
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(io::Error::other)?;
    endpoint
        .tls_config(tls)
        .map_err(io::Error::other)?
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(io::Error::other)
}

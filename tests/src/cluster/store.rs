//! Strongroom in the cluster, installed from `deploy/` as an operator would, and the people and roles that tests need.

use std::{
    io,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use strongroom_client::{Builder, Client, SealKind, SecretBytes, TryStreamExt};
use strongroom_proto::v1::{self, auth_client::AuthClient};
use tempfile::TempDir;
use tonic::{
    Status,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};

use super::{
    Cluster,
    kubectl::{DEADLINE, is_ready},
    repository,
};
use crate::wait::found;

/// In the server's certificate.
const SERVER_NAME: &str = "strongroom.strongroom.svc";

/// Server and driver, ready.
pub struct Store {
    home: TempDir,
    address: String,
    root_token: SecretBytes,
}

impl Store {
    /// Applies `deploy/overlays/development` and opens the store.
    ///
    /// # Errors
    /// Any step failed.
    pub async fn install(cluster: &Cluster) -> io::Result<Store> {
        let home = tempfile::tempdir()?;
        certificate(cluster, &home.path().join("ca.pem"), "strongroom", "strongroom-csi")?;
        let kubectl = &cluster.kubectl;
        let overlay = repository().join("deploy/overlays/development").display().to_string();
        kubectl.ok(&["apply", "-k", &overlay])?;

        server_started(cluster, "strongroom")?;
        // It takes an init only from its own pod.
        let forward = kubectl.forward("strongroom", "pod/strongroom-0", 7420)?;
        let service = kubectl.get("strongroom", "service/strongroom")?;
        let service = service.pointer("/spec/clusterIP").and_then(Value::as_str).unwrap_or_default();
        let ca = home.path().join("ca.pem");
        let before = Client::builder(format!("https://localhost:{}", forward.port)).ca_file(&ca);
        let keys = before.connect().await.map_err(io::Error::other)?;
        let keys = keys.sys().init(SealKind::File).await.map_err(io::Error::other)?;
        let store = Store { home, address: format!("https://{service}:7420"), root_token: keys.root_token };
        store.until_ready(cluster)?;
        Ok(store)
    }

    /// Waits until the server is unsealed and the driver registered.
    ///
    /// # Errors
    /// Not in time.
    pub fn until_ready(&self, cluster: &Cluster) -> io::Result<()> {
        cluster.kubectl.until_ready("strongroom", "strongroom-0")?;
        // From a ready pod to a service that leads to it is a step of its own.
        let address = self.address.trim_start_matches("https://");
        found("the service leads to the server", DEADLINE, || TcpStream::connect(address).map(Some))?;
        driver_ready(cluster).map(drop)
    }

    /// A client through the service, as anybody in the cluster sees it.
    pub fn builder(&self) -> Builder {
        Client::builder(&self.address).ca_file(self.ca()).server_name(SERVER_NAME)
    }

    /// What clients trust.
    pub fn ca(&self) -> PathBuf {
        self.home.path().join("ca.pem")
    }

    /// With the root token.
    ///
    /// # Errors
    /// It cannot connect.
    pub async fn root(&self) -> io::Result<Client> {
        let token = SecretBytes::from(self.root_token.expose());
        self.builder().token(token).timeout(Duration::from_secs(30)).connect().await.map_err(io::Error::other)
    }

    /// Applies roles and bindings.
    ///
    /// # Errors
    /// They are refused.
    pub async fn policy(&self, yaml: &str) -> io::Result<()> {
        self.root().await?.policy().apply(yaml, Vec::new(), false).await.map(drop).map_err(io::Error::other)
    }

    /// Writes a secret.
    ///
    /// # Errors
    /// It is refused.
    pub async fn put(&self, path: &str, pairs: &[(&str, &str)]) -> io::Result<()> {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), SecretBytes::from(value.as_bytes())));
        self.root().await?.put(path).values(pairs).send().await.map(drop).map_err(io::Error::other)
    }

    /// The session that a service-account token gets, as a thief would ask for it: by the bare call.
    ///
    /// # Errors
    /// What the server answered.
    pub async fn log_in(&self, cluster: &str, token: &str) -> Result<Client, Status> {
        let unreachable = |error: &dyn std::error::Error| Status::unavailable(error.to_string());
        let ca = std::fs::read(self.ca()).map_err(|error| unreachable(&error))?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name(SERVER_NAME);
        let endpoint =
            Endpoint::from_shared(self.address.clone()).and_then(|endpoint| endpoint.tls_config(tls));
        let channel = endpoint.map_err(|error| unreachable(&error))?.connect().await;
        let channel = channel.map_err(|error| unreachable(&error))?;
        let token = Some(v1::Sensitive { value: token.as_bytes().to_vec() });
        let credential = v1::login_request::Kubernetes { cluster: cluster.to_owned(), token };
        let credential = Some(v1::login_request::Credential::Kubernetes(credential));
        let answer = AuthClient::new(channel).login(v1::LoginRequest { credential }).await?.into_inner();
        let token = answer.token.as_ref().map(|token| SecretBytes::from(token.value.as_slice()));
        let token = token.ok_or_else(|| Status::internal("no token in the answer"))?;
        let client = self.builder().token(token).renew_in_background(false).connect().await;
        client.map_err(|error| unreachable(&error))
    }

    /// The audit records that match.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn audit(&self, query: strongroom_client::AuditQuery) -> io::Result<Vec<Value>> {
        let lines = self.root().await?.audit().query(query).await.map_err(io::Error::other)?;
        let lines: Vec<String> = lines.try_collect().await.map_err(io::Error::other)?;
        lines.iter().map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect()
    }
}

/// The driver's pod on the node, once it is ready.
///
/// # Errors
/// Not in time.
pub fn driver_ready(cluster: &Cluster) -> io::Result<Value> {
    driver_ready_in(cluster, "strongroom-csi")
}

/// The same in a namespace that is not the usual one.
///
/// # Errors
/// Not in time.
pub fn driver_ready_in(cluster: &Cluster, namespace: &str) -> io::Result<Value> {
    found("the driver is ready", DEADLINE, || {
        let selector = "app.kubernetes.io/component=csi-driver";
        let text = cluster.kubectl.ok(&["-n", namespace, "get", "pods", "-l", selector, "-o", "json"])?;
        let list: Value = serde_json::from_str(&text).map_err(io::Error::other)?;
        let mut pods = list.get("items").and_then(Value::as_array).into_iter().flatten();
        let alive = |pod: &&Value| is_ready(pod) && pod.pointer("/metadata/deletionTimestamp").is_none();
        Ok(pods.find(alive).cloned())
    })
}

/// Waits until a server's container has started: sealed it is not ready, so its service does not lead to it yet.
///
/// # Errors
/// Not in time.
pub fn server_started(cluster: &Cluster, namespace: &str) -> io::Result<()> {
    found("the server answers", DEADLINE, || {
        let pod = cluster.kubectl.get(namespace, "pod/strongroom-0")?;
        let started = pod.pointer("/status/containerStatuses/0/started") == Some(&Value::Bool(true));
        Ok(started.then_some(()))
    })
}

/// The script that people use, with the cluster's own kubectl: namespaces for server and driver, and what both trust.
///
/// # Errors
/// It failed.
pub fn certificate(cluster: &Cluster, ca: &Path, server: &str, driver: &str) -> io::Result<()> {
    let mut folders: Vec<PathBuf> = cluster.kubectl.folder().map(PathBuf::from).into_iter().collect();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let path = std::env::join_paths(folders).map_err(io::Error::other)?;
    let output = Command::new(repository().join("deploy/overlays/development/certificate"))
        .arg(ca)
        .args([server, driver])
        .env("PATH", path)
        .env("KUBECONFIG", cluster.kubectl.kubeconfig())
        .env("HOME", cluster.kubectl.kubeconfig().with_file_name("home"))
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("the certificate: {}", String::from_utf8_lossy(&output.stderr))))
}

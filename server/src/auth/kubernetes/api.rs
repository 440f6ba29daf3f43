//! A cluster's API, as far as we need it: token reviews, public keys, and which pods and accounts there are. The only
//! place that knows `kube`.
//!
//! Answers are read here, within a limit, and not by kube's typed calls: those log an answer they cannot read, and the
//! answer to a review can repeat the token (that was CVE-2025-7445 elsewhere).

use std::{
    fs, io,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, BodyStream, Limited};
use kube::{Client, Config, client::Body};
use serde::{Deserialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use crate::{
    config::{ApiServer, Cluster},
    tls::is_about_a_certificate,
};

/// A whole call. An API server that needs longer is as good as down.
pub(super) const CALL: Duration = Duration::from_secs(5);
/// How long the API server keeps a watch open; then it is opened again where it ended, so a watch that says nothing is
/// known to live.
pub(super) const WATCH: Duration = Duration::from_secs(30);
/// Objects on one page of a list.
const PAGE: usize = 500;
/// Largest answer to a review: the token and what is said about it.
const REVIEW_BYTES: usize = 128 << 10;
/// Largest set of keys.
const KEYS_BYTES: usize = 256 << 10;
/// Largest page: 500 objects of 64 KiB metadata each; mostly it is 2 KiB.
const PAGE_BYTES: usize = 32 << 20;
/// Largest event of a watch: all metadata of an object may have 1.5 MiB in etcd.
const EVENT_BYTES: usize = 2 << 20;
/// Largest error that is looked at.
const OBJECT_BYTES: usize = 2 << 20;

/// What is asked of a cluster. A trait, so that tests can be a cluster.
#[async_trait]
pub(super) trait Api: Send + Sync {
    /// Asks whose token it is, if it is good for that audience.
    async fn review(&self, token: &str, audience: &str) -> Result<ReviewStatus, ApiError>;
    /// The public keys of its tokens, as they are published.
    async fn keys(&self) -> Result<Bytes, ApiError>;
    /// The uid of an object; `None` if there is none of that name.
    async fn uid_of(&self, what: Resource, namespace: &str, name: &str) -> Result<Option<String>, ApiError>;
    /// A page of all objects of a kind, from the newest state.
    async fn list(&self, what: Resource, from: Option<&str>) -> Result<Page, ApiError>;
    /// What happens to them after `version`.
    async fn watch(&self, what: Resource, version: &str) -> Result<Events, ApiError>;
}

/// Kinds of objects that a session depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Pods,
    Accounts,
}

/// What happens, until the API server ends it.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<Event, ApiError>> + Send>>;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Present {
        uid: String,
        version: String,
    },
    Gone {
        uid: String,
        version: String,
    },
    /// Nothing happened until here.
    Bookmark {
        version: String,
    },
}

/// A page of a list.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) uids: Vec<String>,
    pub(super) version: String,
    /// The token that asks for the next page.
    pub(super) more: Option<String>,
}

/// Why a cluster did not answer. Holds no text of the cluster's: it could hold a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApiError {
    #[error("the API server did not answer within {} s", CALL.as_secs())]
    TimedOut,
    #[error("the API server cannot be reached")]
    Unreachable,
    #[error(
        "the API server's certificate is not one that ca_file vouches for; check that it is this cluster's CA"
    )]
    Certificate,
    #[error("this server's own credential cannot be used: token_file {0}")]
    Credential(&'static str),
    #[error(
        "the API server refuses this server's own credential (401); check that token_file belongs to this cluster"
    )]
    Unauthorized,
    #[error("the API server does not allow it (403); docs/auth/kubernetes.md has the role this server needs")]
    Forbidden,
    #[error("the API server no longer has the events after the watch's position (410)")]
    Expired,
    #[error("the API server answered with status {0}")]
    Status(u16),
    #[error("the API server's answer is too large or malformed")]
    Malformed,
}

/// Why there is no way to a cluster at all. For the operator, at the start.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot read {file}: {cause}")]
    File { file: String, cause: io::Error },
    /// What is in it is of no use.
    #[error("{file} {problem}")]
    Content { file: String, problem: &'static str },
    /// The server does not run in a cluster.
    #[error(
        "api_server is not set, and KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not there: \
             expected to run in a pod, or api_server = \"https://HOST:PORT\""
    )]
    NotInCluster,
    /// What kube says about its settings; no token is in it.
    #[error("{0}")]
    Client(String),
}

/// `status` of a TokenReview (authentication.k8s.io/v1).
#[derive(Deserialize, Default)]
pub(super) struct ReviewStatus {
    #[serde(default)]
    pub(super) authenticated: bool,
    #[serde(default)]
    pub(super) user: ReviewUser,
    #[serde(default)]
    pub(super) audiences: Vec<String>,
    #[serde(default)]
    pub(super) error: String,
}

/// Who the API server says it is.
#[derive(Deserialize, Default)]
pub(super) struct ReviewUser {
    #[serde(default)]
    pub(super) username: String,
    #[serde(default)]
    pub(super) uid: String,
    #[serde(default)]
    pub(super) extra: std::collections::BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Review {
    status: ReviewStatus,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    uid: String,
    #[serde(default, rename = "resourceVersion")]
    version: String,
}

#[derive(Deserialize)]
struct List {
    metadata: ListMetadata,
    #[serde(default)]
    items: Vec<Object>,
}

#[derive(Deserialize)]
struct ListMetadata {
    #[serde(default, rename = "resourceVersion")]
    version: String,
    #[serde(default, rename = "continue")]
    more: String,
}

/// A line of a watch.
#[derive(Deserialize)]
struct Line {
    r#type: String,
    object: serde_json::Value,
}

impl Resource {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Accounts => "serviceaccounts",
        }
    }
}

/// A real cluster.
pub(super) struct KubeApi {
    client: Client,
    token_file: PathBuf,
}

/// What is wrong with the files that a cluster's section names; reads each of them.
pub(super) fn inspect(cluster: &Cluster) -> Vec<ConnectError> {
    let named = |file: &Path| file.display().to_string();
    let ca = match fs::read(&cluster.ca_file) {
        Err(cause) => Some(ConnectError::File { file: named(&cluster.ca_file), cause }),
        Ok(text) if !String::from_utf8_lossy(&text).contains("-----BEGIN CERTIFICATE-----") => {
            Some(ConnectError::Content {
                file: named(&cluster.ca_file),
                problem: "holds no certificate in PEM form",
            })
        }
        Ok(_) => None,
    };
    let token = match credential(&cluster.token_file) {
        Err(Unusable::Read(cause)) => Some(ConnectError::File { file: named(&cluster.token_file), cause }),
        Err(Unusable::Content(problem)) => {
            Some(ConnectError::Content { file: named(&cluster.token_file), problem })
        }
        Ok(_) => None,
    };
    ca.into_iter().chain(token).collect()
}

/// Why a token file is no credential.
enum Unusable {
    Read(io::Error),
    Content(&'static str),
}

/// The header that shows the token of the file, without what people and editors leave around it. Read at each call: the
/// kubelet replaces the file, and it is in its memory.
fn credential(file: &Path) -> Result<HeaderValue, Unusable> {
    let text = Zeroizing::new(fs::read_to_string(file).map_err(Unusable::Read)?);
    let token = text.trim();
    if token.is_empty() {
        return Err(Unusable::Content("is empty; expected a token"));
    }
    let header = HeaderValue::from_str(&Zeroizing::new(format!("Bearer {token}")));
    let mut header = header
        .ok()
        .filter(|_| !token.contains(char::is_whitespace))
        .ok_or(Unusable::Content("holds more than a token; expected one line"))?;
    header.set_sensitive(true);
    Ok(header)
}

impl KubeApi {
    /// Reads CA and token; connects with the first call.
    ///
    /// # Errors
    /// A file does not exist, or the address is not one.
    pub(super) fn connect(cluster: &Cluster) -> Result<Self, ConnectError> {
        if let Some(error) = inspect(cluster).into_iter().next() {
            return Err(error);
        }
        let mut config = Config::new(address(&cluster.api_server)?);
        config.root_cert_file = Some(cluster.ca_file.clone());
        // Without any list kube asks the system's trust store before it reads that file, and an image of only this server
        // has none. Trusted is what the file says, and nothing else.
        config.root_cert = Some(Vec::new());
        config.connect_timeout = Some(CALL);
        config.write_timeout = Some(CALL);
        // Whoever calls decides when to try again.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| ConnectError::Client(error.to_string()))?;
        Ok(Self { client, token_file: cluster.token_file.clone() })
    }

    async fn send(&self, mut request: Request<Body>) -> Result<http::Response<Body>, ApiError> {
        let credential = credential(&self.token_file).map_err(|unusable| match unusable {
            Unusable::Read(_) => ApiError::Credential("cannot be read"),
            Unusable::Content(problem) => ApiError::Credential(problem),
        })?;
        request.headers_mut().insert(header::AUTHORIZATION, credential);
        // kube's own message could quote what was sent.
        let answer = tokio::time::timeout(CALL, self.client.send(request)).await;
        let answer = answer.map_err(|_| ApiError::TimedOut)?.map_err(|error| unreached(&error))?;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            StatusCode::UNAUTHORIZED => Err(ApiError::Unauthorized),
            StatusCode::FORBIDDEN => Err(ApiError::Forbidden),
            StatusCode::GONE => Err(ApiError::Expired),
            status => Err(ApiError::Status(status.as_u16())),
        }
    }

    async fn read(&self, request: Request<Body>, limit: usize) -> Result<Bytes, ApiError> {
        let body = Limited::new(self.send(request).await?.into_body(), limit);
        let body = tokio::time::timeout(CALL, body.collect()).await.map_err(|_| ApiError::TimedOut)?;
        Ok(body.map_err(|_| ApiError::Malformed)?.to_bytes())
    }
}

#[async_trait]
impl Api for KubeApi {
    async fn review(&self, token: &str, audience: &str) -> Result<ReviewStatus, ApiError> {
        let review = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token, "audiences": [audience] },
        });
        let body = serde_json::to_vec(&review).map_err(|_| ApiError::Malformed)?;
        let request = request(Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews", JSON, body)?;
        Ok(parse::<Review>(&self.read(request, REVIEW_BYTES).await?)?.status)
    }

    async fn keys(&self) -> Result<Bytes, ApiError> {
        self.read(
            request(Method::GET, "/openid/v1/jwks", "application/jwk-set+json, application/json", vec![])?,
            KEYS_BYTES,
        )
        .await
    }

    async fn uid_of(&self, what: Resource, namespace: &str, name: &str) -> Result<Option<String>, ApiError> {
        let path = format!("/api/v1/namespaces/{namespace}/{}/{name}", what.as_str());
        match self.read(request(Method::GET, &path, ONE, vec![])?, OBJECT_BYTES).await {
            Ok(body) => Ok(Some(parse::<Object>(&body)?.metadata.uid)),
            Err(ApiError::Status(404)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, what: Resource, from: Option<&str>) -> Result<Page, ApiError> {
        let mut path = format!("/api/v1/{}?limit={PAGE}", what.as_str());
        if let Some(from) = from {
            path.push_str("&continue=");
            push_encoded(&mut path, from);
        }
        let list: List = parse(&self.read(request(Method::GET, &path, MANY, vec![])?, PAGE_BYTES).await?)?;
        Ok(Page {
            uids: list.items.into_iter().map(|object| object.metadata.uid).collect(),
            version: list.metadata.version,
            more: Some(list.metadata.more).filter(|more| !more.is_empty()),
        })
    }

    async fn watch(&self, what: Resource, version: &str) -> Result<Events, ApiError> {
        let mut path = format!(
            "/api/v1/{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion=",
            what.as_str(),
            WATCH.as_secs()
        );
        push_encoded(&mut path, version);
        let body = self.send(request(Method::GET, &path, ONE, vec![])?).await?.into_body();
        Ok(events(body))
    }
}

fn unreached(error: &(dyn std::error::Error + 'static)) -> ApiError {
    if is_about_a_certificate(error) { ApiError::Certificate } else { ApiError::Unreachable }
}

const JSON: &str = "application/json";
/// Only the metadata of an object: a pod's environment is nobody's business here.
const ONE: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const MANY: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

fn request(method: Method, path: &str, accept: &str, body: Vec<u8>) -> Result<Request<Body>, ApiError> {
    let request = Request::builder().method(method).uri(path).header(header::ACCEPT, accept);
    // A watch that is compressed piece by piece is not understood everywhere.
    let request = request.header(header::ACCEPT_ENCODING, "identity").header(header::CONTENT_TYPE, JSON);
    request.body(Body::from(body)).map_err(|_| ApiError::Malformed)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // serde's message would quote the body.
    serde_json::from_slice(body).map_err(|_| ApiError::Malformed)
}

/// Tokens of lists are base64, versions are opaque: everything but the plainest is escaped.
fn push_encoded(path: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => path.push(byte.into()),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
}

fn address(server: &ApiServer) -> Result<http::Uri, ConnectError> {
    let text = match server {
        ApiServer::At(text) => text.clone(),
        ApiServer::Own => {
            let given = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
            match (given("KUBERNETES_SERVICE_HOST"), given("KUBERNETES_SERVICE_PORT")) {
                (Some(host), Some(port)) if host.contains(':') => format!("https://[{host}]:{port}"),
                (Some(host), Some(port)) => format!("https://{host}:{port}"),
                _ => return Err(ConnectError::NotInCluster),
            }
        }
    };
    text.parse().map_err(|_| ConnectError::Client(format!("{text} is not an address")))
}

/// Lines of a watch. The first that cannot be read is the last.
fn events(body: Body) -> Events {
    let state = (BodyStream::new(body), Vec::new(), false);
    Box::pin(futures_util::stream::unfold(state, |(mut body, mut rest, over)| async move {
        if over {
            return None;
        }
        loop {
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let event = event(&line);
                let over = event.is_err();
                return Some((event, (body, rest, over)));
            }
            match body.next().await {
                Some(Ok(frame)) => rest.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Some(Err(_)) => return Some((Err(ApiError::Unreachable), (body, rest, true))),
                None => return None,
            }
            if rest.len() > EVENT_BYTES {
                return Some((Err(ApiError::Malformed), (body, rest, true)));
            }
        }
    }))
}

fn event(line: &[u8]) -> Result<Event, ApiError> {
    let line: Line = parse(line)?;
    if line.r#type == "ERROR" {
        let code = line.object.get("code").and_then(serde_json::Value::as_u64).unwrap_or(500);
        return Err(match code {
            410 => ApiError::Expired,
            403 => ApiError::Forbidden,
            code => ApiError::Status(code.try_into().unwrap_or(500)),
        });
    }
    let object: Object = serde_json::from_value(line.object).map_err(|_| ApiError::Malformed)?;
    let Metadata { uid, version } = object.metadata;
    match &*line.r#type {
        "ADDED" | "MODIFIED" => Ok(Event::Present { uid, version }),
        "DELETED" => Ok(Event::Gone { uid, version }),
        "BOOKMARK" => Ok(Event::Bookmark { version }),
        _ => Err(ApiError::Malformed),
    }
}

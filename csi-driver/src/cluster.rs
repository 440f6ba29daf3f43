//! The cluster's API server, as far as this driver needs it: it writes events. The only file that knows kube. The driver works
//! without it, and does not talk to it unless it is told to.

use std::{
    env,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use http::{Method, Request, StatusCode, Uri, header};
use kube::{Client, Config, client::Body};
use serde_json::{Value, json};
use strongroom_client::volume::DRIVER;
use tokio::time::timeout;

use crate::{
    limits,
    pod_events::{EventError, EventSink, PodEvent},
};

/// Where a pod finds its own token and the CA of its cluster.
const CREDENTIALS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why there is no way to the API server. For the operator, at the start.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(
        "events on pods are switched on, and KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not there: expected to run in a pod"
    )]
    NotInCluster,
    #[error("events on pods are switched on, and {0} cannot be read: deploy/components/pod-events mounts it")]
    Credential(PathBuf),
    #[error("events on pods are switched on, and the API server cannot be used: {0}")]
    Client(String),
}

/// Where the API server is, and how to be let in.
pub struct ApiServer {
    pub address: String,
    /// A file with the token of the driver's own service account. It is read again: the kubelet replaces it.
    pub token_file: PathBuf,
    pub ca_file: PathBuf,
}

impl ApiServer {
    /// That of the cluster that this pod is in.
    ///
    /// # Errors
    /// This is no pod, or its token is not mounted.
    pub fn of_this_pod() -> Result<Self, ClusterError> {
        let given = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(host), Some(port)) = (given("KUBERNETES_SERVICE_HOST"), given("KUBERNETES_SERVICE_PORT"))
        else {
            return Err(ClusterError::NotInCluster);
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let file = |name| Path::new(CREDENTIALS).join(name);
        Ok(Self {
            address: format!("https://{host}:{port}"),
            token_file: file("token"),
            ca_file: file("ca.crt"),
        })
    }
}

/// Writes events to a cluster.
pub struct Cluster {
    client: Client,
    /// The name of this node.
    node: String,
}

impl Cluster {
    /// Connects with the first event.
    ///
    /// # Errors
    /// A file cannot be read, or the address is none.
    pub fn connect(server: &ApiServer, node: &str) -> Result<Self, ClusterError> {
        for file in [&server.token_file, &server.ca_file] {
            std::fs::metadata(file).map_err(|_| ClusterError::Credential(file.clone()))?;
        }
        let client = |error: String| ClusterError::Client(error);
        let address: Uri = server.address.parse().map_err(|_| client("its address is none".to_owned()))?;
        let mut config = Config::new(address);
        config.root_cert_file = Some(server.ca_file.clone());
        // Without a list kube asks for the system's roots first, and the image has none.
        config.root_cert = Some(Vec::new());
        config.auth_info.token_file = Some(server.token_file.display().to_string());
        (config.connect_timeout, config.write_timeout) = (Some(limits::EVENT), Some(limits::EVENT));
        config.default_retry = false;
        let kube = Client::try_from(config).map_err(|error| client(error.to_string()))?;
        Ok(Self { client: kube, node: node.to_owned() })
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: &Value) -> Result<(), EventError> {
        let body = serde_json::to_vec(body).map_err(|_| EventError::Malformed)?;
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, kind);
        let request = request.body(Body::from(body)).map_err(|_| EventError::Malformed)?;
        // What the API server answers, and what kube says of that, is not told on: it could quote the token.
        let answer = timeout(limits::EVENT, self.client.send(request)).await;
        match answer.map_err(|_| EventError::Unreachable)?.map_err(|_| EventError::Unreachable)?.status() {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND => Err(EventError::Gone),
            status => Err(EventError::Refused(status.as_u16())),
        }
    }
}

#[async_trait]
impl EventSink for Cluster {
    async fn create(&self, event: &PodEvent) -> Result<(), EventError> {
        let PodEvent { pod, name, what, message, count, first, last } = event;
        let body = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": name, "namespace": pod.namespace },
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid,
            },
            "type": what.severity(),
            "reason": what.reason(),
            "message": message,
            "count": count,
            "firstTimestamp": format!("{first:.0}"),
            "lastTimestamp": format!("{last:.0}"),
            "source": { "component": DRIVER, "host": self.node },
            "reportingComponent": DRIVER,
            "reportingInstance": self.node,
        });
        let path = format!("/api/v1/namespaces/{}/events", pod.namespace);
        self.send(Method::POST, &path, "application/json", &body).await
    }

    async fn repeat(&self, event: &PodEvent) -> Result<(), EventError> {
        let PodEvent { pod, name, count, last, .. } = event;
        let body = json!({ "count": count, "lastTimestamp": format!("{last:.0}") });
        let path = format!("/api/v1/namespaces/{}/events/{name}", pod.namespace);
        self.send(Method::PATCH, &path, "application/merge-patch+json", &body).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{
        Router,
        body::Bytes,
        extract::State,
        http::{HeaderMap, Method, StatusCode, Uri},
    };
    use jiff::Timestamp;
    use tokio::net::TcpListener;

    use super::*;
    use crate::pod_events::{What, tests::pod};

    /// Method and place, the token, and what was sent.
    type Call = (String, String, Value);

    /// What an API server was asked, and what it answers.
    #[derive(Clone, Default)]
    struct Asked(Arc<Mutex<(Vec<Call>, Option<StatusCode>)>>);

    async fn answer(
        State(asked): State<Asked>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> StatusCode {
        let mut asked = asked.0.lock().unwrap();
        let token = headers["authorization"].to_str().unwrap().to_owned();
        asked.0.push((format!("{method} {uri}"), token, serde_json::from_slice(&body).unwrap()));
        asked.1.unwrap_or(StatusCode::CREATED)
    }

    fn event() -> PodEvent {
        let (first, last) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
        let message = "the pod keeps its last content: no".to_owned();
        PodEvent {
            pod: pod("web-1"),
            name: "web-1.1f".into(),
            what: What::Denied,
            message,
            count: 2,
            first,
            last,
        }
    }

    #[tokio::test]
    async fn events_are_written_as_the_api_server_takes_them() {
        let asked = Asked::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(asked.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let home = tempfile::tempdir().unwrap();
        let (token_file, ca_file) = (home.path().join("token"), home.path().join("ca.crt"));
        std::fs::write(&token_file, "of-the-driver").unwrap();
        let server = ApiServer { address, token_file, ca_file };
        let missing = Cluster::connect(&server, "node-1").err().unwrap().to_string();
        assert!(missing.contains("ca.crt cannot be read"), "{missing}");
        let ca = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&server.ca_file, ca.cert.pem()).unwrap();
        let cluster = Cluster::connect(&server, "node-1").unwrap();

        cluster.create(&event()).await.unwrap();
        cluster.repeat(&event()).await.unwrap();
        let told = asked.0.lock().unwrap().0.clone();
        let [(created, token, body), (patched, _, change)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(created, "POST /api/v1/namespaces/payments/events");
        assert_eq!(token, "Bearer of-the-driver");
        assert_eq!(body["involvedObject"]["uid"], "uid-of-web-1");
        assert_eq!((&body["type"], &body["reason"]), (&json!("Warning"), &json!("SecretsDenied")));
        assert_eq!(body["source"], json!({ "component": "csi.strongroom.dev", "host": "node-1" }));
        assert_eq!(body["firstTimestamp"], "1970-01-01T00:00:00Z");
        assert_eq!(patched, "PATCH /api/v1/namespaces/payments/events/web-1.1f");
        assert_eq!(change, &json!({ "count": 2, "lastTimestamp": "1970-01-01T00:01:00Z" }));

        for (status, error) in [
            (StatusCode::NOT_FOUND, EventError::Gone),
            (StatusCode::FORBIDDEN, EventError::Refused(403)),
            (StatusCode::TOO_MANY_REQUESTS, EventError::Refused(429)),
        ] {
            asked.0.lock().unwrap().1 = Some(status);
            assert_eq!(cluster.repeat(&event()).await, Err(error));
        }
    }
}

//! The HTTP side: routes, and watches as streams of lines.
#![expect(clippy::indexing_slicing, reason = "of JSON values that are made here: what is not there is null")]

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode, body::Frame, body::Incoming, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use super::{
    CREDENTIAL, Shared, State,
    objects::{ACCOUNTS, PODS},
    tokens,
};
use crate::pki::Pki;

type Body = BoxBody<Bytes, Infallible>;

pub(super) fn acceptor(pki: &Pki) -> io::Result<TlsAcceptor> {
    let chain = CertificateDer::from_pem_file(&pki.certificate).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(&pki.key).map_err(io::Error::other)?;
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![chain], key);
    Ok(TlsAcceptor::from(Arc::new(config.map_err(io::Error::other)?)))
}

/// Until it is aborted.
pub(super) async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let mut changes = shared.changes.subscribe();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                if shared.state().mood.down {
                    continue;
                }
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let answer = service_fn(move |request| answer(Arc::clone(&shared), request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
            Ok(()) = changes.changed() => if shared.state().mood.down {
                connections.abort_all();
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let slow = shared.state().mood.slow;
    if slow > Duration::ZERO {
        tokio::time::sleep(slow).await;
    }
    let known = format!("Bearer {CREDENTIAL}");
    if request.headers().get("authorization").is_none_or(|given| given.as_bytes() != known.as_bytes()) {
        return Ok(failure(StatusCode::UNAUTHORIZED));
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let query = request.uri().query().unwrap_or_default().to_owned();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    Ok(match (&method, parts.as_slice()) {
        (&Method::POST, ["apis", "authentication.k8s.io", "v1", "tokenreviews"]) => {
            let body = Limited::new(request.into_body(), 1 << 20).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            review(&mut shared.state(), &body)
        }
        (&Method::GET, ["openid", "v1", "jwks"]) => {
            let mut state = shared.state();
            state.counts.keys += 1;
            let keys: Vec<Value> = state.keys().map(|key| key.jwk()).collect();
            json_answer(StatusCode::OK, &json!({ "keys": keys }))
        }
        (&Method::GET, ["api", "v1", ..]) if shared.state().mood.forbid_watch => {
            failure(StatusCode::FORBIDDEN)
        }
        (&Method::GET, ["api", "v1", kind @ (PODS | ACCOUNTS)]) => {
            let kind = if *kind == PODS { PODS } else { ACCOUNTS };
            match parameter(&query, "watch") {
                Some("true") => watch(shared, kind, &query),
                _ => list(&mut shared.state(), kind, &query),
            }
        }
        (&Method::GET, ["api", "v1", "namespaces", namespace, kind @ (PODS | ACCOUNTS), name]) => {
            let mut state = shared.state();
            state.counts.gets += 1;
            match state.objects.get(kind, namespace, name) {
                Some(object) => json_answer(StatusCode::OK, &object),
                None => failure(StatusCode::NOT_FOUND),
            }
        }
        _ => failure(StatusCode::NOT_FOUND),
    })
}

/// As `pkg/registry/authentication/tokenreview` and the authenticator of service accounts do it.
fn review(state: &mut State, body: &[u8]) -> Response<Body> {
    state.counts.reviews += 1;
    if state.mood.forbid_review {
        return failure(StatusCode::FORBIDDEN);
    }
    let Ok(mut review) = serde_json::from_slice::<Value>(body) else {
        return failure(StatusCode::BAD_REQUEST);
    };
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    let asked: Vec<&str> =
        review["spec"]["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let status = match &state.lie {
        Some(lie) => lie.clone(),
        None => judge(state, token, &asked).unwrap_or_else(
            || json!({ "user": {}, "error": "[invalid bearer token, token is not accepted]" }),
        ),
    };
    review["status"] = status;
    // It repeats what it was asked, token and all.
    json_answer(StatusCode::CREATED, &review)
}

fn judge(state: &State, token: &str, asked: &[&str]) -> Option<Value> {
    let claims = tokens::verify(token, state.keys().map(|key| &**key))?;
    let own: Vec<&str> = match &claims["aud"] {
        Value::String(one) => vec![one],
        many => many.as_array()?.iter().filter_map(Value::as_str).collect(),
    };
    let both: Vec<&str> = asked.iter().copied().filter(|audience| own.contains(audience)).collect();
    if both.is_empty() {
        return None;
    }
    let private = &claims["kubernetes.io"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let namespace = text(&private["namespace"])?;
    let account = &private["serviceaccount"];
    let (name, uid) = (text(&account["name"])?, text(&account["uid"])?);
    if state.objects.uid_of(ACCOUNTS, &namespace, &name)? != uid {
        return None;
    }
    let mut extra = json!({});
    if private["pod"].is_object() {
        let (pod, pod_uid) = (text(&private["pod"]["name"])?, text(&private["pod"]["uid"])?);
        if state.objects.uid_of(PODS, &namespace, &pod)? != pod_uid {
            return None;
        }
        extra["authentication.kubernetes.io/pod-name"] = json!([pod]);
        extra["authentication.kubernetes.io/pod-uid"] = json!([pod_uid]);
    }
    if let Some(node) = private["node"]["name"].as_str() {
        extra["authentication.kubernetes.io/node-name"] = json!([node]);
        extra["authentication.kubernetes.io/node-uid"] =
            private["node"]["uid"].as_str().into_iter().collect();
    }
    Some(json!({
        "authenticated": true,
        "audiences": both,
        "user": {
            "username": format!("system:serviceaccount:{namespace}:{name}"),
            "uid": uid,
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
            "extra": extra,
        },
    }))
}

fn list(state: &mut State, kind: &str, query: &str) -> Response<Body> {
    let number = |name| parameter(query, name).and_then(|text| text.parse().ok());
    let after = number("continue").unwrap_or(0);
    if after == 0 {
        state.counts.lists += 1;
    }
    json_answer(StatusCode::OK, &state.objects.list(kind, number("limit").unwrap_or(usize::MAX), after))
}

fn watch(shared: Arc<Shared>, kind: &'static str, query: &str) -> Response<Body> {
    let number = |name| parameter(query, name).and_then(|text| text.parse::<u64>().ok());
    let version = number("resourceVersion").unwrap_or(0);
    let ends = tokio::time::Instant::now() + Duration::from_secs(number("timeoutSeconds").unwrap_or(300));
    shared.state().counts.watches += 1;
    let lines = lines(shared, kind, version, ends).map(|line| Ok(Frame::data(Bytes::from(line))));
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(lines)));
    response
        .headers_mut()
        .insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    response
}

/// Events as they happen, a bookmark at the end.
fn lines(
    shared: Arc<Shared>,
    kind: &'static str,
    version: u64,
    ends: tokio::time::Instant,
) -> impl Stream<Item = String> + Send + Sync {
    let changes = shared.changes.subscribe();
    let state = (shared, changes, version, false);
    stream::unfold(state, move |(shared, mut changes, version, over)| async move {
        if over {
            return None;
        }
        loop {
            changes.mark_unchanged();
            let news = shared.state().objects.events(kind, version);
            let Some((news, reached)) = news else {
                let gone = json!({ "type": "ERROR", "object": { "kind": "Status", "code": 410, "reason": "Expired" } });
                return Some((format!("{gone}\n"), (shared, changes, version, true)));
            };
            if !news.is_empty() {
                let text: String = news.iter().map(|event| format!("{event}\n")).collect();
                return Some((text, (shared, changes, reached, false)));
            }
            if tokio::time::timeout_at(ends, changes.changed()).await.is_err() {
                let version = shared.state().objects.version();
                let bookmark = json!({
                    "type": "BOOKMARK",
                    "object": { "kind": "PartialObjectMetadata", "metadata": { "resourceVersion": version.to_string() } },
                });
                return Some((format!("{bookmark}\n"), (shared, changes, version, true)));
            }
        }
    })
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn failure(code: StatusCode) -> Response<Body> {
    json_answer(
        code,
        &json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16() }),
    )
}

fn json_answer(code: StatusCode, value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string())).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    response
}

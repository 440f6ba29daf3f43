//! Answers to a token review that have to be refused.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{AUDIENCE, Cast, Forgery, HOUR};
use crate::fake_kubernetes::{FakeKubernetes, ISSUER};

/// What a truthful API server says.
pub(super) fn truth(cast: &Cast) -> Value {
    json!({
        "authenticated": true,
        "audiences": [AUDIENCE],
        "user": {
            "username": "system:serviceaccount:shop:web",
            "uid": cast.pod.account_uid,
            "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/pod-name": [cast.other.name],
                "authentication.kubernetes.io/pod-uid": [cast.other.uid],
            },
        },
    })
}

/// All of them. Each with a token of its own, because answers are remembered.
pub(super) fn all(kubernetes: &FakeKubernetes, cast: &Cast) -> Vec<Forgery> {
    let extra = |name: &str| format!("/user/extra/authentication.kubernetes.io~1{name}");
    let (pod_name, pod_uid, node) = (extra("pod-name"), extra("pod-uid"), extra("node-name"));
    let changes: Vec<(&str, Vec<Value>)> = vec![
        ("", vec![json!(null), json!([]), json!("authenticated"), json!(true), json!({})]),
        ("/authenticated", vec![json!(false), json!(null), json!("true"), json!(1), json!([true])]),
        (
            "/audiences",
            vec![
                json!([]),
                json!(null),
                json!(["vault"]),
                json!(AUDIENCE),
                json!(["Strongroom"]),
                json!(["strongroom "]),
                json!([""]),
                json!([["strongroom"]]),
                json!({ "0": "strongroom" }),
                json!(["strongroom/vault"]),
                json!([ISSUER]),
            ],
        ),
        ("/error", vec![json!("token has been invalidated"), json!(" "), json!({})]),
        ("/user", vec![json!(null), json!({}), json!("system:serviceaccount:shop:web"), json!([])]),
        (
            "/user/username",
            vec![
                json!(""),
                json!("alice"),
                json!("system:admin"),
                json!("system:node:node-1"),
                json!("system:anonymous"),
                json!("system:serviceaccount:shop"),
                json!("system:serviceaccount:shop:"),
                json!("system:serviceaccount::web"),
                json!("system:serviceaccount:shop:web:more"),
                json!("System:serviceaccount:shop:web"),
                json!("system:serviceaccounts:shop:web"),
                json!(" system:serviceaccount:shop:web"),
                json!("system:serviceaccount:shop:web\n"),
                json!("oidc:system:serviceaccount:shop:web"),
                json!("system:serviceaccount:*:web"),
                json!("system:serviceaccount:shop:../web"),
                json!("system:serviceaccount:shop/x:web"),
                json!("system:serviceaccount:SHOP:web"),
                json!(null),
                json!(["system:serviceaccount:shop:web"]),
            ],
        ),
        (
            "/user/uid",
            vec![json!(""), json!(null), json!("a/b"), json!("*"), json!(7), json!("u".repeat(65))],
        ),
        ("/user/extra", vec![json!([]), json!("x"), json!(7)]),
        (
            &pod_name,
            vec![
                json!([]),
                json!(["a", "b"]),
                json!([""]),
                json!(["../web"]),
                json!(null),
                json!(["*"]),
                json!("web-1"),
            ],
        ),
        (&pod_uid, vec![json!([]), json!(["a", "b"]), json!([""]), json!(["a/b"]), json!(null), json!([7])]),
        (&node, vec![json!([]), json!(["a", "b"]), json!(["a/b"]), json!([""])]),
    ];
    let mut rows = Vec::new();
    for (place, values) in changes {
        for value in values {
            let mut lie = truth(cast);
            let what =
                format!("a review whose {} is {value}", if place.is_empty() { "status" } else { place });
            put(&mut lie, place, value);
            // Nobody could tell these tokens from good ones.
            let jti = format!("review-{}", rows.len());
            let text = kubernetes.token_text(&cast.other, AUDIENCE, HOUR).with(&["jti"], jti.into());
            rows.push(Forgery { what, token: text.sign(&kubernetes.signing_key()), lie: Some(lie) });
        }
    }
    rows
}

/// Whether it is not of the types of `TokenReviewStatus` (authentication.k8s.io/v1), so that no client could read it.
pub(super) fn is_no_answer(lie: &Value) -> bool {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    #[allow(dead_code, reason = "read for their types")]
    struct Status {
        authenticated: bool,
        audiences: Vec<String>,
        error: String,
        user: User,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    #[allow(dead_code, reason = "read for their types")]
    struct User {
        username: String,
        uid: String,
        extra: std::collections::BTreeMap<String, Vec<String>>,
    }
    Status::deserialize(lie).is_err()
}

/// Puts a value at a JSON pointer, where there may be nothing yet.
fn put(whole: &mut Value, place: &str, value: Value) {
    if let Some(there) = whole.pointer_mut(place) {
        *there = value;
    } else if let Some((folder, name)) = place.rsplit_once('/')
        && let Some(folder) = whole.pointer_mut(folder).and_then(Value::as_object_mut)
    {
        folder.insert(name.replace("~1", "/"), value);
    }
}

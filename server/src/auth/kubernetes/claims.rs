//! A service-account token as text: header, claims, signature (RFC 7515, compact). Nothing here is believed; `local.rs`
//! checks the signature and then the claims, and a refusal may use them for a hint to whoever sent them.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use super::identity::{Claimed, Identity};

/// Most audiences of a token.
const AUDIENCES: usize = 32;

/// A token, taken apart.
pub(super) struct Jwt<'a> {
    pub(super) header: Header,
    pub(super) claims: Claims,
    /// What is signed.
    pub(super) message: &'a [u8],
    pub(super) signature: Vec<u8>,
}

/// What a header may say. `jku`, `jwk`, `x5u` and `x5c` are not read: a token does not choose the key it is judged by.
#[derive(Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: String,
    /// Extensions that must be understood (RFC 7515, 4.1.11). We understand none.
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// What a token says. Times are whole seconds, as the API server writes them; anything else is not its.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) sub: String,
    pub(super) aud: Audiences,
    pub(super) exp: i64,
    pub(super) nbf: i64,
    pub(super) iat: i64,
    #[serde(rename = "kubernetes.io")]
    private: Private,
}

/// One, or a list (RFC 7519, 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audiences {
    One(String),
    Many(Vec<String>),
}

/// See KEP-1205 and KEP-4193. What else is in there is not for us.
#[derive(Deserialize)]
struct Private {
    namespace: String,
    serviceaccount: Object,
    pod: Option<Object>,
    node: Option<Node>,
}

#[derive(Deserialize)]
struct Object {
    name: String,
    uid: String,
}

/// Its uid is not always there.
#[derive(Deserialize)]
struct Node {
    name: String,
}

impl<'a> Jwt<'a> {
    /// `None`: it is not a token of any cluster.
    pub(super) fn parse(token: &'a str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).ok();
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).ok()?;
        if header.crit.is_some() || claims.aud.len() > AUDIENCES {
            return None;
        }
        Some(Self { header, claims, message: message.as_bytes(), signature: decode(signature)? })
    }
}

impl Claims {
    /// Reads whose token it claims to be; `None` if it contradicts itself.
    pub(super) fn identity(&self) -> Option<Identity> {
        let Private { namespace, serviceaccount, pod, node } = &self.private;
        let identity = Identity::parse(&Claimed {
            namespace,
            account: (&serviceaccount.name, &serviceaccount.uid),
            pod: pod.as_ref().map(|pod| (&*pod.name, &*pod.uid)),
            node: node.as_ref().map(|node| &*node.name),
        })?;
        (self.sub == identity.subject()).then_some(identity)
    }
}

impl Audiences {
    /// Byte for byte: neither case nor spaces nor a prefix are forgiven (CVE-2024-5798).
    pub(super) fn contain(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(many) => many.len(),
        }
    }
}

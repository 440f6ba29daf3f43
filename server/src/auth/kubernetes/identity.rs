//! Whose token it is, parsed: the names become segments of principals, values of policy templates and parts of URLs, so
//! only names that Kubernetes itself would take get through, whoever vouches for them.

use crate::{
    crypto::sha256,
    model::{Pod, Principal},
};

/// RFC 1123 label and subdomain, as Kubernetes has them.
const LABEL_BYTES: usize = 63;
/// See [`LABEL_BYTES`].
const SUBDOMAIN_BYTES: usize = 253;
/// A uid is a UUID of 36 characters; nothing relies on that.
const UID_BYTES: usize = 64;

/// A service account, in the person of one of its pods where the token is bound to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) namespace: Box<str>,
    pub(super) account: Named,
    pub(super) pod: Option<Named>,
    pub(super) node: Option<Box<str>>,
}

/// A name and who had it at the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: Box<str>,
    pub(super) uid: Box<str>,
}

/// A uid as it is remembered: half a hash, so that every one takes 16 bytes and none can be chosen to collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Uid([u8; 16]);

/// What a cluster says without having it checked.
#[derive(Default)]
pub(super) struct Claimed<'a> {
    pub(super) namespace: &'a str,
    pub(super) account: (&'a str, &'a str),
    pub(super) pod: Option<(&'a str, &'a str)>,
    pub(super) node: Option<&'a str>,
}

impl Uid {
    pub(super) fn of(text: &str) -> Self {
        let mut uid = [0; 16];
        uid.iter_mut().zip(sha256(text.as_bytes())).for_each(|(to, from)| *to = from);
        Self(uid)
    }
}

impl Identity {
    /// `None`: a name that Kubernetes would not take.
    pub(super) fn parse(claimed: &Claimed<'_>) -> Option<Self> {
        let named = |(name, uid): (&str, &str)| {
            (is_subdomain(name) && is_uid(uid)).then(|| Named { name: name.into(), uid: uid.into() })
        };
        let pod = match claimed.pod {
            Some(pod) => Some(named(pod)?),
            None => None,
        };
        let node = match claimed.node {
            Some(node) if is_subdomain(node) => Some(node.into()),
            Some(_) => return None,
            None => None,
        };
        let account = named(claimed.account)?;
        is_label(claimed.namespace).then(|| Self { namespace: claimed.namespace.into(), account, pod, node })
    }

    /// The name of a service account as Kubernetes writes it.
    pub(super) fn subject(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.account.name)
    }

    pub(super) fn principal(&self, cluster: &str) -> Principal {
        let pod = self.pod.as_ref().map(|pod| Pod {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            node: self.node.clone(),
        });
        Principal::ServiceAccount {
            cluster: cluster.into(),
            namespace: self.namespace.clone(),
            name: self.account.name.clone(),
            uid: self.account.uid.clone(),
            pod,
        }
    }
}

/// `system:serviceaccount:NAMESPACE:NAME`
pub(super) fn parse_subject(text: &str) -> Option<(&str, &str)> {
    let (namespace, name) = text.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (is_label(namespace) && is_subdomain(name)).then_some((namespace, name))
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LABEL_BYTES).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    // A part may be longer than a label here: Kubernetes does not mind either.
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= SUBDOMAIN_BYTES && text.split('.').all(part)
}

fn is_uid(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=UID_BYTES).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed<'a>() -> Claimed<'a> {
        Claimed {
            namespace: "payments",
            account: ("web.v2", "a-1"),
            pod: Some(("web-0", "p-1")),
            node: Some("node-1.example"),
        }
    }

    #[test]
    fn an_identity_is_a_principal() {
        let identity = Identity::parse(&claimed()).unwrap();
        assert_eq!(identity.principal("main").to_string(), "kubernetes/main/payments/web.v2");
        assert_eq!(identity.subject(), "system:serviceaccount:payments:web.v2");
        assert_eq!(parse_subject(&identity.subject()), Some(("payments", "web.v2")));
    }

    #[test]
    fn names_that_kubernetes_would_not_take_are_refused() {
        for name in [
            "",
            "A",
            "a/b",
            "a..b",
            ".",
            "..",
            "*",
            "**",
            "{{namespace}}",
            "-a",
            "a-",
            "a b",
            "a\n",
            "ä",
            "a_b",
        ] {
            assert!(Identity::parse(&Claimed { namespace: name, ..claimed() }).is_none(), "{name:?}");
            assert!(Identity::parse(&Claimed { account: (name, "u"), ..claimed() }).is_none(), "{name:?}");
            assert!(Identity::parse(&Claimed { pod: Some((name, "u")), ..claimed() }).is_none(), "{name:?}");
            assert!(Identity::parse(&Claimed { node: Some(name), ..claimed() }).is_none(), "{name:?}");
        }
        for uid in ["", "a/b", "a b", "*"] {
            assert!(Identity::parse(&Claimed { account: ("web", uid), ..claimed() }).is_none(), "{uid:?}");
            assert!(Identity::parse(&Claimed { pod: Some(("web", uid)), ..claimed() }).is_none(), "{uid:?}");
        }
        assert!(
            Identity::parse(&Claimed { namespace: "a.b", ..claimed() }).is_none(),
            "a namespace is a label"
        );
        let long = "a".repeat(254);
        assert!(Identity::parse(&Claimed { account: (&long, "u"), ..claimed() }).is_none());
    }

    #[test]
    fn a_subject_has_two_names() {
        for text in [
            "",
            "alice",
            "system:serviceaccount:a",
            "system:serviceaccount:a:b:c",
            "system:serviceaccount::b",
            "System:serviceaccount:a:b",
            "system:serviceaccount:a:",
            "system:node:a",
            " system:serviceaccount:a:b",
        ] {
            assert_eq!(parse_subject(text), None, "{text:?}");
        }
    }
}

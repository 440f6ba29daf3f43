//! Who somebody is, once a token or a login has proved it.

use std::fmt;

use super::Invalid;

/// Who a session belongs to. The text form (`userpass/alice`, `kubernetes/main/payments/web`, `root`) is what people and
/// the audit log see; the uid makes sure that one re-created under the same name is someone else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// The root token of init.
    Root,
    /// Somebody known to an auth method by name.
    User {
        /// Name of the auth method: `userpass`.
        method: Box<str>,
        /// Name within the method.
        name: Box<str>,
        /// Changes when the user is re-created.
        uid: Box<str>,
        /// Groups the method vouches for.
        groups: Vec<Group>,
    },
    /// A Kubernetes service account, in the person of one of its pods.
    ServiceAccount {
        /// Name of the configured cluster.
        cluster: Box<str>,
        namespace: Box<str>,
        name: Box<str>,
        uid: Box<str>,
        /// The pod the token is bound to.
        pod: Option<Pod>,
    },
}

/// A group, named by the method that vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    /// Name of the auth method.
    pub method: Box<str>,
    /// Name of the group.
    pub name: Box<str>,
}

/// The pod behind a service-account token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    pub name: Box<str>,
    pub uid: Box<str>,
    /// The node it runs on, where the cluster tells.
    pub node: Option<Box<str>>,
}

impl Principal {
    /// Somebody of that name, for questions about them: uids are not known and match nothing.
    ///
    /// # Errors
    /// Not the text form of a principal, or of a group.
    pub fn named(text: &str, groups: &[String]) -> Result<Self, Invalid> {
        let parts: Vec<&str> = text.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(not_a_principal(text));
        }
        match parts.as_slice() {
            ["root"] => Ok(Self::Root),
            ["kubernetes", cluster, namespace, name] => Ok(Self::ServiceAccount {
                cluster: (*cluster).into(),
                namespace: (*namespace).into(),
                name: (*name).into(),
                uid: "".into(),
                pod: None,
            }),
            [method, name] if *method != "kubernetes" => Ok(Self::User {
                method: (*method).into(),
                name: (*name).into(),
                uid: "".into(),
                groups: groups.iter().map(|text| Group::named(text)).collect::<Result<_, _>>()?,
            }),
            _ => Err(not_a_principal(text)),
        }
    }

    /// Name of the method that proved it: `root`, `userpass`, `kubernetes`.
    pub fn method(&self) -> &str {
        match self {
            Principal::Root => "root",
            Principal::User { method, .. } => method,
            Principal::ServiceAccount { .. } => "kubernetes",
        }
    }

    /// The pod behind it.
    pub fn pod(&self) -> Option<&Pod> {
        match self {
            Principal::ServiceAccount { pod, .. } => pod.as_ref(),
            Principal::Root | Principal::User { .. } => None,
        }
    }

    /// Whether it is the same person or the same pod, in whatever groups and whoever vouched for it when.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Principal::User { method, name, uid, .. },
                Principal::User { method: m, name: n, uid: u, .. },
            ) => (method, name, uid) == (m, n, u),
            (
                Principal::ServiceAccount { uid, pod, .. },
                Principal::ServiceAccount { uid: u, pod: p, .. },
            ) => uid == u && pod.as_ref().map(|pod| &pod.uid) == p.as_ref().map(|pod| &pod.uid),
            _ => self == other,
        }
    }

    /// Groups it is in.
    pub fn groups(&self) -> &[Group] {
        match self {
            Principal::User { groups, .. } => groups,
            Principal::Root | Principal::ServiceAccount { .. } => &[],
        }
    }
}

fn not_a_principal(text: &str) -> Invalid {
    let shown: String = text.chars().take(64).collect();
    let problem =
        format!("is {shown:?}; expected root, userpass/NAME or kubernetes/CLUSTER/NAMESPACE/ACCOUNT");
    Invalid::new("principal", problem)
}

impl Group {
    fn named(text: &str) -> Result<Self, Invalid> {
        match text.split_once('/') {
            Some((method, name)) if !method.is_empty() && !name.is_empty() => {
                Ok(Self { method: method.into(), name: name.into() })
            }
            _ => Err(Invalid::new("groups", "has an item that is not METHOD/NAME")),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::Root => f.write_str("root"),
            Principal::User { method, name, .. } => write!(f, "{method}/{name}"),
            Principal::ServiceAccount { cluster, namespace, name, .. } => {
                write!(f, "kubernetes/{cluster}/{namespace}/{name}")
            }
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.method, self.name)
    }
}

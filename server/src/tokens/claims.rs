//! What a token says, as a protobuf message, and the typed session it becomes. Knows nothing of encryption or text.

use std::{sync::Arc, time::Duration};

use prost::Message;

use crate::model::{Group, Pod, Principal, SessionId, Timestamp};

/// Somebody who proved who they are, for a while. Groups and pod are those of the moment of the login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Names it in the audit log and to revoke it; stays the same when it is renewed.
    pub id: SessionId,
    pub principal: Arc<Principal>,
    /// When the login began; stays the same when it is renewed, so that a revocation reaches renewed tokens as well.
    pub issued: Timestamp,
    /// Not valid from here on.
    pub expires: Timestamp,
    /// No renewal goes past this; equal to `expires` if there can be none.
    pub max_expires: Timestamp,
    /// How much a renewal extends it.
    pub ttl: Duration,
}

impl Session {
    /// Name of the auth method it was proved by.
    pub fn method(&self) -> &str {
        self.principal.method()
    }

    /// The sealed part of a token.
    pub(crate) fn encode(&self) -> Vec<u8> {
        Claims::from(self).encode_to_vec()
    }

    /// Reads the sealed part of a token. A field that this version does not know makes it unreadable: it may be a
    /// restriction, and ignoring one would give more than was granted.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let claims = Claims::decode(bytes).ok()?;
        if claims.encoded_len() != bytes.len() {
            return None;
        }
        let session = Self {
            id: SessionId(claims.id.try_into().ok()?),
            principal: Arc::new(claims.who?.into()),
            issued: Timestamp::from_millis(claims.issued_ms),
            expires: Timestamp::from_millis(claims.expires_ms),
            max_expires: Timestamp::from_millis(claims.max_expires_ms),
            ttl: Duration::from_millis(claims.ttl_ms),
        };
        (session.issued <= session.expires && session.expires <= session.max_expires).then_some(session)
    }
}

/// A tag is given once and never used again.
#[derive(Clone, PartialEq, prost::Message)]
struct Claims {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(int64, tag = "2")]
    issued_ms: i64,
    #[prost(int64, tag = "3")]
    expires_ms: i64,
    #[prost(int64, tag = "4")]
    max_expires_ms: i64,
    #[prost(uint64, tag = "5")]
    ttl_ms: u64,
    #[prost(oneof = "Who", tags = "6, 7, 8")]
    who: Option<Who>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Who {
    #[prost(message, tag = "6")]
    Root(RootClaims),
    #[prost(message, tag = "7")]
    User(UserClaims),
    #[prost(message, tag = "8")]
    ServiceAccount(ServiceAccountClaims),
}

#[derive(Clone, PartialEq, prost::Message)]
struct RootClaims {}

#[derive(Clone, PartialEq, prost::Message)]
struct UserClaims {
    #[prost(string, tag = "1")]
    method: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    uid: String,
    #[prost(message, repeated, tag = "4")]
    groups: Vec<GroupClaims>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GroupClaims {
    #[prost(string, tag = "1")]
    method: String,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ServiceAccountClaims {
    #[prost(string, tag = "1")]
    cluster: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    uid: String,
    #[prost(message, optional, tag = "5")]
    pod: Option<PodClaims>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodClaims {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, optional, tag = "3")]
    node: Option<String>,
}

impl From<&Session> for Claims {
    fn from(session: &Session) -> Self {
        Self {
            id: session.id.0.to_vec(),
            issued_ms: session.issued.as_millis(),
            expires_ms: session.expires.as_millis(),
            max_expires_ms: session.max_expires.as_millis(),
            ttl_ms: u64::try_from(session.ttl.as_millis()).unwrap_or(u64::MAX),
            who: Some(Who::from(&*session.principal)),
        }
    }
}

impl From<&Principal> for Who {
    fn from(principal: &Principal) -> Self {
        match principal {
            Principal::Root => Who::Root(RootClaims {}),
            Principal::User { method, name, uid, groups } => Who::User(UserClaims {
                method: method.to_string(),
                name: name.to_string(),
                uid: uid.to_string(),
                groups: groups.iter().map(GroupClaims::from).collect(),
            }),
            Principal::ServiceAccount { cluster, namespace, name, uid, pod } => {
                Who::ServiceAccount(ServiceAccountClaims {
                    cluster: cluster.to_string(),
                    namespace: namespace.to_string(),
                    name: name.to_string(),
                    uid: uid.to_string(),
                    pod: pod.as_ref().map(PodClaims::from),
                })
            }
        }
    }
}

impl From<Who> for Principal {
    fn from(who: Who) -> Self {
        match who {
            Who::Root(RootClaims {}) => Principal::Root,
            Who::User(user) => Principal::User {
                method: user.method.into(),
                name: user.name.into(),
                uid: user.uid.into(),
                groups: user.groups.into_iter().map(Group::from).collect(),
            },
            Who::ServiceAccount(account) => Principal::ServiceAccount {
                cluster: account.cluster.into(),
                namespace: account.namespace.into(),
                name: account.name.into(),
                uid: account.uid.into(),
                pod: account.pod.map(Pod::from),
            },
        }
    }
}

impl From<&Group> for GroupClaims {
    fn from(group: &Group) -> Self {
        Self { method: group.method.to_string(), name: group.name.to_string() }
    }
}

impl From<GroupClaims> for Group {
    fn from(group: GroupClaims) -> Self {
        Self { method: group.method.into(), name: group.name.into() }
    }
}

impl From<&Pod> for PodClaims {
    fn from(pod: &Pod) -> Self {
        Self {
            name: pod.name.to_string(),
            uid: pod.uid.to_string(),
            node: pod.node.as_ref().map(|node| node.to_string()),
        }
    }
}

impl From<PodClaims> for Pod {
    fn from(pod: PodClaims) -> Self {
        Self { name: pod.name.into(), uid: pod.uid.into(), node: pod.node.map(Into::into) }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn session(principal: Principal) -> Session {
        Session {
            id: SessionId([7; 16]),
            principal: Arc::new(principal),
            issued: Timestamp::from_millis(1_000),
            expires: Timestamp::from_millis(2_000),
            max_expires: Timestamp::from_millis(3_000),
            ttl: Duration::from_secs(1),
        }
    }

    prop_compose! {
        fn group()(method: String, name: String) -> Group {
            Group { method: method.into(), name: name.into() }
        }
    }

    prop_compose! {
        fn pod()(name: String, uid: String, node: Option<String>) -> Pod {
            Pod { name: name.into(), uid: uid.into(), node: node.map(Into::into) }
        }
    }

    fn principal() -> impl Strategy<Value = Principal> {
        let user = (any::<[String; 3]>(), prop::collection::vec(group(), 0..4)).prop_map(
            |([method, name, uid], groups)| Principal::User {
                method: method.into(),
                name: name.into(),
                uid: uid.into(),
                groups,
            },
        );
        let account = (any::<[String; 4]>(), prop::option::of(pod())).prop_map(
            |([cluster, namespace, name, uid], pod)| Principal::ServiceAccount {
                cluster: cluster.into(),
                namespace: namespace.into(),
                name: name.into(),
                uid: uid.into(),
                pod,
            },
        );
        prop_oneof![Just(Principal::Root), user, account]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(principal in principal()) {
            let session = session(principal);
            prop_assert_eq!(Session::decode(&session.encode()), Some(session));
        }

        #[test]
        fn anything_else_is_refused_in_peace(bytes: Vec<u8>) {
            let _ = Session::decode(&bytes);
        }
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let mut bytes = session(Principal::Root).encode();
        assert!(Session::decode(&bytes).is_some());
        bytes.extend([0x78, 0x01]); // field 15, varint 1
        assert_eq!(Session::decode(&bytes), None);
    }

    #[test]
    fn times_out_of_order_are_refused() {
        let good = session(Principal::Root);
        let late = Timestamp::from_millis(9_000);
        assert_eq!(Session::decode(&Session { issued: late, ..good.clone() }.encode()), None);
        assert_eq!(Session::decode(&Session { expires: late, ..good }.encode()), None);
    }

    #[test]
    fn a_token_of_nobody_is_refused() {
        let mut claims = Claims::from(&session(Principal::Root));
        claims.who = None;
        assert_eq!(Session::decode(&claims.encode_to_vec()), None);
    }
}

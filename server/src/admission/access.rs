//! Who may call what: one row per RPC, which `Visit` keeps. An RPC without a row is refused, and a test that walks the
//! descriptors turns red.
//! What the caller then needs in terms of verbs and paths stands in `core/request.rs`, beside the actions, or with the
//! engine, which has its rows from its service.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use strongroom_proto::limits as wire;

use super::quotas::Asks;
use crate::{
    engines::{Answers, KINDS},
    limits,
};

/// What a caller must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing. Only what cannot have one: status, init, unseal, login, unwrap, health, reflection.
    None,
    /// A session token.
    Token,
}

/// How important it is when not everything can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Always answered.
    Vital,
    /// A stream for anybody: few at once, so that strangers cannot crowd out those who are known.
    Public,
    /// Takes one of the in-flight slots for as long as it runs.
    Unary,
    /// Takes one of the stream slots; lives as long as the caller wants. While it begins, it takes an in-flight slot too.
    Stream,
    /// Takes one of a few slots of its own: a server that is too busy can still be sealed.
    Urgent,
}

#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// As in the audit log and in metrics. A wire has its own address for it.
    pub name: &'static str,
    /// See [`Credential`].
    pub credential: Credential,
    /// Whether it answers while there are no keys.
    pub while_sealed: bool,
    pub class: Class,
    /// Whether it leaves records in the audit log.
    pub audited: bool,
    /// Its largest message.
    pub message: usize,
}

/// A way in. Each row has one at most, by what its caller shows and whether it leaves records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// To the pipeline.
    Session,
    /// To what strangers may do: log in, init, unseal.
    Stranger,
    /// To nothing that does anything: what leaves no record may only look at what anybody may know.
    Idle,
}

macro_rules! table {
    ($($service:literal {
        $($method:literal $credential:ident $sealed:ident $class:ident $audited:ident $message:ident;)*
    })*) => {
        &[$($(Access {
            name: concat!($service, ".", $method),
            credential: Credential::$credential,
            while_sealed: is!($sealed),
            class: Class::$class,
            audited: is!($audited),
            message: is!($message),
        },)*)*]
    };
}

macro_rules! is {
    (sealed_too) => {
        true
    };
    (unsealed) => {
        false
    };
    (audited) => {
        true
    };
    (silent) => {
        false
    };
    (small) => {
        limits::SMALL_REQUEST_BYTES
    };
    (large) => {
        wire::REQUEST_BYTES
    };
}

/// Every RPC there is: the engines' and the server's own.
pub static TABLE: LazyLock<Vec<Access>> = LazyLock::new(|| engines().chain(OWN.iter().copied()).collect());

/// Nothing an engine does is for strangers, or possible without keys, or left out of the log.
fn engines() -> impl Iterator<Item = Access> {
    let rpcs = KINDS.iter().flat_map(|kind| kind.service.rpcs);
    rpcs.map(|rpc| Access {
        name: rpc.name,
        credential: Credential::Token,
        while_sealed: false,
        class: match rpc.answers {
            Answers::One => Class::Unary,
            Answers::Many => Class::Stream,
        },
        audited: true,
        message: rpc.request_bytes,
    })
}

const OWN: &[Access] = table! {
    "Auth" {
        "Login"          None  unsealed Unary  audited small;
        "Renew"          Token unsealed Unary  audited small;
        "Whoami"         Token unsealed Unary  audited small;
        "Logout"         Token unsealed Unary  audited small;
        "ChangePassword" Token unsealed Unary  audited small;
        "RevokeSessions" Token unsealed Unary  audited small;
        "PutUser"        Token unsealed Unary  audited small;
        "DeleteUser"     Token unsealed Unary  audited small;
        "ListUsers"      Token unsealed Unary  audited small;
    }
    "Policy" {
        "Apply"          Token unsealed Unary  audited large;
        "Export"         Token unsealed Unary  audited small;
        "CanI"           Token unsealed Unary  audited small;
        "WhoCan"         Token unsealed Unary  audited small;
    }
    "Sys" {
        "Status"         None  sealed_too Vital silent small;
        "Init"           None  sealed_too Vital audited small;
        "Unseal"         None  sealed_too Vital audited small;
        "GenerateRoot"   None  unsealed Vital  audited small;
        "Seal"           Token unsealed Urgent audited small;
        "Rotate"         Token unsealed Unary  audited small;
        "Rekey"          Token unsealed Unary  audited small;
        "ConfirmRekey"   Token unsealed Unary  audited small;
        "Scrub"          Token unsealed Stream audited small;
        "Mount"          Token unsealed Unary  audited small;
        "Unmount"        Token unsealed Unary  audited small;
        "Tune"           Token unsealed Unary  audited small;
        "ListMounts"     Token unsealed Unary  audited small;
    }
    "Audit" {
        "Tail"           Token unsealed Stream audited small;
        "Query"          Token unsealed Stream audited small;
        "Hash"           Token unsealed Unary  audited large;
    }
    "Leases" {
        "Issue"          Token unsealed Unary  audited small;
        "List"           Token unsealed Unary  audited small;
        "Renew"          Token unsealed Unary  audited small;
        "Revoke"         Token unsealed Unary  audited small;
        "Forget"         Token unsealed Unary  audited small;
    }
    "Wrapping" {
        "Wrap"           Token unsealed Unary  audited small;
        "Unwrap"         None  unsealed Unary  audited small;
    }
    "grpc.health.v1.Health" {
        "Check"          None  sealed_too Vital silent small;
        "Watch"          None  sealed_too Public silent small;
        "List"           None  sealed_too Vital silent small;
    }
    "grpc.reflection.v1.ServerReflection" {
        "ServerReflectionInfo" None sealed_too Public silent small;
    }
};

impl Access {
    pub(super) fn admits(&self, door: Door) -> bool {
        match door {
            Door::Session => self.credential == Credential::Token && self.audited,
            Door::Stranger => self.credential == Credential::None && self.audited,
            Door::Idle => self.credential == Credential::None && !self.audited,
        }
    }

    /// What its caller's quota is asked for, where `is_write` says whether it changes anything.
    pub(super) fn asks(&self, is_write: bool) -> Asks {
        match self.name.split_once('.') {
            Some(("Audit", "Hash")) => Asks::Hash,
            Some(("Sys" | "Policy" | "Audit", _)) => Asks::Admin,
            Some(("Auth", "PutUser" | "DeleteUser" | "ListUsers" | "RevokeSessions")) => Asks::Admin,
            _ if is_write => Asks::Write,
            _ => Asks::Read,
        }
    }

    /// How long it may take, where the caller asked for so much and nobody gets more than `longest`. None: as long as the
    /// caller wants.
    pub(super) fn deadline(&self, asked: Option<Duration>, longest: Duration) -> Option<Duration> {
        match self.class {
            Class::Stream | Class::Public => None,
            Class::Unary | Class::Vital | Class::Urgent => Some(asked.unwrap_or(longest).min(longest)),
        }
    }
}

/// The row of an RPC, by its name.
pub fn row(name: &str) -> Option<&'static Access> {
    static BY_NAME: LazyLock<HashMap<&'static str, &'static Access>> =
        LazyLock::new(|| TABLE.iter().map(|access| (access.name, access)).collect());
    BY_NAME.get(name).copied()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// Just enough of google/protobuf/descriptor.proto to name every method.
    #[derive(Clone, PartialEq, Message)]
    struct FileSet {
        #[prost(message, repeated, tag = "1")]
        files: Vec<File>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct File {
        #[prost(string, tag = "2")]
        package: String,
        #[prost(message, repeated, tag = "6")]
        services: Vec<Service>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Service {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, repeated, tag = "2")]
        methods: Vec<Method>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Method {
        #[prost(string, tag = "1")]
        name: String,
    }

    #[test]
    fn every_rpc_has_its_row() {
        let set = FileSet::decode(strongroom_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut known = 0;
        for file in &set.files {
            for service in &file.services {
                for method in &service.methods {
                    assert_eq!(file.package, "strongroom.v1");
                    let name = format!("{}.{}", service.name, method.name);
                    assert!(row(&name).is_some(), "{name} has no row in admission/access.rs");
                    known += 1;
                }
            }
        }
        let ours = TABLE.iter().filter(|access| !access.name.starts_with("grpc.")).count();
        assert_eq!(ours, known, "a row without an RPC");
    }

    #[test]
    fn only_six_of_ours_need_no_token() {
        let open: Vec<_> = TABLE
            .iter()
            .filter(|access| access.credential == Credential::None && !access.name.starts_with("grpc."))
            .map(|access| access.name)
            .collect();
        assert_eq!(
            open,
            ["Auth.Login", "Sys.Status", "Sys.Init", "Sys.Unseal", "Sys.GenerateRoot", "Wrapping.Unwrap"]
        );
    }

    #[test]
    fn every_row_has_one_door_and_no_name_stands_twice() {
        for access in TABLE.iter() {
            let doors = [Door::Session, Door::Stranger, Door::Idle];
            assert_eq!(doors.into_iter().filter(|door| access.admits(*door)).count(), 1, "{access:?}");
            let rows = TABLE.iter().filter(|other| other.name == access.name).count();
            assert_eq!(rows, 1, "{}", access.name);
        }
    }

    #[test]
    fn nobody_gets_more_time_than_we_give() {
        let (longest, more) = (Duration::from_secs(30), Some(Duration::from_secs(99 * 3600)));
        let deadline = |name: &str, asked| row(name).unwrap().deadline(asked, longest);
        let little = Some(Duration::from_millis(1));
        assert_eq!(deadline("Secrets.Get", more), Some(longest));
        assert_eq!(deadline("Secrets.Get", None), Some(longest));
        assert_eq!(deadline("Sys.Seal", little), little);
        assert_eq!(deadline("Secrets.Watch", little), None);
    }
}

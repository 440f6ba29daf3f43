//! Who may call what: one row per RPC. An RPC without a row is refused, and a test that walks the descriptors turns red.
//! What the caller then needs in terms of verbs and paths stands in `core/request.rs`, beside the actions, or with the
//! engine, which has its rows from its service.

use std::{collections::HashMap, sync::LazyLock};

use crate::engines::{Answers, KINDS};

/// What a caller must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing. Only what cannot have one: status, init, unseal, login, health, reflection.
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
    /// Takes one of the stream slots; lives as long as the caller wants.
    Stream,
}

#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// As on the wire.
    pub rpc: &'static str,
    /// As in the audit log and in metrics.
    pub name: &'static str,
    /// See [`Credential`].
    pub credential: Credential,
    /// Whether it answers while there are no keys.
    pub while_sealed: bool,
    pub class: Class,
    /// Whether it leaves records in the audit log.
    pub audited: bool,
}

macro_rules! table {
    ($($service:literal { $($method:literal $credential:ident $sealed:ident $class:ident $audited:ident;)* })*) => {
        &[$($(Access {
            rpc: concat!("/", $service, "/", $method),
            name: name(concat!($service, ".", $method)),
            credential: Credential::$credential,
            while_sealed: is!($sealed),
            class: Class::$class,
            audited: is!($audited),
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
}

/// Without our package's name.
const fn name(full: &'static str) -> &'static str {
    const PACKAGE: &[u8] = b"strongroom.v1.";
    let (mut rest, mut package) = (full.as_bytes(), PACKAGE);
    while let ([a, tail @ ..], [b, package_tail @ ..]) = (rest, package) {
        if *a != *b {
            return full;
        }
        (rest, package) = (tail, package_tail);
    }
    match std::str::from_utf8(rest) {
        Ok(short) => short,
        Err(_) => full,
    }
}

/// Every RPC there is: the engines' and the server's own.
pub static TABLE: LazyLock<Vec<Access>> = LazyLock::new(|| engines().chain(OWN.iter().copied()).collect());

/// Nothing an engine does is for strangers, or possible without keys, or left out of the log.
fn engines() -> impl Iterator<Item = Access> {
    let rpcs = KINDS.iter().flat_map(|kind| kind.service.rpcs);
    rpcs.map(|rpc| Access {
        rpc: rpc.path,
        name: rpc.name,
        credential: Credential::Token,
        while_sealed: false,
        class: match rpc.answers {
            Answers::One => Class::Unary,
            Answers::Many => Class::Stream,
        },
        audited: true,
    })
}

const OWN: &[Access] = table! {
    "strongroom.v1.Auth" {
        "Login"          None  unsealed Unary  audited;
        "Renew"          Token unsealed Unary  audited;
        "Whoami"         Token unsealed Unary  audited;
        "Logout"         Token unsealed Unary  audited;
        "RevokeSessions" Token unsealed Unary  audited;
        "PutUser"        Token unsealed Unary  audited;
        "DeleteUser"     Token unsealed Unary  audited;
        "ListUsers"      Token unsealed Unary  audited;
    }
    "strongroom.v1.Policy" {
        "Apply"          Token unsealed Unary  audited;
        "Export"         Token unsealed Unary  audited;
        "CanI"           Token unsealed Unary  audited;
        "WhoCan"         Token unsealed Unary  audited;
    }
    "strongroom.v1.Sys" {
        "Status"         None  sealed_too Vital silent;
        "Init"           None  sealed_too Vital audited;
        "Unseal"         None  sealed_too Vital audited;
        "Seal"           Token unsealed Vital  audited;
        "Rotate"         Token unsealed Unary  audited;
        "Rekey"          Token unsealed Unary  audited;
        "ConfirmRekey"   Token unsealed Unary  audited;
        "Scrub"          Token unsealed Stream audited;
        "Mount"          Token unsealed Unary  audited;
        "Unmount"        Token unsealed Unary  audited;
        "Tune"           Token unsealed Unary  audited;
        "ListMounts"     Token unsealed Unary  audited;
    }
    "strongroom.v1.Audit" {
        "Tail"           Token unsealed Stream audited;
        "Query"          Token unsealed Stream audited;
        "Hash"           Token unsealed Unary  audited;
    }
    "grpc.health.v1.Health" {
        "Check"          None  sealed_too Vital silent;
        "Watch"          None  sealed_too Public silent;
        "List"           None  sealed_too Vital silent;
    }
    "grpc.reflection.v1.ServerReflection" {
        "ServerReflectionInfo" None sealed_too Public silent;
    }
};

/// The row of an RPC.
pub fn row(rpc: &str) -> Option<&'static Access> {
    static BY_RPC: LazyLock<HashMap<&'static str, &'static Access>> =
        LazyLock::new(|| TABLE.iter().map(|access| (access.rpc, access)).collect());
    BY_RPC.get(rpc).copied()
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
                    let rpc = format!("/{}.{}/{}", file.package, service.name, method.name);
                    assert!(row(&rpc).is_some(), "{rpc} has no row in api/access.rs");
                    known += 1;
                }
            }
        }
        let ours = TABLE.iter().filter(|access| access.rpc.starts_with("/strongroom.")).count();
        assert_eq!(ours, known, "a row without an RPC");
    }

    #[test]
    fn only_four_of_ours_need_no_token() {
        let open: Vec<_> = TABLE
            .iter()
            .filter(|access| access.credential == Credential::None && access.rpc.starts_with("/strongroom."))
            .map(|access| access.name)
            .collect();
        assert_eq!(open, ["Auth.Login", "Sys.Status", "Sys.Init", "Sys.Unseal"]);
    }

    #[test]
    fn names_are_short() {
        assert_eq!(row("/strongroom.v1.Secrets/Get").unwrap().name, "Secrets.Get");
        assert_eq!(row("/grpc.health.v1.Health/Check").unwrap().name, "grpc.health.v1.Health.Check");
    }
}

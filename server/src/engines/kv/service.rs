//! The service Secrets: from messages to operations and from outputs to messages. No decisions; what cannot be parsed names
//! its field.

use std::{collections::BTreeMap, time::Duration};

use bytes::BufMut;
use prost::{EncodeError, Message};
use strongroom_proto::{
    limits::{self, REQUEST_BYTES},
    v1::{self, patch_request, watch_response},
};

use super::{Change, ChangeKind, Operation, Output, SecretMetadata, VersionMetadata};
use crate::{
    engines::{Asked, Reply, Service, at, service},
    limits::{PATHS_REQUEST_BYTES, SMALL_REQUEST_BYTES},
    model::{Invalid, KeyName, Path, SecretBytes, Timestamp},
};

pub(super) const SERVICE: Service = service! { "Secrets";
    "Put"            One REQUEST_BYTES put;
    "Patch"          One REQUEST_BYTES patch;
    "Get"            One SMALL_REQUEST_BYTES |asked: v1::GetRequest| at(&asked.path, Operation::Get { version: asked.version });
    "List"           One SMALL_REQUEST_BYTES list;
    "ListRecursive"  Many SMALL_REQUEST_BYTES |asked: v1::ListRecursiveRequest| at(&asked.path, Operation::ListRecursive);
    "Watch"          Many PATHS_REQUEST_BYTES watch;
    "Delete"         One SMALL_REQUEST_BYTES |asked: v1::DeleteRequest| at(&asked.path, Operation::Delete { versions: asked.versions });
    "Undelete"       One SMALL_REQUEST_BYTES |asked: v1::UndeleteRequest| at(&asked.path, Operation::Undelete { versions: asked.versions });
    "Destroy"        One SMALL_REQUEST_BYTES destroy;
    "GetMetadata"    One SMALL_REQUEST_BYTES |asked: v1::GetMetadataRequest| at(&asked.path, Operation::GetMetadata);
    "UpdateMetadata" One SMALL_REQUEST_BYTES update_metadata;
};

fn put(message: v1::PutRequest) -> Asked {
    let mut data = BTreeMap::new();
    for (key, value) in message.data {
        data.insert(key_name("data", &key)?, SecretBytes::from(value));
    }
    let operation = Operation::Put {
        data,
        expected_version: message.expected_version,
        ttl: ttl(message.ttl_seconds)?,
        operation_id: operation_id(message.operation_id)?,
    };
    at(&message.path, operation)
}

fn patch(message: v1::PatchRequest) -> Asked {
    use patch_request::change::Change::{Remove, Set};
    let mut changes = BTreeMap::new();
    for (key, change) in message.changes {
        let name = key_name("changes", &key)?;
        let change = match change.change {
            Some(Set(value)) => Some(SecretBytes::from(value)),
            Some(Remove(true)) => None,
            Some(Remove(false)) | None => {
                return Err(Invalid::new(
                    format!("changes[{key:?}]"),
                    "says nothing; expected set, or remove: true",
                ));
            }
        };
        changes.insert(name, change);
    }
    let operation = Operation::Patch {
        changes,
        expected_version: message.expected_version,
        ttl: ttl(message.ttl_seconds)?,
        operation_id: operation_id(message.operation_id)?,
    };
    at(&message.path, operation)
}

fn list(message: v1::ListRequest) -> Asked {
    let page_size = message.page_size.unwrap_or(limits::PAGE_SIZE);
    if page_size == 0 || page_size > limits::PAGE_SIZE {
        return Err(Invalid::new(
            "page_size",
            format!("is {page_size}; expected 1 to {}", limits::PAGE_SIZE),
        ));
    }
    let page_token = Some(message.page_token).filter(|token| !token.is_empty());
    at(&message.path, Operation::List { page_size, page_token })
}

fn watch(message: v1::WatchRequest) -> Asked {
    let count = message.paths.len();
    if count == 0 || count > limits::WATCH_PATHS {
        return Err(Invalid::new("paths", format!("has {count}; expected 1 to {}", limits::WATCH_PATHS)));
    }
    let paths: Vec<Path> = message
        .paths
        .iter()
        .enumerate()
        .map(|(index, path)| Path::parse_field(&format!("paths[{index}]"), path))
        .collect::<Result<_, _>>()?;
    if let Some(stranger) =
        paths.iter().find(|path| paths.first().is_some_and(|first| first.mount() != path.mount()))
    {
        return Err(Invalid::new(
            "paths",
            format!("{stranger} is in another mount; expected one mount per watch"),
        ));
    }
    Ok((paths, Box::new(Operation::Watch)))
}

fn destroy(message: v1::DestroyRequest) -> Asked {
    at(&message.path, Operation::Destroy { versions: message.versions, all: message.all })
}

fn update_metadata(message: v1::UpdateMetadataRequest) -> Asked {
    let custom = message.custom.map(|custom| custom.pairs);
    let (max_versions, cas_required) = (message.max_versions, message.cas_required);
    at(&message.path, Operation::UpdateMetadata { custom, max_versions, cas_required })
}

fn key_name(field: &str, key: &str) -> Result<KeyName, Invalid> {
    KeyName::parse(key).map_err(|error| {
        let shown: String = key.chars().take(64).collect();
        Invalid::new(format!("{field}[{shown:?}]"), error.to_string())
    })
}

fn ttl(seconds: Option<u64>) -> Result<Option<Duration>, Invalid> {
    match seconds {
        Some(given) if given == 0 || given > limits::TTL_SECONDS => {
            Err(Invalid::new("ttl_seconds", format!("is {given}; expected 1 to {}", limits::TTL_SECONDS)))
        }
        given => Ok(given.map(Duration::from_secs)),
    }
}

fn operation_id(id: String) -> Result<Option<Box<str>>, Invalid> {
    match id.len() {
        0 => Ok(None),
        long if long > limits::OPERATION_ID_BYTES => {
            let problem = format!("has {long} bytes; at most {} are allowed", limits::OPERATION_ID_BYTES);
            Err(Invalid::new("operation_id", problem))
        }
        _ => Ok(Some(id.into())),
    }
}

impl Reply for Output {
    fn bytes(&self) -> usize {
        match self {
            Self::Secret { data, .. } => data.values().map(SecretBytes::len).sum(),
            _ => 0,
        }
    }

    fn version(&self) -> Option<u64> {
        match self {
            Self::Written { version, .. } => Some(*version),
            Self::Secret { metadata, .. } => Some(metadata.version),
            Self::Metadata(secret) => Some(secret.current_version),
            _ => None,
        }
    }

    fn write(self: Box<Self>, mut into: &mut dyn BufMut) -> Result<(), EncodeError> {
        match *self {
            Self::Written { version, metadata } => {
                v1::PutResponse { version, metadata: Some(about(metadata)) }.encode(&mut into)
            }
            Self::Secret { data, metadata, custom } => {
                let data = data.into_iter().map(|(key, value)| (key.as_str().to_owned(), value.into()));
                let (version, metadata) = (metadata.version, Some(about_version(&metadata)));
                v1::GetResponse { data: data.collect(), version, metadata, custom }.encode(&mut into)
            }
            Self::Page { names, next } => {
                let names = names.into_iter().map(Into::into).collect();
                v1::ListResponse { names, next_page_token: next.unwrap_or_default() }.encode(&mut into)
            }
            Self::Metadata(metadata) => about(metadata).encode(&mut into),
            Self::Destroyed => v1::DestroyResponse {}.encode(&mut into),
        }
    }
}

/// A page of a recursive list.
impl Reply for Vec<Path> {
    fn write(self: Box<Self>, mut into: &mut dyn BufMut) -> Result<(), EncodeError> {
        let paths = self.iter().map(ToString::to_string).collect();
        v1::ListRecursiveResponse { paths }.encode(&mut into)
    }
}

impl Reply for Change {
    fn bytes(&self) -> usize {
        self.current.iter().map(|current| current.path.as_str().len()).sum()
    }

    fn write(self: Box<Self>, mut into: &mut dyn BufMut) -> Result<(), EncodeError> {
        use watch_response::Kind;
        let kind = match self.kind {
            ChangeKind::Started => Kind::Started,
            ChangeKind::Written => Kind::Written,
            ChangeKind::Deleted => Kind::Deleted,
            ChangeKind::Undeleted => Kind::Undeleted,
            ChangeKind::Destroyed => Kind::Destroyed,
            ChangeKind::Metadata => Kind::Metadata,
            ChangeKind::Resync => Kind::Resync,
        };
        let path = self.path.as_ref().map(ToString::to_string).unwrap_or_default();
        let current = self.current.iter().map(|current| watch_response::Current {
            path: current.path.to_string(),
            version: current.version,
            created_at_ms: current.created_at.as_millis(),
        });
        v1::WatchResponse { kind: kind.into(), path, version: self.version, current: current.collect() }
            .encode(&mut into)
    }
}

/// A secret without its values.
fn about(metadata: SecretMetadata) -> v1::SecretMetadata {
    v1::SecretMetadata {
        path: metadata.path.to_string(),
        current_version: metadata.current_version,
        oldest_version: metadata.oldest_version,
        versions: metadata.versions.iter().map(about_version).collect(),
        custom: metadata.custom,
        max_versions: metadata.max_versions,
        cas_required: metadata.cas_required,
        created_at_ms: metadata.created_at.as_millis(),
        created_by: metadata.created_by.into(),
        updated_at_ms: metadata.updated_at.as_millis(),
        updated_by: metadata.updated_by.into(),
    }
}

fn about_version(version: &VersionMetadata) -> v1::VersionMetadata {
    let millis = |at: Option<Timestamp>| at.map_or(0, Timestamp::as_millis);
    v1::VersionMetadata {
        version: version.version,
        created_at_ms: version.created_at.as_millis(),
        created_by: version.created_by.to_string(),
        deleted_at_ms: millis(version.deleted_at),
        destroyed: version.destroyed,
        expires_at_ms: millis(version.expires_at),
        size: version.size,
    }
}

//! The Secrets service: thin.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::StreamExt;
use strongroom_proto::{
    limits,
    v1::{self, patch_request, secrets_server::Secrets},
};
use tonic::{Request, Response, Status};

use super::{Streaming, call::call, convert, status::status};
use crate::{
    core::{Action, Answer, Core},
    engines::{
        Operation,
        kv::{self, Operation as Kv},
    },
    model::{Invalid, KeyName, Path, SecretBytes},
};

/// See the module.
pub(super) struct SecretsService(pub(super) Arc<Core>);

#[tonic::async_trait]
impl Secrets for SecretsService {
    type ListRecursiveStream = Streaming<v1::ListRecursiveResponse>;
    type WatchStream = Streaming<v1::WatchResponse>;

    async fn put(&self, request: Request<v1::PutRequest>) -> Result<Response<v1::PutResponse>, Status> {
        call(&self.0, request, parse_put, |answer, _| written(answer)).await
    }

    async fn patch(&self, request: Request<v1::PatchRequest>) -> Result<Response<v1::PutResponse>, Status> {
        call(&self.0, request, parse_patch, |answer, _| written(answer)).await
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        call(
            &self.0,
            request,
            |message| at(&message.path, Kv::Get { version: message.version }),
            |answer, _| match answer {
                Answer::Kv(output) => convert::secret(output),
                _ => None,
            },
        )
        .await
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        call(&self.0, request, parse_list, |answer, _| match answer {
            Answer::Kv(kv::Output::Page { names, next }) => {
                let names = names.into_iter().map(Into::into).collect();
                Some(v1::ListResponse { names, next_page_token: next.unwrap_or_default() })
            }
            _ => None,
        })
        .await
    }

    async fn list_recursive(
        &self,
        request: Request<v1::ListRecursiveRequest>,
    ) -> Result<Response<Self::ListRecursiveStream>, Status> {
        call(
            &self.0,
            request,
            |message| at(&message.path, Kv::ListRecursive),
            |answer, id| match answer {
                Answer::Paths(pages) => {
                    let pages: Self::ListRecursiveStream = Box::pin(pages.map(move |page| match page {
                        Ok(paths) => {
                            let paths = paths.iter().map(ToString::to_string).collect();
                            Ok(v1::ListRecursiveResponse { paths })
                        }
                        Err(error) => Err(status(&error, id)),
                    }));
                    Some(pages)
                }
                _ => None,
            },
        )
        .await
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        call(&self.0, request, parse_watch, |answer, id| match answer {
            Answer::Changes(changes) => {
                let changes: Self::WatchStream = Box::pin(changes.map(move |change| match change {
                    Ok(change) => Ok(convert::change(&change)),
                    Err(error) => Err(status(&error, id)),
                }));
                Some(changes)
            }
            _ => None,
        })
        .await
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::SecretMetadata>, Status> {
        call(
            &self.0,
            request,
            |message| at(&message.path, Kv::Delete { versions: message.versions }),
            |answer, _| metadata(answer),
        )
        .await
    }

    async fn undelete(
        &self,
        request: Request<v1::UndeleteRequest>,
    ) -> Result<Response<v1::SecretMetadata>, Status> {
        call(
            &self.0,
            request,
            |message| at(&message.path, Kv::Undelete { versions: message.versions }),
            |answer, _| metadata(answer),
        )
        .await
    }

    async fn destroy(
        &self,
        request: Request<v1::DestroyRequest>,
    ) -> Result<Response<v1::DestroyResponse>, Status> {
        call(
            &self.0,
            request,
            |message| at(&message.path, Kv::Destroy { versions: message.versions, all: message.all }),
            |answer, _| matches!(answer, Answer::Kv(kv::Output::Destroyed)).then_some(v1::DestroyResponse {}),
        )
        .await
    }

    async fn get_metadata(
        &self,
        request: Request<v1::GetMetadataRequest>,
    ) -> Result<Response<v1::SecretMetadata>, Status> {
        call(&self.0, request, |message| at(&message.path, Kv::GetMetadata), |answer, _| metadata(answer))
            .await
    }

    async fn update_metadata(
        &self,
        request: Request<v1::UpdateMetadataRequest>,
    ) -> Result<Response<v1::SecretMetadata>, Status> {
        call(
            &self.0,
            request,
            |message| {
                let custom = message.custom.map(|custom| custom.pairs);
                let (max_versions, cas_required) = (message.max_versions, message.cas_required);
                at(&message.path, Kv::UpdateMetadata { custom, max_versions, cas_required })
            },
            |answer, _| metadata(answer),
        )
        .await
    }
}

/// An operation at one path.
fn at(path: &str, operation: Kv) -> Result<Action, Invalid> {
    let paths = vec![convert::path("path", path)?];
    Ok(Action::Engine { paths, operation: Operation::Kv(operation) })
}

fn written(answer: Answer) -> Option<v1::PutResponse> {
    match answer {
        Answer::Kv(kv::Output::Written { version, metadata }) => {
            Some(v1::PutResponse { version, metadata: Some(convert::metadata(metadata)) })
        }
        _ => None,
    }
}

fn metadata(answer: Answer) -> Option<v1::SecretMetadata> {
    match answer {
        Answer::Kv(kv::Output::Metadata(metadata)) => Some(convert::metadata(metadata)),
        _ => None,
    }
}

fn parse_put(message: v1::PutRequest) -> Result<Action, Invalid> {
    let mut data = BTreeMap::new();
    for (key, value) in message.data {
        data.insert(key_name("data", &key)?, SecretBytes::from(value));
    }
    let operation = Kv::Put {
        data,
        expected_version: message.expected_version,
        ttl: ttl(message.ttl_seconds)?,
        operation_id: operation_id(message.operation_id)?,
    };
    at(&message.path, operation)
}

fn parse_patch(message: v1::PatchRequest) -> Result<Action, Invalid> {
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
    let operation = Kv::Patch {
        changes,
        expected_version: message.expected_version,
        ttl: ttl(message.ttl_seconds)?,
        operation_id: operation_id(message.operation_id)?,
    };
    at(&message.path, operation)
}

fn parse_list(message: v1::ListRequest) -> Result<Action, Invalid> {
    let page_size = message.page_size.unwrap_or(limits::PAGE_SIZE);
    if page_size == 0 || page_size > limits::PAGE_SIZE {
        return Err(Invalid::new(
            "page_size",
            format!("is {page_size}; expected 1 to {}", limits::PAGE_SIZE),
        ));
    }
    let page_token = Some(message.page_token).filter(|token| !token.is_empty());
    at(&message.path, Kv::List { page_size, page_token })
}

fn parse_watch(message: v1::WatchRequest) -> Result<Action, Invalid> {
    let count = message.paths.len();
    if count == 0 || count > limits::WATCH_PATHS {
        return Err(Invalid::new("paths", format!("has {count}; expected 1 to {}", limits::WATCH_PATHS)));
    }
    let paths: Vec<Path> = message
        .paths
        .iter()
        .enumerate()
        .map(|(index, path)| convert::path(&format!("paths[{index}]"), path))
        .collect::<Result<_, _>>()?;
    if let Some(stranger) =
        paths.iter().find(|path| paths.first().is_some_and(|first| first.mount() != path.mount()))
    {
        return Err(Invalid::new(
            "paths",
            format!("{stranger} is of another mount; expected one mount per watch"),
        ));
    }
    Ok(Action::Engine { paths, operation: Operation::Kv(Kv::Watch) })
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

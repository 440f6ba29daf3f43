//! Secrets: read, write, list, delete. Watches are in `watch.rs`.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use strongroom_proto::{
    SecretBytes, limits, v1,
    v1::{patch_request, secrets_client::SecretsClient},
};
use tonic::transport::Channel;

use crate::{
    answer::{ResultStream, optional_timestamp, timestamp},
    client::Client,
    error::Error,
    transport::{Mode, retry},
};

/// One version of a secret.
#[derive(Debug)]
#[non_exhaustive]
pub struct Secret {
    /// The path of the secret.
    pub path: String,
    /// The number of the version.
    pub version: u64,
    /// The keys and their values.
    pub values: BTreeMap<String, SecretBytes>,
    /// When this version was written.
    pub created_at: Timestamp,
    /// Who wrote this version.
    pub created_by: String,
    /// When the version expires, if it does.
    pub expires_at: Option<Timestamp>,
    /// Custom metadata of the secret.
    pub custom: BTreeMap<String, String>,
}

/// The metadata of a secret: everything but its values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// The path of the secret.
    pub path: String,
    /// The latest version.
    pub current_version: u64,
    /// The oldest version that is still known.
    pub oldest_version: u64,
    /// All versions that are still known, oldest first.
    pub versions: Vec<VersionInfo>,
    /// Custom metadata.
    pub custom: BTreeMap<String, String>,
    /// How many versions are kept.
    pub max_versions: u32,
    /// Whether each write must name the version it expects.
    pub cas_required: bool,
    /// When the secret was first written.
    pub created_at: Timestamp,
    /// Who first wrote it.
    pub created_by: String,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Who last changed it.
    pub updated_by: String,
}

/// The metadata of a version: everything but its values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VersionInfo {
    /// Its number.
    pub version: u64,
    /// When it was written.
    pub created_at: Timestamp,
    /// Who wrote it.
    pub created_by: String,
    /// When it was deleted, if it was.
    pub deleted_at: Option<Timestamp>,
    /// Whether its bytes are gone for good.
    pub destroyed: bool,
    /// When the version expires, if it does.
    pub expires_at: Option<Timestamp>,
    /// The size of all values, in bytes.
    pub size: u64,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListPage {
    /// Names within the folder, sorted; `name/` for a folder.
    pub names: Vec<String>,
    /// The token for the next page; `None` on the last page.
    pub next: Option<String>,
}

/// A write of a new version, made by [`Client::put`].
#[must_use = "nothing is written before send()"]
pub struct Put<'a> {
    client: &'a Client,
    message: v1::PutRequest,
}

/// A write of a version that differs from the latest in some keys, made by [`Client::patch`].
#[must_use = "nothing is written before send()"]
pub struct Patch<'a> {
    client: &'a Client,
    message: v1::PatchRequest,
}

/// A change of metadata, made by [`Client::update_metadata`].
#[must_use = "nothing is changed before send()"]
pub struct UpdateMetadata<'a> {
    client: &'a Client,
    message: v1::UpdateMetadataRequest,
}

impl Secret {
    /// Makes a version as a server would answer it, for tests of what uses one: written at the beginning of time, by nobody.
    pub fn new(path: impl Into<String>, version: u64, values: BTreeMap<String, SecretBytes>) -> Self {
        Self {
            path: path.into(),
            version,
            values,
            created_at: Timestamp::UNIX_EPOCH,
            created_by: String::new(),
            expires_at: None,
            custom: BTreeMap::new(),
        }
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&SecretBytes> {
        self.values.get(key)
    }

    /// Returns the value of a key if it exists and is UTF-8 text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.expose_str().ok()
    }
}

impl VersionInfo {
    /// Makes one as a server would answer it, for tests of what uses it: written by nobody, and there.
    pub fn new(version: u64, created_at: Timestamp) -> Self {
        Self {
            version,
            created_at,
            created_by: String::new(),
            deleted_at: None,
            destroyed: false,
            expires_at: None,
            size: 0,
        }
    }
}

pub(super) fn service(channel: Channel) -> SecretsClient<Channel> {
    SecretsClient::new(channel).max_decoding_message_size(limits::RESPONSE_BYTES)
}

impl Client {
    /// Reads the latest version of a secret.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if nothing readable is there.
    pub async fn get(&self, path: &str) -> Result<Secret, Error> {
        self.read(path, None).await
    }

    /// Reads a given version of a secret.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if nothing readable is there.
    pub async fn get_version(&self, path: &str, version: u64) -> Result<Secret, Error> {
        self.read(path, Some(version)).await
    }

    async fn read(&self, path: &str, version: Option<u64>) -> Result<Secret, Error> {
        let message = v1::GetRequest { path: path.to_owned(), version };
        let answer = self
            .session()
            .call(Mode::READ, message, |ch, rq| async move { service(ch).get(rq).await })
            .await?;
        Ok(secret(path, answer))
    }

    /// Begins a write of a new version. Only the values that are set on it are written; older ones are not carried over.
    pub fn put(&self, path: impl Into<String>) -> Put<'_> {
        let message =
            v1::PutRequest { path: path.into(), operation_id: retry::unique_id(), ..Default::default() };
        Put { client: self, message }
    }

    /// Begins a write that changes some keys of the latest version.
    pub fn patch(&self, path: impl Into<String>) -> Patch<'_> {
        let message =
            v1::PatchRequest { path: path.into(), operation_id: retry::unique_id(), ..Default::default() };
        Patch { client: self, message }
    }

    /// Lists one page of the names in a folder; `token` is the `next` of the previous page.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn list_page(
        &self,
        folder: &str,
        page_size: Option<u32>,
        token: Option<String>,
    ) -> Result<ListPage, Error> {
        let message =
            v1::ListRequest { path: folder.to_owned(), page_size, page_token: token.unwrap_or_default() };
        let answer = self
            .session()
            .call(Mode::READ, message, |ch, rq| async move { service(ch).list(rq).await })
            .await?;
        let next = Some(answer.next_page_token).filter(|token| !token.is_empty());
        Ok(ListPage { names: answer.names, next })
    }

    /// Lists all names in a folder. Pages are fetched as the stream is read.
    pub fn list(&self, folder: impl Into<String>) -> ResultStream<String> {
        /// The token of the page to fetch next.
        enum Next {
            Page(Option<String>),
            End,
        }
        let (client, folder) = (self.clone(), folder.into());
        stream::try_unfold((client, folder, Next::Page(None)), |(client, folder, next)| async move {
            let Next::Page(token) = next else { return Ok::<_, Error>(None) };
            let page = client.list_page(&folder, None, token).await?;
            let next = page.next.map_or(Next::End, |token| Next::Page(Some(token)));
            Ok(Some((stream::iter(page.names.into_iter().map(Ok)), (client, folder, next))))
        })
        .try_flatten()
        .boxed()
    }

    /// Lists the full paths of all secrets below a folder, in order.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn list_recursive(&self, folder: &str) -> Result<ResultStream<String>, Error> {
        let message = v1::ListRecursiveRequest { path: folder.to_owned() };
        let answer = self
            .session()
            .open(message, |ch, rq| async move { service(ch).list_recursive(rq).await })
            .await?;
        Ok(answer
            .each_within(self.terms().timeout)
            .map_ok(|message| stream::iter(message.paths.into_iter().map(Ok)))
            .try_flatten()
            .boxed())
    }

    /// Deletes versions, or the latest if none is given. An undelete brings them back.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn delete(&self, path: &str, versions: Vec<u64>) -> Result<Metadata, Error> {
        // "The latest" may be another one the second time.
        let mode = if versions.is_empty() { Mode::WRITE } else { Mode::READ };
        let message = v1::DeleteRequest { path: path.to_owned(), versions };
        let answer =
            self.session().call(mode, message, |ch, rq| async move { service(ch).delete(rq).await }).await?;
        Ok(metadata(answer))
    }

    /// Brings deleted versions back.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn undelete(&self, path: &str, versions: Vec<u64>) -> Result<Metadata, Error> {
        let message = v1::UndeleteRequest { path: path.to_owned(), versions };
        let answer = self
            .session()
            .call(Mode::WRITE, message, |ch, rq| async move { service(ch).undelete(rq).await })
            .await?;
        Ok(metadata(answer))
    }

    /// Erases the bytes of versions for good.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn destroy(&self, path: &str, versions: Vec<u64>) -> Result<(), Error> {
        self.erase(v1::DestroyRequest { path: path.to_owned(), versions, all: false }).await
    }

    /// Erases a secret with all its versions and its metadata for good.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn destroy_all(&self, path: &str) -> Result<(), Error> {
        self.erase(v1::DestroyRequest { path: path.to_owned(), versions: Vec::new(), all: true }).await
    }

    async fn erase(&self, message: v1::DestroyRequest) -> Result<(), Error> {
        self.session()
            .call(Mode::WRITE, message, |ch, rq| async move { service(ch).destroy(rq).await })
            .await?;
        Ok(())
    }

    /// Reads the versions and the custom metadata of a secret, but no values.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn metadata(&self, path: &str) -> Result<Metadata, Error> {
        let message = v1::GetMetadataRequest { path: path.to_owned() };
        let answer = self
            .session()
            .call(Mode::READ, message, |ch, rq| async move { service(ch).get_metadata(rq).await })
            .await?;
        Ok(metadata(answer))
    }

    /// Begins a change of custom metadata and settings.
    pub fn update_metadata(&self, path: impl Into<String>) -> UpdateMetadata<'_> {
        let message = v1::UpdateMetadataRequest { path: path.into(), ..Default::default() };
        UpdateMetadata { client: self, message }
    }
}

impl Put<'_> {
    /// Sets a key.
    pub fn value(mut self, key: impl Into<String>, value: SecretBytes) -> Self {
        self.message.data.insert(key.into(), value.into());
        self
    }

    /// Sets many keys.
    pub fn values(mut self, values: impl IntoIterator<Item = (String, SecretBytes)>) -> Self {
        self.message.data.extend(values.into_iter().map(|(key, value)| (key, value.into())));
        self
    }
}

impl Patch<'_> {
    /// Sets a key.
    pub fn set(self, key: impl Into<String>, value: SecretBytes) -> Self {
        self.change(key.into(), patch_request::change::Change::Set(value.into()))
    }

    /// Removes a key.
    pub fn remove(self, key: impl Into<String>) -> Self {
        self.change(key.into(), patch_request::change::Change::Remove(true))
    }

    fn change(mut self, key: String, change: patch_request::change::Change) -> Self {
        self.message.changes.insert(key, patch_request::Change { change: Some(change) });
        self
    }
}

/// The settings of every write of a version, and how it is sent. The two messages have the same fields, but no type in
/// common.
macro_rules! version_write {
    ($write:ident, $rpc:ident) => {
        impl $write<'_> {
            /// Writes only if this is the latest version. For a put, 0 means only if the secret does not exist.
            pub fn expected_version(mut self, version: u64) -> Self {
                self.message.expected_version = Some(version);
                self
            }

            /// Makes the version unreadable after this time.
            pub fn ttl(mut self, ttl: Duration) -> Self {
                self.message.ttl_seconds = Some(ttl.as_secs());
                self
            }

            /// Sets the operation id by which the server recognises a repeated write. By default it is random.
            pub fn operation_id(mut self, id: impl Into<String>) -> Self {
                self.message.operation_id = id.into();
                self
            }

            /// Sends the write, and sends it again when the connection breaks; the operation id makes that safe.
            ///
            /// # Errors
            /// [`ErrorKind::VersionMismatch`](crate::ErrorKind::VersionMismatch) if another version is the latest.
            pub async fn send(self) -> Result<Metadata, Error> {
                let answer = self
                    .client
                    .session()
                    .call(Mode::READ, self.message, |ch, rq| async move { service(ch).$rpc(rq).await })
                    .await?;
                written(answer)
            }
        }
    };
}

version_write!(Put, put);
version_write!(Patch, patch);

impl UpdateMetadata<'_> {
    /// Replaces all custom metadata.
    pub fn custom(mut self, pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        self.message.custom = Some(v1::CustomMetadata { pairs: pairs.into_iter().collect() });
        self
    }

    /// Sets how many versions to keep.
    pub fn max_versions(mut self, count: u32) -> Self {
        self.message.max_versions = Some(count);
        self
    }

    /// Sets whether each write must name the version it expects.
    pub fn cas_required(mut self, required: bool) -> Self {
        self.message.cas_required = Some(required);
        self
    }

    /// Sends the change.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn send(self) -> Result<Metadata, Error> {
        let answer = self
            .client
            .session()
            .call(Mode::WRITE, self.message, |ch, rq| async move { service(ch).update_metadata(rq).await })
            .await?;
        Ok(metadata(answer))
    }
}

pub(super) fn secret(path: &str, answer: v1::GetResponse) -> Secret {
    let metadata = answer.metadata.unwrap_or_default();
    Secret {
        path: path.to_owned(),
        version: answer.version,
        values: answer.data.into_iter().map(|(key, value)| (key, value.into())).collect(),
        created_at: timestamp(metadata.created_at_ms),
        created_by: metadata.created_by,
        expires_at: optional_timestamp(metadata.expires_at_ms),
        custom: answer.custom,
    }
}

fn written(answer: v1::PutResponse) -> Result<Metadata, Error> {
    let about = answer.metadata.ok_or_else(|| Error::incomplete("metadata"))?;
    // The version of this write: with a repeated operation id, others may have written since.
    Ok(Metadata { current_version: answer.version, ..metadata(about) })
}

fn metadata(answer: v1::SecretMetadata) -> Metadata {
    Metadata {
        path: answer.path,
        current_version: answer.current_version,
        oldest_version: answer.oldest_version,
        versions: answer.versions.into_iter().map(version).collect(),
        custom: answer.custom,
        max_versions: answer.max_versions,
        cas_required: answer.cas_required,
        created_at: timestamp(answer.created_at_ms),
        created_by: answer.created_by,
        updated_at: timestamp(answer.updated_at_ms),
        updated_by: answer.updated_by,
    }
}

fn version(answer: v1::VersionMetadata) -> VersionInfo {
    VersionInfo {
        version: answer.version,
        created_at: timestamp(answer.created_at_ms),
        created_by: answer.created_by,
        deleted_at: optional_timestamp(answer.deleted_at_ms),
        destroyed: answer.destroyed,
        expires_at: optional_timestamp(answer.expires_at_ms),
        size: answer.size,
    }
}

//! The keys of the engine transit: made, looked at, rotated, retired, erased.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use strongroom_proto::{SecretBytes, v1};

use super::{Transit, service};
use crate::{
    answer::{ResultStream, period, timestamp},
    client::Client,
    error::Error,
    transport::Mode,
};

/// What there is to know of a key, and nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransitKey {
    /// The path of the key.
    pub path: String,
    /// `aes256-gcm`, `chacha20-poly1305`, `ed25519`, `ecdsa-p256`, `ecdsa-p384` or `hmac-sha256`.
    pub algorithm: String,
    /// Whether each context has a key of its own.
    pub derived: bool,
    /// Whether its bytes may leave the server.
    pub exportable: bool,
    /// The version that encrypts and signs.
    pub latest_version: u32,
    /// Older versions neither decrypt nor verify.
    pub min_decryption_version: u32,
    /// Older versions neither encrypt nor sign, even if they are asked for; 0 = those that decrypt do.
    pub min_encryption_version: u32,
    /// How often there is another version without anybody asking; none = only when somebody asks.
    pub rotation_period: Option<Duration>,
    /// Oldest first.
    pub versions: Vec<KeyVersion>,
}

/// A version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyVersion {
    /// Its number.
    pub version: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// The public key in PEM, of keys that sign.
    pub public_key: Option<String>,
}

/// A new key, made by [`Transit::create_key`].
#[must_use = "nothing is made before send()"]
pub struct CreateKey<'a> {
    client: &'a Client,
    message: v1::CreateKeyRequest,
}

/// A change of a key's settings, made by [`Transit::update_key`].
#[must_use = "nothing is changed before send()"]
pub struct UpdateKey<'a> {
    client: &'a Client,
    message: v1::UpdateKeyRequest,
}

impl<'a> Transit<'a> {
    /// Begins to make a key, of AES-256-GCM unless something else is asked for.
    pub fn create_key(&self, path: impl Into<String>) -> CreateKey<'a> {
        let message = v1::CreateKeyRequest { path: path.into(), ..Default::default() };
        CreateKey { client: self.0, message }
    }

    /// What there is to know of a key, public keys included.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none.
    pub async fn key(&self, path: &str) -> Result<TransitKey, Error> {
        let message = v1::GetKeyRequest { path: path.to_owned() };
        let call = self.0.session();
        let answer =
            call.call(Mode::READ, message, |ch, rq| async move { service(ch).get_key(rq).await }).await?;
        Ok(described(answer))
    }

    /// The paths of all keys below a folder, or a mount, sorted. Pages are fetched as the stream is read.
    pub fn keys(&self, folder: impl Into<String>) -> ResultStream<String> {
        let (client, folder) = (self.0.clone(), folder.into());
        let first = Some(String::new());
        stream::try_unfold((client, folder, first), |(client, folder, token)| async move {
            let Some(page_token) = token else { return Ok::<_, Error>(None) };
            let message = v1::ListKeysRequest { path: folder.clone(), page_token };
            let answer = client
                .session()
                .call(Mode::READ, message, |ch, rq| async move { service(ch).list_keys(rq).await })
                .await?;
            let next = Some(answer.next_page_token).filter(|token| !token.is_empty());
            Ok(Some((stream::iter(answer.paths.into_iter().map(Ok)), (client, folder, next))))
        })
        .try_flatten()
        .boxed()
    }

    /// Adds a version, with which everything is encrypted and signed from then on. Returns its number.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such key.
    pub async fn rotate_key(&self, path: &str) -> Result<u32, Error> {
        let message = v1::RotateKeyRequest { path: path.to_owned() };
        let call = self.0.session();
        // Repeated, it would be a second version.
        let answer =
            call.call(Mode::WRITE, message, |ch, rq| async move { service(ch).rotate_key(rq).await }).await?;
        Ok(answer.version)
    }

    /// Begins a change of which versions may be used, or of whether the key may leave.
    pub fn update_key(&self, path: impl Into<String>) -> UpdateKey<'a> {
        let message = v1::UpdateKeyRequest { path: path.into(), ..Default::default() };
        UpdateKey { client: self.0, message }
    }

    /// Erases a key for good: whatever was encrypted with it can never be opened.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such key.
    pub async fn destroy_key(&self, path: &str) -> Result<(), Error> {
        self.destroy(v1::DestroyKeyRequest { path: path.to_owned(), before_version: 0, all: true }).await
    }

    /// Erases the versions below one for good. They have to be too old to decrypt already.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if they still decrypt.
    pub async fn destroy_key_versions(&self, path: &str, before: u32) -> Result<(), Error> {
        self.destroy(v1::DestroyKeyRequest { path: path.to_owned(), before_version: before, all: false })
            .await
    }

    async fn destroy(&self, message: v1::DestroyKeyRequest) -> Result<(), Error> {
        let call = self.0.session();
        call.call(Mode::WRITE, message, |ch, rq| async move { service(ch).destroy_key(rq).await }).await?;
        Ok(())
    }

    /// Returns the bytes of an exportable key, of the latest version if none is given: 32 bytes, and PKCS #8 in DER for ECDSA.
    ///
    /// # Errors
    /// [`ErrorKind::NotExportable`](crate::ErrorKind::NotExportable) if it may not leave the server.
    pub async fn export_key(&self, path: &str, version: Option<u32>) -> Result<SecretBytes, Error> {
        let message = v1::ExportKeyRequest { path: path.to_owned(), version };
        let call = self.0.session();
        let answer =
            call.call(Mode::READ, message, |ch, rq| async move { service(ch).export_key(rq).await }).await?;
        answer.material.map(SecretBytes::from).ok_or_else(|| Error::incomplete("key"))
    }
}

impl CreateKey<'_> {
    /// `aes256-gcm`, `chacha20-poly1305`, `ed25519`, `ecdsa-p256`, `ecdsa-p384` or `hmac-sha256`.
    pub fn algorithm(mut self, name: impl Into<String>) -> Self {
        self.message.algorithm = name.into();
        self
    }

    /// Gives each context a key of its own.
    pub fn derived(mut self, derived: bool) -> Self {
        self.message.derived = derived;
        self
    }

    /// Lets its bytes leave the server. It cannot be taken back.
    pub fn exportable(mut self, exportable: bool) -> Self {
        self.message.exportable = exportable;
        self
    }

    /// Takes a key that exists already, in the form that [`Transit::export_key`] has.
    pub fn material(mut self, material: SecretBytes) -> Self {
        self.message.material = Some(material.into());
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) if there is a key already; then nothing is changed.
    pub async fn send(self) -> Result<(), Error> {
        let call = self.client.session();
        call.call(Mode::WRITE, self.message, |ch, rq| async move { service(ch).create_key(rq).await })
            .await?;
        Ok(())
    }
}

impl UpdateKey<'_> {
    /// Older versions will neither decrypt nor verify.
    pub fn min_decryption_version(mut self, version: u32) -> Self {
        self.message.min_decryption_version = Some(version);
        self
    }

    /// Older versions will neither encrypt nor sign, even if they are asked for; 0 = those that decrypt do.
    pub fn min_encryption_version(mut self, version: u32) -> Self {
        self.message.min_encryption_version = Some(version);
        self
    }

    /// Lets its bytes leave the server. It cannot be taken back.
    pub fn exportable(mut self) -> Self {
        self.message.exportable = Some(true);
        self
    }

    /// How often there is to be another version without anybody asking: an hour to ten years; zero = only when somebody asks.
    pub fn rotation_period(mut self, period: Duration) -> Self {
        self.message.rotation_period_seconds = Some(period.as_secs());
        self
    }

    /// Changes it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such key.
    pub async fn send(self) -> Result<TransitKey, Error> {
        let call = self.client.session();
        // The same settings twice are the same.
        let answer = call
            .call(Mode::READ, self.message, |ch, rq| async move { service(ch).update_key(rq).await })
            .await?;
        Ok(described(answer))
    }
}

fn described(key: v1::TransitKey) -> TransitKey {
    let version = |version: v1::TransitKeyVersion| KeyVersion {
        version: version.version,
        created_at: timestamp(version.created_at_ms),
        public_key: Some(version.public_key).filter(|key| !key.is_empty()),
    };
    TransitKey {
        path: key.path,
        algorithm: key.algorithm,
        derived: key.derived,
        exportable: key.exportable,
        latest_version: key.latest_version,
        min_decryption_version: key.min_decryption_version,
        min_encryption_version: key.min_encryption_version,
        rotation_period: period(key.rotation_period_seconds),
        versions: key.versions.into_iter().map(version).collect(),
    }
}

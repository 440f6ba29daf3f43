//! Keys that stay in the server: the engine transit. Keys themselves are in `keys.rs`, large data in `stream.rs`.

mod keys;
mod stream;

use strongroom_proto::{
    SecretBytes, limits,
    v1::{self, decrypt_response, rewrap_response, transit_client::TransitClient},
};
use tonic::transport::Channel;

pub use self::{
    keys::{CreateKey, KeyVersion, TransitKey, UpdateKey},
    stream::StreamError,
};
use crate::{client::Client, error::Error, transport::Mode};

/// Calls to the engine transit; see [`Client::transit`].
#[derive(Clone, Copy)]
pub struct Transit<'a>(&'a Client);

/// What is to be encrypted. It may be large, but not larger than a secret: 1 MiB.
pub struct Plaintext {
    bytes: SecretBytes,
    context: Vec<u8>,
    associated_data: Vec<u8>,
}

/// What was encrypted, `strongroom:v<version>:<base64>`, and what has to be said to open it.
#[derive(Clone, Debug)]
pub struct Ciphertext {
    text: String,
    context: Vec<u8>,
    associated_data: Vec<u8>,
}

/// A key for data that is not sent to the server.
#[derive(Debug)]
#[non_exhaustive]
pub struct DataKey {
    /// 32 bytes.
    pub plaintext: SecretBytes,
    /// The same encrypted, to be stored beside the data: [`Transit::decrypt`] makes the plaintext of it.
    pub ciphertext: String,
}

/// How an ECDSA signature is written. Ed25519 has one form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureEncoding {
    /// DER, as X.509 and OpenSSL have it.
    #[default]
    Asn1,
    /// As JSON Web Signatures have it (RFC 7518, 3.4).
    Jws,
}

impl<T: Into<SecretBytes>> From<T> for Plaintext {
    fn from(bytes: T) -> Self {
        Self { bytes: bytes.into(), context: Vec::new(), associated_data: Vec::new() }
    }
}

impl Plaintext {
    /// Which of a derived key's keys. Not secret.
    #[must_use]
    pub fn context(self, context: impl Into<Vec<u8>>) -> Self {
        Self { context: context.into(), ..self }
    }

    /// What has to be the same when it is decrypted, such as the row of a database. It is not in the ciphertext.
    #[must_use]
    pub fn associated_data(self, data: impl Into<Vec<u8>>) -> Self {
        Self { associated_data: data.into(), ..self }
    }
}

impl<T: Into<String>> From<T> for Ciphertext {
    fn from(text: T) -> Self {
        Self { text: text.into(), context: Vec::new(), associated_data: Vec::new() }
    }
}

impl Ciphertext {
    /// The context that it was encrypted with.
    #[must_use]
    pub fn context(self, context: impl Into<Vec<u8>>) -> Self {
        Self { context: context.into(), ..self }
    }

    /// The associated data that it was encrypted with.
    #[must_use]
    pub fn associated_data(self, data: impl Into<Vec<u8>>) -> Self {
        Self { associated_data: data.into(), ..self }
    }
}

impl Client {
    /// Calls to the engine transit, which encrypts, signs and authenticates with keys that stay in the server.
    pub fn transit(&self) -> Transit<'_> {
        Transit(self)
    }
}

fn service(channel: Channel) -> TransitClient<Channel> {
    TransitClient::new(channel).max_decoding_message_size(limits::RESPONSE_BYTES)
}

impl Transit<'_> {
    /// Encrypts with the latest version of the key at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such key.
    pub async fn encrypt(&self, path: &str, plaintext: impl Into<Plaintext>) -> Result<String, Error> {
        let ciphertexts = self.encrypt_all(path, vec![plaintext.into()]).await?;
        ciphertexts.into_iter().next().ok_or_else(|| Error::incomplete("ciphertext"))
    }

    /// Encrypts several at once: at most 1,000, and 1 MiB together. The answers are in their order.
    ///
    /// # Errors
    /// If one of them cannot be encrypted, none is.
    pub async fn encrypt_all(&self, path: &str, plaintexts: Vec<Plaintext>) -> Result<Vec<String>, Error> {
        let item = |plain: Plaintext| v1::PlainItem {
            plaintext: Some(plain.bytes.into()),
            context: plain.context,
            associated_data: plain.associated_data,
        };
        let items = plaintexts.into_iter().map(item).collect();
        let message = v1::EncryptRequest { path: path.to_owned(), items, version: None };
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { service(ch).encrypt(rq).await })
            .await?;
        Ok(answer.ciphertexts)
    }

    /// Decrypts.
    ///
    /// # Errors
    /// [`ErrorKind::DoesNotOpen`](crate::ErrorKind::DoesNotOpen) if it was changed, or made with another key, context or
    /// associated data; [`ErrorKind::VersionTooOld`](crate::ErrorKind::VersionTooOld) if its version was retired.
    pub async fn decrypt(&self, path: &str, ciphertext: impl Into<Ciphertext>) -> Result<SecretBytes, Error> {
        let answers = self.decrypt_all(path, vec![ciphertext.into()]).await?;
        answers.into_iter().next().unwrap_or_else(|| Err(Error::incomplete("plaintext")))
    }

    /// Decrypts several at once, at most 1,000. Each has an answer of its own, in their order.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn decrypt_all(
        &self,
        path: &str,
        ciphertexts: Vec<Ciphertext>,
    ) -> Result<Vec<Result<SecretBytes, Error>>, Error> {
        use decrypt_response::item::Result::{Error as Refused, Plaintext};
        let message = v1::DecryptRequest { path: path.to_owned(), items: items(ciphertexts) };
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { service(ch).decrypt(rq).await })
            .await?;
        let item = |item: decrypt_response::Item| match item.result {
            Some(Plaintext(plaintext)) => Ok(SecretBytes::from(plaintext)),
            Some(Refused(error)) => Err(Error::of_item(&error.reason, error.sentence)),
            None => Err(Error::incomplete("plaintext")),
        };
        Ok(answer.items.into_iter().map(item).collect())
    }

    /// Encrypts again with the latest version, at most 1,000 at once, without seeing what is inside. Each has an answer of its
    /// own, in their order.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn rewrap_all(
        &self,
        path: &str,
        ciphertexts: Vec<Ciphertext>,
    ) -> Result<Vec<Result<String, Error>>, Error> {
        use rewrap_response::item::Result::{Ciphertext, Error as Refused};
        let message = v1::RewrapRequest { path: path.to_owned(), items: items(ciphertexts) };
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { service(ch).rewrap(rq).await })
            .await?;
        let item = |item: rewrap_response::Item| match item.result {
            Some(Ciphertext(ciphertext)) => Ok(ciphertext),
            Some(Refused(error)) => Err(Error::of_item(&error.reason, error.sentence)),
            None => Err(Error::incomplete("ciphertext")),
        };
        Ok(answer.items.into_iter().map(item).collect())
    }

    /// Makes a key for data that is too large to be sent.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no key at `path`.
    pub async fn data_key(&self, path: &str, associated_data: impl Into<Vec<u8>>) -> Result<DataKey, Error> {
        let associated_data = associated_data.into();
        let message =
            v1::GenerateDataKeyRequest { path: path.to_owned(), associated_data, ..Default::default() };
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { service(ch).generate_data_key(rq).await })
            .await?;
        let plaintext = answer.plaintext.ok_or_else(|| Error::incomplete("data key"))?;
        Ok(DataKey { plaintext: plaintext.into(), ciphertext: answer.ciphertext })
    }

    /// Signs a message, at most 1 MiB: the message itself, not a hash of it. The signature is
    /// `strongroom:v<version>:<base64>`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no key at `path`.
    pub async fn sign(
        &self,
        path: &str,
        message: &[u8],
        encoding: SignatureEncoding,
    ) -> Result<String, Error> {
        let message = v1::SignRequest {
            path: path.to_owned(),
            message: Some((&SecretBytes::from(message)).into()),
            encoding: encoding.number(),
            version: None,
        };
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { service(ch).sign(rq).await })
            .await?;
        Ok(answer.signature)
    }

    /// Says whether a signature was made for the message, in that encoding and with the key at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::VersionTooOld`](crate::ErrorKind::VersionTooOld) if the version of the signature was retired.
    pub async fn verify(
        &self,
        path: &str,
        message: &[u8],
        signature: &str,
        encoding: SignatureEncoding,
    ) -> Result<bool, Error> {
        let message = v1::VerifyRequest {
            path: path.to_owned(),
            message: Some((&SecretBytes::from(message)).into()),
            encoding: encoding.number(),
            signature: signature.to_owned(),
        };
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { service(ch).verify(rq).await })
            .await?;
        Ok(answer.valid)
    }

    /// Computes a message authentication code, `strongroom:v<version>:<base64>`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no key at `path`.
    pub async fn mac(&self, path: &str, message: impl Into<Plaintext>) -> Result<String, Error> {
        let Plaintext { bytes, context, .. } = message.into();
        let message =
            v1::MacRequest { path: path.to_owned(), message: Some(bytes.into()), context, version: None };
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { service(ch).mac(rq).await })
            .await?;
        Ok(answer.mac)
    }

    /// Says whether a message authentication code is that of the message.
    ///
    /// # Errors
    /// [`ErrorKind::VersionTooOld`](crate::ErrorKind::VersionTooOld) if its version was retired.
    pub async fn verify_mac(
        &self,
        path: &str,
        message: impl Into<Plaintext>,
        mac: &str,
    ) -> Result<bool, Error> {
        let Plaintext { bytes, context, .. } = message.into();
        let (path, mac) = (path.to_owned(), mac.to_owned());
        let message = v1::VerifyMacRequest { path, message: Some(bytes.into()), context, mac };
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { service(ch).verify_mac(rq).await })
            .await?;
        Ok(answer.valid)
    }
}

fn items(ciphertexts: Vec<Ciphertext>) -> Vec<v1::CipherItem> {
    let item = |cipher: Ciphertext| v1::CipherItem {
        ciphertext: cipher.text,
        context: cipher.context,
        associated_data: cipher.associated_data,
    };
    ciphertexts.into_iter().map(item).collect()
}

impl SignatureEncoding {
    fn number(self) -> i32 {
        match self {
            Self::Asn1 => v1::SignatureEncoding::Unspecified.into(),
            Self::Jws => v1::SignatureEncoding::Jws.into(),
        }
    }
}

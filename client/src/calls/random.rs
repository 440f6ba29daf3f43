//! Secrets that the server makes: the engine random.

use strongroom_proto::{SecretBytes, v1, v1::random_client::RandomClient};

use crate::{client::Client, error::Error, transport::Mode};

/// Calls to the engine random; see [`Client::random`].
pub struct Random<'a>(&'a Client);

impl Client {
    /// Calls to the engine random, which makes passwords and keys and keeps none of them.
    pub fn random(&self) -> Random<'_> {
        Random(self)
    }
}

impl Random<'_> {
    /// Makes a secret. The path is a mount and what to make there: `random/password`, `random/bytes`, `random/hex` or
    /// `random/base64`. The length counts characters of a password and bytes of everything else, 16 to 1,024; without one
    /// it is 32.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if nothing is mounted there, and
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for what the engine does not make.
    pub async fn generate(&self, path: &str, length: Option<u32>) -> Result<SecretBytes, Error> {
        let message = v1::GenerateRequest { path: path.to_owned(), length };
        // Safe to be repeated: of a secret whose answer was lost, the server keeps nothing.
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { RandomClient::new(ch).generate(rq).await })
            .await?;
        answer.value.map(SecretBytes::from).ok_or_else(|| Error::incomplete("value"))
    }
}

//! Wrapping: an answer that is kept for whoever shows a token first.

use std::time::Duration;

use jiff::Timestamp;
use prost::Message;
use strongroom_proto::{SecretBytes, v1, v1::wrapping_client::WrappingClient};

use super::{
    database::{DatabasePassword, DatabaseUser},
    secrets::{self, Secret},
};
use crate::{answer::timestamp, client::Client, error::Error, transport::Mode};

const GET: &str = "Secrets.Get";
const ISSUE: &str = "Database.Issue";
const PASSWORD: &str = "Database.GetPassword";

/// Calls that wrap answers; see [`Client::wrapping`].
#[derive(Clone, Copy)]
pub struct Wrapping<'a>(&'a Client);

/// An answer that is kept. The token opens it once.
#[derive(Debug)]
#[non_exhaustive]
pub struct Wrapped {
    /// To be handed on: whoever shows it first has the answer.
    pub token: SecretBytes,
    /// 32 hex digits, under which the audit log has the request and the opening.
    pub id: String,
    /// From then on the token opens nothing.
    pub expires_at: Timestamp,
}

/// An answer that was wrapped.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unwrapped {
    /// 32 hex digits, as [`Wrapped::id`].
    pub id: String,
    /// Where it was asked: check it, so that nobody hands you something else.
    pub path: String,
    /// Who asked: `userpass/alice`.
    pub wrapped_by: String,
    /// When.
    pub wrapped_at: Timestamp,
    /// The answer.
    pub content: Content,
}

/// What can be wrapped.
#[derive(Debug)]
#[non_exhaustive]
pub enum Content {
    /// A secret.
    Secret(Secret),
    /// A user that was made for it.
    DatabaseUser(DatabaseUser),
    /// The password of a user that stays.
    DatabasePassword(DatabasePassword),
    /// The answer of an RPC that this library does not know, as an encoded message.
    Other {
        /// `Random.Generate`, for example.
        operation: String,
        /// The message.
        message: SecretBytes,
    },
}

impl Client {
    /// Calls whose answers are kept by the server instead of told: for whoever is handed the token, once.
    pub fn wrapping(&self) -> Wrapping<'_> {
        Wrapping(self)
    }

    /// Opens what was wrapped. It needs no session, and works once.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyOpened`](crate::ErrorKind::AlreadyOpened) if somebody did before: then the content has to be
    /// changed. [`Error::is_not_found`] if the token is wrong or its time is over.
    pub async fn unwrap(&self, token: &SecretBytes) -> Result<Unwrapped, Error> {
        let message = v1::UnwrapRequest { token: Some(token.into()) };
        let answer = self
            .anonymous()
            .call(Mode::WRITE, message, |ch, rq| async move { WrappingClient::new(ch).unwrap(rq).await })
            .await?;
        let content = answer.answer.map(SecretBytes::from).ok_or_else(|| Error::incomplete("answer"))?;
        Ok(Unwrapped {
            content: content_of(answer.operation, &answer.path, content)?,
            id: answer.id,
            path: answer.path,
            wrapped_by: answer.wrapped_by,
            wrapped_at: timestamp(answer.wrapped_at_ms),
        })
    }
}

impl Wrapping<'_> {
    /// Wraps a secret, the latest version unless one is given, for `ttl`: one second to seven days.
    ///
    /// # Errors
    /// Those of [`Client::get`].
    pub async fn secret(&self, path: &str, version: Option<u64>, ttl: Duration) -> Result<Wrapped, Error> {
        self.wrap(GET, &v1::GetRequest { path: path.to_owned(), version }, ttl).await
    }

    /// Wraps a user of a database, who lives for `life`, or as long as the role says. It is made at once, and ends with the
    /// session of whoever asked.
    ///
    /// # Errors
    /// Those of [`Database::issue`](crate::Database::issue).
    pub async fn database_user(
        &self,
        path: &str,
        life: Option<Duration>,
        ttl: Duration,
    ) -> Result<Wrapped, Error> {
        let ttl_seconds = life.unwrap_or_default().as_secs();
        self.wrap(ISSUE, &v1::IssueDatabaseUserRequest { path: path.to_owned(), ttl_seconds }, ttl).await
    }

    /// Wraps the password of an account.
    ///
    /// # Errors
    /// Those of [`Database::password`](crate::Database::password).
    pub async fn database_password(&self, path: &str, ttl: Duration) -> Result<Wrapped, Error> {
        self.wrap(PASSWORD, &v1::GetDatabasePasswordRequest { path: path.to_owned() }, ttl).await
    }

    async fn wrap(&self, operation: &str, request: &impl Message, ttl: Duration) -> Result<Wrapped, Error> {
        let request = SecretBytes::from(request.encode_to_vec());
        let message = v1::WrapRequest {
            operation: operation.to_owned(),
            request: Some(request.into()),
            ttl_seconds: ttl.as_secs(),
        };
        let answer = self
            .0
            .session()
            .call(Mode::WRITE, message, |ch, rq| async move { WrappingClient::new(ch).wrap(rq).await })
            .await?;
        Ok(Wrapped {
            token: answer.token.map(SecretBytes::from).ok_or_else(|| Error::incomplete("token"))?,
            id: answer.id,
            expires_at: timestamp(answer.expires_at_ms),
        })
    }
}

fn content_of(operation: String, path: &str, message: SecretBytes) -> Result<Content, Error> {
    Ok(match operation.as_str() {
        GET => Content::Secret(secrets::secret(path, decoded(&message)?)),
        ISSUE => {
            let user = DatabaseUser::told(decoded(&message)?)?;
            Content::DatabaseUser(DatabaseUser { lease: user.lease.of_an_unknown_time(), ..user })
        }
        PASSWORD => Content::DatabasePassword(DatabasePassword::told(decoded(&message)?)?),
        _ => Content::Other { operation, message },
    })
}

fn decoded<M: Message + Default>(message: &SecretBytes) -> Result<M, Error> {
    M::decode(message.expose()).map_err(|_| Error::incomplete("answer"))
}

//! Users of databases: the engine database. Where its database is and how users are made is in `manage.rs`.

mod manage;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use strongroom_proto::{SecretBytes, v1, v1::database_client::DatabaseClient};

pub use self::manage::{
    ConfigureDatabase, DatabaseAccount, DatabaseConfiguration, DatabaseRole, PutDatabaseRole,
};
use crate::{answer::timestamp, calls::lease::Lease, client::Client, error::Error, transport::Mode};

/// Calls to the engine database; see [`Client::database`].
#[derive(Clone, Copy)]
pub struct Database<'a>(&'a Client);

/// A user that was made for the caller, and where to connect as it.
#[derive(Debug)]
#[non_exhaustive]
pub struct DatabaseUser {
    /// The lease that it lives by, for [`Leases::keep`](crate::Leases::keep) to renew.
    pub lease: Lease,
    /// Its name.
    pub user: String,
    /// Its password, which the server does not keep.
    pub password: SecretBytes,
    /// As the server has it: a name, an address, or the folder of a Unix socket.
    pub host: String,
    /// The port.
    pub port: u32,
    /// The name of the database.
    pub database: String,
}

/// The name and the password of a user that was there before.
#[derive(Debug)]
#[non_exhaustive]
pub struct DatabasePassword {
    /// Its name.
    pub user: String,
    /// Its password, until it is rotated.
    pub password: SecretBytes,
    /// When the server made the password.
    pub rotated_at: Timestamp,
}

impl Client {
    /// Calls to the engine database, which makes and ends users of a PostgreSQL server and changes passwords there.
    pub fn database(&self) -> Database<'_> {
        Database(self)
    }
}

impl Database<'_> {
    /// Has a user made by the role at `path`. It lives for `ttl`, or for as long as the role says.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such role, and
    /// [`ErrorKind::DatabaseRefused`](crate::ErrorKind::DatabaseRefused) if the database does not want what it says.
    pub async fn issue(&self, path: &str, ttl: Option<Duration>) -> Result<DatabaseUser, Error> {
        let ttl_seconds = ttl.unwrap_or_default().as_secs();
        let message = v1::IssueDatabaseUserRequest { path: path.to_owned(), ttl_seconds };
        let (call, began) = (self.0.session(), Instant::now());
        // Repeated, it would be a second user.
        let answer = call
            .call(Mode::WRITE, message, |ch, rq| async move { DatabaseClient::new(ch).issue(rq).await })
            .await?;
        let user = DatabaseUser::told(answer)?;
        Ok(DatabaseUser { lease: user.lease.since(began), ..user })
    }

    /// The name and the password of the account at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such account.
    pub async fn password(&self, path: &str) -> Result<DatabasePassword, Error> {
        let message = v1::GetDatabasePasswordRequest { path: path.to_owned() };
        let call = self.0.session();
        let answer = call
            .call(Mode::READ, message, |ch, rq| async move { DatabaseClient::new(ch).get_password(rq).await })
            .await?;
        DatabasePassword::told(answer)
    }
}

impl DatabaseUser {
    pub(super) fn told(answer: v1::DatabaseUser) -> Result<Self, Error> {
        let lease = answer.lease.ok_or_else(|| Error::incomplete("lease"))?;
        Ok(Self {
            lease: lease.into(),
            user: answer.user,
            password: answer.password.map(SecretBytes::from).ok_or_else(|| Error::incomplete("password"))?,
            host: answer.host,
            port: answer.port,
            database: answer.database,
        })
    }
}

impl DatabasePassword {
    pub(super) fn told(answer: v1::DatabasePassword) -> Result<Self, Error> {
        Ok(Self {
            user: answer.user,
            password: answer.password.map(SecretBytes::from).ok_or_else(|| Error::incomplete("password"))?,
            rotated_at: timestamp(answer.rotated_at_ms),
        })
    }
}

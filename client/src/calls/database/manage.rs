//! What the managers of a database do: where it is, how users are made, whose passwords are kept.

use std::time::Duration;

use jiff::Timestamp;
use strongroom_proto::{SecretBytes, v1, v1::database_client::DatabaseClient};

use super::Database;
use crate::{
    answer::{ResultStream, optional_timestamp, period, timestamp},
    calls::pages::paths,
    client::Client,
    error::Error,
    transport::Mode,
};

/// Where a mount's database is, and as whom the server works there. The password is never told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseConfiguration {
    /// The mount.
    pub path: String,
    /// A name, an address, or the folder of a Unix socket.
    pub host: String,
    /// The port.
    pub port: u32,
    /// The name of the database.
    pub database: String,
    /// The user that the server works as.
    pub user: String,
    /// The certificates that are trusted, in PEM; empty = those that the server's system trusts.
    pub ca_pem: String,
    /// Whether there is no TLS.
    pub plaintext: bool,
    /// Connections at once.
    pub max_connections: u32,
    /// When the server made the password; none = an operator gave it.
    pub rotated_at: Option<Timestamp>,
}

/// How users of a role are made, renewed and revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseRole {
    /// The path of the role.
    pub path: String,
    /// SQL that makes a user.
    pub creation: Vec<String>,
    /// SQL after a renewal.
    pub renewal: Vec<String>,
    /// SQL that ends a user; empty = it is dropped with what it owns.
    pub revocation: Vec<String>,
    /// How long a user lives unless it is renewed.
    pub ttl: Duration,
    /// How long it may live.
    pub max_ttl: Duration,
}

/// A user that was there before, whose password the server keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseAccount {
    /// The path of the account.
    pub path: String,
    /// The name of the user.
    pub user: String,
    /// When the server made its password; none = it never knew for certain.
    pub rotated_at: Option<Timestamp>,
    /// How often its password changes by itself; none = only when somebody says so.
    pub rotation_period: Option<Duration>,
}

/// A configuration, made by [`Database::configure`].
#[must_use = "nothing is configured before send()"]
pub struct ConfigureDatabase<'a> {
    client: &'a Client,
    message: v1::ConfigureDatabaseRequest,
}

/// A role, made by [`Database::put_role`].
#[must_use = "nothing is written before send()"]
pub struct PutDatabaseRole<'a> {
    client: &'a Client,
    message: v1::PutDatabaseRoleRequest,
}

impl<'a> Database<'a> {
    /// Begins to say where the database of a mount is, and as which user to work there.
    pub fn configure(
        &self,
        mount: impl Into<String>,
        host: impl Into<String>,
        user: impl Into<String>,
    ) -> ConfigureDatabase<'a> {
        let message = v1::ConfigureDatabaseRequest {
            path: mount.into(),
            host: host.into(),
            user: user.into(),
            ..Default::default()
        };
        ConfigureDatabase { client: self.0, message }
    }

    /// What was configured, without the password.
    ///
    /// # Errors
    /// [`ErrorKind::NotConfigured`](crate::ErrorKind::NotConfigured) if nothing was.
    pub async fn configuration(&self, mount: &str) -> Result<DatabaseConfiguration, Error> {
        let message = v1::GetDatabaseConfigurationRequest { path: mount.to_owned() };
        let call = self.0.session();
        let answer =
            call.call(Mode::READ, message, |ch, rq| async move {
                DatabaseClient::new(ch).get_configuration(rq).await
            })
            .await?;
        Ok(configured(answer))
    }

    /// Gives the user that the server works as a new password, which nobody else knows. Returns when that was.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn rotate_root(&self, mount: &str) -> Result<Timestamp, Error> {
        let message = v1::RotateDatabaseRootRequest { path: mount.to_owned() };
        let call = self.0.session();
        let answer = call
            .call(Mode::WRITE, message, |ch, rq| async move { DatabaseClient::new(ch).rotate_root(rq).await })
            .await?;
        Ok(timestamp(answer.rotated_at_ms))
    }

    /// Begins a role, or one in the place of another. The SQL makes a user, with `{{name}}`, `{{password}}` and `{{expires}}`
    /// where they belong and without quotes around them.
    pub fn put_role(&self, path: impl Into<String>, creation: Vec<String>) -> PutDatabaseRole<'a> {
        let message = v1::PutDatabaseRoleRequest { path: path.into(), creation, ..Default::default() };
        PutDatabaseRole { client: self.0, message }
    }

    /// A role.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none.
    pub async fn role(&self, path: &str) -> Result<DatabaseRole, Error> {
        let message = v1::GetDatabaseRoleRequest { path: path.to_owned() };
        let call = self.0.session();
        let answer = call
            .call(Mode::READ, message, |ch, rq| async move { DatabaseClient::new(ch).get_role(rq).await })
            .await?;
        Ok(role(answer))
    }

    /// Forgets a role. Users that it made live on until their leases end.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none.
    pub async fn delete_role(&self, path: &str) -> Result<(), Error> {
        let message = v1::DeleteDatabaseRoleRequest { path: path.to_owned() };
        let call = self.0.session();
        call.call(
            Mode::WRITE,
            message,
            |ch, rq| async move { DatabaseClient::new(ch).delete_role(rq).await },
        )
        .await?;
        Ok(())
    }

    /// The paths of all roles below a folder, or a mount, sorted. Pages are fetched as the stream is read.
    pub fn roles(&self, folder: impl Into<String>) -> ResultStream<String> {
        paths(self.0, folder.into(), |client, path, page_token| async move {
            let message = v1::ListDatabaseRolesRequest { path, page_token };
            let call = client.session();
            let answer =
                call.call(Mode::READ, message, |ch, rq| async move {
                    DatabaseClient::new(ch).list_roles(rq).await
                })
                .await?;
            Ok((answer.paths, answer.next_page_token))
        })
    }

    /// Takes over the password of a user that exists. It is changed at once, and nobody else knows the new one. From then on it
    /// changes every `rotation_period`, a minute at least, or only when somebody says so. For a user that was taken over
    /// before, only that becomes another.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`](crate::ErrorKind::AlreadyExists) if there is something else at the path already.
    pub async fn put_account(
        &self,
        path: &str,
        user: &str,
        rotation_period: Option<Duration>,
    ) -> Result<DatabaseAccount, Error> {
        let message = v1::PutDatabaseAccountRequest {
            path: path.to_owned(),
            user: user.to_owned(),
            rotation_period_seconds: rotation_period.map_or(0, |period| period.as_secs()),
        };
        let call = self.0.session();
        let answer = call
            .call(Mode::WRITE, message, |ch, rq| async move { DatabaseClient::new(ch).put_account(rq).await })
            .await?;
        Ok(account(answer))
    }

    /// An account, without its password.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none.
    pub async fn account(&self, path: &str) -> Result<DatabaseAccount, Error> {
        let message = v1::GetDatabaseAccountRequest { path: path.to_owned() };
        let call = self.0.session();
        let answer = call
            .call(Mode::READ, message, |ch, rq| async move { DatabaseClient::new(ch).get_account(rq).await })
            .await?;
        Ok(account(answer))
    }

    /// Gives an account a new password.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none.
    pub async fn rotate_account(&self, path: &str) -> Result<DatabaseAccount, Error> {
        let message = v1::RotateDatabaseAccountRequest { path: path.to_owned() };
        let call = self.0.session();
        let answer =
            call.call(Mode::WRITE, message, |ch, rq| async move {
                DatabaseClient::new(ch).rotate_account(rq).await
            })
            .await?;
        Ok(account(answer))
    }

    /// Forgets an account and its password. The user stays as it is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none.
    pub async fn delete_account(&self, path: &str) -> Result<(), Error> {
        let message = v1::DeleteDatabaseAccountRequest { path: path.to_owned() };
        let call = self.0.session();
        call.call(
            Mode::WRITE,
            message,
            |ch, rq| async move { DatabaseClient::new(ch).delete_account(rq).await },
        )
        .await?;
        Ok(())
    }

    /// The paths of all accounts below a folder, or a mount, sorted. Pages are fetched as the stream is read.
    pub fn accounts(&self, folder: impl Into<String>) -> ResultStream<String> {
        paths(self.0, folder.into(), |client, path, page_token| async move {
            let message = v1::ListDatabaseAccountsRequest { path, page_token };
            let call = client.session();
            let answer =
                call.call(Mode::READ, message, |ch, rq| async move {
                    DatabaseClient::new(ch).list_accounts(rq).await
                })
                .await?;
            Ok((answer.paths, answer.next_page_token))
        })
    }
}

impl ConfigureDatabase<'_> {
    /// The port, unless it is 5432.
    pub fn port(mut self, port: u16) -> Self {
        self.message.port = port.into();
        self
    }

    /// The name of the database, unless it is `postgres`.
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.message.database = name.into();
        self
    }

    /// The password of the user. Without it the one that is kept stays, as long as host, port and user do.
    pub fn password(mut self, password: SecretBytes) -> Self {
        self.message.password = Some(password.into());
        self
    }

    /// The certificates to trust, in PEM, instead of those that the server's system trusts.
    pub fn ca_pem(mut self, pem: impl Into<String>) -> Self {
        self.message.ca_pem = pem.into();
        self
    }

    /// Does without TLS, which is possible over a Unix socket or a loopback address only.
    pub fn plaintext(mut self, plaintext: bool) -> Self {
        self.message.plaintext = plaintext;
        self
    }

    /// How many connections the server may have at once, at most 32, unless 4 are good.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.message.max_connections = connections;
        self
    }

    /// Has it tried out, and kept if it works.
    ///
    /// # Errors
    /// [`ErrorKind::DatabaseRefused`](crate::ErrorKind::DatabaseRefused) if the database refuses the login or is not trusted.
    pub async fn send(self) -> Result<DatabaseConfiguration, Error> {
        let call = self.client.session();
        let answer =
            call.call(Mode::WRITE, self.message, |ch, rq| async move {
                DatabaseClient::new(ch).configure(rq).await
            })
            .await?;
        Ok(configured(answer))
    }
}

impl PutDatabaseRole<'_> {
    /// SQL that follows when a user lives longer, with `{{name}}` and `{{expires}}`.
    pub fn renewal(mut self, statements: Vec<String>) -> Self {
        self.message.renewal = statements;
        self
    }

    /// SQL that ends a user, with `{{name}}`, instead of what drops it with what it owns.
    pub fn revocation(mut self, statements: Vec<String>) -> Self {
        self.message.revocation = statements;
        self
    }

    /// How long a user lives unless it is renewed; an hour, if nothing is said.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.message.ttl_seconds = ttl.as_secs();
        self
    }

    /// How long it may live; a day, if nothing is said.
    pub fn max_ttl(mut self, ttl: Duration) -> Self {
        self.message.max_ttl_seconds = ttl.as_secs();
        self
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the SQL has no place for a name or a password.
    pub async fn send(self) -> Result<DatabaseRole, Error> {
        let call = self.client.session();
        // The same role twice is the same.
        let answer =
            call.call(Mode::READ, self.message, |ch, rq| async move {
                DatabaseClient::new(ch).put_role(rq).await
            })
            .await?;
        Ok(role(answer))
    }
}

fn configured(answer: v1::DatabaseConfiguration) -> DatabaseConfiguration {
    DatabaseConfiguration {
        path: answer.path,
        host: answer.host,
        port: answer.port,
        database: answer.database,
        user: answer.user,
        ca_pem: answer.ca_pem,
        plaintext: answer.plaintext,
        max_connections: answer.max_connections,
        rotated_at: optional_timestamp(answer.rotated_at_ms),
    }
}

fn role(answer: v1::DatabaseRole) -> DatabaseRole {
    DatabaseRole {
        path: answer.path,
        creation: answer.creation,
        renewal: answer.renewal,
        revocation: answer.revocation,
        ttl: Duration::from_secs(answer.ttl_seconds),
        max_ttl: Duration::from_secs(answer.max_ttl_seconds),
    }
}

fn account(answer: v1::DatabaseAccount) -> DatabaseAccount {
    DatabaseAccount {
        path: answer.path,
        user: answer.user,
        rotated_at: optional_timestamp(answer.rotated_at_ms),
        rotation_period: period(answer.rotation_period_seconds),
    }
}

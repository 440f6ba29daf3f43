//! A real PostgreSQL, and a mount `db` of a Strongroom server that works with it.

use std::{fs, io};

use strongroom_client::{Client, SecretBytes};

use crate::postgres::Postgres;

/// The user that the server works as.
pub const ROOT: &str = "strongroom";
/// Its password at first.
pub const ROOT_PASSWORD: &str = "canary0root0password";
/// How a role makes users, who may read the table `orders`.
pub const CREATE: &str = "CREATE ROLE {{name}} LOGIN PASSWORD {{password}} IN ROLE reader";

/// See the module.
pub struct Database {
    pub postgres: Postgres,
}

impl Database {
    /// Starts it. None if PostgreSQL is not installed, which is an error in CI.
    ///
    /// # Errors
    /// It did not come up.
    pub async fn start() -> io::Result<Option<Self>> {
        let started = tokio::task::spawn_blocking(Postgres::start).await.map_err(io::Error::other)??;
        let Some(postgres) = started else { return Ok(None) };
        postgres.sql(&format!(
            "CREATE ROLE {ROOT} LOGIN CREATEROLE PASSWORD '{ROOT_PASSWORD}' IN ROLE pg_signal_backend;
             CREATE TABLE orders (id int); INSERT INTO orders VALUES (7); CREATE ROLE reader;
             GRANT SELECT ON orders TO reader; CREATE ROLE legacy LOGIN"
        ))?;
        Ok(Some(Self { postgres }))
    }

    /// Mounts the engine as `db`, and tells it where the database is.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn mount(&self, root: &Client) -> io::Result<()> {
        root.sys().mount("db", "database", "", Default::default()).await.map_err(io::Error::other)?;
        let database = root.database();
        let configure = database.configure("db", "127.0.0.1", ROOT).port(self.postgres.port);
        let ca = fs::read_to_string(&self.postgres.ca)?;
        let configure = configure.ca_pem(ca).password(SecretBytes::from(ROOT_PASSWORD));
        configure.send().await.map(drop).map_err(io::Error::other)
    }

    /// Whether it lets this user in and to the table.
    pub fn reads(&self, user: &str, password: &str) -> bool {
        self.postgres.sql_as(user, password, "SELECT id FROM orders").is_ok_and(|rows| rows == "7")
    }

    /// How many users the server has made that are still there.
    pub fn users(&self) -> String {
        let count = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'sr\\_%'";
        self.postgres.sql(count).unwrap_or_else(|error| error.to_string())
    }
}

//! The client for programs that are not asynchronous: the same calls, each of which waits for its answer. It has a runtime with
//! one thread of its own, on which sessions are renewed and connections kept between the calls.
//!
//! ```no_run
//! use strongroom_client::{Client, SecretBytes, SecretState, blocking};
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = blocking::Client::connect(Client::from_env()?)?;
//! let secret = client.get("secret/app/db")?;
//! println!("version {}", secret.version);
//! client.put("secret/app/db", [("password".to_owned(), SecretBytes::from("correct horse"))])?;
//!
//! // What has no call of its own here is one with `call`.
//! let written = client.call(async |client| {
//!     client.patch("secret/app/db").set("user", SecretBytes::from("shop")).expected_version(2).send().await
//! })?;
//! println!("version {}", written.current_version);
//!
//! for state in client.watch_secret("secret/app/db")? {
//!     match state? {
//!         SecretState::Value(secret) => println!("now at version {}", secret.version),
//!         SecretState::Gone(why) => println!("{why}"),
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! Asynchronous code cannot wait like this: there, every call fails at once.
//!
//! ```
//! use strongroom_client::{Client, ErrorKind, blocking};
//!
//! let runtime = tokio::runtime::Runtime::new().unwrap();
//! let error = runtime.block_on(async { blocking::Client::connect(Client::builder("https://localhost:7420")) });
//! assert_eq!(error.err().unwrap().kind(), &ErrorKind::Config);
//! ```

use std::sync::Arc;

use futures_util::StreamExt;
use strongroom_proto::SecretBytes;
use tokio::runtime::{Builder as RuntimeBuilder, Handle, Runtime};

use crate::{
    answer::ResultStream,
    calls::{
        follow::SecretState,
        secrets::{Metadata, Secret},
    },
    client::{Builder, Client as AsyncClient},
    error::Error,
};

/// A client whose calls wait for their answers. Clones share connections, session and runtime.
#[derive(Clone)]
pub struct Client {
    client: AsyncClient,
    background: Arc<Background>,
}

/// What there is to read of a secret now, then each change of that; each step waits. See
/// [`watch_secret`](crate::Client::watch_secret).
pub struct States {
    states: ResultStream<SecretState>,
    background: Arc<Background>,
}

/// The runtime; empty only while it is dropped.
struct Background(Option<Runtime>);

impl Client {
    /// Connects, as [`Builder::connect`] does.
    ///
    /// # Errors
    /// The same, and [`ErrorKind::Config`](crate::ErrorKind::Config) in asynchronous code.
    pub fn connect(builder: Builder) -> Result<Self, Error> {
        let background = Background::start()?;
        let client = background.wait(builder.connect())??;
        Ok(Self { client, background: Arc::new(background) })
    }

    /// Builds the client without a word to the server, as [`Builder::connect_lazily`] does.
    ///
    /// # Errors
    /// The same, and [`ErrorKind::Config`](crate::ErrorKind::Config) in asynchronous code.
    pub fn connect_lazily(builder: Builder) -> Result<Self, Error> {
        let background = Background::start()?;
        let client = background.wait(builder.connect_lazily())??;
        Ok(Self { client, background: Arc::new(background) })
    }

    /// Makes any call of the [asynchronous client](crate::Client) and waits for its answer.
    ///
    /// # Errors
    /// Those of the call.
    pub fn call<T>(&self, call: impl AsyncFnOnce(&AsyncClient) -> Result<T, Error>) -> Result<T, Error> {
        self.background.wait(call(&self.client))?
    }

    /// Reads the latest version of a secret.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if nothing readable is there.
    pub fn get(&self, path: &str) -> Result<Secret, Error> {
        self.call(async |client| client.get(path).await)
    }

    /// Writes a new version with these values and no others.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub fn put(
        &self,
        path: &str,
        values: impl IntoIterator<Item = (String, SecretBytes)>,
    ) -> Result<Metadata, Error> {
        self.call(async |client| client.put(path).values(values).send().await)
    }

    /// Yields what there is to read of a secret now, then each change of that.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) in asynchronous code.
    pub fn watch_secret(&self, path: &str) -> Result<States, Error> {
        let states = self.background.wait(async { self.client.watch_secret(path) })?;
        Ok(States { states, background: Arc::clone(&self.background) })
    }
}

impl Iterator for States {
    type Item = Result<SecretState, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.background.wait(self.states.next()).unwrap_or_else(|error| Some(Err(error)))
    }
}

impl Background {
    fn start() -> Result<Self, Error> {
        let runtime = RuntimeBuilder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| Error::config(format!("cannot start a thread: {error}")))?;
        Ok(Self(Some(runtime)))
    }

    /// Waits on the caller's own thread, unless others wait for that.
    fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        match &self.0 {
            Some(runtime) if Handle::try_current().is_err() => Ok(runtime.block_on(work)),
            _ => Err(Error::config(
                "the blocking client was called by asynchronous code: use strongroom_client::Client there",
            )),
        }
    }
}

impl Drop for Background {
    /// Without waiting, which asynchronous code may not do.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, fake::Fake};

    #[test]
    fn calls_wait_and_sessions_live_on_between_them() {
        let background = Background::start().unwrap();
        let fake = background.wait(Fake::start()).unwrap();
        let client = background.wait(async { fake.client() }).unwrap();
        let client = Client { client, background: Arc::new(background) };
        assert_eq!(client.get("secret/a").unwrap().version, 1);
        fake.expire_tokens();
        client.put("secret/a", [("k".to_owned(), SecretBytes::from("v"))]).unwrap();
        assert_eq!(fake.logins(), 1);

        let mut states = client.watch_secret("secret/a").unwrap();
        let mut version = || states.next().unwrap().unwrap().value().unwrap().version;
        assert_eq!(version(), 1);
        fake.write();
        assert_eq!(version(), 2);
        let names = client.call(async |client| client.list_page("secret", None, None).await);
        assert_eq!(names.unwrap().names, ["a", "b"]);
    }

    #[tokio::test]
    async fn in_asynchronous_code_a_call_fails_and_nothing_panics() {
        let background = Background::start().unwrap();
        let fake = Fake::start().await;
        let client = Client { client: fake.client(), background: Arc::new(background) };
        assert_eq!(client.get("secret/a").unwrap_err().kind(), &ErrorKind::Config);
        assert!(client.watch_secret("secret/a").is_err());
        drop(client);
    }
}

//! The connections of one mount to its database: few, none that is broken, and none for longer than its work.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use strongroom_proto::v1::Sensitive;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_postgres::{Client, types::Type};

use super::{
    Error,
    connect::Route,
    records::{Configuration, Secret},
};
use crate::model::{Invalid, SecretBytes};

/// How long somebody waits for one of the connections.
const WAIT: Duration = Duration::from_secs(5);
/// How long the statements of one thing may take together; the database ends each of them earlier.
const WORK: Duration = Duration::from_secs(20);
/// After that long without work a connection is not used again: something between here and there may have forgotten it.
const IDLE: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Pool {
    route: Route,
    user: String,
    database: String,
    current: SecretBytes,
    /// The password that may be the right one already.
    next: Option<SecretBytes>,
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<(Client, Instant)>>,
}

/// A connection at work. It goes back only if all went well.
pub(super) struct Session {
    client: Client,
    pool: Arc<Pool>,
    _slot: OwnedSemaphorePermit,
}

impl Pool {
    /// Connects to nobody yet.
    pub(super) fn new(configuration: &Configuration) -> Result<Arc<Self>, Invalid> {
        let secret = configuration.secret.as_ref();
        let of = |get: fn(&Secret) -> Option<&Sensitive>| {
            secret.and_then(get).map(|password| SecretBytes::from(password.value.as_slice()))
        };
        Ok(Arc::new(Self {
            route: Route::of(configuration)?,
            user: configuration.user.clone(),
            database: configuration.database.clone(),
            current: of(|secret| secret.current.as_ref()).unwrap_or_else(|| SecretBytes::from("")),
            next: of(|secret| secret.next.as_ref()),
            slots: Arc::new(Semaphore::new(usize::try_from(configuration.max_connections).unwrap_or(1))),
            idle: Mutex::default(),
        }))
    }

    pub(super) fn place(&self) -> &str {
        self.route.place()
    }

    /// A connection that works.
    pub(super) async fn session(self: &Arc<Self>) -> Result<Session, Error> {
        let busy = || Error::unavailable(self.place(), "has all connections of this mount at work");
        let slot = timeout(WAIT, Arc::clone(&self.slots).acquire_owned()).await;
        let slot = slot.map_err(|_| busy())?.map_err(|_| busy())?;
        let client = match self.rested().await {
            Some(client) => client,
            None => self.connect().await?,
        };
        Ok(Session { client, pool: Arc::clone(self), _slot: slot })
    }

    /// One that waits for work and is still good.
    async fn rested(&self) -> Option<Client> {
        loop {
            let (client, since) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            let good = !client.is_closed() && since.elapsed() < IDLE;
            if good && matches!(timeout(WAIT, client.batch_execute("")).await, Ok(Ok(()))) {
                return Some(client);
            }
        }
    }

    async fn connect(&self) -> Result<Client, Error> {
        let with = |password| self.route.connect(&self.user, &self.database, password);
        match (with(&self.current).await, &self.next) {
            (Err(error), Some(next)) if error.is_password() => with(next).await,
            (other, _) => other,
        }
    }
}

impl Session {
    /// All of the statements or none; `sent` with them is what must not be repeated in an error.
    pub(super) async fn all(&mut self, statements: &[String], sent: &[&str]) -> Result<(), Error> {
        let place = self.pool.place().to_owned();
        let work = async {
            let transaction = self.client.transaction().await?;
            for statement in statements {
                transaction.batch_execute(statement).await?;
            }
            transaction.commit().await
        };
        let done = timeout(WORK, work).await.map_err(|_| late(&place))?;
        done.map_err(|error| Error::of_database(&place, &error, sent))
    }

    /// The number of a user, if there is one of that name.
    pub(super) async fn oid(&self, user: &str) -> Result<Option<u32>, Error> {
        const FIND: &str = "SELECT oid FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) $1";
        let (place, user) = (self.pool.place(), user.to_owned());
        let rows = timeout(WORK, self.client.query_typed(FIND, &[(&user, Type::TEXT)])).await;
        let rows = rows.map_err(|_| late(place))?;
        let of = |error| Error::of_database(place, &error, &[]);
        rows.map_err(of)?.first().map(|row| row.try_get(0)).transpose().map_err(of)
    }

    /// Ends the sessions of a user.
    pub(super) async fn terminate(&self, oid: u32) -> Result<(), Error> {
        const END: &str = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
            WHERE usesysid OPERATOR(pg_catalog.=) $1";
        let place = self.pool.place();
        let done = timeout(WORK, self.client.query_typed(END, &[(&oid, Type::OID)])).await;
        let done = done.map_err(|_| late(place))?;
        done.map(drop).map_err(|error| Error::of_database(place, &error, &[]))
    }

    /// It may be used again.
    pub(super) fn done(self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push((self.client, Instant::now()));
    }
}

fn late(place: &str) -> Error {
    Error::unavailable(place, format!("does not finish within {} s", WORK.as_secs()))
}

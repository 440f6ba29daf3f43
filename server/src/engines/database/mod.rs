//! database: users of a PostgreSQL server that exist for a while, and passwords of users that stay. A mount is one database
//! server. What it can do stands here; how, in the files beside it.

mod connect;
mod error;
mod name;
mod pool;
mod records;
mod rotation;
mod service;
mod sql;
#[cfg(test)]
mod tests;
mod users;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use strongroom_proto::v1;
use tokio_util::task::TaskTracker;

use self::{
    error::Error,
    pool::Pool,
    records::{Account, Configuration, Records, Role, Secret},
    users::{Made, Planned, User},
};
use super::{Due, Engine, EngineError, EngineKind, Granted, Make, Parts, Reply, Settings, no_settings, own};
use crate::{
    barrier::BarrierError,
    crypto::Entropy,
    model::{Invalid, Path, RequestId, SecretBytes, Timestamp, Verb},
    permit::Permit,
    storage::Revision,
};

/// database, for the mount table.
pub const KIND: EngineKind = EngineKind {
    name: "database",
    description: "Makes and ends users of a PostgreSQL server, and changes passwords there.",
    service: service::SERVICE,
    check,
    build,
};

/// What the engine is asked to do at the permit's path.
enum Operation {
    Configure {
        configuration: Configuration,
        /// None: the one that is kept.
        password: Option<SecretBytes>,
    },
    DescribeConfiguration,
    RotateRoot,
    PutRole(Role),
    DescribeRole,
    DeleteRole,
    ListRoles {
        page_token: Option<String>,
    },
    Issue {
        /// None: as long as the role says.
        ttl: Option<u64>,
    },
    PutAccount {
        user: String,
        rotation_period: u64,
    },
    DescribeAccount,
    DeleteAccount,
    ListAccounts {
        page_token: Option<String>,
    },
    RotateAccount,
    Password,
}

/// What it answers.
enum Output {
    Configuration { path: Path, configuration: Configuration },
    RootRotated { at_ms: i64 },
    Role { path: Path, role: Role },
    RoleDeleted,
    Roles { paths: Vec<Path>, next: Option<String> },
    User { lease: v1::Lease, made: Made },
    Account { path: Path, account: Account },
    AccountDeleted,
    Accounts { paths: Vec<Path>, next: Option<String> },
    Password(Account),
}

impl super::Operation for Operation {
    fn verbs(&self) -> &'static [Verb] {
        match self {
            Self::Configure { .. }
            | Self::DescribeConfiguration
            | Self::RotateRoot
            | Self::PutRole(_)
            | Self::DeleteRole
            | Self::PutAccount { .. }
            | Self::DeleteAccount => &[Verb::Manage],
            Self::DescribeRole | Self::DescribeAccount => &[Verb::Read, Verb::Manage],
            Self::ListRoles { .. } | Self::ListAccounts { .. } => &[Verb::List],
            Self::RotateAccount => &[Verb::Update],
            Self::Issue { .. } => &[Verb::Use],
            Self::Password => &[Verb::Read],
        }
    }

    fn is_write(&self) -> bool {
        match self {
            Self::Configure { .. }
            | Self::RotateRoot
            | Self::PutRole(_)
            | Self::DeleteRole
            | Self::Issue { .. }
            | Self::PutAccount { .. }
            | Self::DeleteAccount
            | Self::RotateAccount => true,
            Self::DescribeConfiguration
            | Self::DescribeRole
            | Self::ListRoles { .. }
            | Self::DescribeAccount
            | Self::ListAccounts { .. }
            | Self::Password => false,
        }
    }

    fn changes(&self) -> Vec<String> {
        match self {
            Self::Configure { configuration, password } => {
                let Configuration { user, database, .. } = configuration;
                let place = format!("database {database} at {} as {user}", configuration.place());
                let password = password.as_ref().map(|_| "another password".to_owned());
                std::iter::once(place).chain(password).collect()
            }
            Self::PutRole(role) => {
                vec![format!("ttl {} s", role.ttl), format!("max ttl {} s", role.max_ttl)]
            }
            Self::PutAccount { user, rotation_period: 0 } => vec![format!("user {user}")],
            Self::PutAccount { user, rotation_period } => {
                vec![format!("user {user}"), format!("rotation every {rotation_period} s")]
            }
            _ => Vec::new(),
        }
    }
}

/// One mounted database.
struct Mounted {
    database: Arc<Database>,
    /// Writes that continue when their callers are gone.
    tasks: TaskTracker,
}

/// A user that is made once there is a lease for it.
struct Making {
    database: Arc<Database>,
    planned: Planned,
}

/// What is known of it.
struct Database {
    records: Records,
    entropy: Arc<dyn Entropy>,
    /// The connections, and the configuration that they were made by.
    pool: Mutex<Option<(Revision, Arc<Pool>)>>,
    /// One password is changed at a time.
    rotating: tokio::sync::Mutex<()>,
}

fn check(settings: &Settings) -> Result<(), Invalid> {
    no_settings(KIND.name, settings)
}

fn build(parts: Parts) -> Result<Box<dyn Engine>, Invalid> {
    check(&parts.settings)?;
    let database = Arc::new(Database::new(Records::new(parts.view), parts.entropy));
    Ok(Box::new(Mounted { database, tasks: parts.tasks }))
}

#[async_trait]
impl Engine for Mounted {
    async fn run(
        &self,
        permit: Permit,
        operation: Box<dyn super::Operation>,
    ) -> Result<super::Output, EngineError> {
        let operation: Operation = own(operation)?;
        let path = permit.path().clone();
        if let Operation::Issue { ttl } = operation {
            let planned = self.database.plan(&path, ttl, permit.principal(), permit.at()).await?;
            return Ok(super::Output::lease(
                planned.terms(),
                Making { database: Arc::clone(&self.database), planned },
            ));
        }
        let (database, by, now) = (Arc::clone(&self.database), permit.request_id(), permit.at());
        // A password may have a change to finish, which is then finished even if nobody waits for it.
        let to_the_end = super::Operation::is_write(&operation) || matches!(operation, Operation::Password);
        let output = if to_the_end {
            let task = self.tasks.spawn(async move { database.write(path, by, now, operation).await });
            task.await.unwrap_or(Err(BarrierError::Stopped.into()))?
        } else {
            self.database.read(path, operation, |path| permit.scope().sees_leaf(path)).await?
        };
        Ok(super::Output::one(output))
    }

    fn issues(&self, ttl: Option<u64>) -> Option<Box<dyn super::Operation>> {
        Some(Box::new(Operation::Issue { ttl }))
    }

    async fn renew(&self, data: &SecretBytes, until: Timestamp) -> Result<(), EngineError> {
        Ok(self.database.renew(&User::kept(data)?, until).await?)
    }

    async fn revoke(&self, data: &SecretBytes) -> Result<(), EngineError> {
        Ok(self.database.revoke(&User::kept(data)?).await?)
    }

    async fn overdue(&self, now: Timestamp) -> Result<Vec<Due>, BarrierError> {
        self.database.overdue(now).await
    }

    async fn attend(&self, path: &Path, by: RequestId, now: Timestamp) -> Result<(), EngineError> {
        let (database, path) = (Arc::clone(&self.database), path.clone());
        // To the end, even if nobody waits for it.
        let task = self.tasks.spawn(async move { database.rotate_if_due(&path, by, now).await });
        Ok(task.await.unwrap_or(Err(BarrierError::Stopped.into()))?)
    }

    async fn erase(&self) -> Result<(), BarrierError> {
        self.database.records.erase().await
    }
}

#[async_trait]
impl Make for Making {
    async fn make(self: Box<Self>, granted: &Granted) -> Result<Box<dyn Reply>, EngineError> {
        let made = self.database.make(&self.planned, granted.expires).await?;
        Ok(Box::new(Output::User { lease: granted.into(), made }))
    }
}

impl Database {
    fn new(records: Records, entropy: Arc<dyn Entropy>) -> Self {
        Self { records, entropy, pool: Mutex::default(), rotating: tokio::sync::Mutex::default() }
    }

    /// The connections to the database as it is configured now.
    async fn pool(&self) -> Result<Arc<Pool>, Error> {
        let (configuration, revision) = self.records.configuration().await?;
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, pool)) = pool.as_ref().filter(|(since, _)| *since == revision) {
            return Ok(Arc::clone(pool));
        }
        let made = Pool::new(&configuration)?;
        *pool = Some((revision, Arc::clone(&made)));
        Ok(made)
    }

    async fn read(
        &self,
        path: Path,
        operation: Operation,
        sees: impl Fn(&Path) -> bool,
    ) -> Result<Output, Error> {
        Ok(match operation {
            Operation::ListRoles { page_token } => {
                let (paths, next) = self.records.page::<Role>(&path, page_token.as_deref(), sees).await?;
                Output::Roles { paths, next }
            }
            Operation::ListAccounts { page_token } => {
                let (paths, next) = self.records.page::<Account>(&path, page_token.as_deref(), sees).await?;
                Output::Accounts { paths, next }
            }
            Operation::DescribeRole => {
                let (role, _) = self.records.get(&path).await?;
                Output::Role { path, role }
            }
            Operation::DescribeAccount => {
                let (account, _) = self.records.get(&path).await?;
                Output::Account { path, account }
            }
            _ => {
                let found = self.records.find(&path).await?;
                let (configuration, _) = found.ok_or(Error::NotConfigured)?;
                Output::Configuration { path, configuration }
            }
        })
    }

    async fn write(
        &self,
        path: Path,
        by: RequestId,
        now: Timestamp,
        operation: Operation,
    ) -> Result<Output, Error> {
        Ok(match operation {
            Operation::Configure { configuration, password } => {
                let configuration = self.configure(&path, configuration, password, by).await?;
                Output::Configuration { path, configuration }
            }
            Operation::RotateRoot => {
                let _alone = self.rotating.lock().await;
                let found = self.records.find::<Configuration>(&path).await?.ok_or(Error::NotConfigured)?;
                let configuration = self.rotate(&path, found, Some(by), now).await?;
                Output::RootRotated { at_ms: configuration.secret.map_or(0, |secret| secret.rotated_ms) }
            }
            Operation::PutRole(role) => {
                if self.records.find::<Account>(&path).await?.is_some() {
                    return Err(Error::Exists("an account"));
                }
                let was = self.records.find::<Role>(&path).await?.map(|(_, revision)| revision);
                self.records.put::<Role, Account>(&path, &role, was, Some(by)).await?;
                Output::Role { path, role }
            }
            Operation::DeleteRole => {
                self.records.delete::<Role>(&path, by).await?;
                Output::RoleDeleted
            }
            Operation::PutAccount { user, rotation_period } => {
                let account = self.put_account(&path, user, rotation_period, by, now).await?;
                Output::Account { path, account }
            }
            Operation::RotateAccount => {
                let _alone = self.rotating.lock().await;
                let found = self.records.get::<Account>(&path).await?;
                let account = self.rotate(&path, found, Some(by), now).await?;
                Output::Account { path, account }
            }
            Operation::DeleteAccount => {
                self.records.delete::<Account>(&path, by).await?;
                Output::AccountDeleted
            }
            Operation::Password => Output::Password(self.with_password(&path, now).await?),
            _ => return self.read(path, operation, |_| false).await,
        })
    }

    /// Tries a configuration, and keeps it if it works.
    async fn configure(
        &self,
        path: &Path,
        mut configuration: Configuration,
        password: Option<SecretBytes>,
        by: RequestId,
    ) -> Result<Configuration, Error> {
        let _alone = self.rotating.lock().await;
        let was = self.records.find::<Configuration>(path).await?;
        let revision = was.as_ref().map(|(_, revision)| *revision);
        configuration.secret = match (password, was) {
            (Some(password), _) => Some(Secret::given(&password)),
            // Whoever could send it elsewhere would learn it there.
            (None, Some((was, _))) if was.is_the_same_user_as(&configuration) => was.secret,
            (None, Some(_)) => {
                let problem = "is missing; it has to be given again when host, port or user change";
                return Err(Invalid::new("password", problem).into());
            }
            (None, None) => return Err(Invalid::new("password", "is missing").into()),
        };
        Self::try_out(&configuration).await?;
        self.records.put::<Configuration, Configuration>(path, &configuration, revision, Some(by)).await?;
        Ok(configuration)
    }
}

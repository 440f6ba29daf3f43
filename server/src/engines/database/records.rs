//! What a mount keeps: where its database is, its roles and its accounts. One record each, sealed like everything, and
//! changed on condition that nobody else has changed it since.

use prost::Message;
use strongroom_proto::v1::Sensitive;

use super::{
    Error,
    connect::Route,
    sql::{self, Place},
};
use crate::{
    barrier::{Address, BarrierError, Changes, OpenedRecord, RecordKind, View},
    engines::{lifetime::Bounds, names, schedule},
    model::{Invalid, Path, RequestId, SecretBytes, Timestamp},
    storage::{Condition, Revision},
};

/// PostgreSQL's own.
const PORT: u32 = 5432;
/// Users are made in milliseconds, and a database has few connections to give.
const CONNECTIONS: u32 = 4;
/// A third of what PostgreSQL has for all, unless it is told otherwise.
const MOST_CONNECTIONS: u32 = 32;
/// How long a user lives.
const LIFE: Bounds = Bounds {
    ttl: 3600,
    max_ttl: 24 * 3600,
    // Whoever asks for less renews more often than a database likes.
    shortest: 5,
    // What lives longer is an account.
    longest: 366 * 24 * 3600,
};

/// Something that is kept as a record.
pub(super) trait Kept: Message + Default {
    const KIND: RecordKind;
    /// As in "there is no role at this path".
    const WHAT: &str;
}

/// Where the database is, and as whom to work there.
#[derive(Message)]
#[prost(skip_debug)]
pub(super) struct Configuration {
    /// A name, an address, or the folder of a Unix socket.
    #[prost(string, tag = "1")]
    pub(super) host: String,
    #[prost(uint32, tag = "2")]
    pub(super) port: u32,
    #[prost(string, tag = "3")]
    pub(super) database: String,
    #[prost(string, tag = "4")]
    pub(super) user: String,
    #[prost(message, optional, tag = "5")]
    pub(super) secret: Option<Secret>,
    #[prost(string, tag = "6")]
    pub(super) ca_pem: String,
    #[prost(bool, tag = "7")]
    pub(super) plaintext: bool,
    #[prost(uint32, tag = "8")]
    pub(super) max_connections: u32,
}

/// A password that the server changes in three steps, of which a crash may leave out the last or the last two: it keeps the
/// next one, tells the database, and then uses it. Until then either may be the right one.
#[derive(Message)]
#[prost(skip_debug)]
pub(super) struct Secret {
    #[prost(message, optional, tag = "1")]
    pub(super) current: Option<Sensitive>,
    #[prost(message, optional, tag = "2")]
    pub(super) next: Option<Sensitive>,
    /// 0 = never: somebody gave it.
    #[prost(int64, tag = "3")]
    pub(super) rotated_ms: i64,
}

/// How users are made, renewed and revoked.
#[derive(Message)]
pub(super) struct Role {
    #[prost(string, repeated, tag = "1")]
    pub(super) creation: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) renewal: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(super) revocation: Vec<String>,
    #[prost(uint64, tag = "4")]
    pub(super) ttl: u64,
    #[prost(uint64, tag = "5")]
    pub(super) max_ttl: u64,
}

/// A user that was there before, and its password.
#[derive(Message)]
#[prost(skip_debug)]
pub(super) struct Account {
    #[prost(string, tag = "1")]
    pub(super) user: String,
    #[prost(message, optional, tag = "2")]
    pub(super) secret: Option<Secret>,
    /// Seconds after which it gets another; 0 = when somebody says so.
    #[prost(uint64, tag = "3")]
    pub(super) rotation_period: u64,
}

impl Kept for Configuration {
    const KIND: RecordKind = RecordKind::new(21, "DatabaseConfiguration");
    const WHAT: &str = "configuration";
}

impl Kept for Role {
    const KIND: RecordKind = RecordKind::new(22, "DatabaseRole");
    const WHAT: &str = "role";
}

impl Kept for Account {
    const KIND: RecordKind = RecordKind::new(23, "DatabaseAccount");
    const WHAT: &str = "account";
}

impl Configuration {
    /// With what is good where nothing is said.
    pub(super) fn parse(configuration: Self) -> Result<Self, Invalid> {
        let or = |given: u32, default: u32| if given == 0 { default } else { given };
        let database = match configuration.database.as_str() {
            "" => "postgres".to_owned(),
            given => given.to_owned(),
        };
        let port = or(configuration.port, PORT);
        let max_connections = or(configuration.max_connections, CONNECTIONS);
        if max_connections > MOST_CONNECTIONS {
            let problem = format!("is {max_connections}; expected at most {MOST_CONNECTIONS}");
            return Err(Invalid::new("max_connections", problem));
        }
        sql::check_name("user", &configuration.user)?;
        sql::check_name("database", &database)?;
        let configuration = Self { port, database, max_connections, ..configuration };
        Route::of(&configuration)?;
        Ok(configuration)
    }

    /// Whether its password goes to the same user of the same server.
    pub(super) fn is_the_same_user_as(&self, other: &Self) -> bool {
        (&self.host, self.port, &self.user) == (&other.host, other.port, &other.user)
    }

    /// How people call it.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl Role {
    /// With what is good where nothing is said.
    pub(super) fn parse(role: Self) -> Result<Self, Invalid> {
        let (ttl, max_ttl) = LIFE.of_role(role.ttl, role.max_ttl)?;
        let role = Self { ttl, max_ttl, ..role };
        let (name, password, expires) = (Place::Name, Place::Password, Place::Expires);
        sql::check("creation", &role.creation, &[name, password], &[name, password, expires])?;
        sql::check("renewal", &role.renewal, &[], &[name, expires])?;
        sql::check("revocation", &role.revocation, &[], &[name])?;
        Ok(role)
    }
}

impl Role {
    /// How long a user lives for somebody who asked for `asked`.
    pub(super) fn ttl_of(&self, asked: Option<u64>) -> Result<u64, Invalid> {
        LIFE.of_asked(asked, self.ttl, self.max_ttl)
    }
}

impl Account {
    /// Whether its password is to be another by now.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let since = self.secret.as_ref().map_or(0, |secret| secret.rotated_ms);
        schedule::is_due(self.rotation_period, Timestamp::from_millis(since), now)
    }
}

impl Secret {
    /// One that somebody gave.
    pub(super) fn given(password: &SecretBytes) -> Self {
        Self { current: Some(password.into()), next: None, rotated_ms: 0 }
    }

    /// The next one is the current one from now on.
    pub(super) fn advance(&mut self, now: Timestamp) {
        if let Some(next) = self.next.take() {
            self.current = Some(next);
            self.rotated_ms = now.as_millis();
        }
    }
}

/// The records of one mount.
#[derive(Clone)]
pub(super) struct Records(View);

impl Records {
    pub(super) fn new(view: View) -> Self {
        Self(view)
    }

    pub(super) async fn find<R: Kept>(&self, path: &Path) -> Result<Option<(R, Revision)>, Error> {
        self.at(&address::<R>(path)?).await
    }

    async fn at<R: Kept>(&self, address: &Address) -> Result<Option<(R, Revision)>, Error> {
        let Some(found) = self.0.get(address).await? else { return Ok(None) };
        Ok(Some((decoded(&found)?, found.revision)))
    }

    /// The one configuration there is.
    pub(super) async fn configuration(&self) -> Result<(Configuration, Revision), Error> {
        self.at(&at_mount()).await?.ok_or(Error::NotConfigured)
    }

    pub(super) async fn get<R: Kept>(&self, path: &Path) -> Result<(R, Revision), Error> {
        self.find(path).await?.ok_or(Error::NotFound(R::WHAT))
    }

    /// Writes a record over the one of `was`, or where there is none and none of the kind `Other` either: a path names one
    /// thing, so that a policy means one thing. `by` a request that is done with it.
    pub(super) async fn put<R: Kept, Other: Kept>(
        &self,
        path: &Path,
        record: &R,
        was: Option<Revision>,
        by: Option<RequestId>,
    ) -> Result<Revision, Error> {
        let address = address::<R>(path)?;
        let condition = was.map_or(Condition::Absent, Condition::At);
        let mut changes = Changes { by, ..Changes::default() };
        changes.conditions.push((address.clone(), condition));
        if R::KIND != Other::KIND {
            changes.conditions.push((self::address::<Other>(path)?, Condition::Absent));
        }
        changes.puts.push((address, SecretBytes::from(record.encode_to_vec())));
        Ok(self.0.commit(changes).await?)
    }

    pub(super) async fn delete<R: Kept>(&self, path: &Path, by: RequestId) -> Result<(), Error> {
        let (_, revision) = self.get::<R>(path).await?;
        let address = address::<R>(path)?;
        let conditions = vec![(address.clone(), Condition::At(revision))];
        let changes =
            Changes { conditions, deletes: vec![address], urgent: true, by: Some(by), ..Changes::default() };
        self.0.commit(changes).await?;
        Ok(())
    }

    pub(super) async fn page<R: Kept>(
        &self,
        folder: &Path,
        after: Option<&str>,
        sees: impl Fn(&Path) -> bool,
    ) -> Result<(Vec<Path>, Option<String>), Error> {
        Ok(names::page(&self.0, R::KIND, folder, after, sees).await?)
    }

    /// The accounts that are due for another password, by their names within the mount.
    pub(super) async fn overdue(&self, now: Timestamp) -> Result<Vec<(Box<str>, Account)>, BarrierError> {
        let mut due = Vec::new();
        names::each(&self.0, Account::KIND, |found| {
            let account: Account = decoded(&found.entry)?;
            if account.is_due(now) {
                due.push((found.name, account));
            }
            Ok(())
        })
        .await?;
        Ok(due)
    }

    pub(super) async fn erase(&self) -> Result<(), BarrierError> {
        for kind in [Configuration::KIND, Role::KIND, Account::KIND] {
            self.0.erase(kind, "").await?;
        }
        Ok(())
    }
}

fn decoded<R: Kept>(found: &OpenedRecord) -> Result<R, BarrierError> {
    let corrupt = |_| BarrierError::Corrupt { kind: R::KIND, namespace: "database".to_owned() };
    R::decode(found.content.expose()).map_err(corrupt)
}

/// There is one configuration, and it belongs to the mount itself.
fn address<R: Kept>(path: &Path) -> Result<Address, Invalid> {
    if R::KIND == Configuration::KIND {
        return match path.within_mount() {
            "" => Ok(at_mount()),
            _ => Err(Invalid::new("path", format!("{path} is not a mount; expected {}", path.mount()))),
        };
    }
    names::address(R::KIND, path, R::WHAT)
}

fn at_mount() -> Address {
    Address { kind: Configuration::KIND, folder: Box::default(), name: "configuration".into(), part: 0 }
}

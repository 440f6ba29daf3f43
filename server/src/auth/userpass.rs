//! The auth method userpass: people with a name and a password, kept in the store. Knows nothing of tokens; whoever
//! deletes a user or sets a password revokes the sessions of the principal *afterwards* (see `tokens::revocations`).
//!
//! A name has one spelling only, `[a-z0-9._@-]{1,64}`: nothing is folded or normalised, so nobody can be somebody else
//! by another spelling (CVE-2025-6004, CVE-2025-5999).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use prost::Message;
use strongroom_proto::limits::PASSWORD_BYTES;
use zeroize::{Zeroize, Zeroizing};

use super::{
    AuthMethod, Credential, Kind, Login, LoginContext, LoginError,
    password::{HashError, Hasher},
};
use crate::{
    barrier::{self, Address, BarrierError, Changes, Cursor, Entry, View},
    crypto::{CryptoError, Entropy},
    model::{Group, Invalid, Principal, SecretBytes, Timestamp},
    storage::{Condition, Revision},
};

/// The line of `KINDS`.
pub const KIND: Kind = Kind {
    name: NAME,
    description: "People with a name and a password that Strongroom keeps (as argon2id hashes)",
    build: |view, entropy| Ok(Arc::new(Userpass::new(view, entropy)?)),
};

/// Most users: they are people, not workloads, and all of them are listed in one answer.
pub const MAX_USERS: usize = 5_000;
/// Most groups of a user: they all travel in the token.
pub const MAX_GROUPS: usize = 32;

const NAME: &str = "userpass";
const NAME_BYTES: usize = 64;
const GROUP_BYTES: usize = 63;
/// Records of one scan.
const PAGE: usize = 100;

/// A user, without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its only spelling.
    pub name: Box<str>,
    /// Random; one re-created under the same name has another.
    pub uid: Box<str>,
    /// In the order they were given.
    pub groups: Vec<Box<str>>,
    /// When it was created.
    pub created: Timestamp,
}

/// Why a user was not changed.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is no such user.
    #[error("there is no such user")]
    NotFound,
    /// Too many hashes at once.
    #[error("too many passwords to hash at the moment; try again in {} ms", retry_after.as_millis())]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// No randomness.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The store or the keys.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
}

/// See the module.
pub struct Userpass {
    view: View,
    hasher: Hasher,
    entropy: Arc<dyn Entropy>,
    /// What the password of a user who does not exist is compared with.
    nobody: Zeroizing<String>,
}

/// A stored user. Holds a hash, so it has no `Debug`.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Record {
    #[prost(string, tag = "1")]
    uid: String,
    /// PHC string.
    #[prost(string, tag = "2")]
    hash: String,
    #[prost(string, repeated, tag = "3")]
    groups: Vec<String>,
    #[prost(int64, tag = "4")]
    created_ms: i64,
}

/// A user as read.
struct Stored {
    user: User,
    hash: Zeroizing<String>,
    revision: Revision,
}

impl User {
    /// Who they are once they have logged in.
    pub fn principal(&self) -> Principal {
        let group = |name: &Box<str>| Group { method: NAME.into(), name: name.clone() };
        Principal::User {
            method: NAME.into(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            groups: self.groups.iter().map(group).collect(),
        }
    }
}

#[async_trait]
impl AuthMethod for Userpass {
    fn name(&self) -> &str {
        NAME
    }

    async fn login(&self, credential: Credential, _context: &LoginContext) -> Result<Login, LoginError> {
        let Credential::Userpass { name, password } = credential;
        check_name(&name)?;
        if password.len() > *PASSWORD_BYTES.end() {
            return Err(too_long().into());
        }
        // One way for everybody: a user who does not exist costs the same hash and gets the same answer.
        let stored = self.read(&name).await?;
        let hash = stored.as_ref().map_or(&self.nobody, |stored| &stored.hash);
        let fits = self.hasher.fits(password, hash.clone()).await?;
        match stored {
            Some(stored) if fits => Ok(Login::person(stored.user.principal())),
            _ => Err(LoginError::Rejected),
        }
    }
}

impl Userpass {
    /// Everything in `view`, which no other subsystem uses.
    ///
    /// # Errors
    /// No randomness.
    pub fn new(view: View, entropy: Arc<dyn Entropy>) -> Result<Self, CryptoError> {
        Self::with_hasher(view, entropy, Hasher::new()?)
    }

    fn with_hasher(view: View, entropy: Arc<dyn Entropy>, hasher: Hasher) -> Result<Self, CryptoError> {
        let nobody = hasher.of_nothing(&*entropy)?;
        Ok(Self { view, hasher, entropy, nobody })
    }

    /// Creates a user, or sets the groups and, if one is given, the password. Sessions that are out keep the old groups
    /// until they are revoked.
    ///
    /// # Errors
    /// A field is wrong, too many hashes at once, or somebody changed the same user meanwhile.
    pub async fn put_user(
        &self,
        name: &str,
        password: Option<SecretBytes>,
        groups: &[String],
        now: Timestamp,
    ) -> Result<User, UserError> {
        check_name(name)?;
        check_groups(groups)?;
        let hash = match password {
            Some(password) => Some(self.hash(password).await?),
            None => None,
        };
        let stored = self.read(name).await?;
        let condition = stored.as_ref().map_or(Condition::Absent, |stored| Condition::At(stored.revision));
        let groups = groups.iter().map(|group| group.as_str().into()).collect();
        let (user, hash) = match (stored, hash) {
            (Some(stored), hash) => (User { groups, ..stored.user }, hash.unwrap_or(stored.hash)),
            (None, Some(hash)) => {
                self.check_room().await?;
                (User { name: name.into(), uid: self.fresh_uid()?, groups, created: now }, hash)
            }
            (None, None) => return Err(Invalid::new("password", "is missing; a new user needs one").into()),
        };
        let changes = Changes {
            conditions: vec![(address(name), condition)],
            puts: vec![(address(name), write(&user, &hash))],
            deletes: Vec::new(),
        };
        self.view.commit(changes).await?;
        Ok(user)
    }

    /// Deletes a user and says who that was. Their sessions live on until the principal is revoked, which is to be done
    /// after this, and also if this says that there is no such user: an earlier attempt may have stopped in between.
    ///
    /// # Errors
    /// No such user, or somebody changed the same one meanwhile.
    pub async fn delete_user(&self, name: &str) -> Result<User, UserError> {
        check_name(name)?;
        let stored = self.read(name).await?.ok_or(UserError::NotFound)?;
        let changes = Changes {
            conditions: vec![(address(name), Condition::At(stored.revision))],
            puts: Vec::new(),
            deletes: vec![address(name)],
        };
        self.view.commit(changes).await?;
        Ok(stored.user)
    }

    /// A user by name; the uid tells whether it is still the same one.
    ///
    /// # Errors
    /// Not a name, or the store.
    pub async fn find_user(&self, name: &str) -> Result<Option<User>, UserError> {
        check_name(name)?;
        Ok(self.read(name).await?.map(|stored| stored.user))
    }

    /// All users, by name.
    ///
    /// # Errors
    /// The store.
    pub async fn list_users(&self) -> Result<Vec<User>, UserError> {
        let mut users = Vec::new();
        let mut after: Option<Cursor> = None;
        // Two users made at the same moment can go past the limit together, so there is one page to spare.
        while users.len() <= MAX_USERS {
            let page = self.view.scan(barrier::Kind::User, "", after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.cursor.clone());
            for found in page {
                users.push(read(&found.name, found.entry)?.user);
            }
        }
        users.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(users)
    }

    async fn check_room(&self) -> Result<(), UserError> {
        if self.list_users().await?.len() >= MAX_USERS {
            return Err(Invalid::new("name", format!("is one too many; at most {MAX_USERS} users are kept")).into());
        }
        Ok(())
    }

    async fn hash(&self, password: SecretBytes) -> Result<Zeroizing<String>, UserError> {
        if password.len() > *PASSWORD_BYTES.end() {
            return Err(too_long().into());
        }
        if password.len() < *PASSWORD_BYTES.start() {
            let problem = format!("is too short; at least {} bytes are needed", PASSWORD_BYTES.start());
            return Err(Invalid::new("password", problem).into());
        }
        Ok(self.hasher.hash(password, &*self.entropy).await?)
    }

    fn fresh_uid(&self) -> Result<Box<str>, CryptoError> {
        let mut uid = [0; 8];
        self.entropy.fill(&mut uid)?;
        Ok(data_encoding::HEXLOWER.encode(&uid).into())
    }

    async fn read(&self, name: &str) -> Result<Option<Stored>, BarrierError> {
        let entry = self.view.get(&address(name)).await?;
        entry.map(|entry| read(name, entry)).transpose()
    }
}

fn address(name: &str) -> Address {
    Address { kind: barrier::Kind::User, folder: "".into(), name: name.into(), part: 0 }
}

fn read(name: &str, entry: Entry) -> Result<Stored, BarrierError> {
    let corrupt =
        |_| BarrierError::Corrupt { kind: barrier::Kind::User, namespace: String::from("sys/auth/userpass") };
    let record = Record::decode(entry.content.expose()).map_err(corrupt)?;
    let user = User {
        name: name.into(),
        uid: record.uid.into(),
        groups: record.groups.into_iter().map(Box::from).collect(),
        created: Timestamp::from_millis(record.created_ms),
    };
    Ok(Stored { user, hash: Zeroizing::new(record.hash), revision: entry.revision })
}

fn write(user: &User, hash: &str) -> SecretBytes {
    let mut record = Record {
        uid: user.uid.to_string(),
        hash: hash.to_owned(),
        groups: user.groups.iter().map(|group| group.to_string()).collect(),
        created_ms: user.created.as_millis(),
    };
    let bytes = SecretBytes::new(record.encode_to_vec());
    record.hash.zeroize();
    bytes
}

/// Whether it can be a user's name.
///
/// # Errors
/// It cannot.
pub(crate) fn check_name(name: &str) -> Result<(), Invalid> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._@-".contains(&b);
    if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(plain) {
        let problem = format!("is not a user name; expected 1 to {NAME_BYTES} of a-z 0-9 . _ @ -");
        return Err(Invalid::new("name", problem));
    }
    Ok(())
}

fn check_groups(groups: &[String]) -> Result<(), Invalid> {
    if groups.len() > MAX_GROUPS {
        return Err(Invalid::new("groups", format!("has {} groups; at most {MAX_GROUPS} are allowed", groups.len())));
    }
    for (n, group) in groups.iter().enumerate() {
        if !is_group(group) {
            let problem = "is not a group name; expected 1 to 63 of a-z 0-9 . _ -, a letter or digit first";
            return Err(Invalid::new(format!("groups[{n}]"), problem));
        }
        if groups.iter().take(n).any(|earlier| earlier == group) {
            return Err(Invalid::new(format!("groups[{n}]"), "is there twice"));
        }
    }
    Ok(())
}

fn is_group(name: &str) -> bool {
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    starts_well && name.len() <= GROUP_BYTES && name.bytes().all(plain)
}

fn too_long() -> Invalid {
    Invalid::new("password", format!("is too long; at most {} bytes are allowed", PASSWORD_BYTES.end()))
}

impl From<HashError> for LoginError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Busy { retry_after } => Self::Unavailable { retry_after },
            HashError::Failed(error) => Self::Barrier(error.into()),
        }
    }
}

impl From<HashError> for UserError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Busy { retry_after } => Self::Unavailable { retry_after },
            HashError::Failed(error) => Self::Crypto(error),
        }
    }
}

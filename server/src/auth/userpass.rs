//! The auth method userpass: people with a name and a password, kept in the store. Knows nothing of tokens; whoever
//! deletes a user or sets a password revokes the sessions of the principal *in the same batch* (see `tokens::revocations`).
//!
//! A name has one spelling only, `[a-z0-9._@+-]{1,64}`, in which every e-mail address can be written: nothing is folded or
//! normalised, so nobody can be somebody else by another spelling (CVE-2025-6004, CVE-2025-5999). Capitals are refused, not
//! taken for small letters: what people type is then what they find in policies, paths and records.

use std::sync::Arc;

use async_trait::async_trait;
use prost::Message;
use strongroom_proto::limits::PASSWORD_BYTES;
use tokio::sync::RwLock;
use zeroize::{Zeroize, Zeroizing};

use super::{
    AuthMethod, Build, Credential, Login, LoginContext, LoginError, MethodKind, WireCredential,
    password::{HashError, Hasher},
    throttle::{Throttle, Try},
    users::{UserChange, Users},
};
use crate::{
    barrier::{self, Address, BarrierError, Changes, Cursor, OpenedRecord, View},
    crypto::{CryptoError, Entropy},
    model::{Group, Invalid, Principal, SecretBytes, Timestamp},
    storage::{Condition, Revision},
};

/// The line of `KINDS`.
pub const KIND: MethodKind = MethodKind {
    name: NAME,
    description: "People with a name and a password that Strongroom keeps (as argon2id hashes)",
    read: |shown| match shown {
        WireCredential::Userpass(given) => {
            let password = given.password.unwrap_or_default().into();
            Ok(Credential::new(NAME, NameAndPassword { name: given.name, password }))
        }
        other => Err(other),
    },
    build: Build::OnStore(|parts| Ok(Arc::new(Userpass::new(parts.view, parts.entropy)?))),
    inspect: |_| Vec::new(),
};

/// What somebody shows.
struct NameAndPassword {
    name: String,
    password: SecretBytes,
}

const USER: barrier::RecordKind = barrier::RecordKind::new(48, "User");

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
pub struct UserInfo {
    /// Its only spelling.
    pub name: Box<str>,
    /// Random; one re-created under the same name has another.
    pub uid: Box<str>,
    /// In the order they were given.
    pub groups: Vec<Group>,
    /// When it was created.
    pub created: Timestamp,
}

/// See the module.
pub struct Userpass {
    view: View,
    hasher: Hasher,
    entropy: Arc<dyn Entropy>,
    /// What the password of a user who does not exist is compared with.
    nobody: Zeroizing<String>,
    throttle: Throttle,
    /// Held by whoever changes a user, and for a moment by each login that is about to be accepted.
    changing: Arc<RwLock<()>>,
}

/// A stored user. Holds a hash, so it has no `Debug`.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct UserRecord {
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
struct StoredUser {
    user: UserInfo,
    hash: Zeroizing<String>,
    revision: Revision,
}

impl UserInfo {
    /// Who they are once they have logged in.
    pub fn principal(&self) -> Principal {
        Principal::User {
            method: NAME.into(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            groups: self.groups.clone(),
        }
    }
}

#[async_trait]
impl AuthMethod for Userpass {
    fn name(&self) -> &'static str {
        NAME
    }

    fn users(&self) -> Option<&dyn Users> {
        Some(self)
    }

    fn claimed<'a>(&self, credential: &'a Credential) -> Option<&'a str> {
        credential.seen::<NameAndPassword>().map(|shown| &*shown.name)
    }

    async fn login(&self, credential: Credential, context: &LoginContext) -> Result<Login, LoginError> {
        let NameAndPassword { name, password } = credential.own()?;
        let (stored, attempt) = self.judge(&parse_name(&name)?, password, context).await?;
        let _no_changes = self.changing.read().await;
        self.check_unchanged(&stored).await?;
        if let Some(attempt) = attempt {
            attempt.succeeded();
        }
        Ok(Login::person(stored.user.principal()))
    }
}

#[async_trait]
impl Users for Userpass {
    async fn put_user(
        &self,
        name: &str,
        password: Option<SecretBytes>,
        groups: Option<Vec<Group>>,
        now: Timestamp,
    ) -> Result<UserChange, LoginError> {
        let name = parse_name(name)?;
        check_count(groups.as_ref().map_or(0, Vec::len))?;
        let hash = match password {
            Some(password) => Some(self.hash(password).await?),
            None => None,
        };
        let no_logins = Arc::clone(&self.changing).write_owned().await;
        let stored = self.read(&name).await?;
        let existed = stored.is_some();
        let condition = stored.as_ref().map_or(Condition::Absent, |stored| Condition::At(stored.revision));
        let (user, hash) = match (stored, hash) {
            (Some(StoredUser { user, hash: old, .. }), hash) => {
                let groups = groups.unwrap_or_else(|| user.groups.clone());
                (UserInfo { groups, ..user }, hash.unwrap_or(old))
            }
            (None, Some(hash)) => {
                self.check_room().await?;
                let groups = groups.unwrap_or_default();
                (UserInfo { name, uid: self.fresh_uid()?, groups, created: now }, hash)
            }
            (None, None) => return Err(Invalid::new("password", "is missing; a new user needs one").into()),
        };
        let changes = set(condition, &user, &hash);
        Ok(UserChange { view: self.view.clone(), changes, existed, _no_logins: no_logins })
    }

    async fn change_password(
        &self,
        who: &Principal,
        current: SecretBytes,
        new: SecretBytes,
        context: &LoginContext,
    ) -> Result<(Login, UserChange), LoginError> {
        let Principal::User { method, name, uid, .. } = who else { return Err(no_user().into()) };
        if **method != *NAME {
            return Err(no_user().into());
        }
        // What cannot become a password is no try at the current one.
        check_new(&new)?;
        let (stored, attempt) = self.judge(name, current, context).await?;
        if stored.user.uid != *uid {
            return Err(LoginError::Rejected);
        }
        let hash = self.hash(new).await?;
        let no_logins = Arc::clone(&self.changing).write_owned().await;
        // An administrator's new password is not replaced by somebody who only knew the one before.
        self.check_unchanged(&stored).await?;
        if let Some(attempt) = attempt {
            attempt.succeeded();
        }
        let changes = set(Condition::At(stored.revision), &stored.user, &hash);
        let change = UserChange { view: self.view.clone(), changes, existed: true, _no_logins: no_logins };
        Ok((Login::person(stored.user.principal()), change))
    }

    async fn delete_user(&self, name: &str) -> Result<UserChange, BarrierError> {
        let no_logins = Arc::clone(&self.changing).write_owned().await;
        let stored = self.read(name).await?;
        let condition = stored.as_ref().map_or(Condition::Absent, |stored| Condition::At(stored.revision));
        let changes = Changes {
            conditions: vec![(address(name), condition)],
            deletes: stored.iter().map(|_| address(name)).collect(),
            ..Changes::default()
        };
        Ok(UserChange { view: self.view.clone(), changes, existed: stored.is_some(), _no_logins: no_logins })
    }

    async fn list_users(&self) -> Result<Vec<UserInfo>, BarrierError> {
        let mut users = Vec::new();
        let mut after: Option<Cursor> = None;
        // Two users made at the same moment can go past the limit together, so there is a page to spare.
        while users.len() <= MAX_USERS {
            let page = self.view.scan(USER, "", after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.cursor.clone());
            for found in page {
                users.push(read(&found.name, found.entry)?.user);
            }
        }
        users.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(users)
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
        Ok(Self { view, hasher, entropy, nobody, throttle: Throttle::default(), changing: Arc::default() })
    }

    /// A user by name; the uid tells whether it is still the same one.
    #[cfg(test)]
    async fn find_user(&self, name: &str) -> Result<Option<UserInfo>, BarrierError> {
        Ok(self.read(name).await?.map(|stored| stored.user))
    }

    /// The user whose password that is. The try is open until something is made of it.
    async fn judge(
        &self,
        name: &str,
        password: SecretBytes,
        context: &LoginContext,
    ) -> Result<(StoredUser, Option<Try<'_>>), LoginError> {
        if password.len() > *PASSWORD_BYTES.end() {
            return Err(too_long().into());
        }
        // For names that do not exist as well: a pause tells nobody which do. Before the slow hash, so that many at once are
        // not judged one after the other.
        let admit = |peer| self.throttle.admit(peer, name, context.now);
        let attempt = context.peer.map(admit).transpose();
        let attempt = attempt.map_err(|retry_after| LoginError::Unavailable { retry_after })?;
        // One way for everybody: a user who does not exist costs the same hash and gets the same answer.
        let stored = self.read(name).await?;
        let hash = stored.as_ref().map_or(&self.nobody, |stored| &stored.hash);
        let fits = self.hasher.fits(password, hash.clone()).await?;
        match stored {
            Some(stored) if fits => Ok((stored, attempt)),
            _ => {
                if let Some(attempt) = attempt {
                    attempt.failed();
                }
                Err(LoginError::Rejected)
            }
        }
    }

    /// Who was changed during the hash has to be judged again: the end of the old sessions may lie behind us. Asked under
    /// the lock, so that the answer stays true.
    async fn check_unchanged(&self, stored: &StoredUser) -> Result<(), BarrierError> {
        let now = self.read(&stored.user.name).await?;
        match now.is_some_and(|now| now.revision == stored.revision) {
            true => Ok(()),
            false => Err(BarrierError::Conflict),
        }
    }

    async fn check_room(&self) -> Result<(), LoginError> {
        if self.list_users().await?.len() >= MAX_USERS {
            return Err(Invalid::new("name", format!("would exceed the limit of {MAX_USERS} users")).into());
        }
        Ok(())
    }

    async fn hash(&self, password: SecretBytes) -> Result<Zeroizing<String>, LoginError> {
        check_new(&password)?;
        Ok(self.hasher.hash(password, &*self.entropy).await?)
    }

    fn fresh_uid(&self) -> Result<Box<str>, BarrierError> {
        let mut uid = [0; 8];
        self.entropy.fill(&mut uid)?;
        Ok(data_encoding::HEXLOWER.encode(&uid).into())
    }

    async fn read(&self, name: &str) -> Result<Option<StoredUser>, BarrierError> {
        let entry = self.view.get(&address(name)).await?;
        entry.map(|entry| read(name, entry)).transpose()
    }
}

fn address(name: &str) -> Address {
    Address { kind: USER, folder: "".into(), name: name.into(), part: 0 }
}

/// What makes the user so, unless somebody else was faster.
fn set(condition: Condition, user: &UserInfo, hash: &str) -> Changes {
    let address = address(&user.name);
    Changes {
        conditions: vec![(address.clone(), condition)],
        puts: vec![(address, write(user, hash))],
        ..Changes::default()
    }
}

fn read(name: &str, entry: OpenedRecord) -> Result<StoredUser, BarrierError> {
    let corrupt = |_| BarrierError::Corrupt { kind: USER, namespace: String::from("sys/auth/userpass") };
    let record = UserRecord::decode(entry.content.expose()).map_err(corrupt)?;
    let user = UserInfo {
        name: name.into(),
        uid: record.uid.into(),
        groups: record.groups.into_iter().map(|name| group(&name)).collect(),
        created: Timestamp::from_millis(record.created_ms),
    };
    Ok(StoredUser { user, hash: Zeroizing::new(record.hash), revision: entry.revision })
}

fn write(user: &UserInfo, hash: &str) -> SecretBytes {
    let mut record = UserRecord {
        uid: user.uid.to_string(),
        hash: hash.to_owned(),
        groups: user.groups.iter().map(|group| group.name.to_string()).collect(),
        created_ms: user.created.as_millis(),
    };
    let bytes = SecretBytes::new(record.encode_to_vec());
    record.hash.zeroize();
    bytes
}

/// Reads the name of a user.
///
/// # Errors
/// Says what a name looks like.
pub fn parse_name(text: &str) -> Result<Box<str>, Invalid> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._@+-".contains(&b);
    let is_name = |text: &str| (1..=NAME_BYTES).contains(&text.len()) && text.bytes().all(plain);
    if !is_name(text) {
        let problem = match is_name(&text.to_ascii_lowercase()) {
            true => "has capitals; names of users are written in small letters".to_owned(),
            false => format!("is not a user name; expected 1 to {NAME_BYTES} of a-z 0-9 . _ @ + -"),
        };
        return Err(Invalid::new("name", problem));
    }
    Ok(text.into())
}

/// Reads the names of a user's groups.
///
/// # Errors
/// Says which of them is not a name, or that there are too many.
pub fn parse_groups(texts: &[String]) -> Result<Vec<Group>, Invalid> {
    check_count(texts.len())?;
    let mut groups = Vec::with_capacity(texts.len());
    for (n, text) in texts.iter().enumerate() {
        if !is_group(text) {
            let problem = "is not a group name; expected 1 to 63 of a-z 0-9 . _ -, a letter or digit first";
            return Err(Invalid::new(format!("groups[{n}]"), problem));
        }
        let group = group(text);
        if groups.contains(&group) {
            return Err(Invalid::new(format!("groups[{n}]"), "appears twice"));
        }
        groups.push(group);
    }
    Ok(groups)
}

fn check_count(groups: usize) -> Result<(), Invalid> {
    if groups > MAX_GROUPS {
        return Err(Invalid::new("groups", format!("has {groups} groups; at most {MAX_GROUPS} are allowed")));
    }
    Ok(())
}

fn group(name: &str) -> Group {
    Group { method: NAME.into(), name: name.into() }
}

fn is_group(name: &str) -> bool {
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    starts_well && name.len() <= GROUP_BYTES && name.bytes().all(plain)
}

/// Whether it may become somebody's password.
fn check_new(password: &SecretBytes) -> Result<(), Invalid> {
    if password.len() > *PASSWORD_BYTES.end() {
        return Err(too_long());
    }
    if password.len() < *PASSWORD_BYTES.start() {
        let problem = format!("is too short; at least {} bytes are needed", PASSWORD_BYTES.start());
        return Err(Invalid::new("password", problem));
    }
    Ok(())
}

fn no_user() -> Invalid {
    Invalid::new("session", "is not that of a user, so it has no password to change")
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

#[cfg(test)]
#[path = "userpass_tests.rs"]
mod tests;

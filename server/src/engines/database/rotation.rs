//! Passwords that the server changes: its own, and those of accounts. The next one is kept before the database hears of it
//! and stays the next one until it is known to be the current one, so no crash and no lost answer locks anybody out.

use super::{
    Database, Error,
    pool::Pool,
    records::{Account, Configuration, Kept, Role, Secret},
    sql::{self, Place},
    users::PASSWORD,
};
use crate::{
    barrier::BarrierError,
    crypto::scram_verifier,
    engines::{Due, password},
    model::{Path, RequestId, SecretBytes, Timestamp},
    storage::Revision,
};

/// Without the password: only a verifier crosses, and is in the log of the database.
const CHANGE: &str = "ALTER ROLE {{name}} PASSWORD {{password}}";

/// Something with a password that is changed.
pub(super) trait Rotated: Kept {
    fn user(&self) -> &str;
    fn secret(&mut self) -> &mut Secret;
}

impl Rotated for Configuration {
    fn user(&self) -> &str {
        &self.user
    }

    fn secret(&mut self) -> &mut Secret {
        self.secret.get_or_insert_default()
    }
}

impl Rotated for Account {
    fn user(&self) -> &str {
        &self.user
    }

    fn secret(&mut self) -> &mut Secret {
        self.secret.get_or_insert_default()
    }
}

impl Database {
    /// Gives `record`, which is kept at `path` since `was`, another password, for the request `by`.
    pub(super) async fn rotate<R: Rotated>(
        &self,
        path: &Path,
        (mut record, was): (R, Revision),
        by: Option<RequestId>,
        now: Timestamp,
    ) -> Result<R, Error> {
        let was = self.prepare(path, &mut record, was).await?;
        self.tell(&mut record).await?;
        record.secret().advance(now);
        self.records.put::<R, R>(path, &record, Some(was), by).await?;
        Ok(record)
    }

    /// The first step: there is a next password. One that is there already may be known to the database, and stays.
    pub(super) async fn prepare<R: Rotated>(
        &self,
        path: &Path,
        record: &mut R,
        was: Revision,
    ) -> Result<Revision, Error> {
        if record.secret().next.is_some() {
            return Ok(was);
        }
        let made = password::made(PASSWORD, &*self.entropy)?;
        record.secret().next = Some(made.into());
        self.records.put::<R, R>(path, record, Some(was), None).await
    }

    /// The second step: the database knows it. It may be told again and again.
    pub(super) async fn tell<R: Rotated>(&self, record: &mut R) -> Result<(), Error> {
        let next = record.secret().next.as_ref().map(|next| SecretBytes::from(next.value.as_slice()));
        let next = next.unwrap_or_else(|| SecretBytes::from(""));
        let verifier = scram_verifier(next.expose(), &*self.entropy)?;
        let (name, quoted) = (sql::identifier(record.user()), sql::literal(&verifier));
        let change = sql::filled(&[CHANGE.to_owned()], &[(Place::Name, &name), (Place::Password, &quoted)]);
        let mut session = self.pool().await?.session().await?;
        session.all(&change, &[&verifier]).await?;
        session.done();
        Ok(())
    }

    /// Makes an account of a user that exists, whose password nobody else knows from then on. If it is one already, only
    /// how often its password changes becomes another.
    pub(super) async fn put_account(
        &self,
        path: &Path,
        user: String,
        rotation_period: u64,
        by: RequestId,
        now: Timestamp,
    ) -> Result<Account, Error> {
        let _alone = self.rotating.lock().await;
        match self.records.find::<Account>(path).await? {
            None => {
                let account = Account { user, secret: None, rotation_period };
                self.take_over(path, account, by, now).await
            }
            Some((account, was)) if account.user == user => {
                let account = Account { rotation_period, ..account };
                self.records.put::<Account, Account>(path, &account, Some(was), Some(by)).await?;
                Ok(account)
            }
            Some(_) => Err(Error::Exists("an account of another user")),
        }
    }

    /// What is due for another password by now.
    pub(super) async fn overdue(&self, now: Timestamp) -> Result<Vec<Due>, BarrierError> {
        let due = self.records.overdue(now).await?.into_iter();
        Ok(due
            .map(|(name, account)| Due { name, what: format!("another password for {}", account.user) })
            .collect())
    }

    /// Gives an account another password, if it still is due for one.
    pub(super) async fn rotate_if_due(
        &self,
        path: &Path,
        by: RequestId,
        now: Timestamp,
    ) -> Result<(), Error> {
        let _alone = self.rotating.lock().await;
        match self.records.find::<Account>(path).await? {
            Some(found) if found.0.is_due(now) => self.rotate(path, found, Some(by), now).await.map(drop),
            _ => Ok(()),
        }
    }

    async fn take_over(
        &self,
        path: &Path,
        account: Account,
        by: RequestId,
        now: Timestamp,
    ) -> Result<Account, Error> {
        if self.records.find::<Role>(path).await?.is_some() {
            return Err(Error::Exists("a role"));
        }
        let pool = self.pool().await?;
        let session = pool.session().await?;
        let there = session.oid(&account.user).await?.is_some();
        session.done();
        if !there {
            return Err(Error::refused(pool.place(), format!("has no user {}", account.user)));
        }
        let next = password::made(PASSWORD, &*self.entropy)?;
        let secret = Secret { current: None, next: Some(next.into()), rotated_ms: 0 };
        let account = Account { secret: Some(secret), ..account };
        let since = self.records.put::<Account, Role>(path, &account, None, None).await?;
        match self.rotate(path, (account, since), Some(by), now).await {
            Err(error) if error.is_refusal() => {
                self.records.delete::<Account>(path, by).await?;
                Err(error)
            }
            other => other,
        }
    }

    /// An account with a password that works. If a change was cut off before it was known to be done, it is done again.
    pub(super) async fn with_password(&self, path: &Path, now: Timestamp) -> Result<Account, Error> {
        let (account, _) = self.records.get::<Account>(path).await?;
        if account.secret.as_ref().is_some_and(|secret| secret.next.is_none()) {
            return Ok(account);
        }
        let _alone = self.rotating.lock().await;
        let found = self.records.get::<Account>(path).await?;
        self.rotate(path, found, None, now).await
    }

    /// Whether a configuration works, before it is kept.
    pub(super) async fn try_out(configuration: &Configuration) -> Result<(), Error> {
        let session = Pool::new(configuration)?.session().await?;
        session.done();
        Ok(())
    }
}

//! Users that exist for a while: how one is made, lives longer and ends. What is needed for that later is known before
//! anything happens at the database, so that a crash in between leaves nothing that nobody ends.

use std::time::Duration;

use prost::Message;

use super::{
    Database, Error, name,
    pool::Session,
    records::{Configuration, Kept, Role},
    sql::{self, Place},
};
use crate::{
    barrier::BarrierError,
    crypto::{scram_verifier, sha256},
    engines::{Terms, password},
    model::{Path, Principal, SecretBytes, Timestamp},
};

/// As long as is good: 190 bits.
pub(super) const PASSWORD: usize = 32;
/// First of all nobody comes in any more, whatever else a role says.
const CLOSE: &str = "ALTER ROLE {{name}} NOLOGIN";
/// The second fence: the database itself lets nobody in when the time is over.
const UNTIL: &str = "ALTER ROLE {{name}} VALID UNTIL {{expires}}";
/// What ends a user unless its role says otherwise. Without the grant only a superuser could take over what it owns.
const DROP: [&str; 4] = [
    "GRANT {{name}} TO CURRENT_USER",
    "REASSIGN OWNED BY {{name}} TO CURRENT_USER",
    "DROP OWNED BY {{name}}",
    "DROP ROLE {{name}}",
];

/// All that it takes to renew and revoke a user. The statements are those of the time when it was made: a role that was
/// changed or deleted since knows nothing of what the old one granted.
#[derive(Message, Clone)]
pub(super) struct User {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// Where it was made. A mount that is configured anew must not take a user of elsewhere for one that is gone.
    #[prost(string, tag = "2")]
    pub(super) place: String,
    #[prost(string, repeated, tag = "3")]
    renewal: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    revocation: Vec<String>,
}

/// A user that is about to be made.
pub(super) struct Planned {
    pub(super) user: User,
    creation: Vec<String>,
    ttl: Duration,
    max: Duration,
}

/// A user that was made, and where to connect as it.
pub(super) struct Made {
    pub(super) name: String,
    pub(super) password: SecretBytes,
    pub(super) host: String,
    pub(super) port: u32,
    pub(super) database: String,
}

impl Planned {
    pub(super) fn terms(&self) -> Terms {
        let data = SecretBytes::from(self.user.encode_to_vec());
        Terms { ttl: self.ttl, max: self.max, data, what: self.user.name.as_str().into() }
    }
}

impl User {
    /// A statement that waits for its turn. The making of a user has it before anything else is sent, to the end of its
    /// transaction, however that comes; so whoever has it next knows whether there is a user, even if the answer was lost.
    fn turn(&self) -> String {
        let [a, b, c, d, e, f, g, h, ..] = sha256(self.name.as_bytes());
        let number = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
        format!("SELECT pg_catalog.pg_advisory_xact_lock({number})")
    }

    /// What a lease kept of it.
    pub(super) fn kept(data: &SecretBytes) -> Result<Self, Error> {
        let corrupt = || BarrierError::Corrupt { kind: Role::KIND, namespace: "database".to_owned() };
        let user = Self::decode(data.expose()).ok().filter(|user| !user.name.is_empty());
        Ok(user.ok_or_else(corrupt)?)
    }

    fn filled(&self, statements: &[String], until: &str) -> Vec<String> {
        let (name, until) = (sql::identifier(&self.name), sql::literal(until));
        sql::filled(statements, &[(Place::Name, &name), (Place::Expires, &until)])
    }
}

impl Database {
    /// Chooses all there is to choose of a user of the role at `path`. Nothing happens yet.
    pub(super) async fn plan(
        &self,
        path: &Path,
        ttl: Option<u64>,
        who: &Principal,
        now: Timestamp,
    ) -> Result<Planned, Error> {
        let (role, _) = self.records.get::<Role>(path).await?;
        let ttl = role.ttl_of(ttl)?;
        let (configuration, _) = self.records.configuration().await?;
        let name = name::made(path, who, now, &*self.entropy)?;
        let user =
            User { name, place: configuration.place(), renewal: role.renewal, revocation: role.revocation };
        let (ttl, max) = (Duration::from_secs(ttl), Duration::from_secs(role.max_ttl));
        Ok(Planned { user, creation: role.creation, ttl, max })
    }

    /// Makes it. After an error it may be there or not: whoever has it planned revokes it.
    pub(super) async fn make(&self, planned: &Planned, until: Timestamp) -> Result<Made, Error> {
        let (configuration, _) = self.records.configuration().await?;
        let Configuration { host, port, database, .. } = configuration;
        let password = password::made(PASSWORD, &*self.entropy)?;
        let verifier = scram_verifier(password.expose(), &*self.entropy)?;
        let (name, until) = (sql::identifier(&planned.user.name), sql::literal(&until.to_string()));
        let made = planned.creation.iter().cloned().chain([UNTIL.to_owned()]);
        let statements: Vec<String> = [planned.user.turn()].into_iter().chain(made).collect();
        let values = [
            (Place::Name, name.as_str()),
            (Place::Password, &sql::literal(&verifier)),
            (Place::Expires, &until),
        ];
        let mut session = self.pool().await?.session().await?;
        session.all(&sql::filled(&statements, &values), &[&verifier]).await?;
        session.done();
        Ok(Made { name: planned.user.name.clone(), password, host, port, database })
    }

    /// Lets it live until then.
    pub(super) async fn renew(&self, user: &User, until: Timestamp) -> Result<(), Error> {
        let mut session = self.pool().await?.session().await?;
        let statements: Vec<String> =
            [UNTIL.to_owned()].into_iter().chain(user.renewal.iter().cloned()).collect();
        session.all(&user.filled(&statements, &until.to_string()), &[]).await?;
        session.done();
        Ok(())
    }

    /// Ends it, its sessions and what it owns. One that is gone, or was never made, is fine.
    pub(super) async fn revoke(&self, user: &User) -> Result<(), Error> {
        let pool = self.pool().await?;
        let mut session = pool.session().await?;
        session.all(&[user.turn()], &[]).await?;
        let Some(oid) = session.oid(&user.name).await? else {
            session.done();
            if pool.place() != user.place {
                let problem =
                    format!("has no user {}, which was made at {}; end it there", user.name, user.place);
                return Err(Error::refused(pool.place(), problem));
            }
            return Ok(());
        };
        end(&mut session, user, oid).await?;
        session.done();
        Ok(())
    }
}

async fn end(session: &mut Session, user: &User, oid: u32) -> Result<(), Error> {
    session.all(&user.filled(&[CLOSE.to_owned()], ""), &[]).await?;
    session.terminate(oid).await?;
    let statements = match user.revocation.is_empty() {
        true => DROP.map(str::to_owned).to_vec(),
        false => user.revocation.clone(),
    };
    if let Err(error) = session.all(&user.filled(&statements, ""), &[]).await {
        // Somebody else was faster.
        return if error.is_refusal() && session.oid(&user.name).await?.is_none() {
            Ok(())
        } else {
            Err(error)
        };
    }
    // Who logged in while the door was being closed.
    session.terminate(oid).await
}

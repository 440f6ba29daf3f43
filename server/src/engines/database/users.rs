//! Users that exist for a while: how one is made, lives longer and ends. What is needed for that later is known before
//! anything happens at the database, so that a crash in between leaves nothing that nobody ends.

use prost::Message;

use super::{
    Database, Error, name,
    pool::Session,
    records::Role,
    sql::{self, Place},
};
use crate::{
    crypto::scram_verifier,
    engines::password,
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
    pub(super) ttl: u64,
    pub(super) max_ttl: u64,
}

/// A user that was made.
pub(super) struct Made {
    pub(super) name: String,
    pub(super) password: SecretBytes,
}

impl User {
    /// What was kept of it; none for what this code does not write.
    pub(super) fn decode_kept(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok().filter(|user| !user.name.is_empty())
    }

    fn filled(&self, statements: &[String], until: &str) -> Vec<String> {
        let (name, until) = (sql::identifier(&self.name), sql::literal(until));
        sql::filled(statements, &[(Place::Name, &name), (Place::Expires, &until)])
    }
}

impl Database {
    /// Chooses all there is to choose of a user of the role at `path`. Nothing happens yet.
    pub(super) async fn plan(&self, path: &Path, who: &Principal, now: Timestamp) -> Result<Planned, Error> {
        let (role, _) = self.records.get::<Role>(path).await?;
        let place = self.pool(path).await?.place().to_owned();
        let name = name::made(path, who, now, &*self.entropy)?;
        let user = User { name, place, renewal: role.renewal, revocation: role.revocation };
        Ok(Planned { user, creation: role.creation, ttl: role.ttl, max_ttl: role.max_ttl })
    }

    /// Makes it. After an error it may be there or not: whoever has it planned revokes it.
    pub(super) async fn make(&self, mount: &Path, planned: &Planned, until: Timestamp) -> Result<Made, Error> {
        let password = password::made(PASSWORD, &*self.entropy)?;
        let verifier = scram_verifier(password.expose(), &*self.entropy)?;
        let (name, until) = (sql::identifier(&planned.user.name), sql::literal(&until.to_string()));
        let statements: Vec<String> = planned.creation.iter().cloned().chain([UNTIL.to_owned()]).collect();
        let values =
            [(Place::Name, name.as_str()), (Place::Password, &sql::literal(&verifier)), (Place::Expires, &until)];
        let mut session = self.pool(mount).await?.session().await?;
        session.all(&sql::filled(&statements, &values), &[&verifier]).await?;
        session.done();
        Ok(Made { name: planned.user.name.clone(), password })
    }

    /// Lets it live until then.
    pub(super) async fn renew_user(&self, mount: &Path, user: &User, until: Timestamp) -> Result<(), Error> {
        let mut session = self.pool(mount).await?.session().await?;
        let statements: Vec<String> = [UNTIL.to_owned()].into_iter().chain(user.renewal.iter().cloned()).collect();
        session.all(&user.filled(&statements, &until.to_string()), &[]).await?;
        session.done();
        Ok(())
    }

    /// Ends it, its sessions and what it owns. One that is gone, or was never made, is fine.
    pub(super) async fn revoke_user(&self, mount: &Path, user: &User) -> Result<(), Error> {
        let pool = self.pool(mount).await?;
        let mut session = pool.session().await?;
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
        return if error.is_refusal() && session.oid(&user.name).await?.is_none() { Ok(()) } else { Err(error) };
    }
    // Who logged in while the door was being closed.
    session.terminate(oid).await
}

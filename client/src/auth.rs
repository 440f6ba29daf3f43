//! Who is asking: login, sessions and the users of the userpass method.

use jiff::Timestamp;
use strongroom_proto::{SecretBytes, v1, v1::auth_client::AuthClient};

use crate::{
    Client, Error,
    connect::{Inner, Mode},
    credentials,
    session::Token,
    timestamp,
};

/// A session of a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Names the session in the audit log and to revoke it; not secret.
    pub id: String,
    /// `userpass/alice`, `root`, `kubernetes/main/payments/web`.
    pub principal: String,
    /// The method it logged in with.
    pub method: String,
    /// When it began.
    pub issued_at: Timestamp,
    /// When it ends unless renewed.
    pub expires_at: Timestamp,
    /// When it ends for good.
    pub max_expires_at: Timestamp,
    /// The groups of the principal.
    pub groups: Vec<String>,
    /// The pod that a session of a service account is bound to.
    pub pod: Option<Pod>,
}

/// The pod that a session is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its node, where the cluster tells.
    pub node: Option<String>,
}

/// A session and the token for it.
pub struct Login {
    /// Whoever has it is the principal.
    pub token: SecretBytes,
    /// What it stands for.
    pub session: Session,
}

/// The answer to "who am I".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whoami {
    /// The session the token stands for.
    pub session: Session,
    /// The roles bound to the principal at this moment.
    pub roles: Vec<String>,
}

/// Which sessions to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// The one with this id.
    Id(String),
    /// All of a principal.
    Principal(String),
    /// All that logged in with a method.
    Method(String),
    /// All of the pod with this uid.
    Pod(String),
}

/// A user of the userpass method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The groups, within the method.
    pub groups: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Calls about sessions and users; see [`Client::auth`].
pub struct Auth<'a>(&'a Client);

impl Client {
    /// Calls about sessions and users.
    pub fn auth(&self) -> Auth<'_> {
        Auth(self)
    }
}

impl Session {
    /// Whether a renewal would give it more time.
    pub fn is_renewable(&self) -> bool {
        self.expires_at < self.max_expires_at
    }
}

impl Auth<'_> {
    /// Logs in; this client uses the new token from then on.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`](crate::ErrorKind::Unauthenticated) for a wrong name or password.
    pub async fn login(&self, name: &str, password: &SecretBytes) -> Result<Login, Error> {
        let login = login(&self.0.inner, credentials::userpass(name, password)).await?;
        self.0.inner.keeper.replace(Some(Token::new(&login.token)?));
        Ok(login)
    }

    /// Renews the session; this client uses the new token from then on.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn renew(&self) -> Result<Login, Error> {
        let login = renew(&self.0.inner).await?;
        self.0.inner.keeper.replace(Some(Token::new(&login.token)?));
        Ok(login)
    }

    /// Whom the token stands for.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn whoami(&self) -> Result<Whoami, Error> {
        whoami(&self.0.inner).await
    }

    /// Revokes the session and forgets the token.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn logout(&self) -> Result<(), Error> {
        let message = v1::LogoutRequest {};
        self.0
            .inner
            .call(Mode::READ, message, |ch, rq| async move { AuthClient::new(ch).logout(rq).await })
            .await?;
        self.0.inner.keeper.replace(None);
        Ok(())
    }

    /// Revokes sessions of others.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn revoke_sessions(&self, which: Sessions) -> Result<(), Error> {
        use v1::revoke_sessions_request::Which;
        let which = match which {
            Sessions::Id(id) => Which::SessionId(id),
            Sessions::Principal(principal) => Which::Principal(principal),
            Sessions::Method(method) => Which::Method(method),
            Sessions::Pod(uid) => Which::Pod(uid),
        };
        let message = v1::RevokeSessionsRequest { which: Some(which) };
        self.0
            .inner
            .call(Mode::WRITE, message, |ch, rq| async move { AuthClient::new(ch).revoke_sessions(rq).await })
            .await?;
        Ok(())
    }

    /// Makes a user, or sets the groups and, if given, the password of one.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn put_user(
        &self,
        name: &str,
        password: Option<&SecretBytes>,
        groups: Vec<String>,
    ) -> Result<(), Error> {
        let message =
            v1::PutUserRequest { name: name.to_owned(), password: password.map(v1::Sensitive::from), groups };
        self.0
            .inner
            .call(Mode::WRITE, message, |ch, rq| async move { AuthClient::new(ch).put_user(rq).await })
            .await?;
        Ok(())
    }

    /// Deletes a user and revokes all sessions of it.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn delete_user(&self, name: &str) -> Result<(), Error> {
        let message = v1::DeleteUserRequest { name: name.to_owned() };
        self.0
            .inner
            .call(Mode::WRITE, message, |ch, rq| async move { AuthClient::new(ch).delete_user(rq).await })
            .await?;
        Ok(())
    }

    /// All users.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn list_users(&self) -> Result<Vec<User>, Error> {
        let message = v1::ListUsersRequest {};
        let answer = self
            .0
            .inner
            .call(Mode::READ, message, |ch, rq| async move { AuthClient::new(ch).list_users(rq).await })
            .await?;
        let user = |user: v1::list_users_response::User| User {
            name: user.name,
            groups: user.groups,
            created_at: timestamp(user.created_at_ms),
        };
        Ok(answer.users.into_iter().map(user).collect())
    }
}

pub(crate) async fn login(inner: &Inner, message: v1::LoginRequest) -> Result<Login, Error> {
    // A login leaves nothing behind, so it may be repeated like a read.
    inner
        .call(Mode::ANONYMOUS_READ, message, |ch, rq| async move { AuthClient::new(ch).login(rq).await })
        .await?
        .try_into()
}

pub(crate) async fn renew(inner: &Inner) -> Result<Login, Error> {
    let message = v1::RenewRequest {};
    inner
        .call(Mode::READ, message, |ch, rq| async move { AuthClient::new(ch).renew(rq).await })
        .await?
        .try_into()
}

pub(crate) async fn whoami(inner: &Inner) -> Result<Whoami, Error> {
    let message = v1::WhoamiRequest {};
    let answer =
        inner.call(Mode::READ, message, |ch, rq| async move { AuthClient::new(ch).whoami(rq).await }).await?;
    let session = answer.session.ok_or_else(|| Error::incomplete("session"))?;
    Ok(Whoami { session: session.into(), roles: answer.roles })
}

impl From<v1::Session> for Session {
    fn from(session: v1::Session) -> Self {
        Self {
            id: session.id,
            principal: session.principal,
            method: session.method,
            issued_at: timestamp(session.issued_at_ms),
            expires_at: timestamp(session.expires_at_ms),
            max_expires_at: timestamp(session.max_expires_at_ms),
            groups: session.groups,
            pod: session.pod.map(|pod| Pod {
                name: pod.name,
                uid: pod.uid,
                node: Some(pod.node).filter(|node| !node.is_empty()),
            }),
        }
    }
}

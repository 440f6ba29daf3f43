//! Who is asking: login, sessions and the users of the userpass method.

use jiff::Timestamp;
use strongroom_proto::{SecretBytes, v1, v1::auth_client::AuthClient};

use crate::{
    answer::timestamp,
    client::Client,
    error::Error,
    session::{Login, Whoami, credentials},
    transport::Mode,
};

/// Which sessions to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sessions {
    /// The session with this id.
    Id(String),
    /// All sessions of a principal.
    Principal(String),
    /// All sessions that logged in with an auth method.
    Method(String),
    /// All sessions of the pod with this uid.
    Pod(String),
}

/// A user of the userpass method.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// The name.
    pub name: String,
    /// The groups, within the method.
    pub groups: Vec<String>,
    /// When the user was created.
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

impl Auth<'_> {
    /// Logs in; this client and its clones use the new token from then on, and renew it as any other.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`](crate::ErrorKind::Unauthenticated) for a wrong name or password.
    pub async fn login(&self, name: &str, password: &SecretBytes) -> Result<Login, Error> {
        self.0.keeper().log_in_as(credentials::userpass(name, password), self.0.terms()).await
    }

    /// Renews the session; this client uses the new token from then on.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn renew(&self) -> Result<Login, Error> {
        self.0.keeper().renew(self.0.terms()).await
    }

    /// Sets the password of the user that this client is logged in as. All sessions of the user end; this client and its
    /// clones use the new one that begins with it. Credentials that were given to the builder are not changed: they are the
    /// application's.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`](crate::ErrorKind::Unauthenticated) for a wrong current password.
    pub async fn change_password(&self, current: &SecretBytes, new: &SecretBytes) -> Result<Login, Error> {
        self.0.keeper().change_password(current, new, self.0.terms()).await
    }

    /// Returns whom the token stands for.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn whoami(&self) -> Result<Whoami, Error> {
        self.0.keeper().whoami(self.0.terms()).await
    }

    /// Revokes the session and forgets the token. Credentials that were given to the builder are not used any more, until
    /// [`login`](Self::login): calls fail with [`ErrorKind::Unauthenticated`](crate::ErrorKind::Unauthenticated).
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn logout(&self) -> Result<(), Error> {
        let message = v1::LogoutRequest {};
        self.0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { AuthClient::new(ch).logout(rq).await })
            .await?;
        self.0.keeper().forget();
        Ok(())
    }

    /// Revokes sessions of others.
    ///
    /// # Errors
    /// The errors that every call can return.
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
            .session()
            .call(Mode::WRITE, message, |ch, rq| async move { AuthClient::new(ch).revoke_sessions(rq).await })
            .await?;
        Ok(())
    }

    /// Creates a user, or sets the groups and the password of an existing one, as far as they are given.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn put_user(
        &self,
        name: &str,
        password: Option<&SecretBytes>,
        groups: impl Into<Option<Vec<String>>>,
    ) -> Result<(), Error> {
        let groups = groups.into();
        let message = v1::PutUserRequest {
            name: name.to_owned(),
            password: password.map(v1::Sensitive::from),
            keep_groups: groups.is_none(),
            groups: groups.unwrap_or_default(),
        };
        self.0
            .session()
            .call(Mode::WRITE, message, |ch, rq| async move { AuthClient::new(ch).put_user(rq).await })
            .await?;
        Ok(())
    }

    /// Deletes a user and revokes all its sessions.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn delete_user(&self, name: &str) -> Result<(), Error> {
        let message = v1::DeleteUserRequest { name: name.to_owned() };
        self.0
            .session()
            .call(Mode::WRITE, message, |ch, rq| async move { AuthClient::new(ch).delete_user(rq).await })
            .await?;
        Ok(())
    }

    /// Returns all users.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn list_users(&self) -> Result<Vec<User>, Error> {
        let message = v1::ListUsersRequest {};
        let answer = self
            .0
            .session()
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

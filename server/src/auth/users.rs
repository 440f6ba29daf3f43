//! People whom a method keeps in the store. Which method that is stands here and nowhere else.

use async_trait::async_trait;

use tokio::sync::OwnedRwLockWriteGuard;

use super::{Login, LoginContext, LoginError, userpass};
use crate::{
    barrier::{BarrierError, Changes, SealedChanges, View},
    model::{Group, Invalid, Principal, RequestId, SecretBytes, Timestamp},
};

pub use userpass::{UserInfo, parse_groups, parse_name};

/// Where they are, for policies: `sys/auth/userpass`, and a name below it.
pub const PATH: &str = "sys/auth/userpass";

/// The text of the principal that a user is.
pub fn principal(name: &str) -> String {
    format!("{}/{name}", userpass::KIND.name)
}

/// Reads the text of a principal: if it is a user, its name has to be one, or a typing error would mean nobody and say nothing.
///
/// # Errors
/// Says what a name looks like.
pub fn check_principal(text: &str) -> Result<(), Invalid> {
    match text.split_once('/') {
        Some((method, name)) if method == userpass::KIND.name => parse_name(name).map(drop),
        _ => Ok(()),
    }
}

/// A change of a user, ready to be committed. While there is one no login is accepted: so its sessions end up to a moment
/// at which all who were accepted before had begun, and those who come later are judged by what it left.
#[must_use = "nothing is changed until it is committed"]
pub struct UserChange {
    pub(super) view: View,
    pub(super) changes: Changes,
    /// Whether there was such a user.
    pub(super) existed: bool,
    pub(super) _no_logins: OwnedRwLockWriteGuard<()>,
}

impl UserChange {
    /// Whether there was such a user.
    pub fn existed(&self) -> bool {
        self.existed
    }

    /// Makes it so, together with `with`: the end of the user's sessions.
    ///
    /// # Errors
    /// Nothing of both happened, as after a conflict with somebody else; or the store failed.
    pub async fn commit(self, with: SealedChanges, by: Option<RequestId>) -> Result<(), BarrierError> {
        self.view.commit(Changes { with, by, ..self.changes }).await.map(drop)
    }
}

/// A method that keeps people.
#[async_trait]
pub trait Users: Send + Sync {
    /// Creates a user, or sets the groups and the password, as far as they are given. Sessions that are out keep the old groups
    /// until they are revoked.
    ///
    /// # Errors
    /// A field is wrong, or too much at once.
    async fn put_user(
        &self,
        name: &str,
        password: Option<SecretBytes>,
        groups: Option<Vec<Group>>,
        now: Timestamp,
    ) -> Result<UserChange, LoginError>;

    /// Sets the password of a user who shows the current one, and says who they are from then on. A wrong one counts, and has
    /// to wait, as at a login.
    ///
    /// # Errors
    /// `who` is no user, the current password is wrong, or the new one cannot be one.
    async fn change_password(
        &self,
        who: &Principal,
        current: SecretBytes,
        new: SecretBytes,
        context: &LoginContext,
    ) -> Result<(Login, UserChange), LoginError>;

    /// Deletes a user. Without one there is still something to commit: the end of sessions that may be left of one.
    ///
    /// # Errors
    /// The store.
    async fn delete_user(&self, name: &str) -> Result<UserChange, BarrierError>;

    /// All users, by name.
    ///
    /// # Errors
    /// The store.
    async fn list_users(&self) -> Result<Vec<UserInfo>, BarrierError>;
}

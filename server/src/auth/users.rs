//! People whom a method keeps in the store. Which method that is stands here and nowhere else.

use async_trait::async_trait;

use super::{LoginError, userpass};
use crate::{
    barrier::BarrierError,
    model::{Group, RequestId, SecretBytes, Timestamp},
};

pub use userpass::{UserInfo, parse_groups, parse_name};

/// Where they are, for policies: `sys/auth/userpass`, and a name below it.
pub const PATH: &str = "sys/auth/userpass";

/// The text of the principal that a user is.
pub fn principal(name: &str) -> String {
    format!("{}/{name}", userpass::KIND.name)
}

/// A method that keeps people.
#[async_trait]
pub trait Users: Send + Sync {
    /// Creates a user, or sets the groups and, if one is given, the password. Sessions that are out keep the old groups
    /// until they are revoked.
    ///
    /// # Errors
    /// A field is wrong, too much at once, or somebody changed the same user meanwhile.
    async fn put_user(
        &self,
        name: &str,
        password: Option<SecretBytes>,
        groups: Vec<Group>,
        now: Timestamp,
        by: Option<RequestId>,
    ) -> Result<(), LoginError>;

    /// Deletes a user; false if there was none. Their sessions live on until the principal is revoked, which is to be
    /// done after this, and also after a `false`: an earlier attempt may have stopped in between.
    ///
    /// # Errors
    /// The store, or somebody changed the same user meanwhile.
    async fn delete_user(&self, name: &str, by: Option<RequestId>) -> Result<bool, BarrierError>;

    /// All users, by name.
    ///
    /// # Errors
    /// The store.
    async fn list_users(&self) -> Result<Vec<UserInfo>, BarrierError>;
}

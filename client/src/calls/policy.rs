//! Roles and bindings: who may do what.

use std::{fmt, net::IpAddr};

use strongroom_proto::{
    v1,
    v1::{apply_response::change::Action, policy_client::PolicyClient},
};

use crate::{client::Client, error::Error, transport::Mode};

/// The name of a role or of a binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectName {
    /// `Role` or `Binding`.
    pub kind: String,
    /// The name among all of its kind.
    pub name: String,
}

/// What [`Policy::apply`] does to an object, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyChange {
    /// The object.
    pub object: ObjectName,
    /// What happens to it.
    pub action: PolicyAction,
    /// A unified diff of its YAML.
    pub diff: String,
}

/// What happens to an object of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyAction {
    /// It is new.
    Created,
    /// It was there and is another now.
    Changed,
    /// It was there and stays as it is.
    Unchanged,
    /// It is gone.
    Removed,
    /// Something that only a later version of this library knows.
    Other,
}

/// Whether somebody may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// Whether they may.
    pub allowed: bool,
    /// The rule that decides, or why there is none, in words.
    pub reason: String,
    /// The role with that rule; empty if no rule decides.
    pub role: String,
    /// The binding that leads to the role; empty if no rule decides.
    pub binding: String,
    /// The number of the rule within the role, from 1; 0 if no rule decides.
    pub rule: u32,
}

/// Somebody who may do something, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allowed {
    /// Who, such as `user userpass/alice` or `serviceAccount main/payments/*`.
    pub subject: String,
    /// The binding that names them.
    pub binding: String,
    /// The role that it binds them to.
    pub role: String,
    /// Under which conditions, in words; empty if always.
    pub conditions: String,
}

impl ObjectName {
    /// Names a role.
    pub fn role(name: impl Into<String>) -> Self {
        Self { kind: "Role".into(), name: name.into() }
    }

    /// Names a binding.
    pub fn binding(name: impl Into<String>) -> Self {
        Self { kind: "Binding".into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// Calls about roles and bindings; see [`Client::policy`].
pub struct Policy<'a> {
    client: &'a Client,
    force: bool,
}

impl Client {
    /// Calls about roles and bindings.
    pub fn policy(&self) -> Policy<'_> {
        Policy { client: self, force: false }
    }
}

impl Policy<'_> {
    /// Also applies what leaves nobody who may change the policy. Only a root token can change it then.
    #[must_use]
    pub fn forced(self) -> Self {
        Self { force: true, ..self }
    }

    /// Creates or changes the roles and bindings in `yaml` and removes those in `remove`, all or nothing. With `dry_run`, it
    /// only reports what would change.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) names what is wrong in the text.
    pub async fn apply(
        &self,
        yaml: &str,
        remove: Vec<ObjectName>,
        dry_run: bool,
    ) -> Result<Vec<PolicyChange>, Error> {
        let remove =
            remove.into_iter().map(|ObjectName { kind, name }| v1::ObjectName { kind, name }).collect();
        let message = v1::ApplyRequest { yaml: yaml.to_owned(), dry_run, remove, force: self.force };
        // The same text applied twice is the same policy.
        let answer = self
            .client
            .session()
            .call(Mode::READ, message, |ch, rq| async move { PolicyClient::new(ch).apply(rq).await })
            .await?;
        Ok(answer.changes.into_iter().map(change).collect())
    }

    /// Returns all roles and bindings as YAML.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn export(&self) -> Result<String, Error> {
        let message = v1::ExportRequest {};
        let answer = self
            .client
            .session()
            .call(Mode::READ, message, |ch, rq| async move { PolicyClient::new(ch).export(rq).await })
            .await?;
        Ok(answer.yaml)
    }

    /// Returns whether `principal`, or else the caller, may do `verb` on `path`, and which rule decides. `peer` is the
    /// address that the principal comes from; where it is not known, no rule for some addresses allows anything.
    ///
    /// # Errors
    /// The errors that every call can return; "no" is not an error.
    pub async fn can_i(
        &self,
        verb: &str,
        path: &str,
        principal: Option<&str>,
        groups: Vec<String>,
        peer: Option<IpAddr>,
    ) -> Result<Decision, Error> {
        let message = v1::CanIRequest {
            verb: verb.to_owned(),
            path: path.to_owned(),
            principal: principal.unwrap_or_default().to_owned(),
            groups,
            peer: peer.map(|peer| peer.to_string()).unwrap_or_default(),
        };
        let v1::CanIResponse { allowed, reason, role, binding, rule } = self
            .client
            .session()
            .call(Mode::READ, message, |ch, rq| async move { PolicyClient::new(ch).can_i(rq).await })
            .await?;
        Ok(Decision { allowed, reason, role, binding, rule })
    }

    /// Returns the subjects that may do `verb` on `path`.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn who_can(&self, verb: &str, path: &str) -> Result<Vec<Allowed>, Error> {
        let message = v1::WhoCanRequest { verb: verb.to_owned(), path: path.to_owned() };
        let answer = self
            .client
            .session()
            .call(Mode::READ, message, |ch, rq| async move { PolicyClient::new(ch).who_can(rq).await })
            .await?;
        let allowed = |entry: v1::who_can_response::Entry| Allowed {
            subject: entry.subject,
            binding: entry.binding,
            role: entry.role,
            conditions: entry.conditions,
        };
        Ok(answer.entries.into_iter().map(allowed).collect())
    }
}

fn change(change: v1::apply_response::Change) -> PolicyChange {
    let action = match change.action() {
        Action::Created => PolicyAction::Created,
        Action::Changed => PolicyAction::Changed,
        Action::Unchanged => PolicyAction::Unchanged,
        Action::Removed => PolicyAction::Removed,
        Action::Unspecified => PolicyAction::Other,
    };
    let v1::ObjectName { kind, name } = change.object.unwrap_or_default();
    PolicyChange { object: ObjectName { kind, name }, action, diff: change.diff }
}

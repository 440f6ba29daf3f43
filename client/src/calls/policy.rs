//! Roles and bindings: who may do what.

use std::net::IpAddr;

use strongroom_proto::{v1, v1::policy_client::PolicyClient};

use crate::{client::Client, error::Error, transport::Mode};

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
        remove: Vec<v1::ObjectName>,
        dry_run: bool,
    ) -> Result<Vec<v1::apply_response::Change>, Error> {
        let message = v1::ApplyRequest { yaml: yaml.to_owned(), dry_run, remove, force: self.force };
        // The same text applied twice is the same policy.
        let answer = self
            .client
            .session()
            .call(Mode::READ, message, |ch, rq| async move { PolicyClient::new(ch).apply(rq).await })
            .await?;
        Ok(answer.changes)
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
    ) -> Result<v1::CanIResponse, Error> {
        let message = v1::CanIRequest {
            verb: verb.to_owned(),
            path: path.to_owned(),
            principal: principal.unwrap_or_default().to_owned(),
            groups,
            peer: peer.map(|peer| peer.to_string()).unwrap_or_default(),
        };
        self.client
            .session()
            .call(Mode::READ, message, |ch, rq| async move { PolicyClient::new(ch).can_i(rq).await })
            .await
    }

    /// Returns the subjects that may do `verb` on `path`.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn who_can(&self, verb: &str, path: &str) -> Result<Vec<v1::who_can_response::Entry>, Error> {
        let message = v1::WhoCanRequest { verb: verb.to_owned(), path: path.to_owned() };
        let answer = self
            .client
            .session()
            .call(Mode::READ, message, |ch, rq| async move { PolicyClient::new(ch).who_can(rq).await })
            .await?;
        Ok(answer.entries)
    }
}

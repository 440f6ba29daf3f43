//! Roles and bindings: who may do what.

use strongroom_proto::{v1, v1::policy_client::PolicyClient};

use crate::{client::Client, error::Error, transport::Mode};

/// Calls about roles and bindings; see [`Client::policy`].
pub struct Policy<'a>(&'a Client);

impl Client {
    /// Calls about roles and bindings.
    pub fn policy(&self) -> Policy<'_> {
        Policy(self)
    }
}

impl Policy<'_> {
    /// Creates and changes the roles and bindings in `yaml` and removes those named, all or nothing. With `dry_run`,
    /// only tells what would change.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) names what is wrong in the text.
    pub async fn apply(
        &self,
        yaml: &str,
        remove: Vec<v1::ObjectName>,
        dry_run: bool,
    ) -> Result<Vec<v1::apply_response::Change>, Error> {
        let message = v1::ApplyRequest { yaml: yaml.to_owned(), dry_run, remove };
        // The same text applied twice is the same policy.
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { PolicyClient::new(ch).apply(rq).await })
            .await?;
        Ok(answer.changes)
    }

    /// All roles and bindings as YAML.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn export(&self) -> Result<String, Error> {
        let message = v1::ExportRequest {};
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { PolicyClient::new(ch).export(rq).await })
            .await?;
        Ok(answer.yaml)
    }

    /// Whether `principal` (or the caller) may do `verb` on `path`, and which rule says so.
    ///
    /// # Errors
    /// Those of every call; "no" is not an error.
    pub async fn can_i(
        &self,
        verb: &str,
        path: &str,
        principal: Option<&str>,
        groups: Vec<String>,
    ) -> Result<v1::CanIResponse, Error> {
        let message = v1::CanIRequest {
            verb: verb.to_owned(),
            path: path.to_owned(),
            principal: principal.unwrap_or_default().to_owned(),
            groups,
        };
        self.0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { PolicyClient::new(ch).can_i(rq).await })
            .await
    }

    /// The subjects that may do `verb` on `path`.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn who_can(&self, verb: &str, path: &str) -> Result<Vec<v1::who_can_response::Entry>, Error> {
        let message = v1::WhoCanRequest { verb: verb.to_owned(), path: path.to_owned() };
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { PolicyClient::new(ch).who_can(rq).await })
            .await?;
        Ok(answer.entries)
    }
}

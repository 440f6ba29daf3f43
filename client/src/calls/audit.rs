//! The server's audit log, for those who may read it. Lines are passed on unchanged; `audit_verify` checks them.

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use strongroom_proto::{SecretBytes, v1, v1::audit_client::AuditClient};

use crate::{
    answer::ResultStream,
    client::Client,
    error::Error,
    transport::{Mode, answers::Answers},
};

/// A query of the audit log. A field that is empty or absent matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// The principal.
    pub principal: String,
    /// A path, or a folder with everything below it.
    pub path: String,
    /// The operation, such as `get` or `put`.
    pub operation: String,
    /// The id of a request.
    pub request_id: String,
    /// The status: `ok`, `denied` or `error`.
    pub status: String,
    /// The earliest time.
    pub from: Option<Timestamp>,
    /// The latest time.
    pub until: Option<Timestamp>,
    /// How many lines to return, the newest that match: at most 100,000, and 1,000 if this is 0.
    pub limit: u32,
}

/// Calls about the audit log; see [`Client::audit`].
pub struct Audit<'a>(&'a Client);

impl Client {
    /// Calls about the audit log.
    pub fn audit(&self) -> Audit<'_> {
        Audit(self)
    }
}

impl Audit<'_> {
    /// Returns the last lines and, with `follow`, every new one as it becomes durable.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn tail(&self, last: u32, follow: bool) -> Result<ResultStream<String>, Error> {
        let message = v1::TailRequest { last, follow };
        let answer = self
            .0
            .session()
            .open(message, |ch, rq| async move { AuditClient::new(ch).tail(rq).await })
            .await?;
        Ok(lines(answer))
    }

    /// Returns the lines that match, oldest first.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn query(&self, query: AuditQuery) -> Result<ResultStream<String>, Error> {
        let millis = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_millisecond);
        let message = v1::QueryRequest {
            from_ms: millis(query.from),
            until_ms: millis(query.until),
            principal: query.principal,
            path: query.path,
            operation: query.operation,
            request_id: query.request_id,
            status: query.status,
            limit: query.limit,
        };
        let answer = self
            .0
            .session()
            .open(message, |ch, rq| async move { AuditClient::new(ch).query(rq).await })
            .await?;
        Ok(lines(answer))
    }

    /// Returns the keyed hash under which a value appears in the log where it was written: at `path`, as the field
    /// that the record names, such as `data.password`.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn hash(&self, path: &str, field: &str, value: &SecretBytes) -> Result<String, Error> {
        let message =
            v1::HashRequest { value: Some(value.into()), path: path.to_owned(), field: field.to_owned() };
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { AuditClient::new(ch).hash(rq).await })
            .await?;
        Ok(answer.hash)
    }
}

fn lines(answer: Answers<v1::AuditLines>) -> ResultStream<String> {
    answer.map_ok(|message| stream::iter(message.lines.into_iter().map(Ok))).try_flatten().boxed()
}

//! The server's audit log, for those who may read it. Lines are passed on as they are; checking them is another module's.

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use strongroom_proto::{SecretBytes, v1, v1::audit_client::AuditClient};
use tonic::Streaming;

use crate::{answer::ResultStream, client::Client, error::Error, transport::Mode};

/// What to look for; what is empty or absent matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Who.
    pub principal: String,
    /// An exact path, or a folder with all below it.
    pub path: String,
    /// `get`, `put`, ...
    pub operation: String,
    /// One request.
    pub request_id: String,
    /// `ok`, `denied` or `error`.
    pub status: String,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// The newest that match, at most 100,000; 0 = 1,000.
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
    /// The last lines and, with `follow`, every new one as it becomes durable.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn tail(&self, last: u32, follow: bool) -> Result<ResultStream<String>, Error> {
        let message = v1::TailRequest { last, follow };
        let answer = self
            .0
            .session()
            .call(Mode::STREAM, message, |ch, rq| async move { AuditClient::new(ch).tail(rq).await })
            .await?;
        Ok(lines(answer))
    }

    /// Lines that match, oldest first.
    ///
    /// # Errors
    /// Those of every call.
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
            .call(Mode::STREAM, message, |ch, rq| async move { AuditClient::new(ch).query(rq).await })
            .await?;
        Ok(lines(answer))
    }

    /// The keyed hash under which a value appears in the log.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn hash(&self, value: &SecretBytes) -> Result<String, Error> {
        let message = v1::HashRequest { value: Some(value.into()) };
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { AuditClient::new(ch).hash(rq).await })
            .await?;
        Ok(answer.hash)
    }
}

fn lines(answer: Streaming<v1::AuditLines>) -> ResultStream<String> {
    answer
        .map_ok(|message| stream::iter(message.lines.into_iter().map(Ok)))
        .map_err(Error::from)
        .try_flatten()
        .boxed()
}

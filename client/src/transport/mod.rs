//! The path that every call takes to the server: a deadline over all of it, a token where there is one, and as many attempts
//! as do no harm. It does not know what is asked, nor where tokens come from.

pub(crate) mod answers;
pub(crate) mod bearer;
mod dial;
pub(crate) mod endpoint;
mod lines;
mod names;
mod proxy;
pub(crate) mod retry;
pub(crate) mod tls;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use self::{
    answers::Answers,
    bearer::{Bearer, wants_login},
    lines::{Line, Lines},
    retry::{Attempts, Budget, Safety},
};
use crate::error::Error;

/// The connections to a server. Clones share them, and what may be spent on repetitions.
#[derive(Clone)]
pub(crate) struct Transport {
    lines: Arc<Lines>,
    timeout: Duration,
    /// Shared by all sessions on these connections: it protects the server behind them.
    budget: Arc<Budget>,
}

/// A caller, with or without a token.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    transport: &'a Transport,
    bearer: Option<&'a dyn Bearer>,
    terms: Terms,
}

/// What the application asks of its calls.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    /// How long a call may take, its repetitions included.
    pub(crate) timeout: Duration,
    /// Whether a call may be repeated.
    pub(crate) repeats: bool,
}

/// How a call is made.
#[derive(Clone, Copy)]
pub(crate) struct Mode {
    safety: Safety,
    /// Only the beginning of a stream has a time limit.
    stream: bool,
}

impl Mode {
    pub(crate) const READ: Self = Self { safety: Safety::Repeatable, stream: false };
    pub(crate) const WRITE: Self = Self { safety: Safety::Once, stream: false };
    const STREAM: Self = Self { safety: Safety::Repeatable, stream: true };
}

impl Transport {
    /// Begins with the connection `first`; `open` makes others when one is full or silent.
    pub(crate) fn new(
        first: Channel,
        open: impl Fn() -> Channel + Send + Sync + 'static,
        timeout: Duration,
    ) -> Self {
        Self { lines: Arc::new(Lines::new(first, open)), timeout, budget: Arc::default() }
    }

    /// What is asked of calls unless the application says otherwise.
    pub(crate) fn terms(&self) -> Terms {
        Terms { timeout: self.timeout, repeats: true }
    }

    /// Without a token: status, init, unseal and login have none.
    pub(crate) fn anonymous(&self) -> Caller<'_> {
        Caller { transport: self, bearer: None, terms: self.terms() }
    }

    pub(crate) fn with<'a>(&'a self, bearer: &'a dyn Bearer) -> Caller<'a> {
        Caller { transport: self, bearer: Some(bearer), terms: self.terms() }
    }
}

impl Caller<'_> {
    pub(crate) fn on(self, terms: Terms) -> Self {
        Self { terms, ..self }
    }

    /// Sends `message` with `rpc`, and again as often as needed and allowed.
    pub(crate) async fn call<Q, A, F, Fut>(self, mode: Mode, message: Q, rpc: F) -> Result<A, Error>
    where
        Q: Clone + Send,
        A: Send,
        F: Fn(Channel, Request<Q>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Response<A>, Status>> + Send,
    {
        self.send(mode, message, &rpc, || self.transport.lines.for_call()).await
    }

    /// The same for a stream that stays open.
    pub(crate) async fn open<Q, A, F, Fut>(self, message: Q, rpc: F) -> Result<Answers<A>, Error>
    where
        Q: Clone + Send,
        A: Send + 'static,
        F: Fn(Channel, Request<Q>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Response<Streaming<A>>, Status>> + Send,
    {
        let place = self.transport.lines.for_stream()?;
        let messages = self.send(Mode::STREAM, message, &rpc, || Arc::clone(place.line())).await?;
        Ok(Answers::new(messages, place))
    }

    /// Every call goes through here.
    async fn send<Q, A, F, Fut>(
        self,
        mode: Mode,
        message: Q,
        rpc: &F,
        line: impl Fn() -> Arc<Line> + Send + Sync,
    ) -> Result<A, Error>
    where
        Q: Clone + Send,
        A: Send,
        F: Fn(Channel, Request<Q>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Response<A>, Status>> + Send,
    {
        let Self { transport, bearer, terms } = self;
        let deadline = Instant::now() + terms.timeout;
        let mut attempts = Attempts::new(mode.safety, terms.repeats);
        let mut asked_for_another = false;
        loop {
            let mut token = bearer.and_then(Bearer::current);
            // No need to hear from the server that there is none.
            if let (Some(bearer), None) = (bearer, &token) {
                timeout_at(deadline, bearer.another(None))
                    .await
                    .unwrap_or_else(|_| Err(Error::deadline()))?;
                token = bearer.current();
            }
            let mut request = Request::new(message.clone());
            if let Some(token) = &token {
                token.attach(&mut request);
            }
            let (line, sent) = (line(), Instant::now());
            if !mode.stream {
                request.set_timeout(deadline.saturating_duration_since(sent));
            }
            let error = match timeout_at(deadline, rpc(line.channel(), request)).await {
                Ok(Ok(answer)) => {
                    transport.budget.earn();
                    line.answered();
                    return Ok(answer.into_inner());
                }
                Ok(Err(status)) => Error::of(status),
                Err(_) => Error::deadline(),
            };
            match error.reason() {
                Some(_) => line.answered(),
                // Asked again, the server may be heard over another connection.
                None if error.is_too_late() => transport.lines.is_silent(&line, sent),
                None => {}
            }
            if let Some(bearer) = bearer.filter(|_| !asked_for_another && wants_login(&error)) {
                asked_for_another = true;
                match timeout_at(deadline, bearer.another(token.as_ref())).await {
                    Ok(Ok(true)) => continue,
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => return Err(error),
                    Err(_) => return Err(Error::deadline()),
                }
            }
            match attempts.after(&error, &transport.budget) {
                Some(pause) if Instant::now() + pause < deadline => sleep(pause).await,
                _ => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use strongroom_proto::{Reason, SecretBytes};

    use super::*;
    use crate::{
        error::ErrorKind,
        fake::{Fake, broken, refusal},
    };

    #[tokio::test]
    async fn what_passes_is_tried_again() {
        let fake = Fake::start().await;
        fake.fail([refusal(Reason::Overloaded), broken()]);
        let secret = fake.client().get("secret/a").await.unwrap();
        assert_eq!((secret.version, secret.text("k")), (1, Some("v1")));
        assert_eq!(fake.calls(), 3);
    }

    #[tokio::test]
    async fn what_does_not_pass_is_told_at_once() {
        let fake = Fake::start().await;
        fake.fail([refusal(Reason::Sealed)]);
        let error = fake.client().get("secret/a").await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Sealed { .. }));
        assert_eq!(fake.calls(), 1);
    }

    #[tokio::test]
    async fn a_put_is_repeated_under_one_id() {
        let fake = Fake::start().await;
        fake.fail([broken(), broken()]);
        let client = fake.client();
        for _ in 0..2 {
            let put = client.put("secret/a").value("k", SecretBytes::from(b"v".as_slice()));
            put.send().await.unwrap();
        }
        let ids = fake.operation_ids();
        assert_eq!(ids.len(), 4);
        assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3], "{ids:?}");
    }

    #[tokio::test]
    async fn a_delete_of_the_latest_is_not_repeated() {
        let fake = Fake::start().await;
        fake.fail([broken(), broken()]);
        let client = fake.client();
        assert_eq!(client.delete("secret/a", vec![]).await.unwrap_err().kind(), &ErrorKind::Connection);
        assert_eq!(fake.calls(), 1);
        client.delete("secret/a", vec![1]).await.unwrap();
        assert_eq!(fake.calls(), 3);
    }

    #[tokio::test]
    async fn an_expired_session_logs_in_once_for_all() {
        let fake = Fake::start().await;
        let client = fake.client();
        fake.expire_tokens();
        let reads = (0..20).map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("secret/a").await.map(|secret| secret.version) })
        });
        for read in reads.collect::<Vec<_>>() {
            assert_eq!(read.await.unwrap().unwrap(), 1);
        }
        assert_eq!(fake.logins(), 1);
        assert!(!fake.login_had_token());
    }

    #[tokio::test]
    async fn without_credentials_an_expired_session_is_told() {
        let fake = Fake::start().await;
        let client = fake.client_with(Duration::from_secs(5), None);
        fake.expire_tokens();
        let error = client.get("secret/a").await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unauthenticated(Reason::TokenExpired));
        assert_eq!(fake.logins(), 0);
    }

    #[tokio::test]
    async fn a_call_ends_with_its_time_and_tells_the_server() {
        let fake = Fake::start().await;
        fake.hang();
        let client = fake.client_with(Duration::from_millis(100), None);
        let error = client.get("secret/a").await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::DeadlineExceeded);
        assert!(fake.saw_deadline());
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_a_connection_error() {
        let fake = Fake::start().await;
        // Long enough for every attempt, also on a busy machine: the time must not run out first.
        let client = fake.client_with(Duration::from_secs(5), None);
        fake.stop().await;
        let error = client.get("secret/a").await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Connection, "{error}");
        assert!(std::error::Error::source(&error).is_some(), "the cause is told");
    }

    #[tokio::test]
    async fn pages_are_one_stream() {
        use futures_util::TryStreamExt;
        let fake = Fake::start().await;
        let names: Vec<_> = fake.client().list("secret").try_collect().await.unwrap();
        assert_eq!(names, ["a", "b", "c/", "d"]);
    }
}

//! One connection, and the path that every call takes over it: a deadline, a token where there is one, and as many
//! attempts as do no harm. It does not know what is asked, nor where tokens come from.

pub(crate) mod bearer;
pub(crate) mod endpoint;
pub(crate) mod retry;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Request, Response, Status, transport::Channel};

use self::{
    bearer::{Bearer, wants_login},
    retry::{Attempts, Budget, Safety},
};
use crate::error::Error;

/// A connection. Clones share it, and what may be spent on repetitions.
#[derive(Clone)]
pub(crate) struct Transport {
    channel: Channel,
    timeout: Duration,
    /// Shared by all sessions on the channel: it protects the server behind it.
    budget: Arc<Budget>,
}

/// A caller, with or without a token.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    transport: &'a Transport,
    bearer: Option<&'a dyn Bearer>,
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
    pub(crate) const STREAM: Self = Self { safety: Safety::Repeatable, stream: true };
}

impl Transport {
    pub(crate) fn new(channel: Channel, timeout: Duration) -> Self {
        Self { channel, timeout, budget: Arc::default() }
    }

    /// Without a token: status, init, unseal and login have none.
    pub(crate) fn anonymous(&self) -> Caller<'_> {
        Caller { transport: self, bearer: None }
    }

    pub(crate) fn with<'a>(&'a self, bearer: &'a dyn Bearer) -> Caller<'a> {
        Caller { transport: self, bearer: Some(bearer) }
    }
}

impl Caller<'_> {
    /// Sends `message` with `rpc`, and again as often as needed and allowed. Every call goes through here.
    pub(crate) async fn call<Q, A, F, Fut>(self, mode: Mode, message: Q, rpc: F) -> Result<A, Error>
    where
        Q: Clone + Send,
        A: Send,
        F: Fn(Channel, Request<Q>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Response<A>, Status>> + Send,
    {
        let Self { transport, bearer } = self;
        let deadline = Instant::now() + transport.timeout;
        let mut attempts = Attempts::new(mode.safety);
        let mut asked_for_another = false;
        loop {
            let token = bearer.and_then(Bearer::current);
            let mut request = Request::new(message.clone());
            if let Some(token) = &token {
                token.attach(&mut request);
            }
            if !mode.stream {
                request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            }
            let error = match timeout_at(deadline, rpc(transport.channel.clone(), request)).await {
                Ok(Ok(answer)) => {
                    transport.budget.earn();
                    return Ok(answer.into_inner());
                }
                Ok(Err(status)) => Error::from(status),
                Err(_) => Error::deadline(),
            };
            if let Some(bearer) = bearer.filter(|_| !asked_for_another && wants_login(&error)) {
                asked_for_another = true;
                if bearer.another(token.as_ref()).await? {
                    continue;
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
    }

    #[tokio::test]
    async fn pages_are_one_stream() {
        use futures_util::TryStreamExt;
        let fake = Fake::start().await;
        let names: Vec<_> = fake.client().list("secret").try_collect().await.unwrap();
        assert_eq!(names, ["a", "b", "c/", "d"]);
    }
}

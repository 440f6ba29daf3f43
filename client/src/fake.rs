//! A small real server for the tests of this library: one secret, tokens that can be made to expire, and a queue of
//! errors to answer with first. It knows nothing of policy, storage or TLS.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use strongroom_proto::{
    Reason, SecretBytes,
    v1::{self, auth_server, login_request::Credential, secrets_server, watch_response::Kind},
};
use tokio::{
    net::TcpListener,
    sync::{Notify, broadcast, oneshot},
    task::JoinHandle,
};
use tokio_stream::wrappers::{BroadcastStream, TcpListenerStream};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server},
};

use crate::{
    Client, Session,
    error::tests::status,
    session::{credentials::Credentials, keeper::Keeper},
    transport::{Transport, bearer::Token},
};

/// The server, seen from a test.
pub(crate) struct Fake {
    shared: Arc<Shared>,
    channel: Channel,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

/// The server, seen from its services.
#[derive(Clone)]
struct Service(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changes: broadcast::Sender<Option<v1::WatchResponse>>,
    renewed: Notify,
    reopened: Notify,
    logins: AtomicU32,
    calls: AtomicU32,
    hangs: AtomicBool,
    saw_deadline: AtomicBool,
    login_had_token: AtomicBool,
}

struct State {
    /// The only token that is good now is `token-N`.
    token: u32,
    version: u64,
    errors: VecDeque<Status>,
    operation_ids: Vec<String>,
    watches: u32,
    /// Who logged in, and with which token if it was a pod.
    credentials: Vec<String>,
    refused_login: Option<Status>,
    /// Why the secret cannot be read.
    gone: Option<Reason>,
}

/// A refusal as the real server makes it.
pub(crate) fn refusal(reason: Reason) -> Status {
    status(reason, "refused", &[])
}

/// What a client sees when the connection breaks.
pub(crate) fn broken() -> Status {
    Status::unavailable("connection reset")
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let state = State {
            token: 1,
            version: 1,
            errors: VecDeque::new(),
            operation_ids: Vec::new(),
            watches: 0,
            credentials: Vec::new(),
            refused_login: None,
            gone: None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changes: broadcast::channel(16).0,
            renewed: Notify::new(),
            reopened: Notify::new(),
            logins: AtomicU32::new(0),
            calls: AtomicU32::new(0),
            hangs: AtomicBool::new(false),
            saw_deadline: AtomicBool::new(false),
            login_had_token: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let routes = Server::builder()
            .add_service(secrets_server::SecretsServer::new(Service(shared.clone())))
            .add_service(auth_server::AuthServer::new(Service(shared.clone())));
        let server = tokio::spawn(async move {
            // Not awaiting what is open: a server that is gone is gone.
            tokio::select! {
                served = routes.serve_with_incoming(TcpListenerStream::new(listener)) => served.unwrap(),
                _ = stopped => {}
            }
        });
        let channel = Endpoint::from_shared(address).unwrap().connect_lazy();
        Self { shared, channel, stop: Some(stop), server }
    }

    /// With a good token and credentials.
    pub(crate) fn client(&self) -> Client {
        let password = SecretBytes::from(b"password".as_slice());
        self.client_with(
            Duration::from_secs(10),
            Some(Credentials::Userpass { name: "alice".into(), password }),
        )
    }

    pub(crate) fn client_with(&self, timeout: Duration, credentials: Option<Credentials>) -> Client {
        let token = Token::new(&SecretBytes::from(self.shared.state().good_token())).unwrap();
        let channel = self.channel.clone();
        let transport = Transport::new(channel.clone(), move || channel.clone(), timeout);
        Client::over(Keeper::new(transport, Some(token), credentials))
    }

    /// Answers the next calls with these.
    pub(crate) fn fail(&self, errors: impl IntoIterator<Item = Status>) {
        self.shared.state().errors.extend(errors);
    }

    /// Answers the next login with this.
    pub(crate) fn refuse_login(&self, error: Status) {
        self.shared.state().refused_login = Some(error);
    }

    pub(crate) fn credentials(&self) -> Vec<String> {
        self.shared.state().credentials.clone()
    }

    pub(crate) fn hang(&self) {
        self.shared.hangs.store(true, Ordering::SeqCst);
    }

    pub(crate) fn expire_tokens(&self) {
        self.shared.state().token += 1;
    }

    /// Writes a new version of `secret/a` and tells the watches.
    pub(crate) fn write(&self) {
        self.shared.state().version += 1;
        self.tell(Kind::Written);
    }

    /// Makes the version unreadable and tells the watches.
    pub(crate) fn takes_away(&self, why: Reason, kind: Kind) {
        self.shared.state().gone = Some(why);
        self.tell(kind);
    }

    /// Makes it readable again and tells the watches.
    pub(crate) fn gives_back(&self, kind: Kind) {
        self.shared.state().gone = None;
        self.tell(kind);
    }

    fn tell(&self, kind: Kind) {
        let version = self.shared.state().version;
        let path = "secret/a".into();
        let message = v1::WatchResponse { kind: kind.into(), path, version, ..Default::default() };
        let _ = self.shared.changes.send(Some(message));
    }

    pub(crate) fn break_watches(&self) {
        let _ = self.shared.changes.send(None);
    }

    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.server.await.unwrap();
    }

    pub(crate) async fn renewed(&self) {
        self.shared.renewed.notified().await;
    }

    /// A watch was opened that is not the first.
    pub(crate) async fn reopened(&self) {
        self.shared.reopened.notified().await;
    }

    /// One that is to be renewed soon.
    pub(crate) fn session(&self) -> Session {
        Session::told(short_session())
    }

    pub(crate) fn logins(&self) -> u32 {
        self.shared.logins.load(Ordering::SeqCst)
    }

    pub(crate) fn login_had_token(&self) -> bool {
        self.shared.login_had_token.load(Ordering::SeqCst)
    }

    pub(crate) fn calls(&self) -> u32 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn saw_deadline(&self) -> bool {
        self.shared.saw_deadline.load(Ordering::SeqCst)
    }

    pub(crate) fn operation_ids(&self) -> Vec<String> {
        self.shared.state().operation_ids.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn good_token(&self) -> String {
        format!("token-{}", self.token)
    }
}

impl Service {
    /// What every call goes through.
    async fn enter<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        if request.metadata().contains_key("grpc-timeout") {
            self.0.saw_deadline.store(true, Ordering::SeqCst);
        }
        if self.0.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let mut state = self.0.state();
        let sent = request.metadata().get("authorization").and_then(|header| header.to_str().ok());
        if sent != Some(format!("Bearer {}", state.good_token()).as_str()) {
            return Err(refusal(Reason::TokenExpired));
        }
        state.errors.pop_front().map_or(Ok(()), Err)
    }

    fn token_response(&self) -> v1::TokenResponse {
        let token = self.0.state().good_token().into_bytes();
        v1::TokenResponse { token: Some(v1::Sensitive { value: token }), session: Some(short_session()) }
    }

    fn put_response(&self, operation_id: String) -> v1::PutResponse {
        self.0.state().operation_ids.push(operation_id);
        v1::PutResponse { version: 2, metadata: Some(v1::SecretMetadata::default()) }
    }
}

fn shown(credential: &Credential) -> String {
    match credential {
        Credential::Userpass(userpass) => format!("userpass {}", userpass.name),
        Credential::Kubernetes(pod) => {
            let token = pod.token.as_ref().map(|token| String::from_utf8_lossy(&token.value).into_owned());
            format!("kubernetes {} {}", pod.cluster, token.unwrap_or_default())
        }
    }
}

fn short_session() -> v1::Session {
    v1::Session { issued_at_ms: 0, expires_at_ms: 1, max_expires_at_ms: i64::MAX / 2, ..Default::default() }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl secrets_server::Secrets for Service {
    type ListRecursiveStream = Answers<v1::ListRecursiveResponse>;
    type WatchStream = Answers<v1::WatchResponse>;

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        self.enter(&request).await?;
        let (version, gone) = {
            let state = self.0.state();
            (state.version, state.gone)
        };
        if let Some(reason) = gone {
            return Err(status(reason, "gone", &[("version", &version.to_string())]));
        }
        let value = v1::Sensitive { value: format!("v{version}").into_bytes() };
        let data = [("k".to_owned(), value)].into();
        Ok(Response::new(v1::GetResponse { data, version, ..Default::default() }))
    }

    async fn put(&self, request: Request<v1::PutRequest>) -> Result<Response<v1::PutResponse>, Status> {
        let answer = self.put_response(request.get_ref().operation_id.clone());
        self.enter(&request).await?;
        Ok(Response::new(answer))
    }

    async fn patch(&self, request: Request<v1::PatchRequest>) -> Result<Response<v1::PutResponse>, Status> {
        let answer = self.put_response(request.get_ref().operation_id.clone());
        self.enter(&request).await?;
        Ok(Response::new(answer))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        self.enter(&request).await?;
        let (names, next): (&[&str], &str) = match request.get_ref().page_token.as_str() {
            "" => (&["a", "b"], "two"),
            "two" => (&[], "three"),
            _ => (&["c/", "d"], ""),
        };
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Ok(Response::new(v1::ListResponse { names, next_page_token: next.into() }))
    }

    async fn list_recursive(
        &self,
        _: Request<v1::ListRecursiveRequest>,
    ) -> Result<Response<Self::ListRecursiveStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.enter(&request).await?;
        let started = v1::WatchResponse { kind: Kind::Started.into(), ..Default::default() };
        let changes = BroadcastStream::new(self.0.changes.subscribe())
            .map(|change| change.ok().flatten().ok_or_else(broken));
        let mut state = self.0.state();
        state.watches += 1;
        if state.watches > 1 {
            self.0.reopened.notify_one();
        }
        let stream = futures_util::stream::iter([Ok(started)]).chain(changes);
        Ok(Response::new(stream.boxed()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::SecretMetadata>, Status> {
        self.enter(&request).await?;
        Ok(Response::new(v1::SecretMetadata::default()))
    }

    async fn undelete(
        &self,
        _: Request<v1::UndeleteRequest>,
    ) -> Result<Response<v1::SecretMetadata>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn destroy(&self, _: Request<v1::DestroyRequest>) -> Result<Response<v1::DestroyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_metadata(
        &self,
        _: Request<v1::GetMetadataRequest>,
    ) -> Result<Response<v1::SecretMetadata>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn update_metadata(
        &self,
        _: Request<v1::UpdateMetadataRequest>,
    ) -> Result<Response<v1::SecretMetadata>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl auth_server::Auth for Service {
    async fn login(&self, request: Request<v1::LoginRequest>) -> Result<Response<v1::TokenResponse>, Status> {
        self.0.logins.fetch_add(1, Ordering::SeqCst);
        self.0.login_had_token.fetch_or(request.metadata().contains_key("authorization"), Ordering::SeqCst);
        {
            let mut state = self.0.state();
            state.credentials.extend(request.get_ref().credential.as_ref().map(shown));
            if let Some(error) = state.refused_login.take() {
                return Err(error);
            }
        }
        Ok(Response::new(self.token_response()))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::TokenResponse>, Status> {
        self.enter(&request).await?;
        self.0.state().token += 1;
        self.0.renewed.notify_one();
        Ok(Response::new(self.token_response()))
    }

    async fn whoami(&self, _: Request<v1::WhoamiRequest>) -> Result<Response<v1::WhoamiResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn logout(&self, _: Request<v1::LogoutRequest>) -> Result<Response<v1::LogoutResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn change_password(
        &self,
        request: Request<v1::ChangePasswordRequest>,
    ) -> Result<Response<v1::TokenResponse>, Status> {
        self.renew(request.map(|_| v1::RenewRequest {})).await
    }

    async fn revoke_sessions(
        &self,
        _: Request<v1::RevokeSessionsRequest>,
    ) -> Result<Response<v1::RevokeSessionsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn put_user(
        &self,
        _: Request<v1::PutUserRequest>,
    ) -> Result<Response<v1::PutUserResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete_user(
        &self,
        _: Request<v1::DeleteUserRequest>,
    ) -> Result<Response<v1::DeleteUserResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_users(
        &self,
        _: Request<v1::ListUsersRequest>,
    ) -> Result<Response<v1::ListUsersResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

//! The baseline: a bare tonic server with the same TLS, messages, connections and streams, that does nothing.
//! It runs in a process of its own, as the server does.

use std::{collections::BTreeMap, io, path::Path, pin::Pin};

use strongroom_proto::v1::{
    self,
    auth_server::{Auth, AuthServer},
    secrets_server::{Secrets, SecretsServer},
    transit_server::{Transit, TransitServer},
};
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig},
};

/// Answers every get with the same secret, and every put as if it had been kept.
struct Echo(v1::GetResponse);

type None<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The whole service, so that the attribute sees all of its methods.
macro_rules! echo {
    ($($nothing:ident: $request:ident => $response:ty;)*) => {
        #[tonic::async_trait]
        impl Secrets for Echo {
            type ListRecursiveStream = None<v1::ListRecursiveResponse>;
            type WatchStream = None<v1::WatchResponse>;

            async fn get(&self, _: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
                Ok(Response::new(self.0.clone()))
            }

            async fn put(&self, _: Request<v1::PutRequest>) -> Result<Response<v1::PutResponse>, Status> {
                Ok(Response::new(v1::PutResponse { version: 1, ..Default::default() }))
            }

            $(async fn $nothing(&self, _: Request<v1::$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented("echo"))
            })*
        }
    };
}

echo! {
    patch: PatchRequest => v1::PutResponse;
    list: ListRequest => v1::ListResponse;
    list_recursive: ListRecursiveRequest => Self::ListRecursiveStream;
    watch: WatchRequest => Self::WatchStream;
    delete: DeleteRequest => v1::SecretMetadata;
    undelete: UndeleteRequest => v1::SecretMetadata;
    destroy: DestroyRequest => v1::DestroyResponse;
    get_metadata: GetMetadataRequest => v1::SecretMetadata;
    update_metadata: UpdateMetadataRequest => v1::SecretMetadata;
}

/// Answers every login with the same token.
struct EchoLogin(v1::TokenResponse);

/// A whole service, of which one method answers with what the server was given.
macro_rules! answers_one {
    ($service:ident for $server:ident, $method:ident: $asked:ident => $answer:ident; $($nothing:ident: $request:ident => $response:ident;)*) => {
        #[tonic::async_trait]
        impl $service for $server {
            async fn $method(&self, _: Request<v1::$asked>) -> Result<Response<v1::$answer>, Status> {
                Ok(Response::new(self.0.clone()))
            }

            $(async fn $nothing(&self, _: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                Err(Status::unimplemented("echo"))
            })*
        }
    };
}

answers_one! { Auth for EchoLogin,
    login: LoginRequest => TokenResponse;
    renew: RenewRequest => TokenResponse;
    whoami: WhoamiRequest => WhoamiResponse;
    logout: LogoutRequest => LogoutResponse;
    change_password: ChangePasswordRequest => TokenResponse;
    revoke_sessions: RevokeSessionsRequest => RevokeSessionsResponse;
    put_user: PutUserRequest => PutUserResponse;
    delete_user: DeleteUserRequest => DeleteUserResponse;
    list_users: ListUsersRequest => ListUsersResponse;
}

/// Answers every encryption with the same ciphertext.
struct EchoTransit(v1::EncryptResponse);

answers_one! { Transit for EchoTransit,
    encrypt: EncryptRequest => EncryptResponse;
    create_key: CreateKeyRequest => LatestKeyVersion;
    get_key: GetKeyRequest => TransitKey;
    list_keys: ListKeysRequest => ListKeysResponse;
    rotate_key: RotateKeyRequest => LatestKeyVersion;
    update_key: UpdateKeyRequest => TransitKey;
    destroy_key: DestroyKeyRequest => DestroyKeyResponse;
    export_key: ExportKeyRequest => ExportKeyResponse;
    decrypt: DecryptRequest => DecryptResponse;
    rewrap: RewrapRequest => RewrapResponse;
    generate_data_key: GenerateDataKeyRequest => GenerateDataKeyResponse;
    sign: SignRequest => SignResponse;
    verify: VerifyRequest => VerifyResponse;
    mac: MacRequest => MacResponse;
    verify_mac: VerifyMacRequest => VerifyResponse;
}

/// Serves until killed; prints its port first.
///
/// # Errors
/// A certificate or the port is not to be had.
#[expect(clippy::print_stdout, reason = "the parent process reads the port")]
pub async fn serve(pki: &Path) -> io::Result<()> {
    let identity =
        Identity::from_pem(std::fs::read(pki.join("server.pem"))?, std::fs::read(pki.join("server.key"))?);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let answer = v1::GetResponse {
        data: BTreeMap::from([(
            "value".to_owned(),
            v1::Sensitive { value: vec![b'x'; super::subject::VALUE_BYTES] },
        )]),
        version: 1,
        metadata: Some(v1::VersionMetadata {
            version: 1,
            created_at_ms: 1_700_000_000_000,
            created_by: "userpass/bench".to_owned(),
            ..Default::default()
        }),
        custom: BTreeMap::new(),
    };
    let login = v1::TokenResponse {
        token: Some(v1::Sensitive { value: vec![b'x'; super::pods::TOKEN_BYTES] }),
        session: Some(v1::Session {
            id: "0".repeat(32),
            principal: "kubernetes/main/bench/bench".to_owned(),
            method: "kubernetes".to_owned(),
            pod: Some(v1::Pod { name: "bench-0".to_owned(), uid: "0".repeat(36), node: "node-1".to_owned() }),
            ..Default::default()
        }),
    };
    let encrypted =
        v1::EncryptResponse { ciphertexts: vec!["x".repeat(super::transit::CIPHERTEXT_BYTES)], version: 1 };
    let incoming = TcpListenerStream::new(listener);
    Server::builder()
        .tls_config(ServerTlsConfig::new().identity(identity))
        .map_err(io::Error::other)?
        .max_concurrent_streams(100)
        .tcp_nodelay(true)
        .add_service(SecretsServer::new(Echo(answer)))
        .add_service(AuthServer::new(EchoLogin(login)))
        .add_service(TransitServer::new(EchoTransit(encrypted)))
        .serve_with_incoming(incoming)
        .await
        .map_err(io::Error::other)
}

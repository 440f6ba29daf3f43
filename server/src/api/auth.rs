//! The Auth service: thin.

use strongroom_proto::v1::{self, auth_server::Auth, revoke_sessions_request::Which};
use tonic::{Request, Response, Status};

use super::{
    call::{call, visit},
    convert,
    status::status,
};
use crate::{
    auth::{Credential, users},
    core::{Action, Answer, SessionAction, UserAction},
    model::Invalid,
    tokens,
};

/// See the module.
pub(super) struct AuthService;

#[tonic::async_trait]
impl Auth for AuthService {
    async fn login(&self, request: Request<v1::LoginRequest>) -> Result<Response<v1::TokenResponse>, Status> {
        let visit = visit(&request)?;
        let credential = Credential::read(request.into_inner().credential);
        let (token, session) = visit.login(credential).await.map_err(|error| status(&error, visit.id()))?;
        Ok(Response::new(convert::token(token, &session)))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::TokenResponse>, Status> {
        call(
            request,
            |_| Ok(Action::Session(SessionAction::Renew)),
            |answer, _| match answer {
                Answer::Token(token, session) => Some(convert::token(token, &session)),
                _ => None,
            },
        )
        .await
    }

    async fn whoami(
        &self,
        request: Request<v1::WhoamiRequest>,
    ) -> Result<Response<v1::WhoamiResponse>, Status> {
        call(
            request,
            |_| Ok(Action::Session(SessionAction::Whoami)),
            |answer, _| match answer {
                Answer::Whoami(session, roles) => {
                    Some(v1::WhoamiResponse { session: Some(convert::session(&session)), roles })
                }
                _ => None,
            },
        )
        .await
    }

    async fn logout(
        &self,
        request: Request<v1::LogoutRequest>,
    ) -> Result<Response<v1::LogoutResponse>, Status> {
        call(request, |_| Ok(Action::Session(SessionAction::Logout)), |_, _| Some(v1::LogoutResponse {}))
            .await
    }

    async fn change_password(
        &self,
        request: Request<v1::ChangePasswordRequest>,
    ) -> Result<Response<v1::TokenResponse>, Status> {
        call(
            request,
            |message| {
                let current = message.current_password.unwrap_or_default().into();
                let new = message.new_password.unwrap_or_default().into();
                Ok(Action::Session(SessionAction::ChangePassword { current, new }))
            },
            |answer, _| match answer {
                Answer::Token(token, session) => Some(convert::token(token, &session)),
                _ => None,
            },
        )
        .await
    }

    async fn revoke_sessions(
        &self,
        request: Request<v1::RevokeSessionsRequest>,
    ) -> Result<Response<v1::RevokeSessionsResponse>, Status> {
        call(
            request,
            |message| {
                let which = match message.which {
                    Some(Which::SessionId(id)) => tokens::Which::session(&id),
                    Some(Which::Principal(name)) => tokens::Which::principal(&name),
                    Some(Which::Method(name)) => tokens::Which::method(&name),
                    Some(Which::Pod(uid)) => tokens::Which::pod(&uid),
                    None => Err(Invalid::new(
                        "which",
                        "is missing; expected session_id, principal, method or pod",
                    )),
                };
                which.map(Action::Revoke)
            },
            |_, _| Some(v1::RevokeSessionsResponse {}),
        )
        .await
    }

    async fn put_user(
        &self,
        request: Request<v1::PutUserRequest>,
    ) -> Result<Response<v1::PutUserResponse>, Status> {
        call(
            request,
            |message| {
                Ok(Action::User(UserAction::Put {
                    name: users::parse_name(&message.name)?,
                    password: message.password.map(Into::into),
                    groups: match message.keep_groups {
                        true if message.groups.is_empty() => None,
                        true => return Err(Invalid::new("groups", "must be empty when keep_groups is set")),
                        false => Some(users::parse_groups(&message.groups)?),
                    },
                }))
            },
            |_, _| Some(v1::PutUserResponse {}),
        )
        .await
    }

    async fn delete_user(
        &self,
        request: Request<v1::DeleteUserRequest>,
    ) -> Result<Response<v1::DeleteUserResponse>, Status> {
        call(
            request,
            |message| Ok(Action::User(UserAction::Delete { name: users::parse_name(&message.name)? })),
            |_, _| Some(v1::DeleteUserResponse {}),
        )
        .await
    }

    async fn list_users(
        &self,
        request: Request<v1::ListUsersRequest>,
    ) -> Result<Response<v1::ListUsersResponse>, Status> {
        call(
            request,
            |_| Ok(Action::User(UserAction::List)),
            |answer, _| match answer {
                Answer::Users(users) => {
                    Some(v1::ListUsersResponse { users: users.into_iter().map(convert::user).collect() })
                }
                _ => None,
            },
        )
        .await
    }
}

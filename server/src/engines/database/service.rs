//! The service Database: from messages to operations and from outputs to messages. No decisions.

use bytes::BufMut;
use prost::{EncodeError, Message};
use strongroom_proto::v1;

use super::{
    Operation, Output,
    records::{Account, Configuration, Role},
    sql,
};
use crate::{
    engines::{Asked, Fields, Reply, Service, at, schedule, service},
    limits::SMALL_REQUEST_BYTES,
    model::{Path, SecretBytes},
};

pub(super) const SERVICE: Service = service! { "Database";
    "Configure"        One SMALL_REQUEST_BYTES configure;
    "GetConfiguration" One SMALL_REQUEST_BYTES |asked: v1::GetDatabaseConfigurationRequest| at(&asked.path, Operation::DescribeConfiguration);
    "RotateRoot"       One SMALL_REQUEST_BYTES |asked: v1::RotateDatabaseRootRequest| at(&asked.path, Operation::RotateRoot);
    "PutRole"          One SMALL_REQUEST_BYTES put_role;
    "GetRole"          One SMALL_REQUEST_BYTES |asked: v1::GetDatabaseRoleRequest| at(&asked.path, Operation::DescribeRole);
    "DeleteRole"       One SMALL_REQUEST_BYTES |asked: v1::DeleteDatabaseRoleRequest| at(&asked.path, Operation::DeleteRole);
    "ListRoles"        One SMALL_REQUEST_BYTES |asked: v1::ListDatabaseRolesRequest| at(&asked.path, Operation::ListRoles { page_token: token(asked.page_token) });
    "Issue"            One SMALL_REQUEST_BYTES |asked: v1::IssueDatabaseUserRequest| at(&asked.path, Operation::Issue { ttl: Some(asked.ttl_seconds).filter(|ttl| *ttl > 0) });
    "PutAccount"       One SMALL_REQUEST_BYTES put_account;
    "GetAccount"       One SMALL_REQUEST_BYTES |asked: v1::GetDatabaseAccountRequest| at(&asked.path, Operation::DescribeAccount);
    "DeleteAccount"    One SMALL_REQUEST_BYTES |asked: v1::DeleteDatabaseAccountRequest| at(&asked.path, Operation::DeleteAccount);
    "ListAccounts"     One SMALL_REQUEST_BYTES |asked: v1::ListDatabaseAccountsRequest| at(&asked.path, Operation::ListAccounts { page_token: token(asked.page_token) });
    "RotateAccount"    One SMALL_REQUEST_BYTES |asked: v1::RotateDatabaseAccountRequest| at(&asked.path, Operation::RotateAccount);
    "GetPassword"      One SMALL_REQUEST_BYTES |asked: v1::GetDatabasePasswordRequest| at(&asked.path, Operation::Password);
};

fn configure(message: v1::ConfigureDatabaseRequest) -> Asked {
    let configuration = Configuration::parse(Configuration {
        host: message.host,
        port: message.port,
        database: message.database,
        user: message.user,
        secret: None,
        ca_pem: message.ca_pem,
        plaintext: message.plaintext,
        max_connections: message.max_connections,
    })?;
    at(
        &message.path,
        Operation::Configure { configuration, password: message.password.map(SecretBytes::from) },
    )
}

fn put_role(message: v1::PutDatabaseRoleRequest) -> Asked {
    let role = Role::parse(Role {
        creation: message.creation,
        renewal: message.renewal,
        revocation: message.revocation,
        ttl: message.ttl_seconds,
        max_ttl: message.max_ttl_seconds,
    })?;
    at(&message.path, Operation::PutRole(role))
}

fn put_account(message: v1::PutDatabaseAccountRequest) -> Asked {
    sql::check_name("user", &message.user)?;
    let rotation_period = schedule::period(message.rotation_period_seconds, schedule::SHORTEST)?;
    at(&message.path, Operation::PutAccount { user: message.user, rotation_period })
}

fn token(text: String) -> Option<String> {
    Some(text).filter(|token| !token.is_empty())
}

impl Reply for Output {
    fn write(self: Box<Self>, mut into: &mut dyn BufMut) -> Result<(), EncodeError> {
        match *self {
            Self::Configuration { path, configuration } => configured(&path, configuration).encode(&mut into),
            Self::RootRotated { at_ms } => {
                v1::RotateDatabaseRootResponse { rotated_at_ms: at_ms }.encode(&mut into)
            }
            Self::Role { path, role } => v1::DatabaseRole {
                path: path.to_string(),
                creation: role.creation,
                renewal: role.renewal,
                revocation: role.revocation,
                ttl_seconds: role.ttl,
                max_ttl_seconds: role.max_ttl,
            }
            .encode(&mut into),
            Self::RoleDeleted => v1::DeleteDatabaseRoleResponse {}.encode(&mut into),
            Self::Roles { paths, next } => {
                let (paths, next_page_token) = page(&paths, next);
                v1::ListDatabaseRolesResponse { paths, next_page_token }.encode(&mut into)
            }
            Self::User { lease, made } => v1::DatabaseUser {
                lease: Some(lease),
                user: made.name,
                password: Some(made.password.into()),
                host: made.host,
                port: made.port,
                database: made.database,
            }
            .encode(&mut into),
            Self::Account { path, account } => v1::DatabaseAccount {
                path: path.to_string(),
                rotated_at_ms: rotated(&account),
                rotation_period_seconds: account.rotation_period,
                user: account.user,
            }
            .encode(&mut into),
            Self::AccountDeleted => v1::DeleteDatabaseAccountResponse {}.encode(&mut into),
            Self::Accounts { paths, next } => {
                let (paths, next_page_token) = page(&paths, next);
                v1::ListDatabaseAccountsResponse { paths, next_page_token }.encode(&mut into)
            }
            Self::Password(account) => v1::DatabasePassword {
                rotated_at_ms: rotated(&account),
                user: account.user,
                password: account.secret.and_then(|secret| secret.current),
            }
            .encode(&mut into),
        }
    }
    /// `port` and the others as text, for files and connection strings.
    fn fields(self: Box<Self>) -> Option<Fields> {
        let Self::User { made, .. } = *self else { return None };
        let text = |text: String| SecretBytes::from(text.as_bytes());
        let values = vec![
            ("username", text(made.name)),
            ("password", made.password),
            ("host", text(made.host)),
            ("port", text(made.port.to_string())),
            ("database", text(made.database)),
        ];
        Some(Fields { values, ends: None })
    }
}

fn configured(path: &Path, configuration: Configuration) -> v1::DatabaseConfiguration {
    v1::DatabaseConfiguration {
        path: path.to_string(),
        host: configuration.host,
        port: configuration.port,
        database: configuration.database,
        user: configuration.user,
        ca_pem: configuration.ca_pem,
        plaintext: configuration.plaintext,
        max_connections: configuration.max_connections,
        rotated_at_ms: configuration.secret.map_or(0, |secret| secret.rotated_ms),
    }
}

fn rotated(account: &Account) -> i64 {
    account.secret.as_ref().map_or(0, |secret| secret.rotated_ms)
}

fn page(paths: &[Path], next: Option<String>) -> (Vec<String>, String) {
    (paths.iter().map(ToString::to_string).collect(), next.unwrap_or_default())
}

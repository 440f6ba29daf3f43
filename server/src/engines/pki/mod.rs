//! pki: certificates of authorities whose keys stay in the server. A mount has issuers, of which one is the default, and roles,
//! which say who gets which certificates. What it can do stands here; how, in the files beside it.

mod authority;
mod certificate;
mod crl;
mod der;
mod error;
mod issue;
mod issuers;
mod names;
mod records;
mod request;
mod revoke;
mod role;
mod service;
mod template;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use strongroom_proto::v1;
use tokio_util::task::TaskTracker;

use self::{
    authority::Authority,
    crl::Lists,
    error::Error,
    issue::{Asked, Issued, Planned, Signed},
    issuers::{Described, NewIssuer},
    records::{Issuer, Records},
    request::Request,
    revoke::Which,
    role::Role,
};
use super::{Engine, EngineError, EngineKind, Granted, Make, Parts, Reply, Settings, no_settings, own};
use crate::{
    barrier::BarrierError,
    clock::Clock,
    crypto::Entropy,
    model::{Invalid, Path, RequestId, SecretBytes, Timestamp, Verb},
    permit::Permit,
    storage::Revision,
};

/// pki, for the mount table.
pub const KIND: EngineKind = EngineKind {
    name: "pki",
    description: "Issues and revokes certificates of authorities whose keys stay in the server.",
    service: service::SERVICE,
    check,
    build,
};

/// What the engine is asked to do at the permit's path.
enum Operation {
    CreateIssuer(NewIssuer),
    ImportIssuer { key_pem: SecretBytes, chain_pem: String, crl_url: String },
    SetSigned { chain_pem: String },
    DescribeIssuer,
    ListIssuers { page_token: Option<String> },
    SetDefault,
    SignIssuer { request: Box<Request>, ttl: Duration, path_length: Option<u8> },
    Revoke { which: Which, reason: u32 },
    Crl { delta: bool },
    PutRole(Role),
    DescribeRole,
    DeleteRole,
    ListRoles { page_token: Option<String> },
    Issue { asked: Asked, ttl: u64 },
}

/// What it answers.
enum Output {
    Issuer(Described),
    Issuers { paths: Vec<Path>, next: Option<String> },
    Signed(Signed, Option<v1::Lease>),
    Issued(Issued, Option<v1::Lease>),
    Revoked { serial: String, at_ms: i64 },
    Crl { lists: Arc<Lists>, delta: bool },
    Role { path: Path, role: Role },
    RoleDeleted,
    Roles { paths: Vec<Path>, next: Option<String> },
}

impl super::Operation for Operation {
    fn verbs(&self) -> &'static [Verb] {
        match self {
            Self::CreateIssuer(_)
            | Self::ImportIssuer { .. }
            | Self::SetSigned { .. }
            | Self::SetDefault
            | Self::SignIssuer { .. }
            | Self::PutRole(_)
            | Self::DeleteRole => &[Verb::Manage],
            Self::DescribeIssuer | Self::Crl { .. } => &[Verb::Use, Verb::Read, Verb::Manage],
            Self::DescribeRole => &[Verb::Read, Verb::Manage],
            Self::ListIssuers { .. } | Self::ListRoles { .. } => &[Verb::List],
            Self::Revoke { .. } => &[Verb::Update],
            Self::Issue { .. } => &[Verb::Use],
        }
    }

    fn is_write(&self) -> bool {
        match self {
            Self::CreateIssuer(_)
            | Self::ImportIssuer { .. }
            | Self::SetSigned { .. }
            | Self::SetDefault
            | Self::SignIssuer { .. }
            | Self::Revoke { .. }
            | Self::PutRole(_)
            | Self::DeleteRole
            | Self::Issue { .. } => true,
            Self::DescribeIssuer
            | Self::ListIssuers { .. }
            | Self::Crl { .. }
            | Self::DescribeRole
            | Self::ListRoles { .. } => false,
        }
    }

    fn changes(&self) -> Vec<String> {
        match self {
            Self::CreateIssuer(new) => vec![format!("subject {}", new.subject)],
            Self::ImportIssuer { .. } => vec!["imported".to_owned()],
            Self::SignIssuer { request, .. } => vec![format!("subject {}", request.subject)],
            Self::Revoke { which: Which::Serial(serial), .. } => {
                vec![format!("serial {}", data_encoding::HEXLOWER.encode(serial))]
            }
            Self::PutRole(role) => role.told(),
            Self::Issue { asked: Asked::Key(names), .. } => names.told(),
            // What cannot be a name is refused, and told as it was asked for.
            Self::Issue { asked: Asked::Request(request), .. } => {
                request.leaf_names().map_or_else(|_| request.names.told(), |names| names.told())
            }
            _ => Vec::new(),
        }
    }
}

/// One mounted pki.
struct Mounted {
    pki: Arc<Pki>,
    /// Writes that continue when their callers are gone.
    tasks: TaskTracker,
}

/// A certificate that is made once there is a lease for it.
struct Making {
    pki: Arc<Pki>,
    planned: Planned,
}

/// What is known of it.
struct Pki {
    records: Records,
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
    /// Issuers that are ready to sign, as of the revision of their record.
    authorities: Mutex<BTreeMap<Path, (Revision, Arc<Authority>)>>,
    /// The last lists of each issuer, as of the revision of their state.
    lists: Mutex<BTreeMap<String, (Revision, Arc<Lists>)>>,
    /// One revocation is written, or list built, at a time: here they would only be in each other's way.
    revoking: tokio::sync::Mutex<()>,
}

fn check(settings: &Settings) -> Result<(), Invalid> {
    no_settings(KIND.name, settings)
}

fn build(parts: Parts) -> Result<Box<dyn Engine>, Invalid> {
    check(&parts.settings)?;
    let pki = Arc::new(Pki::new(Records::new(parts.view), parts.entropy, parts.clock));
    Ok(Box::new(Mounted { pki, tasks: parts.tasks }))
}

#[async_trait]
impl Engine for Mounted {
    async fn run(
        &self,
        permit: Permit,
        operation: Box<dyn super::Operation>,
    ) -> Result<super::Output, EngineError> {
        let operation: Operation = own(operation)?;
        let path = permit.path().clone();
        if let Operation::Issue { asked, ttl } = operation {
            let planned = self.pki.plan(&path, asked, ttl, permit.principal(), permit.at()).await?;
            return match planned.lease {
                true => {
                    let making = Making { pki: Arc::clone(&self.pki), planned };
                    Ok(super::Output::lease(making.planned.terms(), making))
                }
                false => Ok(super::Output::one(Output::issued(self.pki.make(planned)?, None))),
            };
        }
        let (pki, by, now) = (Arc::clone(&self.pki), permit.request_id(), permit.at());
        // A list may have to be built, which is then done even if nobody waits for it.
        let to_the_end = super::Operation::is_write(&operation) || matches!(operation, Operation::Crl { .. });
        let output = if to_the_end {
            let task = self.tasks.spawn(async move { pki.write(path, by, now, operation).await });
            task.await.unwrap_or(Err(BarrierError::Stopped.into()))?
        } else {
            self.pki.read(path, operation, |path| permit.scope().sees_leaf(path)).await?
        };
        Ok(super::Output::one(output))
    }

    /// A key and a certificate with the names that the role says outright.
    fn issues(&self, ttl: Option<u64>) -> Option<Box<dyn super::Operation>> {
        let asked = Asked::Key(names::Names::default());
        Some(Box::new(Operation::Issue { asked, ttl: ttl.unwrap_or_default() }))
    }

    /// A certificate says itself how long it is good, and its lease is no longer.
    async fn renew(&self, _: &SecretBytes, _: Timestamp) -> Result<(), EngineError> {
        Ok(())
    }

    async fn revoke(&self, data: &SecretBytes) -> Result<(), EngineError> {
        Ok(self.pki.revoke_leased(data, self.pki.clock.now()).await?)
    }

    async fn erase(&self) -> Result<(), BarrierError> {
        self.pki.records.erase().await
    }
}

#[async_trait]
impl Make for Making {
    async fn make(self: Box<Self>, granted: &Granted) -> Result<Box<dyn Reply>, EngineError> {
        let issued = self.pki.make(self.planned)?;
        Ok(Box::new(Output::issued(issued, Some(granted.into()))))
    }
}

impl Output {
    fn issued(issued: Issued, lease: Option<v1::Lease>) -> Self {
        match issued.key_pem {
            Some(_) => Self::Issued(issued, lease),
            None => Self::Signed(issued.signed, lease),
        }
    }
}

impl Pki {
    fn new(records: Records, entropy: Arc<dyn Entropy>, clock: Arc<dyn Clock>) -> Self {
        let (authorities, lists, revoking) = Default::default();
        Self { records, entropy, clock, authorities, lists, revoking }
    }

    async fn read(
        &self,
        path: Path,
        operation: Operation,
        sees: impl Fn(&Path) -> bool,
    ) -> Result<Output, Error> {
        Ok(match operation {
            Operation::ListIssuers { page_token } => {
                let (paths, next) = self.records.page::<Issuer>(&path, page_token.as_deref(), sees).await?;
                Output::Issuers { paths, next }
            }
            Operation::ListRoles { page_token } => {
                let (paths, next) = self.records.page::<Role>(&path, page_token.as_deref(), sees).await?;
                Output::Roles { paths, next }
            }
            Operation::DescribeRole => {
                let (role, _) = self.records.get(&path).await?;
                Output::Role { path, role }
            }
            _ => Output::Issuer(self.describe(path).await?),
        })
    }

    async fn write(
        &self,
        path: Path,
        by: RequestId,
        now: Timestamp,
        operation: Operation,
    ) -> Result<Output, Error> {
        Ok(match operation {
            Operation::CreateIssuer(new) => Output::Issuer(self.create(path, new, by, now).await?),
            Operation::ImportIssuer { key_pem, chain_pem, crl_url } => {
                Output::Issuer(self.import(path, &key_pem, &chain_pem, crl_url, (by, now)).await?)
            }
            Operation::SetSigned { chain_pem } => {
                Output::Issuer(self.set_signed(path, &chain_pem, by, now).await?)
            }
            Operation::SetDefault => Output::Issuer(self.set_default(path, by).await?),
            Operation::SignIssuer { request, ttl, path_length } => {
                Output::Signed(self.sign_issuer(&path, &request, ttl, path_length, now).await?, None)
            }
            Operation::Revoke { which, reason } => {
                let (serial, at_ms) = self.revoke_one(&path, which, reason, (by, now)).await?;
                Output::Revoked { serial, at_ms }
            }
            Operation::Crl { delta } => Output::Crl { lists: self.lists(&path, now).await?, delta },
            Operation::PutRole(role) => {
                if self.records.find::<Issuer>(&path).await?.is_some() {
                    return Err(Error::Exists("an issuer"));
                }
                let was = self.records.find::<Role>(&path).await?.map(|(_, revision)| revision);
                self.records.put::<Role, Issuer>(&path, &role, was, by).await?;
                Output::Role { path, role }
            }
            Operation::DeleteRole => {
                self.records.delete::<Role>(&path, by).await?;
                Output::RoleDeleted
            }
            _ => return self.read(path, operation, |_| false).await,
        })
    }

    fn authorities(&self) -> MutexGuard<'_, BTreeMap<Path, (Revision, Arc<Authority>)>> {
        self.authorities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_lists(&self, issuer: &str, revision: Revision) -> Option<Arc<Lists>> {
        let lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.get(issuer).filter(|(since, _)| *since == revision).map(|(_, lists)| Arc::clone(lists))
    }

    fn remember_lists(&self, issuer: &str, revision: Revision, lists: Lists) -> Arc<Lists> {
        let lists = Arc::new(lists);
        let mut known = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(issuer.to_owned(), (revision, Arc::clone(&lists)));
        lists
    }
}

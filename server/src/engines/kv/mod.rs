//! kv: versioned secrets under paths. What it can do stands here; how, in the files beside it. It gets a permit and a
//! view, and knows nothing of tokens, policy rules, audit or the wire.
//!
//! Writes take no lock: each reads, builds its changes on condition that what it read is still so, and tries again if it
//! is not.

mod elsewhere;
mod erase;
mod error;
mod folders;
mod list;
mod quota;
mod read;
mod record;
mod service;
mod settings;
#[cfg(test)]
mod tests;
mod watch;
mod write;

pub use error::Error;
pub use record::{SECRET, VERSION};

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use strongroom_proto::limits::OPERATION_ID_BYTES;
use tokio_util::task::TaskTracker;

use self::{quota::Quotas, settings::KvSettings};
use super::{Engine, EngineError, Parts, Settings, own};
use crate::{
    barrier::{Address, BarrierError, Changes, Derived, RecordKind, View},
    model::{Invalid, KeyName, Path, QuotaUse, RequestId, SecretBytes, Timestamp, Verb},
    permit::Permit,
    storage::Revision,
};

/// kv, for the mount table.
pub const KIND: super::EngineKind = super::EngineKind {
    name: "kv",
    description: "Versioned secrets: maps of keys to bytes under paths.",
    service: service::SERVICE,
    check: |settings| KvSettings::of(settings).map(drop),
    build,
};

/// What kv is asked to do with the permit's path.
pub enum Operation {
    /// Writes a new version.
    Put {
        data: BTreeMap<KeyName, SecretBytes>,
        /// The version that must be the latest; 0 = there must be no such secret.
        expected_version: Option<u64>,
        /// How long this version can be read.
        ttl: Option<Duration>,
        /// The caller's id of this write, so that repeating it is safe.
        operation_id: Option<Box<str>>,
    },
    /// Writes a new version that differs from the latest in some keys.
    Patch {
        /// Keys to set, and keys to remove.
        changes: BTreeMap<KeyName, Option<SecretBytes>>,
        expected_version: Option<u64>,
        /// As for a put; the former version's life is not inherited.
        ttl: Option<Duration>,
        operation_id: Option<Box<str>>,
    },
    /// Reads a version, or the latest.
    Get { version: Option<u64> },
    /// One page of one level.
    List {
        /// 1 to 1000.
        page_size: u32,
        /// From the page before.
        page_token: Option<String>,
    },
    /// Everything below, in order.
    ListRecursive,
    /// Changes of the permit's paths and below them.
    Watch,
    /// Hides versions; the latest if none is given.
    Delete { versions: Vec<u64> },
    /// Brings hidden versions back.
    Undelete {
        /// Which; at least one.
        versions: Vec<u64>,
    },
    /// Erases versions, or the whole secret, for good.
    Destroy {
        /// Which; none if all.
        versions: Vec<u64>,
        /// The secret with its metadata.
        all: bool,
    },
    /// Everything but values.
    GetMetadata,
    /// Changes what is given.
    UpdateMetadata {
        /// Replaces all pairs.
        custom: Option<BTreeMap<String, String>>,
        /// Versions to keep; older ones go with the next put.
        max_versions: Option<u32>,
        /// Whether each put must give expected_version.
        cas_required: Option<bool>,
    },
}

impl super::Operation for Operation {
    fn verbs(&self) -> &'static [Verb] {
        match self {
            Self::Put { .. } => &[Verb::Update, Verb::Create],
            Self::Patch { .. } | Self::Undelete { .. } => &[Verb::Update],
            Self::Get { .. } | Self::GetMetadata | Self::Watch => &[Verb::Read],
            Self::List { .. } | Self::ListRecursive => &[Verb::List],
            Self::Delete { .. } => &[Verb::Delete],
            Self::Destroy { .. } => &[Verb::Destroy],
            Self::UpdateMetadata { .. } => &[Verb::Manage],
        }
    }

    fn is_write(&self) -> bool {
        match self {
            Self::Get { .. } | Self::GetMetadata | Self::List { .. } | Self::ListRecursive | Self::Watch => {
                false
            }
            Self::Put { .. }
            | Self::Patch { .. }
            | Self::Delete { .. }
            | Self::Undelete { .. }
            | Self::Destroy { .. }
            | Self::UpdateMetadata { .. } => true,
        }
    }

    fn versions(&self) -> Vec<u64> {
        match self {
            Self::Get { version } => version.iter().copied().collect(),
            Self::Delete { versions } | Self::Undelete { versions } | Self::Destroy { versions, .. } => {
                versions.clone()
            }
            _ => Vec::new(),
        }
    }

    fn is_about_the_latest(&self) -> bool {
        match self {
            Self::Put { .. } | Self::Patch { .. } => true,
            Self::Get { version } => version.is_none(),
            Self::Delete { versions } => versions.is_empty(),
            _ => false,
        }
    }

    fn changes(&self) -> Vec<String> {
        match self {
            Self::Destroy { all: true, .. } => vec!["all versions and the metadata".to_owned()],
            Self::UpdateMetadata { custom, max_versions, cas_required } => {
                let pairs = custom.iter().flat_map(|custom| custom.keys());
                let none = custom.as_ref().is_some_and(BTreeMap::is_empty).then(|| "custom".to_owned());
                let limits = max_versions.map(|_| "max_versions".to_owned());
                let cas = cas_required.map(|_| "cas_required".to_owned());
                pairs.map(|key| format!("custom {key}")).chain(none).chain(limits).chain(cas).collect()
            }
            Self::Patch { changes, .. } => {
                let removed = changes.iter().filter(|(_, value)| value.is_none());
                removed.map(|(key, _)| format!("remove {}", key.as_str())).collect()
            }
            _ => Vec::new(),
        }
    }

    fn values(&self) -> Vec<(String, &[u8])> {
        let field = |key: &KeyName| format!("data.{}", key.as_str());
        match self {
            Self::Put { data, .. } => data.iter().map(|(key, value)| (field(key), value.expose())).collect(),
            Self::Patch { changes, .. } => {
                let set =
                    changes.iter().filter_map(|(key, value)| Some((field(key), value.as_ref()?.expose())));
                set.collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Results that arrive over time.
type Stream<T> = Pin<Box<dyn futures_util::Stream<Item = Result<T, Error>> + Send>>;

/// What kv answers.
pub enum Output {
    /// A version was written, or had been by the same operation id.
    Written {
        version: u64,
        /// The secret's metadata after it.
        metadata: SecretMetadata,
    },
    /// A version's content.
    Secret {
        /// Keys and values.
        data: BTreeMap<KeyName, SecretBytes>,
        /// Number and times of the version.
        metadata: VersionMetadata,
        /// Custom pairs of the secret.
        custom: BTreeMap<String, String>,
    },
    /// Names of one level; `name/` for a folder.
    Page {
        /// Sorted by bytes.
        names: Vec<Box<str>>,
        /// For the next page, if there is one.
        next: Option<String>,
    },
    /// After a change, or as asked for.
    Metadata(SecretMetadata),
    Destroyed,
}

/// What there is to know about a secret, but for its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMetadata {
    pub path: Path,
    /// The latest version.
    pub current_version: u64,
    /// The oldest version still known.
    pub oldest_version: u64,
    /// Oldest first.
    pub versions: Vec<VersionMetadata>,
    /// The owner's own pairs.
    pub custom: BTreeMap<String, String>,
    pub max_versions: u32,
    /// Whether each put must give expected_version.
    pub cas_required: bool,
    /// When the first version was written.
    pub created_at: Timestamp,
    pub created_by: Box<str>,
    /// When anything of it changed last.
    pub updated_at: Timestamp,
    pub updated_by: Box<str>,
}

/// What there is to know about a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionMetadata {
    pub version: u64,
    /// When it was written.
    pub created_at: Timestamp,
    pub created_by: Box<str>,
    /// Since when it is hidden.
    pub deleted_at: Option<Timestamp>,
    /// Whether its bytes are gone.
    pub destroyed: bool,
    /// When it stops being readable.
    pub expires_at: Option<Timestamp>,
    /// Bytes of all values together.
    pub size: u64,
}

/// That something changed, never to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    /// To which secret; none for `Started` and `Resync`.
    pub path: Option<Path>,
    /// Its current version then.
    pub version: u64,
    /// With `Started`: what can be read of the watched paths.
    pub current: Vec<Current>,
}

impl Change {
    fn of(kind: ChangeKind) -> Self {
        Self { kind, path: None, version: 0, current: Vec::new() }
    }
}

/// The latest version of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    pub path: Path,
    pub version: u64,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The watch stands.
    Started,
    Written,
    /// Versions were hidden.
    Deleted,
    /// Versions were brought back.
    Undeleted,
    /// Versions, or all of it, were erased.
    Destroyed,
    /// Settings or custom pairs.
    Metadata,
    /// Changes were missed.
    Resync,
}

/// What a caller may see, for filtering.
trait Sight: Send + Sync + 'static {
    fn sees_leaf(&self, path: &Path) -> bool;
    fn sees_folder(&self, path: &Path) -> bool;
    fn may_read(&self, path: &Path) -> bool;
    fn may_list(&self, path: &Path) -> bool;
}

impl Sight for Permit {
    fn sees_leaf(&self, path: &Path) -> bool {
        self.scope().sees_leaf(path)
    }

    fn sees_folder(&self, path: &Path) -> bool {
        self.scope().sees_folder(path)
    }

    fn may_read(&self, path: &Path) -> bool {
        self.scope().may(Verb::Read, path)
    }

    fn may_list(&self, path: &Path) -> bool {
        self.scope().may(Verb::List, path)
    }
}

/// What a permit says about a change, in plain values.
struct Request {
    id: RequestId,
    path: Path,
    now: Timestamp,
    actor: Box<str>,
    may_create: bool,
    may_update: bool,
    /// Whether the answer may hold metadata.
    may_read: bool,
}

impl From<&Permit> for Request {
    fn from(permit: &Permit) -> Self {
        Self {
            id: permit.request_id(),
            path: permit.path().clone(),
            now: permit.at(),
            actor: permit.principal().to_string().into(),
            may_create: permit.grants(Verb::Create),
            may_update: permit.grants(Verb::Update),
            may_read: permit.scope().may(Verb::Read, permit.path()),
        }
    }
}

/// One mounted kv.
struct Kv(Arc<Shelf>);

/// Everything a mounted kv has; operations are spread over the files beside this one.
struct Shelf {
    view: View,
    index: list::Index,
    hub: watch::Hub,
    /// Writes that continue when their callers are gone.
    tasks: TaskTracker,
    settings: ArcSwap<KvSettings>,
    quotas: ArcSwap<Quotas>,
}

fn build(parts: Parts) -> Result<Box<dyn Engine>, Invalid> {
    let settings = KvSettings::of(&parts.settings)?;
    Ok(Box::new(Kv(Arc::new(Shelf::new(parts.view, parts.tasks, settings)))))
}

#[async_trait]
impl Engine for Kv {
    async fn run(
        &self,
        permit: Permit,
        operation: Box<dyn super::Operation>,
    ) -> Result<super::Output, EngineError> {
        let shelf = Arc::clone(&self.0);
        let output = match own(operation)? {
            Operation::Get { version } => shelf.get(permit.path(), version, permit.at()).await?,
            Operation::GetMetadata => shelf.metadata(permit.path()).await?,
            Operation::List { page_size, page_token } => {
                shelf.list(permit.path(), page_size, page_token.as_deref(), &permit).await?
            }
            Operation::ListRecursive => {
                return Ok(super::Output::many(shelf.walk(permit.path().clone(), Box::new(permit))));
            }
            Operation::Watch => {
                return Ok(super::Output::many(shelf.watch(permit)));
            }
            write => shelf.write(Request::from(&permit), write).await?,
        };
        Ok(super::Output::one(output))
    }

    fn tune(&self, settings: &Settings) {
        if let Ok(settings) = KvSettings::of(settings) {
            self.0.tune(settings);
        }
    }

    fn quotas(&self) -> Vec<QuotaUse> {
        self.0.quotas.load().used()
    }

    fn derived(&self) -> Option<&dyn Derived> {
        Some(&*self.0)
    }

    async fn erase(&self) -> Result<(), BarrierError> {
        self.0.erase().await
    }
}

impl Shelf {
    fn new(view: View, tasks: TaskTracker, settings: KvSettings) -> Self {
        let quotas = ArcSwap::from_pointee(Quotas::of(&settings));
        let settings = ArcSwap::from_pointee(settings);
        Self { view, index: list::Index::default(), hub: watch::Hub::new(), tasks, settings, quotas }
    }

    fn tune(&self, settings: KvSettings) {
        // What is counted stays as it is, unless it is about something else now.
        if settings.quotas != self.settings.load().quotas {
            self.quotas.store(Arc::new(Quotas::of(&settings)));
        }
        self.settings.store(Arc::new(settings));
    }

    /// What is remembered of the store may not be so any more.
    fn forget_all(&self) {
        self.index.clear();
        self.quotas.rcu(|quotas| quotas.recount());
    }

    /// Commits and lets the lists of names know. The only way to the store: what changes a name is read off the changes
    /// themselves, so that no writer can forget it.
    async fn commit(&self, changes: Changes) -> Result<Revision, BarrierError> {
        let moves = list::Move::all_of(&changes);
        let result = self.view.commit(changes).await;
        match &result {
            Ok(revision) => self.index.apply(moves, *revision),
            Err(BarrierError::Conflict | BarrierError::TooLarge(_)) => {}
            // It may have happened: believe nothing that is remembered.
            Err(_) => self.forget_all(),
        }
        result
    }
}

/// Where one secret is kept.
struct SecretAddress {
    folder: Box<str>,
    name: Box<str>,
}

impl SecretAddress {
    fn of(path: &Path) -> Result<Self, Invalid> {
        let inner = path.within_mount();
        if inner.is_empty() {
            return Err(Invalid::new("path", format!("{path} is a mount; a secret is mount/name or deeper")));
        }
        let (folder, name) = inner.rsplit_once('/').unwrap_or(("", inner));
        Ok(Self { folder: folder.into(), name: name.into() })
    }

    fn secret(&self) -> Address {
        self.address(SECRET, 0)
    }

    fn chunk(&self, version: u64, chunk: u16) -> Address {
        self.address(VERSION, version << 16 | u64::from(chunk))
    }

    fn address(&self, kind: RecordKind, part: u64) -> Address {
        Address { kind, folder: self.folder.clone(), name: self.name.clone(), part }
    }
}

fn corrupt(kind: RecordKind, path: &Path) -> Error {
    BarrierError::Corrupt { kind, namespace: path.to_string() }.into()
}

fn check_operation_id(id: &str) -> Result<(), Invalid> {
    if id.len() > OPERATION_ID_BYTES {
        let problem = format!("has {} bytes; at most {OPERATION_ID_BYTES} are allowed", id.len());
        return Err(Invalid::new("operation_id", problem));
    }
    Ok(())
}

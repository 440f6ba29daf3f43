//! Mounts: the first segment of a path picks the engine. Which mounts there are stands in the store and, as a snapshot, in
//! memory, so that finding one takes no lock. A fresh store has `secret/`, a kv.
//!
//! A mount that is unmounted keeps its data and its kind, until it is mounted again or its data is destroyed: nothing is
//! ever kept that no list shows. Data is destroyed in three steps: the record says so, and nobody gets in any more;
//! requests in progress finish; the engine erases what it keeps. A crash in between leaves a mount that is being destroyed, and
//! asking again continues with it.

mod record;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

pub use record::{MountRecord, MountState};

use super::{Engine, EngineKind, KINDS, Parts, Settings};
use crate::{
    barrier::{Barrier, BarrierError, Changes, Derived, View},
    clock::Clock,
    crypto::Entropy,
    model::{Invalid, Path, QuotaUse, RequestId, Timestamp},
    storage::{Condition, Revision, StoreKey},
};

/// Name of the mount a store is born with.
const FIRST_MOUNT: &str = "secret";
const FIRST_KIND: &str = "kv";
/// Most mounts, those unmounted included; the table is read as one page.
const MAX_MOUNTS: usize = 1000;
/// Longest description.
const DESCRIPTION_BYTES: usize = 256;
/// The server's own paths.
const RESERVED: &str = "sys";

/// See the module.
pub struct Mounts {
    barrier: Arc<Barrier>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    table: View,
    snapshot: ArcSwap<Snapshot>,
    /// One change at a time.
    changing: Mutex<()>,
}

type Snapshot = BTreeMap<Box<str>, Row>;

/// A mount as it was read.
#[derive(Clone)]
struct Row {
    record: MountRecord,
    revision: Revision,
    /// Only where it is mounted.
    mounted: Option<Arc<MountedEngine>>,
}

/// A mounted engine and the requests in progress in it.
pub struct MountedEngine {
    engine: Box<dyn Engine>,
    tasks: TaskTracker,
}

/// An engine, for one request. While there is one its data is not destroyed.
pub struct Entered {
    mounted: Arc<MountedEngine>,
    _here: TaskTrackerToken,
}

/// A mount, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// First segment of its paths.
    pub name: Box<str>,
    pub record: MountRecord,
}

/// Why a mount was not changed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is no such mount.
    #[error("the mount {0}/ does not exist")]
    NoSuch(Box<str>),
    /// The store or the keys. It may have happened all the same.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
}

impl Mounts {
    /// Reads the table and builds the engines.
    ///
    /// # Errors
    /// The table cannot be read, or names a kind this version does not have.
    pub async fn load(
        barrier: &Arc<Barrier>,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<Self, BarrierError> {
        let mounts = Self {
            barrier: Arc::clone(barrier),
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
            table: barrier.view("sys/mounts"),
            snapshot: ArcSwap::default(),
            changing: Mutex::default(),
        };
        mounts.refresh().await?;
        if mounts.snapshot.load().is_empty() {
            let first = record::first(FIRST_KIND);
            mounts.write(FIRST_MOUNT, Condition::Absent, first, None).await?;
            mounts.refresh().await?;
        }
        Ok(mounts)
    }

    /// The engine mounted there.
    pub fn enter(&self, mount: &str) -> Option<Entered> {
        let mounted = self.snapshot.load().get(mount)?.mounted.clone()?;
        let here = mounted.tasks.token();
        // Looked at only now: whoever closes it first waits for those who came before.
        (!mounted.tasks.is_closed()).then_some(Entered { mounted, _here: here })
    }

    /// Mounts an engine, or what was unmounted before.
    ///
    /// # Errors
    /// The name is not valid or is taken, there is no such kind, or the store failed.
    pub async fn mount(
        &self,
        name: &str,
        kind: &str,
        description: &str,
        settings: Settings,
        now: Timestamp,
        by: RequestId,
    ) -> Result<(), MountError> {
        check_name(name)?;
        check_description(description)?;
        let known = find_kind(kind).ok_or_else(|| no_kind(kind))?;
        (known.check)(&settings)?;
        let _one = self.changing.lock().await;
        let snapshot = self.snapshot.load_full();
        let (condition, created) = match snapshot.get(name) {
            None if snapshot.len() >= MAX_MOUNTS => {
                let problem = format!("would exceed the limit of {MAX_MOUNTS} mounts");
                return Err(Invalid::new("name", problem).into());
            }
            None => (Condition::Absent, now),
            Some(Row { record, revision, .. }) => match record.state {
                MountState::Gone => (Condition::At(*revision), now),
                MountState::Away if *record.kind == *kind => (Condition::At(*revision), record.created),
                _ => return Err(taken(record).into()),
            },
        };
        let record = MountRecord {
            kind: kind.into(),
            state: MountState::Mounted,
            description: description.into(),
            settings,
            created,
        };
        self.change(name, condition, record, Some(by)).await
    }

    /// Takes a mount away. Its data stays.
    ///
    /// # Errors
    /// There is none, or the store failed.
    pub async fn unmount(&self, name: &str, by: RequestId) -> Result<(), MountError> {
        let _one = self.changing.lock().await;
        let Row { record, revision, .. } = self.row(name)?;
        match record.state {
            MountState::Mounted => {
                let record = MountRecord { state: MountState::Away, ..record };
                self.change(name, Condition::At(revision), record, Some(by)).await
            }
            MountState::Away => Ok(()),
            MountState::Destroying | MountState::Gone => Err(taken(&record).into()),
        }
    }

    /// Unmounts a mount and destroys its data, or that of one which was unmounted before. Only the last batch says whose
    /// request it is: after a crash the log must not call data destroyed that is still there.
    ///
    /// # Errors
    /// There is none, or the store failed; then some of the data may be left, and asking again destroys it.
    pub async fn destroy(&self, name: &str, by: RequestId) -> Result<(), MountError> {
        let _one = self.changing.lock().await;
        let Row { record, mut revision, .. } = self.row(name)?;
        let by = Some(by);
        if record.state != MountState::Destroying {
            let record = MountRecord { state: MountState::Destroying, ..record.clone() };
            self.change(name, Condition::At(revision), record, None).await?;
            revision = self.row(name)?.revision;
        }
        // One made for this alone: it remembers nothing.
        self.build(name, &record)?.engine.erase().await?;
        if name == FIRST_MOUNT {
            // Or the next unseal would take the store for a fresh one.
            let gone = MountRecord { state: MountState::Gone, ..record };
            self.write(name, Condition::At(revision), gone, by).await?;
        } else {
            let address = record::address(name);
            let conditions = vec![(address.clone(), Condition::At(revision))];
            let deletes = vec![address];
            self.table
                .commit(Changes { conditions, deletes, by, urgent: true, ..Changes::default() })
                .await?;
        }
        Ok(self.refresh().await?)
    }

    /// Changes what is given.
    ///
    /// # Errors
    /// There is no such mount, its engine does not know such settings, or the store failed.
    pub async fn tune(
        &self,
        name: &str,
        description: Option<&str>,
        settings: Option<Settings>,
        by: RequestId,
    ) -> Result<(), MountError> {
        check_description(description.unwrap_or_default())?;
        let _one = self.changing.lock().await;
        let Row { mut record, revision, .. } = self.row(name)?;
        if record.state != MountState::Mounted {
            return Err(MountError::NoSuch(name.into()));
        }
        if let Some(settings) = settings {
            let kind = find_kind(&record.kind).ok_or_else(|| no_kind(&record.kind))?;
            (kind.check)(&settings)?;
            record.settings = settings;
        }
        if let Some(description) = description {
            record.description = description.into();
        }
        self.change(name, Condition::At(revision), record, Some(by)).await
    }

    /// All there are, by name.
    pub fn list(&self) -> Vec<MountInfo> {
        let snapshot = self.snapshot.load();
        let shown = snapshot.iter().filter(|(_, row)| row.record.state != MountState::Gone);
        shown.map(|(name, row)| MountInfo { name: name.clone(), record: row.record.clone() }).collect()
    }

    /// How much of their quotas is used, by the name of the mount.
    pub fn quotas(&self) -> Vec<(Box<str>, QuotaUse)> {
        let snapshot = self.snapshot.load();
        let mounted = snapshot.iter().filter_map(|(name, row)| Some((name, row.mounted.as_ref()?)));
        mounted
            .flat_map(|(name, mounted)| mounted.engine.quotas().into_iter().map(|used| (name.clone(), used)))
            .collect()
    }

    /// The names of those that are mounted.
    pub fn mounted(&self) -> Vec<Box<str>> {
        let snapshot = self.snapshot.load();
        let mounted = snapshot.iter().filter(|(_, row)| row.mounted.is_some());
        mounted.map(|(name, _)| name.clone()).collect()
    }

    fn row(&self, name: &str) -> Result<Row, MountError> {
        let row = self.snapshot.load().get(name).cloned();
        row.filter(|row| row.record.state != MountState::Gone).ok_or_else(|| MountError::NoSuch(name.into()))
    }

    async fn change(
        &self,
        name: &str,
        condition: Condition,
        record: MountRecord,
        by: Option<RequestId>,
    ) -> Result<(), MountError> {
        let written = self.write(name, condition, record, by).await;
        // Also after an error: it may have happened all the same, and the store knows.
        self.refresh().await?;
        Ok(written?)
    }

    async fn write(
        &self,
        name: &str,
        condition: Condition,
        record: MountRecord,
        by: Option<RequestId>,
    ) -> Result<(), BarrierError> {
        let address = record::address(name);
        let changes = Changes {
            urgent: record.state != MountState::Mounted,
            conditions: vec![(address.clone(), condition)],
            puts: vec![(address, record.encode())],
            by,
            ..Changes::default()
        };
        self.table.commit(changes).await.map(drop)
    }

    /// Makes the snapshot what the store says. Engines that stay are the same ones, with what they remember.
    async fn refresh(&self) -> Result<(), BarrierError> {
        let known = self.snapshot.load_full();
        let mut next = Snapshot::new();
        for found in self.table.scan(record::MOUNT, "", None, MAX_MOUNTS).await? {
            let (name, revision) = (found.name, found.entry.revision);
            let record = MountRecord::decode(&found.entry.content).ok_or_else(|| corrupt(&name))?;
            let former = known.get(&name).and_then(|row| row.mounted.clone().map(|mounted| (row, mounted)));
            let mounted = match (record.state, former) {
                (MountState::Mounted, Some((row, mounted))) if row.record.kind == record.kind => {
                    if row.record.settings != record.settings {
                        mounted.engine.tune(&record.settings);
                    }
                    Some(mounted)
                }
                (MountState::Mounted, _) => Some(Arc::new(self.build(&name, &record)?)),
                _ => None,
            };
            next.insert(name, Row { record, revision, mounted });
        }
        let next = Arc::new(next);
        self.snapshot.store(Arc::clone(&next));
        for (name, row) in known.iter() {
            let stays = next.get(name).and_then(|row| row.mounted.as_ref());
            if let Some(mounted) = &row.mounted
                && !stays.is_some_and(|stays| Arc::ptr_eq(stays, mounted))
            {
                // Nobody gets in any more, and whoever is in finishes: an engine is never there twice.
                mounted.tasks.close();
                mounted.tasks.wait().await;
            }
        }
        Ok(())
    }

    fn all(&self) -> Vec<Arc<MountedEngine>> {
        self.snapshot.load().values().filter_map(|row| row.mounted.clone()).collect()
    }

    fn build(&self, name: &str, record: &MountRecord) -> Result<MountedEngine, BarrierError> {
        let kind = find_kind(&record.kind).ok_or_else(|| corrupt(name))?;
        let tasks = TaskTracker::new();
        let parts = Parts {
            view: self.barrier.view(&format!("mount/{name}")),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            tasks: tasks.clone(),
            settings: record.settings.clone(),
        };
        let engine = (kind.build)(parts).map_err(|_| corrupt(name))?;
        Ok(MountedEngine { engine, tasks })
    }
}

/// The table, and with it whatever the engines hold.
#[async_trait]
impl Derived for Mounts {
    async fn load(&self) -> Result<(), BarrierError> {
        let one = self.changing.lock().await;
        self.refresh().await?;
        drop(one);
        for mounted in self.all() {
            if let Some(derived) = mounted.engine.derived() {
                derived.load().await?;
            }
        }
        Ok(())
    }

    async fn changed(&self, keys: &[StoreKey]) -> Result<(), BarrierError> {
        if keys.iter().any(|key| self.table.is_in(record::MOUNT, "", key)) {
            let _one = self.changing.lock().await;
            self.refresh().await?;
        }
        for mounted in self.all() {
            if let Some(derived) = mounted.engine.derived() {
                derived.changed(keys).await?;
            }
        }
        Ok(())
    }

    fn forget(&self) {
        for mounted in self.all() {
            if let Some(derived) = mounted.engine.derived() {
                derived.forget();
            }
        }
        self.snapshot.store(Arc::default());
    }
}

impl Entered {
    pub fn engine(&self) -> &dyn Engine {
        &*self.mounted.engine
    }

    /// For what continues after the request: it can tell whether the engine is still mounted, and keeps nobody waiting.
    pub fn mounted(&self) -> Arc<MountedEngine> {
        Arc::clone(&self.mounted)
    }
}

impl MountedEngine {
    /// Whether it was unmounted.
    pub fn is_away(&self) -> bool {
        self.tasks.is_closed()
    }
}

fn find_kind(name: &str) -> Option<&'static EngineKind> {
    KINDS.iter().find(|kind| kind.name == name)
}

fn no_kind(name: &str) -> Invalid {
    let kinds = KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
    let shown: String = name.chars().take(32).collect();
    Invalid::new("kind", format!("is {shown:?}; expected one of {kinds}"))
}

fn taken(record: &MountRecord) -> Invalid {
    let problem = match record.state {
        MountState::Mounted => format!("is taken by a {}", record.kind),
        MountState::Away => format!(
            "holds the data of a {} that was unmounted; mount that kind again, or destroy its data first",
            record.kind
        ),
        MountState::Destroying | MountState::Gone => {
            format!("is a {} whose data is being destroyed; destroy it again to continue", record.kind)
        }
    };
    Invalid::new("name", problem)
}

fn check_name(name: &str) -> Result<(), Invalid> {
    let path = Path::parse_field("name", name)?;
    if path.segments().count() != 1 {
        return Err(Invalid::new("name", "has more than one segment; expected one, such as secret"));
    }
    if name == RESERVED {
        return Err(Invalid::new("name", "is sys, where the server's own paths are"));
    }
    Ok(())
}

fn check_description(text: &str) -> Result<(), Invalid> {
    if text.len() > DESCRIPTION_BYTES || text.chars().any(char::is_control) {
        let problem = format!("is not one line of at most {DESCRIPTION_BYTES} bytes");
        return Err(Invalid::new("description", problem));
    }
    Ok(())
}

fn corrupt(name: &str) -> BarrierError {
    BarrierError::Corrupt { kind: record::MOUNT, namespace: name.to_owned() }
}

//! The volumes of this node: which are mounted, how they are doing, and that two calls for one volume do not meet.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    failure::Failure,
    follower::Follower,
    limits,
    state::Record,
    volume::{Request, Target, VolumeId},
};

/// A mounted volume.
pub struct Mounted {
    /// What is known of it beyond a restart.
    pub record: Record,
    pub target: Target,
    /// Held while its files are touched; `true` once they are to be left alone, because it is being unpublished.
    pub gone: Mutex<bool>,
    health: Mutex<Health>,
    follower: Mutex<Option<Follower>>,
}

/// How a volume is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What is wrong with it, for people.
    pub trouble: Option<String>,
    /// Since when its content is not known to be current.
    pub stale_since: Option<Instant>,
}

impl Mounted {
    /// Just mounted, and current.
    pub fn new(record: Record, target: Target) -> Self {
        Self { record, target, gone: Mutex::new(false), health: Mutex::default(), follower: Mutex::new(None) }
    }

    /// Whether a publish that asks for it again asks for the same.
    ///
    /// # Errors
    /// What is not the same.
    pub fn check(&self, request: &Request) -> Result<(), Failure> {
        let differs = |what| Err(Failure::Differs { id: request.id.clone(), what });
        if self.target != request.target {
            return differs("target");
        }
        if self.record.capability != request.capability {
            return differs("capability");
        }
        Ok(())
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        lock(&self.health).clone()
    }

    /// Its content is what the server has.
    pub fn mark_current(&self) {
        *lock(&self.health) = Health::default();
    }

    /// Its content may be outdated, or cannot be renewed. Whether that is news.
    pub fn mark_troubled(&self, why: impl Into<String>) -> bool {
        let mut health = lock(&self.health);
        health.stale_since.get_or_insert_with(Instant::now);
        let why = Some(why.into());
        let is_news = health.trouble != why;
        health.trouble = why;
        is_news
    }

    /// Who looks after it.
    pub fn follower(&self) -> MutexGuard<'_, Option<Follower>> {
        lock(&self.follower)
    }
}

#[derive(Default)]
pub struct Volumes(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    mounted: HashMap<VolumeId, Arc<Mounted>>,
    busy: HashSet<VolumeId>,
    busy_targets: HashSet<PathBuf>,
}

/// The right to change one volume and its target; nobody else has it meanwhile.
pub struct Claim {
    volumes: Arc<Volumes>,
    id: VolumeId,
    target: PathBuf,
}

impl Volumes {
    /// A mounted volume.
    pub fn get(&self, id: &VolumeId) -> Option<Arc<Mounted>> {
        lock(&self.0).mounted.get(id).cloned()
    }

    /// Claims a volume, known or not, and the place it is or is to be mounted at.
    ///
    /// # Errors
    /// Somebody is at work with one of them, or another volume is mounted there.
    pub fn claim(self: &Arc<Self>, id: &VolumeId, target: &Path) -> Result<Claim, Failure> {
        let mut inner = lock(&self.0);
        if inner.mounted.iter().any(|(other, mounted)| other != id && mounted.target.path == target) {
            return Err(Failure::Differs { id: id.clone(), what: "id" });
        }
        if inner.busy.contains(id) || inner.busy_targets.contains(target) {
            return Err(Failure::Busy(id.clone()));
        }
        inner.busy.insert(id.clone());
        inner.busy_targets.insert(target.to_owned());
        Ok(Claim { volumes: Arc::clone(self), id: id.clone(), target: target.to_owned() })
    }

    /// Whether one more volume may be mounted.
    ///
    /// # Errors
    /// There are too many.
    pub fn check_room(&self) -> Result<(), Failure> {
        let mounted = lock(&self.0).mounted.len();
        if mounted < limits::VOLUMES { Ok(()) } else { Err(Failure::Full(mounted)) }
    }

    /// Nobody looks after any of them from now on.
    pub fn release(&self) {
        let mounted: Vec<_> = lock(&self.0).mounted.values().cloned().collect();
        mounted.iter().for_each(|mounted| drop(mounted.follower().take()));
    }

    /// How many are mounted, how many are in trouble, and how long the content of the worst is not known to be current.
    pub fn summary(&self) -> (usize, usize, Duration) {
        let healths: Vec<Health> = lock(&self.0).mounted.values().map(|mounted| mounted.health()).collect();
        let troubled = healths.iter().filter(|health| health.trouble.is_some()).count();
        let oldest =
            healths.iter().filter_map(|health| health.stale_since).map(|since| since.elapsed()).max();
        (healths.len(), troubled, oldest.unwrap_or_default())
    }
}

impl Claim {
    /// From now on it is mounted.
    pub fn mounted(&self, mounted: Arc<Mounted>) {
        lock(&self.volumes.0).mounted.insert(self.id.clone(), mounted);
    }

    /// From now on it is not; what it was.
    pub fn forget(&self) -> Option<Arc<Mounted>> {
        lock(&self.volumes.0).mounted.remove(&self.id)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut inner = lock(&self.volumes.0);
        inner.busy.remove(&self.id);
        inner.busy_targets.remove(&self.target);
    }
}

/// Nothing here panics while holding a lock, and if it did, what is behind it would still be whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The volumes of this node: which are mounted and in what health. Two calls for one volume never run at the same time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use strongroom_client::Current;
use tokio::time::Instant;

use crate::{
    failure::Failure,
    follower::Follower,
    limits,
    state::VolumeState,
    telemetry::Summary,
    volume::{Request, Target, VolumeId},
};

/// A mounted volume.
pub struct MountedVolume {
    /// What is still known of it after a restart.
    pub state: VolumeState,
    pub target: Target,
    /// Held while its files are touched; `true` once they are to be left alone, because it is being unpublished.
    pub gone: Mutex<bool>,
    health: Mutex<Health>,
    /// Which versions are on the disk; nothing after a restart.
    versions: Mutex<Vec<Current>>,
    /// Of what was issued for it, as [`VolumeState::leases`] has them.
    leases: Mutex<Vec<Option<String>>>,
    follower: Mutex<Option<Follower>>,
}

/// How a volume is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What is wrong with it, for people.
    pub trouble: Option<String>,
    /// A name for what is wrong, for metrics.
    pub reason: Option<&'static str>,
    /// Since when its content is not known to be current.
    pub stale_since: Option<Instant>,
}

impl MountedVolume {
    /// A volume that was just mounted and is current.
    pub fn new(state: VolumeState, target: Target, versions: Vec<Current>) -> Self {
        Self {
            leases: Mutex::new(state.leases.clone()),
            state,
            target,
            gone: Mutex::new(false),
            health: Mutex::default(),
            versions: Mutex::new(versions),
            follower: Mutex::new(None),
        }
    }

    /// Notes which versions are on the disk.
    pub fn holds(&self, versions: Vec<Current>) {
        *lock(&self.versions) = versions;
    }

    /// The leases of what is on the disk.
    pub fn leases(&self) -> Vec<Option<String>> {
        lock(&self.leases).clone()
    }

    /// Other leases count from now on; returns what is to be remembered of the volume.
    pub fn has_leases(&self, leases: Vec<Option<String>>) -> VolumeState {
        lock(&self.leases).clone_from(&leases);
        self.state.with_leases(leases)
    }

    /// Whether the server has the same versions as the disk of all these secrets.
    pub fn has_all<'a>(&self, current: &[Current], mut paths: impl Iterator<Item = &'a str>) -> bool {
        let held = lock(&self.versions);
        let of = |versions: &[Current], path: &str| versions.iter().find(|one| one.path == path).cloned();
        !held.is_empty() && paths.all(|path| of(&held, path) == of(current, path))
    }

    /// The versions on the disk, for people: `secret/app/db@3`.
    pub fn versions(&self) -> String {
        let versions = lock(&self.versions);
        let mut named: Vec<_> = versions.iter().map(|one| format!("{}@{}", one.path, one.version)).collect();
        named.sort_unstable();
        named.join(" ")
    }

    /// When the newest of them was written.
    fn newest(&self) -> Option<Timestamp> {
        lock(&self.versions).iter().map(|one| one.created_at).max()
    }

    /// Checks that a repeated publish asks for the same volume.
    ///
    /// # Errors
    /// Something is not the same.
    pub fn check(&self, request: &Request) -> Result<(), Failure> {
        let differs = |what| Err(Failure::Differs { id: request.id.clone(), what });
        if self.target != request.target {
            return differs("target");
        }
        if self.state.capability != request.capability {
            return differs("capability");
        }
        Ok(())
    }

    pub fn health(&self) -> Health {
        lock(&self.health).clone()
    }

    /// How it is doing, for people: the versions on the disk at last.
    pub fn condition(&self) -> Condition {
        let Health { trouble, .. } = self.health();
        let versions = match self.versions() {
            none if none.is_empty() => none,
            versions => format!(" ({versions})"),
        };
        match trouble {
            Some(trouble) => Condition { abnormal: true, message: format!("{trouble}{versions}") },
            None => Condition { abnormal: false, message: format!("the content is current{versions}") },
        }
    }

    /// Notes that its content is what the server has.
    pub fn mark_current(&self) {
        *lock(&self.health) = Health::default();
    }

    /// Notes that its content may be outdated, or cannot be renewed. Returns whether that is news.
    pub fn mark_troubled(&self, why: impl Into<String>, reason: &'static str) -> bool {
        let mut health = lock(&self.health);
        health.stale_since.get_or_insert_with(Instant::now);
        let why = Some(why.into());
        let is_news = health.trouble != why;
        (health.trouble, health.reason) = (why, Some(reason));
        is_news
    }

    /// The task that keeps it up to date.
    pub fn follower(&self) -> MutexGuard<'_, Option<Follower>> {
        lock(&self.follower)
    }
}

/// How a volume is doing, as the kubelet is told.
pub struct Condition {
    pub abnormal: bool,
    pub message: String,
}

/// No namespace is called like that.
const OTHERS: &str = "_others";

#[derive(Default)]
pub struct Volumes(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    mounted: HashMap<VolumeId, Arc<MountedVolume>>,
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
    pub fn get(&self, id: &VolumeId) -> Option<Arc<MountedVolume>> {
        lock(&self.0).mounted.get(id).cloned()
    }

    /// Claims a volume, known or not, and the place it is or is to be mounted at.
    ///
    /// # Errors
    /// Another call has claimed one of them, or another volume is mounted there.
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

    /// Stops the tasks that keep the volumes up to date.
    pub fn release(&self) {
        let mounted: Vec<_> = lock(&self.0).mounted.values().cloned().collect();
        mounted.iter().for_each(|mounted| drop(mounted.follower().take()));
    }

    /// How the volumes are doing. Of more namespaces than [`limits::NAMESPACES`], the last ones count as one; of more pods than
    /// [`limits::PODS`], the last ones are not told apart and are left out.
    pub fn summary(&self) -> Summary {
        let mounted: Vec<_> = lock(&self.0).mounted.values().cloned().collect();
        let mut summary = Summary { mounted: mounted.len(), ..Summary::default() };
        let (mut troubled, mut newest) = (BTreeMap::<_, usize>::new(), BTreeMap::new());
        for mounted in mounted {
            let Health { trouble, reason, stale_since } = mounted.health();
            summary.abnormal += usize::from(trouble.is_some());
            summary.stale = summary.stale.max(stale_since.map(|since| since.elapsed()).unwrap_or_default());
            if let Some(written) = mounted.newest() {
                let pod = &mounted.state.pod;
                let of_pod = newest.entry((pod.namespace.clone(), pod.name.clone())).or_insert(written);
                *of_pod = written.max(*of_pod);
            }
            if let Some(reason) = reason {
                *troubled.entry((mounted.state.pod.namespace.clone(), reason)).or_default() += 1;
            }
        }
        summary.newest = newest.into_iter().take(limits::PODS).collect();
        let namespaces: BTreeSet<_> = troubled.keys().map(|(namespace, _)| namespace.clone()).collect();
        let told: BTreeSet<_> = namespaces.into_iter().take(limits::NAMESPACES).collect();
        for ((namespace, reason), count) in troubled {
            let namespace = if told.contains(&namespace) { namespace } else { OTHERS.to_owned() };
            *summary.troubled.entry((namespace, reason)).or_default() += count;
        }
        summary
    }
}

impl Claim {
    /// Notes that the volume is mounted.
    pub fn mounted(&self, mounted: Arc<MountedVolume>) {
        lock(&self.volumes.0).mounted.insert(self.id.clone(), mounted);
    }

    /// Notes that the volume is not mounted, and returns what it was.
    pub fn forget(&self) -> Option<Arc<MountedVolume>> {
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

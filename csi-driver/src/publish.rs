//! What the driver does for the kubelet, from a parsed request on: publish, look after, unpublish. Each step on the disk
//! is one closure that runs to its end even if the kubelet hangs up in the middle.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use rustix::fs::{Mode, fstatvfs};
use strongroom_client::{
    SecretBytes,
    volume::{Fetched, File as VolumeFile, Volume},
};
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{
    failure::Failure,
    fetch::{Answer, Question, Server},
    folder::Folder,
    limits,
    mount::{Found, Mounter, Options, Place},
    refresh::Follower,
    state::{Record, States},
    telemetry::Metrics,
    volume::{Invalid, Pod, Request, Target, VolumeId, Wishes},
    volumes::{Claim, Health, Mounted, Volumes},
    writer::{self, Outcome, Owner},
};

/// Of the folder that is mounted over; nobody sees it.
const TARGET_MODE: Mode = Mode::RWXU;
/// Mounts over each other at one target; there is one, and more only by accident.
const STACKED: usize = 8;

/// What the driver is made of.
pub struct Parts {
    /// The kubelet's folder.
    pub kubelet_root: PathBuf,
    /// The server's name of this cluster.
    pub cluster: String,
    /// The audience of the pods' tokens.
    pub audience: String,
    /// How long a first publish waits for the server.
    pub patience: Duration,
    /// Where secrets come from.
    pub server: Arc<dyn Server>,
    pub mounter: Arc<dyn Mounter>,
    pub states: States,
    pub metrics: Arc<Metrics>,
}

/// How full a volume is: what there is in all, and what of it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub bytes: (u64, u64),
    /// Files, folders and links.
    pub inodes: (u64, u64),
}

pub struct Driver {
    parts: Parts,
    volumes: Arc<Volumes>,
    fetches: Semaphore,
    tasks: TaskTracker,
}

impl Driver {
    /// Nothing mounted yet; [`recover`](Self::recover) finds what an earlier life left.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            volumes: Arc::default(),
            fetches: Semaphore::new(limits::FETCHES),
            tasks: TaskTracker::new(),
        })
    }

    /// Mounts a volume; or, if it is mounted, sees to it that it is looked after. For a mounted volume this never fails
    /// for anything that the pod asked for or that the server does: a kubelet before 1.37 takes the mount of a running
    /// pod away when a republish fails.
    ///
    /// # Errors
    /// See [`Failure`]. Nothing is left behind then.
    pub async fn publish(self: &Arc<Self>, request: Request) -> Result<(), Failure> {
        if let Some(mounted) = self.volumes.get(&request.id) {
            mounted.check(&request)?;
            if self.look(&request.target).await? == Found::Ours {
                self.look_after(&mounted, request.wishes);
                return Ok(());
            }
            tracing::warn!(volume = %request.id, "its mount is gone: mounting it again");
        }
        let claim = self.volumes.claim(&request.id, &request.target.path)?;
        drop(claim.forget());
        match self.look(&request.target).await? {
            Found::Nothing => self.mount(claim, request).await,
            Found::Ours => self.adopt(&claim, request),
            Found::Foreign => Err(Failure::Foreign(request.target.path)),
        }
    }

    async fn mount(self: &Arc<Self>, claim: Claim, request: Request) -> Result<(), Failure> {
        let began = Instant::now();
        self.volumes.check_room()?;
        let Wishes { volume, token } = request.wishes?;
        let token = token.ok_or_else(|| Failure::NoToken(self.parts.audience.clone()))?;
        let principal = self.principal(&request.pod);
        let question = self.question(&principal, &volume);
        let (touch, answer) = question.ask(self.server(), &token, self.parts.patience).await?;
        drop(token);
        self.parts.metrics.logged_in();
        let (asked, own) = (began.elapsed(), Instant::now());
        let files = volume.render(&answer.fetched)?;
        drop(answer);
        let Request { id, target, pod, capability, .. } = request;
        let record = Record::new(id, target.path.clone(), pod, capability, Timestamp::now());
        let driver = Arc::clone(self);
        // All of it in one closure: a kubelet that hangs up now finds the volume mounted when it asks again.
        spawn_blocking(move || {
            driver.mount_whole(&record, &target, &files, owner(&volume))?;
            let (volume_id, pod) = (record.volume.to_string(), record.pod.to_string());
            let mounted = Arc::new(Mounted::new(record, target));
            let follower = Follower::start(&driver, &mounted, volume, Some(touch));
            *mounted.follower() = Some(follower);
            claim.mounted(mounted);
            let own = own.elapsed();
            driver.parts.metrics.published(asked + own, own);
            tracing::info!(
                volume = volume_id,
                pod,
                files = files.len(),
                milliseconds = (asked + own).as_millis(),
                "published"
            );
            Ok(())
        })
        .await?
    }

    /// A volume that is mounted without our knowing: its state file is lost. It is looked after again.
    fn adopt(self: &Arc<Self>, claim: &Claim, request: Request) -> Result<(), Failure> {
        let Request { id, target, pod, capability, wishes } = request;
        tracing::warn!(volume = %id, "mounted, but its state file was lost: it is looked after again");
        let record = Record::new(id, target.path.clone(), pod, capability, Timestamp::now());
        self.parts.states.save(&record).map_err(Failure::State)?;
        let mounted = Arc::new(Mounted::new(record, target));
        claim.mounted(Arc::clone(&mounted));
        self.look_after(&mounted, wishes);
        Ok(())
    }

    fn look_after(self: &Arc<Self>, mounted: &Arc<Mounted>, wishes: Result<Wishes, Invalid>) {
        self.parts.metrics.republished();
        let Wishes { volume, token } = match wishes {
            Ok(wishes) => wishes,
            Err(invalid) => {
                tracing::warn!(volume = %mounted.record.volume, %invalid, "cannot be looked after");
                mounted.is_in_trouble(invalid.to_string());
                return;
            }
        };
        let mut follower = mounted.follower();
        let follower = match &*follower {
            Some(running) if !running.has_ended() => running,
            _ => follower.insert(Follower::start(self, mounted, volume, None)),
        };
        if let Some(token) = token {
            follower.token(token);
        }
    }

    /// Takes a volume away, whatever of it is there.
    ///
    /// # Errors
    /// See [`Failure`]. The kubelet asks again, and what is done stays done.
    pub async fn unpublish(self: &Arc<Self>, id: VolumeId, target: Target) -> Result<(), Failure> {
        let claim = self.volumes.claim(&id, &target.path)?;
        let mounted = claim.forget();
        if let Some(mounted) = &mounted {
            if mounted.target != target {
                claim.mounted(Arc::clone(mounted));
                return Err(Failure::Differs { id, what: "target" });
            }
            if let Some(follower) = mounted.follower().take() {
                follower.log_out();
            }
        }
        let driver = Arc::clone(self);
        spawn_blocking(move || {
            let _claim = claim;
            if let Some(mounted) = &mounted {
                *mounted.gone.lock().unwrap_or_else(PoisonError::into_inner) = true;
            }
            driver.take_down(&target)?;
            driver.parts.states.remove(&id).map_err(Failure::State)?;
            tracing::info!(
                volume = %id,
                pod = mounted.as_ref().map(|mounted| mounted.record.pod.to_string()),
                "unpublished"
            );
            driver.parts.metrics.unpublished();
            Ok(())
        })
        .await?
    }

    /// Finds what an earlier life left: volumes that are mounted go on, everything else is cleaned up.
    ///
    /// # Errors
    /// The state folder or the mount table cannot be read.
    pub fn recover(&self) -> Result<(), Failure> {
        let mut known = Vec::new();
        for record in self.parts.states.load().map_err(Failure::State)? {
            let volume = record.volume.clone();
            known.push(record.target.clone());
            if let Err(failure) = self.recover_one(record) {
                tracing::warn!(%volume, %failure, "what an earlier start left cannot be put in order");
            }
        }
        for path in self.parts.mounter.all(&self.parts.kubelet_root).map_err(Failure::Mount)? {
            if !known.contains(&path) {
                tracing::warn!(path = %path.display(), "mounted, but its state file is lost: waiting for the kubelet");
            }
        }
        let (mounted, ..) = self.volumes.summary();
        tracing::info!(mounted, "recovered");
        Ok(())
    }

    fn recover_one(&self, record: Record) -> Result<(), Failure> {
        let path = record.target.to_string_lossy();
        let target = Target::parse(&self.parts.kubelet_root, &path)?;
        let found = match self.place(&target)? {
            Some(place) => self.parts.mounter.look(&place).map_err(|cause| at(&target, cause))?,
            None => Found::Nothing,
        };
        if found == Found::Ours {
            let claim = self.volumes.claim(&record.volume, &record.target)?;
            let mounted = Mounted::new(record, target);
            self.sweep_now(&mounted)?;
            mounted.is_in_trouble("the driver was restarted: the kubelet's next call brings the pod's token");
            claim.mounted(Arc::new(mounted));
            return Ok(());
        }
        tracing::info!(volume = %record.volume, "was not mounted when the driver ended: cleaned up");
        if found == Found::Nothing {
            self.remove_folder(&target)?;
        }
        self.parts.states.remove(&record.volume).map_err(Failure::State)
    }

    /// Whether a volume of this driver is mounted at `target`.
    ///
    /// # Errors
    /// It cannot be told.
    pub async fn look(self: &Arc<Self>, target: &Target) -> Result<Found, Failure> {
        let (driver, target) = (Arc::clone(self), target.clone());
        spawn_blocking(move || match driver.place(&target)? {
            Some(place) => driver.parts.mounter.look(&place).map_err(|cause| at(&target, cause)),
            None => Ok(Found::Nothing),
        })
        .await?
    }

    /// Makes a mounted volume hold what was fetched.
    ///
    /// # Errors
    /// Rendering or writing failed; what was there is still there.
    pub(crate) async fn rewrite(
        self: &Arc<Self>,
        mounted: &Arc<Mounted>,
        volume: &Volume,
        fetched: &Fetched,
    ) -> Result<Outcome, Failure> {
        let files = volume.render(fetched)?;
        let owner = owner(volume);
        let (driver, mounted) = (Arc::clone(self), Arc::clone(mounted));
        spawn_blocking(move || {
            driver.with_files(&mounted, |root| writer::write(root, &files, owner, Timestamp::now()))
        })
        .await?
        .map(|outcome| outcome.unwrap_or(Outcome::Unchanged))
    }

    /// Removes files of earlier generations.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub(crate) async fn sweep(self: &Arc<Self>, mounted: &Arc<Mounted>) -> Result<(), Failure> {
        let (driver, mounted) = (Arc::clone(self), Arc::clone(mounted));
        spawn_blocking(move || driver.sweep_now(&mounted)).await?
    }

    fn sweep_now(&self, mounted: &Mounted) -> Result<(), Failure> {
        self.with_files(mounted, writer::sweep).map(drop)
    }

    /// Does something with a volume's files, unless it is on its way out. Looks first: where our mount is not, a secret
    /// would be written to the node's disk.
    fn with_files<T>(
        &self,
        mounted: &Mounted,
        work: impl FnOnce(&Folder) -> Result<T, writer::WriteError>,
    ) -> Result<Option<T>, Failure> {
        let gone = mounted.gone.lock().unwrap_or_else(PoisonError::into_inner);
        if *gone {
            return Ok(None);
        }
        let target = &mounted.target;
        let place = self.place(target)?.ok_or_else(|| at(target, io::ErrorKind::NotFound.into()))?;
        if self.parts.mounter.look(&place).map_err(|cause| at(target, cause))? != Found::Ours {
            return Err(at(target, io::Error::other("its mount is gone")));
        }
        let root = place.open().map_err(|cause| at(target, cause))?;
        Ok(Some(work(&root)?))
    }

    /// The state first, so that whatever comes after it can be undone; the mount last, so that it is whole.
    fn mount_whole(
        &self,
        record: &Record,
        target: &Target,
        files: &[VolumeFile],
        owner: Owner,
    ) -> Result<(), Failure> {
        self.parts.states.save(record).map_err(Failure::State)?;
        let mounted = self.attach(record, target, files, owner);
        if mounted.is_err() {
            // The error that is told is the first one; what cannot be undone now is undone at the next start.
            let _ = self.remove_folder(target);
            let _ = self.parts.states.remove(&record.volume);
        }
        mounted
    }

    fn attach(
        &self,
        record: &Record,
        target: &Target,
        files: &[VolumeFile],
        owner: Owner,
    ) -> Result<(), Failure> {
        let place = self.place(target)?.ok_or_else(|| at(target, io::ErrorKind::NotFound.into()))?;
        place.parent.make(&place.name, TARGET_MODE).map_err(|cause| at(target, cause))?;
        let options = Options { owner, context: record.capability.context.clone() };
        let tmpfs = self.parts.mounter.create(&options).map_err(Failure::Mount)?;
        writer::write(&tmpfs.root, files, owner, record.published_at)?;
        self.parts.mounter.attach(tmpfs, &place).map_err(Failure::Mount)
    }

    fn take_down(&self, target: &Target) -> Result<(), Failure> {
        let Some(place) = self.place(target)? else { return Ok(()) };
        for _ in 0..STACKED {
            match self.parts.mounter.look(&place).map_err(|cause| at(target, cause))? {
                Found::Nothing => break,
                Found::Foreign => return Err(Failure::Foreign(target.path.clone())),
                Found::Ours => {
                    let emptied = place.open().and_then(|root| writer::empty(&root));
                    if let Err(error) = emptied {
                        tracing::warn!(path = %place.path.display(), %error, "could not be emptied");
                    }
                    self.parts.mounter.detach(&place).map_err(Failure::Mount)?;
                }
            }
        }
        place.parent.remove_folder(&place.name).map(drop).map_err(|cause| at(target, cause))
    }

    /// The folder a volume was or was to be mounted over, if it is still there and empty.
    fn remove_folder(&self, target: &Target) -> Result<(), Failure> {
        let Some(place) = self.place(target)? else { return Ok(()) };
        place.parent.remove_folder(&place.name).map(drop).map_err(|cause| at(target, cause))
    }

    /// The way to a target; `None` if the folder it is in is gone.
    fn place(&self, target: &Target) -> Result<Option<Place>, Failure> {
        let root = Folder::open(&self.parts.kubelet_root)
            .map_err(|cause| Failure::Target { path: self.parts.kubelet_root.clone(), cause })?;
        match root.enter(&target.parent) {
            Ok(parent) => Ok(Some(Place { parent, name: target.name.clone(), path: target.path.clone() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(at(target, cause)),
        }
    }

    /// Size and fill of a mounted volume, and how it is doing.
    ///
    /// # Errors
    /// It is not mounted there.
    pub async fn stats(self: &Arc<Self>, id: VolumeId, path: String) -> Result<(Usage, Health), Failure> {
        let unknown = || Failure::Unknown { id: id.to_string(), path: path.clone() };
        let mounted = self.volumes.get(&id).ok_or_else(unknown)?;
        if mounted.target.path != Path::new(&path) {
            return Err(unknown());
        }
        let health = mounted.health();
        let driver = Arc::clone(self);
        let used = spawn_blocking(move || driver.with_files(&mounted, usage)).await??;
        used.map(|usage| (usage, health)).ok_or_else(unknown)
    }

    /// What a volume reads, once: for another driver, which writes it.
    ///
    /// # Errors
    /// As the first publish.
    pub(crate) async fn fetch_once(
        &self,
        pod: &Pod,
        volume: &Volume,
        token: &SecretBytes,
    ) -> Result<Answer, Failure> {
        let principal = self.principal(pod);
        let question = Question { follows: false, ..self.question(&principal, volume) };
        let (_session, answer) = question.ask(self.server(), token, self.parts.patience).await?;
        self.parts.metrics.logged_in();
        Ok(answer)
    }

    /// Stops looking after volumes; they stay mounted.
    pub async fn stop(&self) {
        self.volumes.release();
        self.tasks.close();
        if timeout(limits::LOGOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("some sessions did not end in time");
        }
    }

    /// The kubelet's folder.
    pub fn kubelet_root(&self) -> &Path {
        &self.parts.kubelet_root
    }

    /// The audience of the pods' tokens.
    pub fn audience(&self) -> &str {
        &self.parts.audience
    }

    /// Who a pod is to the server.
    pub(crate) fn principal(&self, pod: &Pod) -> String {
        format!("kubernetes/{}/{}/{}", self.parts.cluster, pod.namespace, pod.service_account)
    }

    pub(crate) fn question<'a>(&'a self, principal: &'a str, volume: &'a Volume) -> Question<'a> {
        Question { principal, audience: &self.parts.audience, volume, places: &self.fetches, follows: true }
    }

    pub(crate) fn server(&self) -> &dyn Server {
        &*self.parts.server
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// The volumes as numbers, for whoever asks for the metrics.
    pub fn measure(&self) {
        let (mounted, troubled, stale) = self.volumes.summary();
        self.parts.metrics.set_volumes(mounted, troubled, stale);
    }
}

fn usage(root: &Folder) -> Result<Usage, writer::WriteError> {
    let fill = fstatvfs(root).map_err(|error| writer::WriteError::Look(error.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(fill.f_frsize);
    Ok(Usage { bytes: (bytes(fill.f_blocks), bytes(fill.f_bavail)), inodes: (fill.f_files, fill.f_favail) })
}

fn at(target: &Target, cause: io::Error) -> Failure {
    Failure::Target { path: target.path.clone(), cause }
}

fn owner(volume: &Volume) -> Owner {
    Owner { uid: volume.uid, gid: volume.gid }
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;

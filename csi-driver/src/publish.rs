//! What the driver does for the kubelet, from a parsed request on: publish, look after, unpublish. What is done on the disk
//! runs to its end even if the kubelet hangs up in the middle.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use strongroom_client::{SecretBytes, volume::Volume};
use tokio::{task::spawn_blocking, time::Instant};

use crate::{
    budget::Budget,
    disk::{Disk, Usage},
    failure::Failure,
    fetch::{Answer, Reader},
    issued::Lent,
    mount::{Found, Mounter},
    pod_events::PodEvents,
    recover::recover,
    refresh::Refresh,
    session::Server,
    state::{StateFolder, VolumeState},
    telemetry::Metrics,
    volume::{Invalid, Pod, Request, Target, VolumeId, Wishes},
    volumes::{Claim, Condition, MountedVolume, Volumes},
    writer::Owner,
};

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
    /// How many bytes of the node's memory secrets may take.
    pub budget: u64,
    /// Where secrets come from.
    pub server: Arc<dyn Server>,
    pub mounter: Arc<dyn Mounter>,
    pub states: StateFolder,
    /// Where the owner of a pod learns what is wrong with its content.
    pub events: PodEvents,
    pub metrics: Arc<Metrics>,
}

pub struct Driver {
    patience: Duration,
    reader: Arc<Reader>,
    disk: Arc<Disk>,
    volumes: Arc<Volumes>,
    refresh: Refresh,
    metrics: Arc<Metrics>,
}

impl Driver {
    /// A driver with nothing mounted yet; [`recover`](Self::recover) finds what an earlier run left.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            kubelet_root,
            cluster,
            audience,
            patience,
            budget,
            server,
            mounter,
            states,
            events,
            metrics,
        } = parts;
        let reader = Arc::new(Reader::new(server, cluster, audience));
        let disk = Arc::new(Disk::new(kubelet_root, mounter, states, Budget::new(budget)));
        let refresh = Refresh::new(Arc::clone(&reader), Arc::clone(&disk), events, Arc::clone(&metrics));
        Arc::new(Self { patience, reader, disk, volumes: Arc::default(), refresh, metrics })
    }

    /// As [`publish_within`](Self::publish_within), for a caller with all the patience there is.
    ///
    /// # Errors
    /// The same.
    pub async fn publish(&self, request: Request) -> Result<(), Failure> {
        self.publish_within(request, None).await
    }

    /// Mounts a volume or, if it is mounted, makes sure that it is kept up to date. For a mounted volume this never fails
    /// for anything that the pod asked for or that the server does: a kubelet before 1.37 takes the mount of a running
    /// pod away when a republish fails. `patience` is the caller's, if it has said how long it waits.
    ///
    /// # Errors
    /// See [`Failure`]. Nothing is left behind then.
    pub async fn publish_within(&self, request: Request, patience: Option<Duration>) -> Result<(), Failure> {
        if let Some(mounted) = self.volumes.get(&request.id) {
            mounted.check(&request)?;
            if self.look(&request.target).await? == Found::Ours {
                self.look_after(&mounted, request.wishes);
                return Ok(());
            }
            tracing::warn!(volume = %request.id, "the mount of a volume is gone; mounting it again");
        }
        let claim = self.volumes.claim(&request.id, &request.target.path)?;
        if let Some(gone) = claim.forget()
            && !gone.leases().is_empty()
            && let Some(follower) = gone.follower().take()
        {
            // What was issued for files that nobody has any more is given back.
            follower.log_out();
        }
        match self.look(&request.target).await? {
            Found::Nothing => self.mount(claim, request, self.deadline(patience)).await,
            Found::Ours => self.adopt(&claim, request),
            Found::Foreign => Err(Failure::Foreign(request.target.path)),
        }
    }

    async fn mount(&self, claim: Claim, request: Request, deadline: Instant) -> Result<(), Failure> {
        let began = Instant::now();
        self.volumes.check_room()?;
        let Wishes { volume, token } = request.wishes?;
        let token = token.ok_or_else(|| Failure::NoToken(self.audience().to_owned()))?;
        let (touch, mut answer) = self.reader.question(&request.pod, &volume).ask(&token, deadline).await?;
        drop(token);
        self.metrics.logged_in();
        let (asked, own) = (began.elapsed(), Instant::now());
        let files = volume.render(answer.all())?;
        let Answer { versions, issued, .. } = answer;
        let Request { id, target, pod, capability, .. } = request;
        let leases = issued.iter().map(|lent| lent.lease().map(str::to_owned)).collect();
        let state =
            VolumeState::new(id, target.path.clone(), pod, capability, Timestamp::now()).with_leases(leases);
        let (disk, refresh, metrics) =
            (Arc::clone(&self.disk), self.refresh.clone(), Arc::clone(&self.metrics));
        // All of it in one closure: a kubelet that hangs up now finds the volume mounted when it asks again.
        spawn_blocking(move || {
            disk.mount(&state, &target, &files, Owner::of(&volume))?;
            let (volume_id, pod) = (state.volume.to_string(), state.pod.to_string());
            let mounted = Arc::new(MountedVolume::new(state, target, versions));
            // From here on the volume gives it back.
            let issued = issued.into_iter().filter_map(Lent::keep).collect();
            let follower = refresh.follow(&mounted, volume, Some((touch, issued)));
            *mounted.follower() = Some(follower);
            claim.mounted(Arc::clone(&mounted));
            let own = own.elapsed();
            metrics.published(asked + own, own);
            tracing::info!(
                volume = volume_id,
                pod,
                versions = mounted.versions(),
                files = files.len(),
                milliseconds = (asked + own).as_millis(),
                "published"
            );
            Ok(())
        })
        .await?
    }

    /// Takes over a volume that is mounted although its state file is lost.
    fn adopt(&self, claim: &Claim, request: Request) -> Result<(), Failure> {
        let Request { id, target, pod, capability, wishes } = request;
        tracing::warn!(volume = %id, "a mounted volume had lost its state file; it is kept up to date again");
        let state = VolumeState::new(id, target.path.clone(), pod, capability, Timestamp::now());
        self.disk.remember(&state)?;
        let mounted = Arc::new(MountedVolume::new(state, target, Vec::new()));
        claim.mounted(Arc::clone(&mounted));
        self.look_after(&mounted, wishes);
        Ok(())
    }

    fn look_after(&self, mounted: &Arc<MountedVolume>, wishes: Result<Wishes, Invalid>) {
        self.metrics.republished();
        let Wishes { volume, token } = match wishes {
            Ok(wishes) => wishes,
            Err(invalid) => {
                tracing::warn!(volume = %mounted.state.volume, %invalid, "the volume cannot be kept up to date because its attributes are invalid");
                mounted.mark_troubled(invalid.to_string(), "invalid");
                return;
            }
        };
        let mut follower = mounted.follower();
        let follower = match &*follower {
            Some(running) if !running.has_ended() => running,
            _ => follower.insert(self.refresh.follow(mounted, volume, None)),
        };
        if let Some(token) = token {
            follower.bring(token);
        }
    }

    /// Takes a volume away, whatever of it is there.
    ///
    /// # Errors
    /// See [`Failure`]. The kubelet asks again, and what is done stays done.
    pub async fn unpublish(&self, id: VolumeId, target: Target) -> Result<(), Failure> {
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
        let (disk, metrics) = (Arc::clone(&self.disk), Arc::clone(&self.metrics));
        spawn_blocking(move || {
            let _claim = claim;
            if let Some(mounted) = &mounted {
                *mounted.gone.lock().unwrap_or_else(PoisonError::into_inner) = true;
            }
            disk.take_down(&target)?;
            disk.forget(&id)?;
            tracing::info!(
                volume = %id,
                pod = mounted.as_ref().map(|mounted| mounted.state.pod.to_string()),
                "unpublished"
            );
            metrics.unpublished();
            Ok(())
        })
        .await?
    }

    /// Finds what an earlier run left.
    ///
    /// # Errors
    /// The state folder or the mount table cannot be read.
    pub fn recover(&self) -> Result<(), Failure> {
        recover(&self.disk, &self.volumes)
    }

    /// When a call has to have its answer: in the driver's own time, or in the caller's if that is shorter.
    fn deadline(&self, patience: Option<Duration>) -> Instant {
        Instant::now() + patience.map_or(self.patience, |patience| patience.min(self.patience))
    }

    async fn look(&self, target: &Target) -> Result<Found, Failure> {
        let (disk, target) = (Arc::clone(&self.disk), target.clone());
        spawn_blocking(move || disk.look(&target)).await?
    }

    /// Size and fill of a mounted volume, and how it is doing.
    ///
    /// # Errors
    /// It is not mounted there.
    pub async fn stats(&self, id: VolumeId, path: String) -> Result<(Usage, Condition), Failure> {
        let unknown = || Failure::Unknown { id: id.to_string(), path: path.clone() };
        let mounted = self.volumes.get(&id).ok_or_else(unknown)?;
        if mounted.target.path != Path::new(&path) {
            return Err(unknown());
        }
        let condition = mounted.condition();
        let disk = Arc::clone(&self.disk);
        let usage = spawn_blocking(move || disk.usage(&mounted)).await??;
        usage.map(|usage| (usage, condition)).ok_or_else(unknown)
    }

    /// What a volume reads, once: for another driver, which writes it.
    ///
    /// # Errors
    /// Those of a first publish.
    pub(crate) async fn fetch_once(
        &self,
        pod: &Pod,
        volume: &Volume,
        token: &SecretBytes,
        patience: Option<Duration>,
    ) -> Result<Answer, Failure> {
        let question = self.reader.question(pod, volume).once();
        let (_session, answer) = question.ask(token, self.deadline(patience)).await?;
        self.metrics.logged_in();
        Ok(answer)
    }

    /// Stops looking after volumes; they stay mounted.
    pub async fn stop(&self) {
        self.volumes.release();
        self.refresh.stop().await;
    }

    /// The kubelet's folder.
    pub fn kubelet_root(&self) -> &Path {
        self.disk.kubelet_root()
    }

    /// The audience of the pods' tokens.
    pub fn audience(&self) -> &str {
        self.reader.audience()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The volumes as numbers, for whoever asks for the metrics.
    pub fn measure(&self) {
        self.metrics.set_volumes(&self.volumes.summary());
    }
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;

//! Reading a pod's secrets as that pod, and having issued what it is to have.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use strongroom_client::{
    Change, ChangeKind, Current, Error, ErrorKind, ResultStream, Secret, SecretBytes,
    volume::{Fetched, Source, Volume},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    failure::Failure,
    issued::Lent,
    limits,
    session::{Server, Session},
    volume::Pod,
};

/// Reads of one volume at once.
const AT_ONCE: usize = 4;
const NO_ANSWER: &str = "it gave no answer";

/// A session, and news of what a volume reads.
pub struct Touch {
    pub session: Arc<dyn Session>,
    pub changes: ResultStream<Change>,
    /// With a watch whose news are complete from before the first read: which versions there were.
    pub current: Option<Vec<Current>>,
}

#[derive(Default)]
pub struct Answer {
    pub fetched: Fetched,
    /// Which versions these are.
    pub versions: Vec<Current>,
    /// What was issued, in the order of [`Volume::issues`].
    pub issued: Vec<Lent>,
}

impl Answer {
    /// All that the files are made of.
    pub fn all(&mut self) -> &Fetched {
        for lent in &self.issued {
            if let Some(source) = lent.source() {
                self.fetched.insert(source.clone(), lent.values());
            }
        }
        &self.fetched
    }
}

/// Who reads for the pods of this node.
pub struct Reader {
    server: Arc<dyn Server>,
    /// The server's name of this cluster.
    cluster: String,
    /// The audience of the pods' tokens.
    audience: String,
    /// Places for pods that start.
    publishes: Semaphore,
    /// Places for volumes that are mounted.
    refreshes: Semaphore,
}

impl Reader {
    pub fn new(server: Arc<dyn Server>, cluster: String, audience: String) -> Self {
        let places = || Semaphore::new(limits::FETCHES);
        Self { server, cluster, audience, publishes: places(), refreshes: places() }
    }

    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// What a pod asks for, and wants to know of when it changes.
    pub fn question<'a>(&'a self, pod: &Pod, volume: &'a Volume) -> Question<'a> {
        let principal = format!("kubernetes/{}/{}/{}", self.cluster, pod.namespace, pod.service_account);
        Question { reader: self, principal, volume, follows: true }
    }
}

/// Who asks for what.
pub struct Question<'a> {
    reader: &'a Reader,
    /// Who the pod is to the server: `kubernetes/<cluster>/<namespace>/<account>`.
    principal: String,
    /// What is to be in the volume.
    volume: &'a Volume,
    /// Whether later changes matter.
    follows: bool,
}

impl Question<'_> {
    /// The same, if later changes do not matter.
    #[must_use]
    pub fn once(self) -> Self {
        Self { follows: false, ..self }
    }

    /// Logs in and, if later changes matter, begins to watch. The watch stands before anything is read, so that no change
    /// falls in between.
    ///
    /// # Errors
    /// [`Failure::Login`], or [`Failure::Unreachable`] if it takes too long.
    pub async fn log_in(&self, token: &SecretBytes) -> Result<Touch, Failure> {
        let _place = self.reader.refreshes.acquire().await;
        timeout(limits::ATTEMPT, self.begin(token)).await.unwrap_or_else(|_| Err(no_answer(limits::ATTEMPT)))
    }

    /// Has something issued for the pod.
    ///
    /// # Errors
    /// What the server said.
    pub async fn issue(&self, session: &Arc<dyn Session>, source: &Source) -> Result<Lent, Failure> {
        let issued = timeout(limits::ATTEMPT, Lent::issue(session, source));
        let issued = issued.await.map_err(|_| no_answer(limits::ATTEMPT))?;
        issued.map_err(|error| Failure::issuing(&self.principal, source.path(), error))
    }

    /// What the server said of a lease.
    pub fn not_renewed(&self, source: &Source, error: Error) -> Failure {
        Failure::issuing(&self.principal, source.path(), error)
    }

    /// Reads all secrets that the volume needs.
    ///
    /// # Errors
    /// What the server said of the first secret that could not be read, or [`Failure::Unreachable`] if it takes too long.
    pub async fn read(&self, session: &dyn Session) -> Result<Answer, Failure> {
        let _place = self.reader.refreshes.acquire().await;
        let reading = timeout(limits::ATTEMPT, self.read_all(session));
        reading.await.unwrap_or_else(|_| Err(no_answer(limits::ATTEMPT)))
    }

    /// What the server said of the volume as a whole.
    pub fn refused(&self, error: Error) -> Failure {
        Failure::reading(&self.principal, self.volume.paths().first().copied().unwrap_or_default(), error)
    }

    async fn begin(&self, token: &SecretBytes) -> Result<Touch, Failure> {
        let session = self.reader.server.log_in(token).await.map_err(|error| Failure::Login {
            principal: self.principal.clone(),
            audience: self.reader.audience.clone(),
            error,
        })?;
        let session: Arc<dyn Session> = session.into();
        if self.volume.paths().is_empty() {
            // What is issued does not change by itself.
            return Ok(Touch { session, changes: stream::pending().boxed(), current: Some(Vec::new()) });
        }
        if !self.follows {
            return Ok(Touch { session, changes: stream::empty().boxed(), current: None });
        }
        let (mut changes, streams) = watch(&*session, self.volume);
        let current = match timeout(limits::WATCH_START, changes.next()).await {
            Ok(Some(Ok(change))) if streams == 1 && change.kind == ChangeKind::Started => {
                Some(change.current)
            }
            // Who may not watch may not read either.
            Ok(Some(Err(error))) if matches!(error.kind(), ErrorKind::Denied { .. }) => {
                return Err(self.refused(error));
            }
            // Whatever is wrong, the reads will tell it better; or it is slow, and the news come later.
            _ => None,
        };
        Ok(Touch { session, changes, current })
    }

    async fn read_all(&self, session: &dyn Session) -> Result<Answer, Failure> {
        let secrets = self.volume.sources().into_iter().filter(|source| !source.is_issued());
        let reads: Vec<_> = secrets.map(|source| self.read_one(session, source.clone())).collect();
        let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
        let mut answer = Answer::default();
        while let Some(read) = reads.try_next().await? {
            if let Some((source, secret)) = read {
                answer.versions.push(Current::new(secret.path, secret.version, secret.created_at));
                answer.fetched.insert(source, secret.values);
            }
        }
        Ok(answer)
    }

    /// Reads one secret; `None` if it does not exist and nobody needs it.
    async fn read_one(
        &self,
        session: &dyn Session,
        source: Source,
    ) -> Result<Option<(Source, Secret)>, Failure> {
        match session.read(source.path(), source.version()).await {
            Ok(secret) => Ok(Some((source, secret))),
            Err(error) if error.is_not_found() && self.is_optional(&source) => Ok(None),
            Err(error) => Err(Failure::reading(&self.principal, source.path(), error)),
        }
    }

    /// Whether nobody needs it.
    fn is_optional(&self, source: &Source) -> bool {
        let mut users = self.volume.entries.iter().filter(|entry| entry.sources().contains(source));
        users.all(|entry| entry.optional)
    }

    /// Logs in and reads, again and again while the server cannot be reached, until `deadline`: each attempt, and the wait for
    /// a place, ends then. A refusal is returned at once, because waiting would not change it.
    ///
    /// # Errors
    /// A refusal, or [`Failure::Unreachable`].
    pub async fn ask(&self, token: &SecretBytes, deadline: Instant) -> Result<(Touch, Answer), Failure> {
        let began = Instant::now();
        let mut why = NO_ANSWER.to_owned();
        let mut failures = 0;
        loop {
            let end = deadline.min(Instant::now() + limits::ATTEMPT);
            match timeout_at(end, self.attempt(token)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(failure)) if !failure.is_transient() => return Err(failure),
                Ok(Err(failure)) => why = failure.cause(),
                // What was heard before says more.
                Err(_) => {}
            }
            failures += 1;
            let pause = pause(failures);
            if Instant::now() + pause >= deadline {
                return Err(Failure::Unreachable { waited: began.elapsed(), why });
            }
            if failures == 1 {
                // Logged once for each call: the pod's events show it only when the patience is over.
                let seconds = deadline.saturating_duration_since(began).as_secs();
                tracing::warn!(
                    principal = self.principal,
                    why,
                    seconds,
                    "the server cannot be reached; retrying"
                );
            }
            sleep(pause).await;
        }
    }

    async fn attempt(&self, token: &SecretBytes) -> Result<(Touch, Answer), Failure> {
        let _place = self.reader.publishes.acquire().await;
        let touch = self.begin(token).await?;
        let mut answer = self.read_all(&*touch.session).await?;
        // At last: what cannot be read is found out without having anything issued.
        for source in self.volume.issues() {
            answer.issued.push(self.issue(&touch.session, source).await?);
        }
        Ok((touch, answer))
    }
}

fn no_answer(waited: Duration) -> Failure {
    Failure::Unreachable { waited, why: NO_ANSWER.to_owned() }
}

/// One stream for all, and of how many it is made: a watch is of one mount, and a volume may read of several.
fn watch(session: &dyn Session, volume: &Volume) -> (ResultStream<Change>, usize) {
    let mut mounts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in volume.paths() {
        let mount = path.split('/').next().unwrap_or_default().to_owned();
        mounts.entry(mount).or_default().push(path.to_owned());
    }
    let streams = mounts.len();
    (stream::select_all(mounts.into_values().map(|paths| session.watch(paths))).boxed(), streams)
}

/// Full jitter: anything from zero to a bound that doubles.
pub fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    limits::FIRST_PAUSE.saturating_mul(1 << doublings).min(limits::LONGEST_PAUSE).mul_f64(chance())
}

/// A number in [0, 1), for spreading load.
pub fn chance() -> f64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let noise = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(noise >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

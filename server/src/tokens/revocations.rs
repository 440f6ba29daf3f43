//! Which sessions were revoked before their time. Durable, and judged on each request against immutable snapshots, so a
//! check takes no lock.
//!
//! A principal or a method is revoked *up to a moment*: every session issued then or before is dead, later ones live.
//! That is exact only together with how both times are taken. A session's time of issue is when its login **began**,
//! before the credential was judged; a revocation's time is taken **after** the change it follows (a deleted user, a new
//! password) is durable. So a login that was judged by the old state began before the revocation, and within the same
//! millisecond it is still caught, because the comparison is `issued <= up to`. The price: a login of the new state that
//! begins in the very millisecond of the revocation is refused, too, and works when it is tried again. A server whose
//! clock is set back can have issued a session in what is now the future; a revocation by principal or method does not
//! reach that one, a revocation by session does.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use prost::Message;

use super::Session;
use crate::{
    auth::{KINDS, MAX_LIFETIME},
    barrier::{Address, BarrierError, Changes, Cursor, Kind, View},
    model::{Invalid, RequestId, SecretBytes, SessionId, Timestamp},
    storage::Condition,
};

/// A revocation of sessions.
const REVOCATION: Kind = Kind::new(49, "Revocation");

/// Most revocations of sessions kept at a time: about 40 MB. Nobody logs out that often within a day; without a limit a
/// loop of login and logout could fill memory and disk.
pub const MAX_REVOCATIONS: usize = 500_000;
/// Places beyond [`MAX_REVOCATIONS`] for principals and methods, so that no flood of logouts keeps an admin from
/// revoking.
const RESERVED: usize = 10_000;
/// How much longer than the sessions it covers a revocation is kept: the clock may be set back.
const CLOCK_MARGIN: Duration = Duration::from_secs(3600);
/// Each is replaced as a whole when a session is revoked, so it should stay small: 2,000 entries when all are full.
const SHARDS: usize = 256;
/// Records of one scan, and deletes of one batch.
const PAGE: usize = 100;
/// A conflict means that somebody else revoked the same at the same moment; each round one of them gets through.
const MAX_TRIES: usize = 64;
/// Longest uid of a pod.
const POD_BYTES: usize = 64;
/// Longest text of a principal: `kubernetes/`, and three Kubernetes names.
const PRINCIPAL_BYTES: usize = 600;

/// What to revoke.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// One session, with whatever it was renewed to.
    Session(SessionId),
    /// Everybody who has or had this name, whatever their uid: `userpass/alice`.
    Principal(Box<str>),
    /// Everything a method vouched for: `userpass`, `root`.
    Method(Box<str>),
    /// All sessions of the pod with this uid.
    Pod(Box<str>),
}

/// Why something was not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// See [`MAX_REVOCATIONS`].
    #[error("too many revocations at a time; try again later, or revoke the principal")]
    Full,
    /// It could not be made durable. It may come true all the same.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
}

/// The revocations of one store.
pub struct Revocations {
    view: View,
    sessions: Vec<Snapshot<SessionId>>,
    principals: Snapshot<Arc<str>>,
    methods: Snapshot<Arc<str>>,
    pods: Snapshot<Arc<str>>,
    entries: AtomicUsize,
}

/// A table that is replaced as a whole.
type Snapshot<K> = ArcSwap<HashMap<K, Entry>>;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Sessions issued then or before are dead.
    up_to: Timestamp,
    /// No session it covers can be alive from then on.
    until: Timestamp,
}

/// A stored revocation; what is revoked is the record's name.
#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(int64, tag = "1")]
    up_to_ms: i64,
    #[prost(int64, tag = "2")]
    until_ms: i64,
}

impl Which {
    /// A session by the text of its id.
    ///
    /// # Errors
    /// Not 32 lower-case hex digits.
    pub fn session(id: &str) -> Result<Self, Invalid> {
        let id = SessionId::parse(id);
        id.map(Self::Session).ok_or_else(|| Invalid::new("session_id", "is not 32 lower-case hex digits"))
    }

    /// A principal by its text. A method nobody knows is refused: a typing error would revoke nothing, and say nothing.
    ///
    /// # Errors
    /// Not the text of a principal.
    pub fn principal(text: &str) -> Result<Self, Invalid> {
        let problem = "is not a principal; expected method/name, such as userpass/alice, or root";
        let known = match text.split_once('/') {
            None => text == "root",
            Some((method, name)) => is_method(method) && !name.is_empty(),
        };
        if !known || text.len() > PRINCIPAL_BYTES || text.chars().any(char::is_control) {
            return Err(Invalid::new("principal", problem));
        }
        Ok(Self::Principal(text.into()))
    }

    /// A method by its name.
    ///
    /// # Errors
    /// There is no such method.
    pub fn method(name: &str) -> Result<Self, Invalid> {
        if name != "root" && !is_method(name) {
            return Err(Invalid::new("method", "is not the name of an auth method"));
        }
        Ok(Self::Method(name.into()))
    }

    /// A pod by its uid.
    ///
    /// # Errors
    /// Not a uid.
    pub fn pod(uid: &str) -> Result<Self, Invalid> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !(1..=POD_BYTES).contains(&uid.len()) || !uid.bytes().all(fits) {
            return Err(Invalid::new("pod", "is not the uid of a pod; expected a UUID, as whoami shows it"));
        }
        Ok(Self::Pod(uid.into()))
    }

    /// For the audit log: `session ID`, `principal userpass/alice`, `method userpass`, `pod UID`.
    pub fn describe(&self) -> String {
        match self {
            Which::Session(id) => format!("{SESSION} {id}"),
            Which::Principal(principal) => format!("{PRINCIPAL} {principal}"),
            Which::Method(method) => format!("{METHOD} {method}"),
            Which::Pod(uid) => format!("{POD} {uid}"),
        }
    }

    fn address(&self) -> Address {
        let (folder, name) = match self {
            Which::Session(id) => (SESSION, id.to_string().into()),
            Which::Principal(principal) => (PRINCIPAL, principal.clone()),
            Which::Method(method) => (METHOD, method.clone()),
            Which::Pod(uid) => (POD, uid.clone()),
        };
        Address { kind: REVOCATION, folder: folder.into(), name, part: 0 }
    }

    fn from_record(folder: &str, name: &str) -> Option<Self> {
        match folder {
            SESSION => SessionId::parse(name).map(Self::Session),
            PRINCIPAL => Some(Self::Principal(name.into())),
            METHOD => Some(Self::Method(name.into())),
            POD => Some(Self::Pod(name.into())),
            _ => None,
        }
    }
}

const SESSION: &str = "session";
const PRINCIPAL: &str = "principal";
const METHOD: &str = "method";
const POD: &str = "pod";
const FOLDERS: [&str; 4] = [SESSION, PRINCIPAL, METHOD, POD];

fn is_method(name: &str) -> bool {
    KINDS.iter().any(|kind| kind.name == name)
}

impl Revocations {
    /// Everything in `view`, which no other subsystem uses.
    ///
    /// # Errors
    /// A record does not open. Then nothing may be let in: it could be the revocation of anybody.
    pub async fn load(view: View, now: Timestamp) -> Result<Self, BarrierError> {
        let revocations = Self {
            view,
            sessions: (0..SHARDS).map(|_| Snapshot::default()).collect(),
            principals: Snapshot::default(),
            methods: Snapshot::default(),
            pods: Snapshot::default(),
            entries: AtomicUsize::new(0),
        };
        for folder in FOLDERS {
            let mut after = None;
            while let Some(page) = revocations.page(folder, after.as_ref()).await? {
                for found in page.found.iter().filter(|found| found.entry.until > now) {
                    revocations.show(&found.which, found.entry);
                }
                after = Some(page.last);
            }
        }
        Ok(revocations)
    }

    /// Whether `session` is revoked: a few look-ups, no lock.
    pub fn covers(&self, session: &Session) -> bool {
        let shard = self.shard(session.id).is_some_and(|shard| shard.load().contains_key(&session.id));
        shard
            || covers(&self.methods, session.issued, || session.method().into())
            || covers(&self.principals, session.issued, || session.principal.to_string().into())
            || session
                .principal
                .pod()
                .is_some_and(|pod| covers(&self.pods, session.issued, || pod.uid.as_ref().into()))
    }

    /// Revokes, durably first. `now` is taken after the change that this follows: see the module.
    ///
    /// # Errors
    /// Nothing is revoked until this has returned `Ok`.
    pub async fn revoke(
        &self,
        which: Which,
        now: Timestamp,
        by: Option<RequestId>,
    ) -> Result<(), RevokeError> {
        let until = now.plus(MAX_LIFETIME).plus(CLOCK_MARGIN);
        self.insert(which, Entry { up_to: now, until }, by).await
    }

    /// Revokes one session that is at hand, as a logout does: it is remembered only as long as that one could live.
    ///
    /// # Errors
    /// As [`Revocations::revoke`].
    pub async fn end(
        &self,
        session: &Session,
        now: Timestamp,
        by: Option<RequestId>,
    ) -> Result<(), RevokeError> {
        let until = session.max_expires.plus(CLOCK_MARGIN);
        self.insert(Which::Session(session.id), Entry { up_to: now, until }, by).await
    }

    /// Forgets what covers no living session any more, and says how many that were. To be called now and then.
    ///
    /// # Errors
    /// The store; what was forgotten until then stays forgotten.
    pub async fn prune(&self, now: Timestamp) -> Result<usize, BarrierError> {
        let mut pruned = 0;
        for folder in FOLDERS {
            let mut after = None;
            while let Some(page) = self.page(folder, after.as_ref()).await? {
                let over: Vec<_> = page.found.iter().filter(|found| found.entry.until <= now).collect();
                if self.forget(&over).await? {
                    pruned += over.len();
                }
                after = Some(page.last);
            }
        }
        Ok(pruned)
    }

    /// How many there are, for a metric.
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn insert(&self, which: Which, entry: Entry, by: Option<RequestId>) -> Result<(), RevokeError> {
        let limit = match which {
            Which::Session(_) => MAX_REVOCATIONS,
            Which::Principal(_) | Which::Method(_) | Which::Pod(_) => MAX_REVOCATIONS + RESERVED,
        };
        if self.len() >= limit {
            return Err(RevokeError::Full);
        }
        let entry = self.store(&which, entry, by).await?;
        self.show(&which, entry);
        Ok(())
    }

    /// Makes it durable and says what stands there now. Two revocations of the same never lose one another: the record
    /// is written only over what was read, and only ever grows.
    async fn store(&self, which: &Which, entry: Entry, by: Option<RequestId>) -> Result<Entry, BarrierError> {
        let address = which.address();
        for _ in 0..MAX_TRIES {
            let (condition, merged) = match self.view.get(&address).await? {
                None => (Condition::Absent, entry),
                Some(old) => (Condition::At(old.revision), entry.merge(Entry::read(old.content.expose())?)),
            };
            let changes = Changes {
                conditions: vec![(address.clone(), condition)],
                puts: vec![(address.clone(), merged.write())],
                by,
                ..Changes::default()
            };
            match self.view.commit(changes).await {
                Ok(_) => return Ok(merged),
                Err(BarrierError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(BarrierError::Conflict)
    }

    /// Makes it visible to checks. Replaces a snapshot by compare-and-swap, so that revocations at the same time do not
    /// lose one another.
    fn show(&self, which: &Which, entry: Entry) {
        let is_new = match which {
            Which::Session(id) => self.shard(*id).is_some_and(|shard| put(shard, *id, entry)),
            Which::Principal(principal) => put(&self.principals, Arc::from(&**principal), entry),
            Which::Method(method) => put(&self.methods, Arc::from(&**method), entry),
            Which::Pod(uid) => put(&self.pods, Arc::from(&**uid), entry),
        };
        self.entries.fetch_add(usize::from(is_new), Ordering::Relaxed);
    }

    /// Deletes records that are over, unless one of them is changed meanwhile: then all of them wait for the next time.
    async fn forget(&self, over: &[&Stored]) -> Result<bool, BarrierError> {
        if over.is_empty() {
            return Ok(false);
        }
        let changes = Changes {
            conditions: over.iter().map(|found| (found.which.address(), found.condition)).collect(),
            deletes: over.iter().map(|found| found.which.address()).collect(),
            ..Changes::default()
        };
        match self.view.commit(changes).await {
            Ok(_) => {}
            Err(BarrierError::Conflict) => return Ok(false),
            Err(error) => return Err(error),
        }
        for Stored { which, entry, .. } in over {
            let was_there = match which {
                Which::Session(id) => self.shard(*id).is_some_and(|shard| take(shard, id, *entry)),
                Which::Principal(principal) => take(&self.principals, &**principal, *entry),
                Which::Method(method) => take(&self.methods, &**method, *entry),
                Which::Pod(uid) => take(&self.pods, &**uid, *entry),
            };
            self.entries.fetch_sub(usize::from(was_there), Ordering::Relaxed);
        }
        Ok(true)
    }

    /// The next records of a folder; `None` at its end.
    async fn page(&self, folder: &str, after: Option<&Cursor>) -> Result<Option<Page>, BarrierError> {
        let records = self.view.scan(REVOCATION, folder, after, PAGE).await?;
        let Some(last) = records.last().map(|record| record.cursor.clone()) else {
            return Ok(None);
        };
        let mut found = Vec::with_capacity(records.len());
        for record in records {
            found.push(Stored {
                which: Which::from_record(folder, &record.name).ok_or_else(corrupt)?,
                entry: Entry::read(record.entry.content.expose())?,
                condition: Condition::At(record.entry.revision),
            });
        }
        Ok(Some(Page { found, last }))
    }

    /// Ids are random, so their first byte spreads them evenly.
    fn shard(&self, id: SessionId) -> Option<&Snapshot<SessionId>> {
        let [first, ..] = id.0;
        self.sessions.get(usize::from(first))
    }
}

struct Page {
    found: Vec<Stored>,
    last: Cursor,
}

struct Stored {
    which: Which,
    entry: Entry,
    condition: Condition,
}

impl Entry {
    fn merge(self, other: Self) -> Self {
        Self { up_to: self.up_to.max(other.up_to), until: self.until.max(other.until) }
    }

    fn read(bytes: &[u8]) -> Result<Self, BarrierError> {
        let record = Record::decode(bytes).map_err(|_| corrupt())?;
        Ok(Self {
            up_to: Timestamp::from_millis(record.up_to_ms),
            until: Timestamp::from_millis(record.until_ms),
        })
    }

    fn write(self) -> SecretBytes {
        let record = Record { up_to_ms: self.up_to.as_millis(), until_ms: self.until.as_millis() };
        SecretBytes::new(record.encode_to_vec())
    }
}

/// Mostly the table is empty; then nobody has to make the key.
fn covers(table: &Snapshot<Arc<str>>, issued: Timestamp, key: impl FnOnce() -> Box<str>) -> bool {
    let table = table.load();
    !table.is_empty() && table.get(&*key()).is_some_and(|entry| issued <= entry.up_to)
}

/// Says whether it is new.
fn put<K: Clone + Eq + Hash>(table: &Snapshot<K>, key: K, entry: Entry) -> bool {
    let before = table.rcu(|table| {
        let mut table = HashMap::clone(table);
        let merged = table.get(&key).map_or(entry, |old| entry.merge(*old));
        table.insert(key.clone(), merged);
        table
    });
    !before.contains_key(&key)
}

/// Says whether it was there. What is not as it was found stays: it was revoked again meanwhile.
fn take<K, Q>(table: &Snapshot<K>, key: &Q, entry: Entry) -> bool
where
    K: Clone + Eq + Hash + Borrow<Q>,
    Q: Eq + Hash + ?Sized,
{
    let before = table.rcu(|table| {
        let mut table = HashMap::clone(table);
        if table.get(key) == Some(&entry) {
            table.remove(key);
        }
        table
    });
    before.get(key) == Some(&entry)
}

fn corrupt() -> BarrierError {
    BarrierError::Corrupt { kind: REVOCATION, namespace: String::from("sys/tokens") }
}

#[cfg(test)]
mod tests {
    use super::{super::claims::tests::session, *};
    use crate::{
        auth::conformance::view,
        model::{Pod, Principal},
    };

    const NOW: Timestamp = Timestamp::from_millis(10_000_000);
    const MILLI: Duration = Duration::from_millis(1);

    fn alice(issued: Timestamp, uid: &str) -> Session {
        let principal = Principal::User {
            method: "userpass".into(),
            name: "alice".into(),
            uid: uid.into(),
            groups: Vec::new(),
        };
        let max_expires = issued.plus(MAX_LIFETIME);
        Session { issued, expires: max_expires, max_expires, ..session(principal) }
    }

    async fn revocations() -> Revocations {
        Revocations::load(view("sys/tokens").await, NOW).await.unwrap()
    }

    #[tokio::test]
    async fn a_session_is_revoked_whenever_it_was_issued() {
        let revocations = revocations().await;
        let session = alice(NOW.plus(MILLI * 3), "1");
        let other = Session { id: SessionId([8; 16]), ..session.clone() };
        assert!(!revocations.covers(&session));
        revocations.revoke(Which::Session(session.id), NOW, None).await.unwrap();
        assert!(revocations.covers(&session));
        assert!(!revocations.covers(&other));
    }

    #[tokio::test]
    async fn a_principal_is_revoked_up_to_a_moment_whatever_the_uid() {
        let revocations = revocations().await;
        revocations.revoke(Which::principal("userpass/alice").unwrap(), NOW, None).await.unwrap();
        for uid in ["1", "2"] {
            assert!(revocations.covers(&alice(Timestamp::from_millis(0), uid)));
            assert!(revocations.covers(&alice(NOW, uid)), "a login of the same millisecond is caught");
            assert!(!revocations.covers(&alice(NOW.plus(MILLI), uid)));
        }
        assert!(!revocations.covers(&session(Principal::Root)));
    }

    #[tokio::test]
    async fn a_method_is_revoked_up_to_a_moment() {
        let revocations = revocations().await;
        revocations.revoke(Which::method("userpass").unwrap(), NOW, None).await.unwrap();
        assert!(revocations.covers(&alice(NOW, "1")));
        assert!(!revocations.covers(&alice(NOW.plus(MILLI), "1")));
        assert!(!revocations.covers(&session(Principal::Root)));
        revocations.revoke(Which::method("root").unwrap(), NOW, None).await.unwrap();
        assert!(revocations.covers(&session(Principal::Root)));
    }

    #[tokio::test]
    async fn a_restart_forgets_nothing() {
        let view = view("sys/tokens").await;
        let before = Revocations::load(view.clone(), NOW).await.unwrap();
        for n in 0..250u8 {
            before.revoke(Which::Session(SessionId([n; 16])), NOW, None).await.unwrap();
        }
        before.revoke(Which::Principal("userpass/alice".into()), NOW, None).await.unwrap();
        before.revoke(Which::Method("root".into()), NOW, None).await.unwrap();

        let after = Revocations::load(view, NOW).await.unwrap();
        assert_eq!(after.len(), 252);
        assert!(after.covers(&alice(NOW, "1")));
        assert!(after.covers(&session(Principal::Root)));
        for n in 0..250u8 {
            let later = Session { id: SessionId([n; 16]), ..alice(NOW.plus(MILLI), "1") };
            assert!(after.covers(&later), "{n}");
        }
    }

    #[tokio::test]
    async fn a_pod_is_revoked_by_its_uid_and_stays_so() {
        let of_pod = |uid: &str, issued| {
            let pod = Pod { name: "web-0".into(), uid: uid.into(), node: None };
            let (cluster, namespace, name) = ("main".into(), "shop".into(), "web".into());
            let account =
                Principal::ServiceAccount { cluster, namespace, name, uid: "a".into(), pod: Some(pod) };
            Session { issued, ..session(account) }
        };
        let view = view("sys/tokens").await;
        let before = Revocations::load(view.clone(), NOW).await.unwrap();
        before.revoke(Which::pod("p-1").unwrap(), NOW, None).await.unwrap();
        for revocations in [before, Revocations::load(view, NOW).await.unwrap()] {
            assert!(revocations.covers(&of_pod("p-1", NOW)));
            assert!(!revocations.covers(&of_pod("p-1", NOW.plus(MILLI))), "it may log in again");
            assert!(!revocations.covers(&of_pod("p-2", NOW)));
            assert!(!revocations.covers(&session(Principal::Root)));
        }
        for bad in ["", "a/b", "a b", &"u".repeat(65)] {
            assert!(Which::pod(bad).is_err(), "{bad:?}");
        }
    }

    /// Many at once, of the same and of others, in no order: none is lost in memory or in the store, and the latest
    /// moment stands.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn revocations_at_the_same_time_do_not_lose_one_another() {
        let view = view("sys/tokens").await;
        let revocations = Arc::new(Revocations::load(view.clone(), NOW).await.unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..40u8 {
            let revocations = Arc::clone(&revocations);
            tasks.spawn(async move {
                // The first byte is shared, so all of them meet in one shard.
                let mut id = [1; 16];
                id[15] = n;
                revocations.revoke(Which::Session(SessionId(id)), NOW, None).await.unwrap();
                let moment = NOW.plus(MILLI * (u32::from(n) * 7 % 40));
                revocations.revoke(Which::Principal("userpass/alice".into()), moment, None).await.unwrap();
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        for revocations in [&*revocations, &Revocations::load(view, NOW).await.unwrap()] {
            assert_eq!(revocations.len(), 41);
            assert!(revocations.covers(&alice(NOW.plus(MILLI * 39), "1")));
            assert!(!revocations.covers(&alice(NOW.plus(MILLI * 40), "1")));
        }
    }

    #[tokio::test]
    async fn an_earlier_moment_takes_nothing_back() {
        let revocations = revocations().await;
        let which = Which::Principal("userpass/alice".into());
        revocations.revoke(which.clone(), NOW, None).await.unwrap();
        revocations.revoke(which, Timestamp::from_millis(5), None).await.unwrap();
        assert!(revocations.covers(&alice(NOW, "1")));
    }

    /// Nothing is forgotten while a session it covers could be alive, and everything is afterwards.
    #[tokio::test]
    async fn what_is_over_is_forgotten() {
        let view = view("sys/tokens").await;
        let revocations = Revocations::load(view.clone(), NOW).await.unwrap();
        for n in 0..150u8 {
            revocations.revoke(Which::Session(SessionId([n; 16])), NOW, None).await.unwrap();
        }
        revocations.revoke(Which::Principal("userpass/alice".into()), NOW, None).await.unwrap();
        let short = Session { id: SessionId([200; 16]), max_expires: NOW.plus(MILLI), ..alice(NOW, "1") };
        revocations.end(&short, NOW, None).await.unwrap();

        assert_eq!(revocations.prune(NOW.plus(MILLI)).await.unwrap(), 0);
        assert_eq!(revocations.prune(NOW.plus(MILLI + CLOCK_MARGIN)).await.unwrap(), 1, "the short one");
        let end = NOW.plus(MAX_LIFETIME);
        assert_eq!(revocations.prune(end).await.unwrap(), 0);
        assert!(revocations.covers(&alice(NOW, "1")));

        // Revoked once more: that one stays.
        revocations.revoke(Which::Principal("userpass/alice".into()), end, None).await.unwrap();
        let end = end.plus(CLOCK_MARGIN);
        assert_eq!(revocations.prune(end).await.unwrap(), 150);
        assert_eq!(revocations.len(), 1);
        assert!(revocations.covers(&alice(NOW.plus(MAX_LIFETIME), "1")));
        assert_eq!(Revocations::load(view, NOW).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_flood_of_logouts_does_not_keep_an_admin_from_revoking() {
        let revocations = revocations().await;
        revocations.entries.store(MAX_REVOCATIONS, Ordering::Relaxed);
        let logout = revocations.revoke(Which::Session(SessionId([1; 16])), NOW, None).await;
        assert!(matches!(logout, Err(RevokeError::Full)));
        revocations.revoke(Which::Principal("userpass/alice".into()), NOW, None).await.unwrap();
        assert!(revocations.covers(&alice(NOW, "1")));
    }

    #[test]
    fn typing_errors_are_refused() {
        assert!(Which::session("00112233445566778899aabbccddeeff").is_ok());
        assert!(Which::session("00112233445566778899AABBCCDDEEFF").is_err());
        for good in ["root", "userpass/alice"] {
            assert!(Which::principal(good).is_ok(), "{good}");
        }
        for bad in ["", "alice", "userpas/alice", "userpass/", "userpass/a\n", "root/x"] {
            assert!(Which::principal(bad).is_err(), "{bad:?}");
        }
        assert!(Which::method("userpass").is_ok() && Which::method("userpas").is_err());
    }
}

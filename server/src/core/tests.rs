//! A core over real parts (only the store is in memory, and fails on demand), for the tests of core and admission; and what
//! the core does by itself or after the fact.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use strongroom_proto::{
    Reason,
    v1::login_request::{Credential as Shown, Userpass},
};
use tempfile::TempDir;

use super::{
    context::Origin,
    error::Error,
    handle, record,
    request::{Action, Place, Request, Slot, UserAction},
    state::{Core, Options},
    unauthenticated::{Login, init, login},
};
use crate::{
    audit::{self, Broker},
    auth::{Credential, Methods, Surroundings},
    barrier::DIGEST_KEY,
    clock::{Clock, ManualClock},
    config,
    crypto::{Entropy, SystemEntropy},
    model::{LogPoint, Principal, RequestId, SecretBytes, Timestamp},
    permit::{Chore, Errand, Upkeep},
    seal::{SealConfig, Seals},
    storage::{
        Store,
        fault::{Fault, FaultStore, Operation},
        memory::MemoryStore,
    },
    telemetry::Metrics,
    tokens::Which,
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// How long a key term lasts.
const TERM: Duration = Duration::from_secs(90 * 24 * 3600);

pub(crate) struct House {
    pub(crate) core: Arc<Core>,
    pub(crate) metrics: Arc<Metrics>,
    pub(super) store: Arc<FaultStore<MemoryStore>>,
    pub(super) clock: Arc<ManualClock>,
    home: TempDir,
}

impl House {
    /// With an empty store.
    pub(crate) async fn empty() -> Self {
        let (store, clock) = (Arc::new(FaultStore::new(MemoryStore::new())), Arc::new(ManualClock::at(NOW)));
        Self::of(tempfile::tempdir().unwrap(), store, clock).await
    }

    /// Another process on the same store and log: of this one nothing is left but what was durable.
    pub(super) async fn again(self) -> Self {
        self.again_with(|_| {}).await
    }

    /// The same, on a log to which `change` has happened in between.
    pub(super) async fn again_with(self, change: impl FnOnce(&Path)) -> Self {
        let log = self.log();
        let Self { core, store, clock, home, .. } = self;
        core.audit.close().await;
        drop(core);
        change(&log);
        store.crash_after(None);
        Self::of(home, store, clock).await
    }

    /// The first file of the audit log.
    pub(super) fn log(&self) -> PathBuf {
        self.home.path().join("audit/audit-00000000000000000001.jsonl")
    }

    async fn of(home: TempDir, store: Arc<FaultStore<MemoryStore>>, clock: Arc<ManualClock>) -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let now: Arc<dyn Clock> = clock.clone();
        let audit = Broker::open(&audit::Config::new(home.path().join("audit")), Arc::clone(&now), vec![]);
        let config = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n";
        let config = config::parse(config, &config::Overrides::default()).unwrap();
        let methods =
            Methods::connect(&Surroundings { config: &config, clock: &now, metrics: &metrics }).unwrap();
        let seals = Seals::build(&config::Seal { key_file: Some(home.path().join("key")) });
        let (anchor, init_from) = (LogPoint::default(), config::InitFrom::default());
        let options = Options { seals, accept_rollback: false, anchor, init_from };
        let (entropy, kept): (Arc<dyn Entropy>, Arc<dyn Store>) = (Arc::new(SystemEntropy), store.clone());
        let counts = Arc::clone(&metrics);
        let core = Core::start(kept, audit.unwrap(), now, entropy, counts, methods, options).await.unwrap();
        Self { core, metrics, store, clock, home }
    }

    /// With its keys, and the root token.
    pub(crate) async fn open() -> (Self, SecretBytes) {
        let house = Self::empty().await;
        let made = init(&house.core, origin(), anywhere(), Ok(SealConfig::File)).await.unwrap();
        (house, made.root_token)
    }

    pub(crate) async fn seal(&self) {
        self.core.seal().await.unwrap();
    }

    pub(crate) fn later(&self) {
        self.clock.advance(Duration::from_secs(1));
    }

    /// What the audit log says of this operation so far.
    pub(crate) fn records(&self, operation: &str) -> Vec<Value> {
        let segments = std::fs::read_dir(self.home.path().join("audit")).unwrap();
        let segments = segments.map(|entry| entry.unwrap().path());
        let segments = segments.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        // Behind the last line stand zeros.
        let lines_of = |path| std::fs::read_to_string(path).unwrap().trim_end_matches('\0').to_owned();
        let text: String = segments.map(lines_of).collect();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut lines: Vec<_> = lines.filter(|line| line["operation"] == operation).collect();
        lines.sort_unstable_by_key(|line| line["seq"].as_u64());
        lines
    }

    fn term(&self) -> Option<u32> {
        self.core.status().key_term
    }
}

/// A place where there is room for everybody.
pub(super) fn anywhere() -> Slot {
    Arc::new(Anywhere)
}

struct Anywhere;

impl Place for Anywhere {
    fn claim(&self, _: &Principal, _: bool) -> Result<(), Error> {
        Ok(())
    }

    fn room(&self, _: usize) -> Result<Box<dyn Send>, Error> {
        Ok(Box::new(()))
    }

    fn attempt(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn origin() -> Origin {
    Origin { id: RequestId([7; 16]), name: "Test.Request", peer: Some(std::net::Ipv4Addr::LOCALHOST.into()) }
}

pub(super) fn shape(records: &[Value]) -> Vec<(&str, &str, &str)> {
    records
        .iter()
        .map(|record| {
            let of = |key: &str| record[key].as_str().unwrap_or_default();
            (of("kind"), of("status"), of("reason"))
        })
        .collect()
}

/// Whoever asks first gets everything, so a stranger on the network is not heard.
#[tokio::test]
async fn an_init_is_taken_from_this_machine_only() {
    let house = House::empty().await;
    for peer in [Some([192, 0, 2, 1].into()), Some("2001:db8::1".parse().unwrap()), None] {
        let origin = Origin { name: "Sys.Init", peer, ..origin() };
        let error = init(&house.core, origin, anywhere(), Ok(SealConfig::File)).await.err().unwrap();
        assert_eq!(error.reason(), Reason::InitElsewhere);
    }
    assert_eq!(shape(&house.records("Sys.Init")), [("request", "denied", "INIT_ELSEWHERE"); 3]);
    assert!(!house.core.status().initialized);
    let mapped = Some("::ffff:127.0.0.1".parse().unwrap());
    let origin = Origin { peer: mapped, ..origin() };
    init(&house.core, origin, anywhere(), Ok(SealConfig::File)).await.unwrap();
}

/// Attempts on one account can be told from attempts on many, although no name that was not proved is in the log.
#[tokio::test]
async fn a_failed_login_tells_the_name_as_a_keyed_hash() {
    let (house, _) = House::open().await;
    let mut method = "";
    for name in ["correct horse battery", "bob", "bob"] {
        let password = Some(SecretBytes::from(&b"not the password"[..]).into());
        let shown = Shown::Userpass(Userpass { name: name.into(), password });
        let (origin, credential) = (Origin { name: "Auth.Login", ..origin() }, Credential::read(Some(shown)));
        method = credential.as_ref().unwrap().method();
        let slot = anywhere();
        login(&house.core, Login { origin, slot, credential }).await.map(drop).unwrap_err();
    }
    let records = house.records("Auth.Login");
    let names: Vec<_> = records.iter().map(|record| record["fields"]["name"].as_str().unwrap()).collect();
    let hash = |name: &str| {
        let unsealed = house.core.unsealed().unwrap();
        unsealed.redactor.hash(&format!("sys/auth/{method}"), "name", name.as_bytes()).as_str().to_owned()
    };
    assert_eq!(names, [hash("correct horse battery"), hash("bob"), hash("bob")]);
    assert!(records.iter().all(|record| !record.to_string().contains("bob")));
    assert!(records.iter().all(|record| !record.to_string().contains("horse")));
}

#[tokio::test]
async fn keys_that_are_old_are_rotated_and_the_log_says_who_did_it() {
    let (house, _) = House::open().await;
    house.core.hourly().await;
    assert_eq!((house.term(), house.records("Upkeep.RotateKeys").len()), (Some(1), 0));

    house.clock.advance(TERM);
    house.core.hourly().await;
    house.core.hourly().await;
    assert_eq!(house.term(), Some(2), "once");
    let records = house.records("Upkeep.RotateKeys");
    assert_eq!(shape(&records), [("request", "pending", ""), ("outcome", "ok", "")]);
    assert_eq!(records[0]["request_id"], records[1]["request_id"]);
    assert!(records.iter().all(|record| record["principal"].is_null() && record["peer"].is_null()));
}

#[tokio::test]
async fn a_rotation_that_fails_has_an_outcome_and_is_tried_again() {
    let (house, _) = House::open().await;
    house.clock.advance(TERM);
    house.store.inject(Operation::Commit, Fault::ReadOnly);
    house.core.hourly().await;
    assert_eq!(house.term(), Some(1));
    house.core.hourly().await;
    assert_eq!(house.term(), Some(2));
    let records = house.records("Upkeep.RotateKeys");
    let failed = [("request", "pending", ""), ("outcome", "error", "READ_ONLY")];
    let done = [("request", "pending", ""), ("outcome", "ok", "")];
    assert_eq!(shape(&records), [failed, done].concat());
    assert_ne!(records[0]["request_id"], records[2]["request_id"]);
}

#[tokio::test]
async fn without_a_record_nothing_is_done() {
    let (house, _) = House::open().await;
    house.clock.advance(TERM);
    house.core.audit.close().await;
    house.core.hourly().await;
    assert_eq!(house.term(), Some(1));
}

#[tokio::test]
async fn a_store_that_failed_is_the_end() {
    for fault in [Fault::Fatal, Fault::UnknownAfter, Fault::Conflict(DIGEST_KEY.to_vec())] {
        let (house, _) = House::open().await;
        house.core.ready().unwrap();
        house.store.inject(Operation::Commit, Fault::ReadOnly);
        assert!(house.core.rotate(RequestId([1; 16])).await.is_err());
        house.core.ready().unwrap();
        house.store.inject(Operation::Commit, fault.clone());
        assert!(house.core.rotate(RequestId([2; 16])).await.is_err());
        house.core.store_failed().await;
        assert!(house.core.ready().is_err(), "{fault:?}");
    }
    let (house, _) = House::open().await;
    house.store.inject(Operation::Get, Fault::Fatal);
    assert!(house.core.rotate(RequestId([2; 16])).await.is_err());
    house.core.store_failed().await;
}

#[tokio::test]
async fn only_its_own_record_permits_a_chore() {
    let (house, _) = House::open().await;
    let errand = || Errand::new(Chore::RotateKeys, &SystemEntropy).unwrap();
    let (one, other) = (errand(), errand());
    let recorded = record::errand_intent(&house.core, &one).await.unwrap();
    assert!(Upkeep::join(&other, &recorded).is_err());
    assert_eq!(Upkeep::join(&one, &recorded).unwrap().id(), one.id());
}

#[tokio::test]
async fn a_clock_that_was_set_is_an_alarm() {
    let (house, _) = House::open().await;
    let jumps = |house: &House| {
        let text = house.metrics.render();
        let line = text.lines().find(|line| line.starts_with("strongroom_clock_jumps_total "));
        line.and_then(|line| line.rsplit(' ').next()).unwrap().to_owned()
    };
    for _ in 0..3 {
        house.clock.advance(TERM);
        house.clock.set_by(1_000);
        house.core.minutely().await;
    }
    assert_eq!(jumps(&house), "0", "time passes, and is corrected by a second");
    for (set, told) in [(25 * 3_600_000, "1"), (-25 * 3_600_000, "2")] {
        house.clock.set_by(set);
        house.core.minutely().await;
        assert_eq!(jumps(&house), told);
    }

    // Behind what the store has seen already.
    let unsealed = house.core.unsealed().unwrap();
    unsealed.tokens.revoke(Which::principal("root").unwrap(), house.core.clock.now(), None).await.unwrap();
    drop(unsealed);
    house.clock.set_by(-3_600_000);
    let house = house.again().await;
    assert_eq!(jumps(&house), "1", "found at the start");
}

/// A refusal can have a consequence, too: a user who is not there may have sessions all the same.
#[tokio::test]
async fn a_request_is_not_answered_before_its_consequence() {
    let (house, root) = House::open().await;
    let delete = async |number: u8| {
        let origin = Origin { id: RequestId([number; 16]), name: "Auth.DeleteUser", peer: None };
        let bearer = Some(SecretBytes::from(root.expose()));
        let action = Ok(Action::User(UserAction::Delete { name: "nobody".into() }));
        handle(&house.core, Request { origin, slot: anywhere(), bearer, action }).await
    };
    house.store.inject(Operation::Commit, Fault::ReadOnly);
    assert!(matches!(delete(1).await, Err(error) if error.reason() == Reason::ReadOnly));
    assert!(matches!(delete(2).await, Err(Error::NoSuch(_))));
    let intent = ("request", "pending", "");
    let [failed, refused] = [("outcome", "error", "READ_ONLY"), ("outcome", "error", "NOT_FOUND")];
    assert_eq!(shape(&house.records("Auth.DeleteUser")), [intent, failed, intent, refused]);
}

/// A rekey that nobody confirms does not wait for whoever finds the session that began it.
#[tokio::test]
async fn a_rekey_that_is_not_confirmed_ends_by_itself() {
    let (house, _) = House::open().await;
    let key_file = || vec![SecretBytes::new(std::fs::read(house.home.path().join("key")).unwrap())];
    let config = SealConfig::Shamir { shares: 2, threshold: 2 };
    let begin = async || house.core.rekey(config, &key_file(), origin().id).await.unwrap();

    let shares = begin().await;
    house.clock.advance(Duration::from_secs(3599));
    house.core.expire().await;
    house.core.confirm_rekey(&shares, origin().id).await.unwrap();

    let shares = house.core.rekey(config, &shares, origin().id).await.unwrap();
    house.clock.advance(Duration::from_secs(3600));
    house.core.expire().await;
    assert!(house.core.lifecycle.lock().await.pending.is_none(), "its key is gone from memory");
    let refused = house.core.confirm_rekey(&shares, origin().id).await.err().unwrap();
    assert!(matches!(refused, Error::NoSuch(_)), "{refused}");
}

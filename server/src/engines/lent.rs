//! An engine of the tests: what it issues exists in a world outside, which can be away, refuse, or be slow. A mount says in its
//! settings which world is its own.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::BufMut;
use prost::{EncodeError, Message};
use strongroom_proto::{Reason, v1};
use tokio::sync::Semaphore;

use super::{
    Due, Engine, EngineError, EngineKind, Fields, Granted, Make, Output, Parts, Reply, Service, Settings,
    Terms, own,
};
use crate::{
    barrier::BarrierError,
    model::{Invalid, Path, RequestId, SecretBytes, Timestamp, Verb},
    permit::Permit,
};

pub const KIND: EngineKind = EngineKind {
    name: "lent",
    description: "Of the tests.",
    service: Service { name: "strongroom.v1.Lent", rpcs: &[] },
    check: |_| Ok(()),
    build,
};

static WORLDS: LazyLock<Mutex<HashMap<String, Arc<World>>>> = LazyLock::new(Mutex::default);

/// What there is outside.
pub struct World {
    /// What was made, and until when it lives.
    things: Mutex<BTreeMap<String, Timestamp>>,
    /// The name of what cannot be unmade.
    cursed: Mutex<Option<String>>,
    away: AtomicBool,
    unmade: AtomicUsize,
    /// Each making and renewing takes one.
    turns: Semaphore,
    /// What is to be done without anybody asking, and since when.
    duties: Mutex<BTreeMap<String, Timestamp>>,
}

/// Issues something of that name.
pub struct Lend {
    pub name: &'static str,
    pub ttl: Duration,
    pub max: Duration,
}

struct Lent(Arc<World>);

struct Making {
    world: Arc<World>,
    name: &'static str,
}

struct Made(v1::Lease);

impl World {
    pub fn named(name: &str) -> Arc<Self> {
        let mut worlds = WORLDS.lock().unwrap();
        Arc::clone(worlds.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Self {
                things: Mutex::default(),
                cursed: Mutex::default(),
                away: AtomicBool::new(false),
                unmade: AtomicUsize::new(0),
                turns: Semaphore::new(Semaphore::MAX_PERMITS),
                duties: Mutex::default(),
            })
        }))
    }

    pub fn things(&self) -> Vec<String> {
        self.things.lock().unwrap().keys().cloned().collect()
    }

    pub fn until(&self, name: &str) -> Option<Timestamp> {
        self.things.lock().unwrap().get(name).copied()
    }

    pub fn be_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub fn curse(&self, name: Option<&str>) {
        *self.cursed.lock().unwrap() = name.map(str::to_owned);
    }

    /// How often something was to be unmade.
    pub fn unmakings(&self) -> usize {
        self.unmade.load(Ordering::SeqCst)
    }

    /// Nothing is made from here on until it may.
    pub fn hold(&self) {
        self.turns.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub fn let_go(&self) {
        self.turns.add_permits(1);
    }

    /// From then on there is something to do.
    pub fn owe(&self, name: &str, since: Timestamp) {
        self.duties.lock().unwrap().insert(name.to_owned(), since);
    }

    pub fn owed(&self) -> usize {
        self.duties.lock().unwrap().len()
    }

    fn reach(&self) -> Result<(), EngineError> {
        let sentence = "the world is away".to_owned();
        let away = EngineError::Own { reason: Reason::Internal, sentence, details: Vec::new() };
        if self.away.load(Ordering::SeqCst) { Err(away) } else { Ok(()) }
    }
}

fn build(parts: Parts) -> Result<Box<dyn Engine>, Invalid> {
    let name = parts.settings.get("world").ok_or_else(|| Invalid::new("settings", "has no world"))?;
    Ok(Box::new(Lent(World::named(name))))
}

pub fn settings(world: &str) -> Settings {
    [("world".to_owned(), world.to_owned())].into()
}

impl super::Operation for Lend {
    fn verbs(&self) -> &'static [Verb] {
        &[Verb::Use]
    }

    fn is_write(&self) -> bool {
        true
    }
}

#[async_trait]
impl Engine for Lent {
    async fn run(&self, _: Permit, operation: Box<dyn super::Operation>) -> Result<Output, EngineError> {
        let Lend { name, ttl, max } = own(operation)?;
        let data = SecretBytes::from(name.as_bytes());
        let making = Making { world: Arc::clone(&self.0), name };
        Ok(Output::lease(Terms { ttl, max, data, what: name.into() }, making))
    }

    fn issues(&self, ttl: Option<u64>) -> Option<Box<dyn super::Operation>> {
        let ttl = Duration::from_secs(ttl.unwrap_or(600));
        Some(Box::new(Lend { name: "thing", ttl, max: ttl * 2 }))
    }

    async fn renew(&self, data: &SecretBytes, until: Timestamp) -> Result<(), EngineError> {
        let name = data.expose_str().unwrap();
        self.0.reach()?;
        self.0.things.lock().unwrap().insert(name.to_owned(), until);
        Ok(())
    }

    async fn revoke(&self, data: &SecretBytes) -> Result<(), EngineError> {
        let name = data.expose_str().unwrap();
        self.0.unmade.fetch_add(1, Ordering::SeqCst);
        self.0.reach()?;
        if self.0.cursed.lock().unwrap().as_deref() == Some(name) {
            let sentence = "it owns something".to_owned();
            return Err(EngineError::Own { reason: Reason::Internal, sentence, details: Vec::new() });
        }
        self.0.things.lock().unwrap().remove(name);
        Ok(())
    }

    async fn overdue(&self, now: Timestamp) -> Result<Vec<Due>, BarrierError> {
        let duties = self.0.duties.lock().unwrap();
        let due = duties.iter().filter(|(_, since)| **since <= now);
        Ok(due.map(|(name, _)| Due { name: name.as_str().into(), what: format!("duty {name}") }).collect())
    }

    async fn attend(&self, path: &Path, _: RequestId, _: Timestamp) -> Result<(), EngineError> {
        self.0.unmade.fetch_add(1, Ordering::SeqCst);
        self.0.reach()?;
        self.0.duties.lock().unwrap().remove(path.within_mount());
        Ok(())
    }

    async fn erase(&self) -> Result<(), BarrierError> {
        Ok(())
    }
}

#[async_trait]
impl Make for Making {
    /// A thing called `half` is made, but it fails all the same; one called `panic` panics half-way.
    async fn make(self: Box<Self>, granted: &Granted) -> Result<Box<dyn Reply>, EngineError> {
        self.world.turns.acquire().await.unwrap().forget();
        self.world.reach()?;
        self.world.things.lock().unwrap().insert(self.name.to_owned(), granted.expires);
        assert_ne!(self.name, "panic", "as the test wants it");
        if self.name == "half" {
            return Err(EngineError::NotFound);
        }
        Ok(Box::new(Made(v1::Lease::from(granted))))
    }
}

impl Reply for Made {
    fn write(self: Box<Self>, mut into: &mut dyn BufMut) -> Result<(), EncodeError> {
        self.0.encode(&mut into)
    }

    fn fields(self: Box<Self>) -> Option<Fields> {
        Some(Fields { values: vec![("lease", SecretBytes::from(self.0.id.as_bytes()))], ends: None })
    }
}

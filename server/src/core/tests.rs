//! A core over real parts (only the store is in memory), for the tests of core and admission.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    context::Origin,
    state::{Core, Options},
    unauthenticated::init,
};
use crate::{
    audit::{self, Broker},
    auth::{Methods, Surroundings},
    clock::{Clock, ManualClock},
    config,
    crypto::{Entropy, SystemEntropy},
    model::{RequestId, SecretBytes, Timestamp},
    seal::{FileSeal, SealConfig},
    storage::{Store, memory::MemoryStore},
    telemetry::Metrics,
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

pub(crate) struct House {
    pub(crate) core: Arc<Core>,
    pub(crate) metrics: Arc<Metrics>,
    clock: Arc<ManualClock>,
    home: TempDir,
}

impl House {
    /// With an empty store.
    pub(crate) async fn empty() -> Self {
        let home = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let metrics = Arc::new(Metrics::new().unwrap());
        let now: Arc<dyn Clock> = clock.clone();
        let audit = Broker::open(&audit::Config::new(home.path().join("audit")), Arc::clone(&now), vec![]);
        let config = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n";
        let config = config::parse(config, &config::Overrides::default()).unwrap();
        let methods =
            Methods::connect(&Surroundings { config: &config, clock: &now, metrics: &metrics }).unwrap();
        let options =
            Options { key_file: Some(FileSeal::new(home.path().join("key"))), accept_rollback: false };
        let (entropy, kept): (Arc<dyn Entropy>, Arc<dyn Store>) =
            (Arc::new(SystemEntropy), Arc::new(MemoryStore::new()));
        let counts = Arc::clone(&metrics);
        let core = Core::start(kept, audit.unwrap(), now, entropy, counts, methods, options).await.unwrap();
        Self { core, metrics, clock, home }
    }

    /// With its keys, and the root token.
    pub(crate) async fn open() -> (Self, SecretBytes) {
        let house = Self::empty().await;
        let made = init(&house.core, origin(), Ok(SealConfig::File)).await.unwrap();
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
        let text: String = segments.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut lines: Vec<_> = lines.filter(|line| line["operation"] == operation).collect();
        lines.sort_unstable_by_key(|line| line["seq"].as_u64());
        lines
    }
}

fn origin() -> Origin {
    Origin { id: RequestId([7; 16]), name: "Test.Request", peer: None }
}

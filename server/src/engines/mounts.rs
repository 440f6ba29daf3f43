//! The mount table: the first segment of a path picks the engine. A fresh store has `secret/`, a kv.

use std::{collections::HashMap, sync::Arc};

use strongroom_proto::SecretBytes;

use super::{Engine, KINDS, Parts};
use crate::{
    barrier::{Address, Barrier, BarrierError, Changes, Kind},
    clock::Clock,
    crypto::Entropy,
    storage::Condition,
};

/// A mount.
const MOUNT: Kind = Kind::new(64, "Mount");

/// Name of the mount a store is born with.
const FIRST_MOUNT: &str = "secret";
/// Its kind.
const FIRST_KIND: &str = "kv";
/// Most mounts; the table is read as one page.
const MAX_MOUNTS: usize = 1000;

/// Engines by mount; built at unseal.
pub struct Mounts(HashMap<Box<str>, Box<dyn Engine>>);

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
        let table = barrier.view("sys/mounts");
        let mut found = table.scan(MOUNT, "", None, MAX_MOUNTS).await?;
        if found.is_empty() {
            let address = Address { kind: MOUNT, folder: "".into(), name: FIRST_MOUNT.into(), part: 0 };
            let changes = Changes {
                conditions: vec![(address.clone(), Condition::Absent)],
                puts: vec![(address, SecretBytes::from(FIRST_KIND.as_bytes()))],
                ..Changes::default()
            };
            table.commit(changes).await?;
            found = table.scan(MOUNT, "", None, MAX_MOUNTS).await?;
        }
        let mut engines = HashMap::new();
        for mount in found {
            let kind = KINDS.iter().find(|kind| kind.name.as_bytes() == mount.entry.content.expose());
            let Some(kind) = kind else {
                return Err(BarrierError::Corrupt { kind: MOUNT, namespace: mount.name.into() });
            };
            let view = barrier.view(&format!("mount/{}", mount.name));
            let parts = Parts { view, clock: Arc::clone(clock), entropy: Arc::clone(entropy) };
            engines.insert(mount.name, (kind.build)(parts));
        }
        Ok(Self(engines))
    }

    /// The engine mounted there.
    pub fn engine(&self, mount: &str) -> Option<&dyn Engine> {
        self.0.get(mount).map(|engine| &**engine)
    }
}

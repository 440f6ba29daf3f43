//! The keys of a mount in its part of the store: one record each, read for each request and changed on condition that nobody
//! else has changed it since.

use super::{Error, key::TransitKey};
use crate::{
    barrier::{Address, BarrierError, Changes, RecordKind, View},
    engines::names,
    model::{Invalid, Path, RequestId, SecretBytes, Timestamp},
    storage::Condition,
};

/// A key with all its versions.
const KEY: RecordKind = RecordKind::new(20, "TransitKey");
/// How often a change that lost to another one is made again before its caller hears of it.
const ATTEMPTS: usize = 16;

#[derive(Clone)]
pub(super) struct Keys(View);

impl Keys {
    pub(super) fn new(view: View) -> Self {
        Self(view)
    }

    pub(super) async fn get(&self, path: &Path) -> Result<TransitKey, Error> {
        let found = self.0.get(&address(path)?).await?.ok_or(Error::NotFound)?;
        Ok(decode(&found.content)?)
    }

    /// Makes of a key what `change` says, for the request `by`; none is a key that is not there. Returns what it made.
    pub(super) async fn change(
        &self,
        path: &Path,
        by: RequestId,
        change: impl Fn(Option<TransitKey>) -> Result<Option<TransitKey>, Error>,
    ) -> Result<Option<TransitKey>, Error> {
        let address = address(path)?;
        for _ in 0..ATTEMPTS {
            let found = self.0.get(&address).await?;
            let condition = found.as_ref().map_or(Condition::Absent, |found| Condition::At(found.revision));
            let made = change(found.map(|found| decode(&found.content)).transpose()?)?;
            let mut changes = Changes { by: Some(by), ..Changes::default() };
            changes.conditions.push((address.clone(), condition));
            match &made {
                Some(key) => changes.puts.push((address.clone(), key.encode())),
                None => {
                    changes.deletes.push(address.clone());
                    changes.urgent = true;
                }
            }
            match self.0.commit(changes).await {
                Err(BarrierError::Conflict) => tokio::task::yield_now().await,
                other => return Ok(other.map(|_| made)?),
            }
        }
        Err(BarrierError::Conflict.into())
    }

    /// The names within the mount of the keys that are to have another version by now.
    pub(super) async fn overdue(&self, now: Timestamp) -> Result<Vec<Box<str>>, BarrierError> {
        let mut due = Vec::new();
        names::each(&self.0, KEY, |found| {
            if decode(&found.entry.content)?.is_due(now) {
                due.push(found.name);
            }
            Ok(())
        })
        .await?;
        Ok(due)
    }

    /// One page of the keys below `folder` that the caller may see.
    pub(super) async fn page(
        &self,
        folder: &Path,
        after: Option<&str>,
        sees: impl Fn(&Path) -> bool,
    ) -> Result<(Vec<Path>, Option<String>), Error> {
        Ok(names::page(&self.0, KEY, folder, after, sees).await?)
    }

    pub(super) async fn erase(&self) -> Result<(), BarrierError> {
        self.0.erase(KEY, "").await
    }
}

fn decode(content: &SecretBytes) -> Result<TransitKey, BarrierError> {
    let corrupt = || BarrierError::Corrupt { kind: KEY, namespace: "transit".to_owned() };
    TransitKey::decode(content).ok_or_else(corrupt)
}

fn address(path: &Path) -> Result<Address, Invalid> {
    names::address(KEY, path, "key")
}

//! Tests of kv as a whole, over a real barrier and a store in memory.

mod elsewhere;
mod lists;
mod model;
mod quotas;
mod races;
mod semantics;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use futures_util::StreamExt;
use tokio_util::task::TaskTracker;

use super::{Error, KIND, KvSettings, Operation, Output, Request, SECRET, SecretMetadata, Shelf, Sight};
use crate::{
    barrier::{BarrierError, View},
    engines::{EngineError, EngineKind, conformance},
    model::{KeyName, Path, RequestId, SecretBytes, Timestamp},
    storage::{Batch, Page, Record, Revision, Store, StoreError, memory::MemoryStore},
};

/// A store that counts reads.
#[derive(Default)]
pub(super) struct Counting {
    inner: MemoryStore,
    gets: AtomicUsize,
}

#[async_trait]
impl Store for Counting {
    async fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.inner.get(key).await
    }

    async fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Page, StoreError> {
        self.inner.scan(prefix, after, limit).await
    }

    async fn commit(&self, batch: Batch) -> Result<Revision, StoreError> {
        self.inner.commit(batch).await
    }

    fn kind(&self) -> &'static str {
        "counting"
    }
}

async fn shelf_on(store: Arc<dyn Store>) -> Arc<Shelf> {
    Arc::new(on(conformance::barrier(store).await.view("kv")))
}

fn on(view: View) -> Shelf {
    Shelf::new(view, TaskTracker::new(), KvSettings::default())
}

async fn shelf() -> Arc<Shelf> {
    shelf_on(Arc::new(MemoryStore::new())).await
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn data(pairs: &[(&str, &[u8])]) -> BTreeMap<KeyName, SecretBytes> {
    pairs.iter().map(|(key, value)| (KeyName::parse(key).unwrap(), SecretBytes::from(*value))).collect()
}

fn put(value: &[u8], expected_version: Option<u64>) -> Operation {
    Operation::Put { data: data(&[("k", value)]), expected_version, ttl: None, operation_id: None }
}

const NOW: i64 = 1_000_000;

fn request(at: &str) -> Request {
    Request {
        id: RequestId([1; 16]),
        path: path(at),
        now: Timestamp::from_millis(NOW),
        actor: "root".into(),
        may_create: true,
        may_update: true,
        may_read: true,
    }
}

async fn write(shelf: &Arc<Shelf>, at: &str, operation: Operation) -> Result<Output, Error> {
    Arc::clone(shelf).write(request(at), operation).await
}

async fn written(shelf: &Arc<Shelf>, at: &str, operation: Operation) -> Result<u64, Error> {
    match write(shelf, at, operation).await? {
        Output::Written { version, .. } => Ok(version),
        _ => panic!("not a write"),
    }
}

async fn read(shelf: &Shelf, at: &str, version: Option<u64>) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    match shelf.get(&path(at), version, Timestamp::from_millis(NOW)).await? {
        Output::Secret { data, .. } => {
            Ok(data.iter().map(|(key, value)| (key.as_str().to_owned(), value.expose().to_vec())).collect())
        }
        _ => panic!("not a secret"),
    }
}

async fn value(shelf: &Shelf, at: &str, version: Option<u64>) -> Result<Vec<u8>, Error> {
    Ok(read(shelf, at, version).await?.remove("k").unwrap())
}

async fn metadata(shelf: &Shelf, at: &str) -> Result<SecretMetadata, Error> {
    match shelf.metadata(&path(at)).await? {
        Output::Metadata(metadata) => Ok(metadata),
        _ => panic!("not metadata"),
    }
}

async fn destroy_all(shelf: &Arc<Shelf>, at: &str) -> Result<(), Error> {
    write(shelf, at, Operation::Destroy { versions: Vec::new(), all: true }).await.map(|_| ())
}

/// Sees what a function of the path's text says.
#[derive(Clone, Copy)]
struct Sees(fn(&str) -> bool);

const ALL: Sees = Sees(|_| true);

impl Sight for Sees {
    fn sees_leaf(&self, path: &Path) -> bool {
        self.0(path.as_str())
    }

    fn sees_folder(&self, path: &Path) -> bool {
        self.0(path.as_str())
    }

    fn may_read(&self, path: &Path) -> bool {
        self.0(path.as_str())
    }

    fn may_list(&self, path: &Path) -> bool {
        self.0(path.as_str())
    }
}

async fn page(
    shelf: &Shelf,
    at: &str,
    size: u32,
    token: Option<&str>,
    sees: Sees,
) -> (Vec<String>, Option<String>) {
    match shelf.list(&path(at), size, token, &sees).await.unwrap() {
        Output::Page { names, next } => (names.into_iter().map(String::from).collect(), next),
        _ => panic!("not a page"),
    }
}

async fn names(shelf: &Shelf, at: &str) -> Vec<String> {
    page(shelf, at, 1000, None, ALL).await.0
}

async fn walked(shelf: &Arc<Shelf>, at: &str, sees: Sees) -> Vec<String> {
    let pages: Vec<_> = Arc::clone(shelf).walk(path(at), Box::new(sees)).collect().await;
    pages.into_iter().flat_map(|page| page.unwrap()).map(|path| path.as_str().to_owned()).collect()
}

#[derive(Clone)]
struct Mounted(Arc<Shelf>);

impl conformance::Subject for Mounted {
    const KIND: EngineKind = KIND;

    fn build(view: View) -> Self {
        Self(Arc::new(on(view)))
    }

    async fn write(&self, path: &Path, value: &str) -> Result<(), EngineError> {
        Ok(write(&self.0, path.as_str(), put(value.as_bytes(), None)).await.map(|_| ())?)
    }

    async fn erase(&self) -> Result<(), BarrierError> {
        self.0.erase().await
    }

    async fn read(&self, path: &Path) -> Result<String, EngineError> {
        Ok(String::from_utf8(value(&self.0, path.as_str(), None).await?).unwrap())
    }
}

#[tokio::test]
async fn kv_keeps_what_every_engine_promises() {
    conformance::check::<Mounted>().await;
}

//! Pods and service accounts, and what happened to them.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

/// A pod with the account it runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The name of its account.
    pub account: String,
    /// The uid of its account.
    pub account_uid: String,
    pub node: String,
}

/// Everything there is.
#[derive(Default)]
pub(super) struct Objects {
    /// Grows with each change.
    version: u64,
    /// By resource: [`PODS`], [`ACCOUNTS`].
    collections: BTreeMap<&'static str, Collection>,
}

/// All objects of one resource, and what happened to them.
#[derive(Default)]
struct Collection {
    /// By namespace and name.
    alive: BTreeMap<(String, String), Object>,
    events: VecDeque<(u64, Value)>,
    /// Events up to here are forgotten.
    forgotten: u64,
}

#[derive(Clone)]
struct Object {
    namespace: String,
    name: String,
    uid: String,
    version: u64,
}

/// As in URLs.
pub(super) const PODS: &str = "pods";
pub(super) const ACCOUNTS: &str = "serviceaccounts";

impl Objects {
    pub(super) fn create_pod(&mut self, namespace: &str, account: &str, name: &str) -> Pod {
        let account_uid = self.uid_of(ACCOUNTS, namespace, account);
        let account_uid = account_uid.unwrap_or_else(|| self.create(ACCOUNTS, namespace, account));
        let uid = self.create(PODS, namespace, name);
        Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid,
            account: account.to_owned(),
            account_uid,
            node: "node-1".to_owned(),
        }
    }

    pub(super) fn delete_pod(&mut self, pod: &Pod) {
        self.delete(PODS, &pod.namespace, &pod.name);
    }

    pub(super) fn delete_account(&mut self, pod: &Pod) {
        self.delete(ACCOUNTS, &pod.namespace, &pod.account);
    }

    pub(super) fn uid_of(&self, resource: &str, namespace: &str, name: &str) -> Option<String> {
        let alive = &self.collections.get(resource)?.alive;
        alive.get(&(namespace.to_owned(), name.to_owned())).map(|object| object.uid.clone())
    }

    pub(super) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let alive = &self.collections.get(resource)?.alive;
        alive.get(&(namespace.to_owned(), name.to_owned())).map(Object::metadata)
    }

    /// A page of all; `after` is the place the last one ended at.
    pub(super) fn list(&self, resource: &str, limit: usize, after: usize) -> Value {
        let alive = self
            .collections
            .get(resource)
            .map(|found| found.alive.values().collect::<Vec<_>>())
            .unwrap_or_default();
        let items: Vec<Value> =
            alive.iter().skip(after).take(limit).map(|object| object.metadata()).collect();
        let more =
            if after + items.len() < alive.len() { (after + items.len()).to_string() } else { String::new() };
        json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": { "resourceVersion": self.version.to_string(), "continue": more },
            "items": items,
        })
    }

    /// What happened after `version`, and where that leads; `None` if it is forgotten.
    pub(super) fn events(&self, resource: &str, version: u64) -> Option<(Vec<Value>, u64)> {
        let Some(collection) = self.collections.get(resource) else {
            return Some((Vec::new(), self.version));
        };
        if version < collection.forgotten {
            return None;
        }
        let news = collection.events.iter().filter(|(at, _)| *at > version).map(|(_, event)| event.clone());
        Some((news.collect(), self.version))
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn compact(&mut self) {
        self.version += 1;
        for collection in self.collections.values_mut() {
            collection.events.clear();
            collection.forgotten = self.version;
        }
    }

    fn create(&mut self, resource: &'static str, namespace: &str, name: &str) -> String {
        self.version += 1;
        let uid = uid(self.version);
        let object = Object {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.clone(),
            version: self.version,
        };
        let collection = self.collections.entry(resource).or_default();
        collection.events.push_back((self.version, json!({ "type": "ADDED", "object": object.metadata() })));
        collection.alive.insert((namespace.to_owned(), name.to_owned()), object);
        uid
    }

    fn delete(&mut self, resource: &'static str, namespace: &str, name: &str) {
        self.version += 1;
        let version = self.version;
        let collection = self.collections.entry(resource).or_default();
        if let Some(object) = collection.alive.remove(&(namespace.to_owned(), name.to_owned())) {
            let object = Object { version, ..object };
            collection.events.push_back((version, json!({ "type": "DELETED", "object": object.metadata() })));
        }
    }
}

impl Object {
    fn metadata(&self) -> Value {
        json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "uid": self.uid,
                "resourceVersion": self.version.to_string(),
                "labels": { "app": self.name },
            },
        })
    }
}

/// Unlike any other, in every fake of this process.
fn uid(version: u64) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{:08x}-0000-4000-8000-{count:012x}", version & 0xffff_ffff)
}

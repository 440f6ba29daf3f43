//! Watching: hints that something changed, told within this process after each commit. Never values.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{
    Change, ChangeKind, Current, SecretAddress, Shelf, Sight, Stream, VersionMetadata,
    read::{Stored, readable},
};
use crate::{
    model::{Path, Timestamp},
    permit::Permit,
};

/// Changes a slow watcher may lag behind before it is told to read everything again.
const CAPACITY: usize = 4096;

/// Where changes are told.
pub(super) struct Hub(broadcast::Sender<Change>);

impl Hub {
    pub(super) fn new() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }

    /// Tells everyone. Two changes of one path may arrive in either order, which is why they are only hints.
    pub(super) fn publish(&self, kind: ChangeKind, path: &Path, version: u64) {
        // It is fine if nobody listens.
        let _ = self.0.send(Change { path: Some(path.clone()), version, ..Change::of(kind) });
    }

    /// Tells everyone to read again: something changed, and nobody here knows what.
    pub(super) fn resync(&self) {
        let _ = self.0.send(Change::of(ChangeKind::Resync));
    }

    /// Changes from now on of `paths` and what lies below them, as far as `sight` may read it.
    pub(super) fn watch(&self, paths: Vec<Path>, sight: Box<dyn Sight>) -> Watcher {
        Watcher { receiver: self.0.subscribe(), paths, sight }
    }
}

impl Shelf {
    /// What there is now, and changes from now on.
    pub(super) fn watch(self: &Arc<Self>, permit: Permit) -> Stream<Change> {
        let (shelf, paths, now) = (Arc::clone(self), permit.paths().to_vec(), permit.at());
        // Listening begins here, before anything is read, so that nothing falls in between.
        let watcher = self.hub.watch(paths.clone(), Box::new(permit));
        let started = async move {
            let current = shelf.current(&paths, now).await;
            Ok(Change { current, ..Change::of(ChangeKind::Started) })
        };
        let changes =
            stream::unfold(watcher, |mut watcher| async move { Some((Ok(watcher.next().await?), watcher)) });
        Box::pin(stream::once(started).chain(changes))
    }

    /// The latest versions of those of `paths` that are secrets. What cannot be read is left out: whoever wants it reads it,
    /// and is told why not.
    async fn current(&self, paths: &[Path], now: Timestamp) -> Vec<Current> {
        let mut current = Vec::new();
        for path in paths {
            let Ok(place) = SecretAddress::of(path) else { continue };
            let Ok(Some(Stored { secret, .. })) = self.stored(path, &place).await else { continue };
            if let Ok(row) = readable(&secret, secret.current, now) {
                let VersionMetadata { version, created_at, .. } = row.metadata();
                current.push(Current { path: path.clone(), version, created_at });
            }
        }
        current
    }
}

/// Who listens.
pub(super) struct Watcher {
    receiver: broadcast::Receiver<Change>,
    paths: Vec<Path>,
    sight: Box<dyn Sight>,
}

impl Watcher {
    pub(super) async fn next(&mut self) -> Option<Change> {
        loop {
            match self.receiver.recv().await {
                Ok(change) if self.concerns(&change) => return Some(change),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => {
                    return Some(Change::of(ChangeKind::Resync));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn concerns(&self, change: &Change) -> bool {
        change.path.as_ref().is_none_or(|path| {
            self.paths.iter().any(|watched| path.is_within(watched)) && self.sight.may_read(path)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct OnlyA;

    impl Sight for OnlyA {
        fn may_list(&self, _: &Path) -> bool {
            true
        }
        fn sees_leaf(&self, _: &Path) -> bool {
            false
        }
        fn sees_folder(&self, _: &Path) -> bool {
            false
        }
        fn may_read(&self, path: &Path) -> bool {
            path.as_str().ends_with('a')
        }
    }

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_watch_tells_what_may_be_read() {
        let hub = Hub::new();
        let mut watch = hub.watch(vec![path("s/x")], Box::new(OnlyA));
        hub.publish(ChangeKind::Written, &path("s/x/b"), 1);
        hub.publish(ChangeKind::Written, &path("s/y/a"), 1);
        hub.publish(ChangeKind::Deleted, &path("s/x/a"), 2);
        let change = watch.next().await.unwrap();
        assert_eq!((change.kind, change.path, change.version), (ChangeKind::Deleted, Some(path("s/x/a")), 2));
        drop(hub);
        assert!(watch.next().await.is_none());
    }

    #[tokio::test]
    async fn who_lags_is_told_to_read_again() {
        let hub = Hub::new();
        let mut watch = hub.watch(vec![path("s")], Box::new(OnlyA));
        for version in 0..=CAPACITY as u64 {
            hub.publish(ChangeKind::Written, &path("s/a"), version);
        }
        assert_eq!(watch.next().await.unwrap().kind, ChangeKind::Resync);
        assert_eq!(watch.next().await.unwrap().kind, ChangeKind::Written);
    }
}

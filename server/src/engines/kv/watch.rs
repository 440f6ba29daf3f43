//! Watching: hints that something changed, told within this process after each commit. Never values.

use futures_util::stream;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Change, ChangeKind, Sight, Stream};
use crate::model::Path;

/// Changes a slow watcher may lag behind before it is told to read everything again.
const CAPACITY: usize = 4096;

const RESYNC: Change = Change { kind: ChangeKind::Resync, path: None, version: 0 };

/// Where changes are told.
pub(super) struct Hub(broadcast::Sender<Change>);

impl Hub {
    pub(super) fn new() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }

    /// Tells everyone. Two changes of one path may arrive in either order, which is why they are only hints.
    pub(super) fn publish(&self, kind: ChangeKind, path: &Path, version: u64) {
        // Nobody listening is no failure.
        let _ = self.0.send(Change { kind, path: Some(path.clone()), version });
    }

    /// Tells everyone to read again: something changed, and nobody here knows what.
    pub(super) fn resync(&self) {
        let _ = self.0.send(RESYNC);
    }

    /// Changes from now on of `paths` and what lies below them, as far as `sight` may read it. A mere snapshot of what
    /// may be seen: whoever asked ends the stream when that changes.
    pub(super) fn watch(&self, paths: Vec<Path>, sight: Box<dyn Sight>) -> Stream<Change> {
        let started = Change { kind: ChangeKind::Started, path: None, version: 0 };
        // Listening begins here, before Started is told, so that nothing falls in between.
        let state = Watcher { started: Some(started), receiver: self.0.subscribe(), paths, sight };
        Box::pin(stream::unfold(state, |mut state| async move { Some((Ok(state.next().await?), state)) }))
    }
}

struct Watcher {
    started: Option<Change>,
    receiver: broadcast::Receiver<Change>,
    paths: Vec<Path>,
    sight: Box<dyn Sight>,
}

impl Watcher {
    async fn next(&mut self) -> Option<Change> {
        if let Some(started) = self.started.take() {
            return Some(started);
        }
        loop {
            match self.receiver.recv().await {
                Ok(change) if self.concerns(&change) => return Some(change),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => {
                    return Some(RESYNC);
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
    use futures_util::StreamExt;

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
    async fn a_watch_starts_then_tells_what_may_be_read() {
        let hub = Hub::new();
        let mut watch = hub.watch(vec![path("s/x")], Box::new(OnlyA));
        hub.publish(ChangeKind::Written, &path("s/x/b"), 1);
        hub.publish(ChangeKind::Written, &path("s/y/a"), 1);
        hub.publish(ChangeKind::Deleted, &path("s/x/a"), 2);
        assert_eq!(watch.next().await.unwrap().unwrap().kind, ChangeKind::Started);
        let change = watch.next().await.unwrap().unwrap();
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
        assert_eq!(watch.next().await.unwrap().unwrap().kind, ChangeKind::Started);
        assert_eq!(watch.next().await.unwrap().unwrap().kind, ChangeKind::Resync);
        assert_eq!(watch.next().await.unwrap().unwrap().kind, ChangeKind::Written);
    }
}

//! What a kill and a power cut leave: of what was written since the last sync all, nothing, a beginning, or any sectors.
//! That is no damage, and must be opened.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use super::*;
use crate::storage::sled::Hooks;

/// What a disk writes at once or not at all.
const SECTOR: usize = 512;

/// The log after a sync and before the next one.
struct Crash {
    clean: Vec<u8>,
    dirty: Vec<u8>,
}

impl Crash {
    /// What is on the disk if that part of the changes, in order, reached it.
    fn left(&self, mut reached: impl FnMut(usize, usize) -> bool) -> Vec<u8> {
        let mut log = self.clean.clone();
        log.resize(self.dirty.len().max(self.clean.len()), 0);
        let sectors = (0..self.dirty.len()).step_by(SECTOR);
        let changed: Vec<usize> = sectors
            .filter(|at| {
                let end = (at + SECTOR).min(self.dirty.len());
                log[*at..end] != self.dirty[*at..end]
            })
            .collect();
        for (number, at) in changed.iter().enumerate() {
            if reached(number, changed.len()) {
                let end = (at + SECTOR).min(self.dirty.len());
                log[*at..end].copy_from_slice(&self.dirty[*at..end]);
            }
        }
        log
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_leaves_is_opened() {
    let root = TempDir::new().unwrap();
    let directory = root.path().join("data");
    drop(fill(&SledStore::open(options(&directory)).unwrap(), 0, 40).await);
    let (armed, caught) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let (is_armed, keep, log) = (Arc::clone(&armed), Arc::clone(&caught), directory.join("db"));
    let before_sync = Box::new(move || {
        if is_armed.swap(false, Ordering::SeqCst) {
            *keep.lock().unwrap() = fs::read(&log)?;
        }
        Ok(())
    });
    let store = SledStore::open_with(options(&directory), Hooks { before_sync, ..Hooks::default() }).unwrap();
    let mut dice = Dice(2);
    let mut now = contents(&store).await;
    for commit in 0..60 {
        let batch = large(commit);
        let before = now.clone();
        apply(&mut now, &batch);
        if commit % 6 != 5 && !(8..=12).contains(&commit) {
            store.commit(batch).await.unwrap();
            continue;
        }
        let image = root.path().join("image");
        copy(&directory, &image);
        let clean = fs::read(image.join("db")).unwrap();
        armed.store(true, Ordering::SeqCst);
        let acknowledged = store.last_revision();
        store.commit(batch).await.unwrap();
        let crash = Crash { clean, dirty: std::mem::take(&mut *caught.lock().unwrap()) };
        let share = dice.below(100);
        let some = |dice: &mut Dice| crash.left(|_, _| dice.below(100) < share);
        let images = [
            ("all", crash.left(|_, _| true)),
            ("a beginning", crash.left(|number, of| number * 100 < of * share)),
            ("an end", crash.left(|number, of| number * 100 >= of * share)),
            ("some sectors", some(&mut dice)),
        ];
        for (mood, content) in images {
            let tried = root.path().join("tried");
            copy(&image, &tried);
            fs::write(tried.join("db"), content).unwrap();
            let what = format!("commit {commit}, {mood} of {share} %");
            let store = SledStore::open(options(&tried)).unwrap_or_else(|error| panic!("{what}: {error}"));
            let revision = store.last_revision();
            assert!(revision == acknowledged || revision.0 == acknowledged.0 + 1, "{what}: at {revision:?}");
            let expected = if revision == acknowledged { &before } else { &now };
            assert!(contents(&store).await == *expected, "{what}: at {revision:?} it holds something else");
            drop(store);
            fs::remove_dir_all(tried).unwrap();
        }
        fs::remove_dir_all(image).unwrap();
    }
}

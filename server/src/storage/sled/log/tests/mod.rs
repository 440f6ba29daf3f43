//! Real stores, damaged (`damage`) and crashed (`torn`). What is damaged is refused with not a byte changed, or nothing is
//! missing, and what is left of it can be read; what a crash leaves is opened.

mod damage;
mod torn;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::*;
use crate::storage::{
    Batch, Revision, Store,
    sled::{OpenError, SledOptions, SledStore},
};

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// The same numbers at each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

fn options(directory: &Path) -> SledOptions {
    SledOptions {
        directory: directory.to_owned(),
        cache_bytes: 16 << 20,
        allow_unsafe_filesystem: false,
        reserve_bytes: 0,
        at_least: Revision(0),
        copied: Vec::new(),
    }
}

/// A value says whose it is, as a sealed one does.
fn value(key: &[u8], number: u64) -> Vec<u8> {
    [key, b"=", number.to_string().as_bytes(), &vec![b'.'; 200 + 37 * (number as usize % 50)]].concat()
}

/// A commit that makes a log long: few keys, large values, and one that comes and goes.
fn large(commit: u64) -> Batch {
    let value = |key: &[u8], number: u64| {
        let mut value = value(key, number);
        value.resize(60 << 10, b'.');
        value
    };
    let mut batch = Batch::default();
    for number in 0..12 {
        let key = key(5000 + (commit * 12 + number) % 96);
        batch.puts.push((key.clone(), value(&key, commit)));
    }
    let coming = key(7000 + commit % 9);
    if commit.is_multiple_of(2) {
        batch.puts.push((coming.clone(), value(&coming, commit)));
    } else {
        batch.deletes.push(coming);
    }
    batch
}

fn apply(now: &mut Content, batch: &Batch) {
    now.extend(batch.puts.iter().cloned());
    for key in &batch.deletes {
        now.remove(key);
    }
}

fn fits(key: &[u8], value: &[u8]) -> bool {
    value.starts_with(&[key, b"="].concat())
}

fn key(number: u64) -> Vec<u8> {
    format!("{:02x}/a record with a long name/{number:04}", number * 37 % 256).into_bytes()
}

/// Commits, each of three records or deletions, and what is there after each.
async fn fill(store: &SledStore, from: u64, commits: u64) -> Vec<Content> {
    let mut now = contents(store).await;
    let mut states = Vec::new();
    for commit in from..from + commits {
        let mut batch = Batch::default();
        for number in [commit, commit + 1000, commit / 3 + 2000] {
            batch.puts.push((key(number), value(&key(number), commit)));
        }
        if commit % 4 == 3 {
            batch.deletes.push(key(commit - 2));
        }
        apply(&mut now, &batch);
        store.commit(batch).await.unwrap();
        states.push(now.clone());
    }
    states
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn contents(store: &SledStore) -> Content {
    let page = store.scan(b"", None, 100_000).await.unwrap();
    page.into_iter().map(|(key, record)| (key, record.value)).collect()
}

fn salvaged(directory: &Path) -> Content {
    let wreck = Wreck::open(directory, Revision(0)).unwrap();
    let remains = wreck.remains(fits).unwrap();
    let record = |(key, place): (&Vec<u8>, &Place)| (key.clone(), wreck.record(*place).unwrap().value);
    remains.records.iter().map(record).collect()
}

/// Every file of a folder, by name.
fn bytes(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

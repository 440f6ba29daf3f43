//! One test for each rule, which fails without it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
};

use tempfile::TempDir;

use super::*;
use crate::storage::conformance;

fn options(directory: &Path) -> SledOptions {
    let directory = directory.join("data");
    SledOptions {
        directory,
        cache_bytes: 16 << 20,
        allow_unsafe_filesystem: false,
        reserve_bytes: 1 << 20,
        at_least: Revision(0),
        copied: Vec::new(),
    }
}

fn open(directory: &TempDir) -> SledStore {
    SledStore::open(options(directory.path())).unwrap()
}

fn refusal(directory: &TempDir) -> String {
    SledStore::open(options(directory.path())).map(|_| ()).unwrap_err().to_string()
}

fn put(key: &[u8], value: &[u8]) -> Batch {
    Batch { puts: vec![(key.to_vec(), value.to_vec())], ..Batch::default() }
}

fn snapshot(data: &Path) -> PathBuf {
    let mut names = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    names.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("snap.")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract() {
    let directory = TempDir::new().unwrap();
    let next = AtomicU64::new(0);
    conformance::run(async || {
        let own = directory.path().join(next.fetch_add(1, Ordering::SeqCst).to_string());
        SledStore::open(options(&own)).unwrap()
    })
    .await;
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let directory = TempDir::new().unwrap();
    let mut expected = Vec::new();
    for round in 0..3_u8 {
        let store = open(&directory);
        assert_eq!(store.scan(b"", None, 1000).await.unwrap(), expected);
        assert_eq!(store.last_revision(), Revision(u64::from(round) * 50));
        for n in 0..50_u8 {
            store.commit(put(&[round, n], &[n; 300])).await.unwrap();
        }
        expected = store.scan(b"", None, 1000).await.unwrap();
    }
    assert_eq!(expected.len(), 150);
}

#[tokio::test]
async fn an_interrupted_first_start_starts_over_and_touches_nothing_else() {
    let directory = TempDir::new().unwrap();
    drop(open(&directory));
    let data = options(directory.path()).directory;
    for later in ["FORMAT", "MARK"] {
        fs::remove_file(data.join(later)).unwrap();
    }
    fs::write(data.join("notes"), "mine").unwrap();
    let store = open(&directory);
    assert_eq!(store.get(b"k").await.unwrap(), None);
    assert_eq!(store.last_revision(), Revision(0));
    assert_eq!(fs::read_to_string(data.join("notes")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(data.join("FORMAT")).unwrap(), "strongroom sled 1\n");
}

#[tokio::test]
async fn a_database_without_a_format_is_left_alone() {
    let directory = TempDir::new().unwrap();
    open(&directory).commit(put(b"k", b"v")).await.unwrap();
    let data = options(directory.path()).directory;
    let log = fs::read(data.join("db")).unwrap();
    fs::remove_file(data.join("FORMAT")).unwrap();
    assert!(refusal(&directory).contains("FORMAT is missing"));
    fs::remove_file(data.join("MARK")).unwrap();
    assert!(refusal(&directory).contains("FORMAT is missing"));
    assert!(fs::read(data.join("db")).unwrap() == log);
    fs::write(data.join("FORMAT"), "strongroom sled 2\n").unwrap();
    assert!(refusal(&directory).contains("use the version that made it"));
    fs::write(data.join("FORMAT"), "strongroom sled\n").unwrap();
    assert!(refusal(&directory).contains("FORMAT is damaged"));
}

#[tokio::test]
async fn an_unfinished_snapshot_is_removed() {
    let directory = TempDir::new().unwrap();
    open(&directory).commit(put(b"k", b"v")).await.unwrap();
    let unfinished = options(directory.path()).directory.join("snap.FFFFFFFFFFFFFFFF.generating");
    fs::write(&unfinished, "").unwrap();
    let store = open(&directory);
    let aside = unfinished.with_file_name("aside.snap.FFFFFFFFFFFFFFFF.generating");
    assert!(!unfinished.exists() && !aside.exists(), "removed, not taken for damage");
    assert_eq!(store.get(b"k").await.unwrap().unwrap().value, b"v");
}

#[tokio::test]
async fn a_damaged_snapshot_is_set_aside_and_nothing_lost() {
    let directory = TempDir::new().unwrap();
    open(&directory).commit(put(b"k", b"v")).await.unwrap();
    drop(open(&directory));
    let damaged = snapshot(&options(directory.path()).directory);
    fs::write(&damaged, [0x5a; 100]).unwrap();
    let store = open(&directory);
    assert_eq!(store.get(b"k").await.unwrap().unwrap().value, b"v");
    let aside = format!("aside.{}", damaged.file_name().unwrap().to_string_lossy());
    assert_eq!(fs::read(damaged.with_file_name(aside)).unwrap(), [0x5a; 100]);
}

#[test]
fn a_second_open_is_refused_with_the_directory_named() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let said = refusal(&directory);
    assert!(said.contains("in use") && said.contains(directory.path().to_str().unwrap()), "{said}");
    drop(store);
    open(&directory);
}

#[test]
fn wide_permissions_are_refused_with_the_command_that_mends_them() {
    let directory = TempDir::new().unwrap();
    drop(open(&directory));
    let data = options(directory.path()).directory;
    for (path, wide, mended) in [(data.clone(), 0o750, 0o700), (data.join("db"), 0o640, 0o600)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(wide)).unwrap();
        let said = refusal(&directory);
        assert!(said.contains(&format!("chmod {mended:o} {}", path.display())), "{said}");
        fs::set_permissions(&path, fs::Permissions::from_mode(mended)).unwrap();
    }
    drop(open(&directory));
    for entry in fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
    }
}

#[tokio::test]
async fn large_values_stay_in_the_log() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    for n in 0..100_u8 {
        store.commit(put(&[n], &[n; super::super::MAX_VALUE_BYTES])).await.unwrap();
    }
    store.check_blobs().unwrap();
    fs::write(options(directory.path()).directory.join("blobs/1"), "").unwrap();
    assert!(store.check_blobs().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_nothing_before_it_is_durable() {
    let directory = TempDir::new().unwrap();
    let (applied, reached) = mpsc::sync_channel(0);
    let (release, released) = mpsc::sync_channel::<()>(0);
    let (released, armed) = (Mutex::new(released), Arc::new(AtomicBool::new(false)));
    let arm = Arc::clone(&armed);
    let before_sync = Box::new(move || {
        if armed.load(Ordering::SeqCst) {
            applied.send(()).unwrap();
            released.lock().unwrap().recv().unwrap();
        }
        Ok(())
    });
    let hooks = Hooks { before_sync, ..Hooks::default() };
    let store = Arc::new(SledStore::open_with(options(directory.path()), hooks).unwrap());
    store
        .commit(Batch {
            puts: vec![(b"a".into(), b"1".into()), (b"b".into(), b"1".into())],
            ..Batch::default()
        })
        .await
        .unwrap();
    let old = store.scan(b"", None, 10).await.unwrap();

    arm.store(true, Ordering::SeqCst);
    let batch = Batch {
        puts: vec![(b"a".into(), b"2".into()), (b"c".into(), b"2".into())],
        deletes: vec![b"b".into()],
        ..Batch::default()
    };
    let committing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.commit(batch).await }
    });
    tokio::task::block_in_place(|| reached.recv().unwrap());
    assert!(store.shared.db.get(b"c").unwrap().is_some(), "the batch is applied, only not durable");
    assert_eq!(store.scan(b"", None, 10).await.unwrap(), old);
    assert_eq!(store.scan(b"", None, 1).await.unwrap(), old[..1]);
    assert_eq!(store.scan(b"", Some(b"a"), 1).await.unwrap(), old[1..]);
    assert_eq!(store.get(b"a").await.unwrap().unwrap().value, b"1");
    assert_eq!(store.get(b"b").await.unwrap().unwrap().value, b"1");
    assert_eq!(store.get(b"c").await.unwrap(), None);
    assert_eq!(store.last_revision(), Revision(1));
    release.send(()).unwrap();
    assert_eq!(committing.await.unwrap().unwrap(), Revision(2));
    assert_eq!(store.get(b"b").await.unwrap(), None);
    assert_eq!(store.get(b"c").await.unwrap().unwrap().value, b"2");
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_or_visible() {
    let directory = TempDir::new().unwrap();
    let (report, reports) = mpsc::channel();
    let hooks = Hooks {
        on_fatal: Box::new(move |reason| report.send(reason.to_owned()).unwrap()),
        before_sync: Box::new(|| Err(io::Error::other("the disk is gone"))),
        ..Hooks::default()
    };
    let store = SledStore::open_with(options(directory.path()), hooks).unwrap();
    assert!(matches!(store.commit(put(b"k", b"v")).await, Err(StoreError::Unknown(_))));
    assert!(reports.recv().unwrap().contains("the disk is gone"));
    assert_eq!(store.get(b"k").await.unwrap(), None);
    assert!(store.commit(put(b"k", b"v")).await.is_err());
    assert!(reports.try_recv().is_err(), "no retry");
}

#[tokio::test]
async fn a_nearly_full_disk_turns_read_only_and_back() {
    let directory = TempDir::new().unwrap();
    let free = Arc::new(AtomicU64::new(10 << 30));
    let said = Arc::clone(&free);
    let hooks =
        Hooks { space: Box::new(move |_| Ok((said.load(Ordering::SeqCst), 100 << 30))), ..Hooks::default() };
    let store = SledStore::open_with(options(directory.path()), hooks).unwrap();
    let ballast = options(directory.path()).directory.join("BALLAST");
    assert_eq!(fs::metadata(&ballast).unwrap().len(), 1 << 20);
    store.commit(put(b"k", b"v")).await.unwrap();
    let urgent = |key: &[u8]| Batch { urgent: true, ..put(key, b"") };
    for (left, goes_on) in [(200 << 20, true), (1 << 20, false)] {
        free.store(left, Ordering::SeqCst);
        assert!(matches!(store.commit(put(b"k", b"w")).await, Err(StoreError::ReadOnly(_))));
        assert_eq!(store.commit(urgent(b"revoked")).await.is_ok(), goes_on, "what takes rights away");
    }
    assert_eq!(store.get(b"k").await.unwrap().unwrap().value, b"v");
    free.store(10 << 30, Ordering::SeqCst);
    store.commit(put(b"k", b"w")).await.unwrap();
    drop(store);
    let hooks = Hooks { space: Box::new(|_| Ok((0, 100 << 30))), ..Hooks::default() };
    let store = SledStore::open_with(options(directory.path()), hooks).unwrap();
    assert!(!ballast.exists(), "a full disk opens with what the ballast gives back");
    assert_eq!(store.get(b"k").await.unwrap().unwrap().value, b"w");
}

#[test]
fn network_file_systems_are_refused_unless_allowed() {
    let path = Path::new("/data");
    for kind in [0x6969, 0xff53_4d42, 0x6573_5546, 0x0102_1997] {
        assert!(matches!(directory::durable(path, kind, false), Err(OpenError::Filesystem { .. })));
        directory::durable(path, kind, true).unwrap();
    }
    // ext4, overlayfs.
    directory::durable(path, 0xef53, false).unwrap();
    directory::durable(path, 0x794c_7630, false).unwrap();
}

#[test]
fn a_finished_store_that_lost_its_log_is_not_made_anew() {
    let directory = TempDir::new().unwrap();
    drop(open(&directory));
    let log = options(directory.path()).directory.join("db");
    fs::remove_file(&log).unwrap();
    assert!(refusal(&directory).contains("restore the latest backup"));
    assert!(!log.exists());
}

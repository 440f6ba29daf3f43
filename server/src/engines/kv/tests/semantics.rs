//! What each operation means.

use std::time::Duration;

use super::*;
use crate::{
    engines::kv::{ChangeKind, settings::Beginning},
    model::Verb,
};

#[tokio::test]
async fn data_of_every_size_comes_back_also_as_an_older_version() {
    let shelf = shelf().await;
    let sizes = [0, 1, 4080, 4090, 4096, 5000, 60_415, 60_417, 200_000, (1 << 20) - 1];
    for (index, size) in sizes.iter().enumerate() {
        let bytes = vec![index as u8; *size];
        assert_eq!(
            written(&shelf, "s/a/b", put(&bytes, Some(index as u64))).await.unwrap(),
            index as u64 + 1
        );
    }
    for (index, size) in sizes.iter().enumerate() {
        let bytes = value(&shelf, "s/a/b", Some(index as u64 + 1)).await.unwrap();
        assert!(bytes == vec![index as u8; *size], "{size}");
    }
    let metadata = metadata(&shelf, "s/a/b").await.unwrap();
    assert_eq!(metadata.versions.iter().map(|row| row.size as usize).collect::<Vec<_>>(), sizes);
}

#[tokio::test]
async fn reading_a_small_secret_is_one_get() {
    let store = Arc::new(Counting::default());
    let shelf = shelf_on(store.clone()).await;
    written(&shelf, "s/a", put(b"old", None)).await.unwrap();
    written(&shelf, "s/a", put(&[1; 3000], None)).await.unwrap();
    for (version, gets) in [(None, 1), (Some(1), 2)] {
        let before = store.gets.load(Ordering::SeqCst);
        read(&shelf, "s/a", version).await.unwrap();
        assert_eq!(store.gets.load(Ordering::SeqCst) - before, gets);
    }
}

#[tokio::test]
async fn too_much_is_refused_with_figures() {
    let shelf = shelf().await;
    let error = written(&shelf, "s/a", put(&vec![0; 1 << 20], None)).await.unwrap_err();
    assert_eq!(error.to_string(), "data: has 1048577 bytes of keys and values; at most 1048576 are allowed");
    let keys: Vec<String> = (0..1025).map(|n| n.to_string()).collect();
    let pairs: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &b""[..])).collect();
    let many = Operation::Put { data: data(&pairs), expected_version: None, ttl: None, operation_id: None };
    let error = write(&shelf, "s/a", many).await.err().unwrap();
    assert_eq!(error.to_string(), "data: has 1025 keys; at most 1024 are allowed");
    for ttl in [Duration::ZERO, Duration::MAX] {
        let put =
            Operation::Put { data: data(&[]), expected_version: None, ttl: Some(ttl), operation_id: None };
        assert!(matches!(write(&shelf, "s/a", put).await, Err(Error::Invalid(_))));
    }
    let id = Some("i".repeat(65).into());
    let put = Operation::Put { data: data(&[]), expected_version: None, ttl: None, operation_id: id };
    assert!(matches!(write(&shelf, "s/a", put).await, Err(Error::Invalid(_))));
    assert!(matches!(metadata(&shelf, "s/a").await, Err(Error::NotFound)));
    assert!(matches!(read(&shelf, "s", None).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn the_verb_depends_on_whether_it_exists() {
    let shelf = shelf().await;
    let as_one_who = |may_create, may_update| Request { may_create, may_update, ..request("s/a") };
    let outcome = Arc::clone(&shelf).write(as_one_who(false, true), put(b"1", None)).await;
    assert!(matches!(outcome, Err(Error::Needs(Verb::Create))));
    assert!(Arc::clone(&shelf).write(as_one_who(true, false), put(b"1", None)).await.is_ok());
    let outcome = Arc::clone(&shelf).write(as_one_who(true, false), put(b"2", None)).await;
    assert!(matches!(outcome, Err(Error::Needs(Verb::Update))));
    assert!(Arc::clone(&shelf).write(as_one_who(false, true), put(b"2", None)).await.is_ok());
}

#[tokio::test]
async fn check_and_set() {
    let shelf = shelf().await;
    let mismatch = |outcome: Result<u64, Error>| match outcome {
        Err(Error::VersionMismatch { expected, current }) => (expected, current),
        _ => panic!("no mismatch"),
    };
    assert_eq!(mismatch(written(&shelf, "s/a", put(b"1", Some(1))).await), (1, 0));
    assert_eq!(written(&shelf, "s/a", put(b"1", Some(0))).await.unwrap(), 1);
    assert_eq!(mismatch(written(&shelf, "s/a", put(b"1", Some(0))).await), (0, 1));
    // Hidden is not gone.
    write(&shelf, "s/a", Operation::Delete { versions: vec![] }).await.unwrap();
    assert_eq!(mismatch(written(&shelf, "s/a", put(b"1", Some(0))).await), (0, 1));
    settle(&shelf, None, None, Some(true)).await.unwrap();
    let outcome = written(&shelf, "s/a", put(b"1", None)).await;
    assert!(matches!(outcome, Err(Error::CasRequired { current: 1 })));
    assert_eq!(written(&shelf, "s/a", put(b"1", Some(1))).await.unwrap(), 2);
    destroy_all(&shelf, "s/a").await.unwrap();
    assert_eq!(written(&shelf, "s/a", put(b"1", Some(0))).await.unwrap(), 1);
}

async fn settle(
    shelf: &Arc<Shelf>,
    custom: Option<BTreeMap<String, String>>,
    max_versions: Option<u32>,
    cas_required: Option<bool>,
) -> Result<Output, Error> {
    write(shelf, "s/a", Operation::UpdateMetadata { custom, max_versions, cas_required }).await
}

#[tokio::test]
async fn a_repeated_write_is_done_once() {
    let shelf = shelf().await;
    let put = |id: &str, expected_version| Operation::Put {
        data: data(&[("k", id.as_bytes())]),
        expected_version,
        ttl: None,
        operation_id: Some(id.into()),
    };
    assert_eq!(written(&shelf, "s/a", put("one", Some(0))).await.unwrap(), 1);
    assert_eq!(written(&shelf, "s/a", put("one", Some(0))).await.unwrap(), 1);
    let other = Request { actor: "userpass/eve".into(), ..request("s/a") };
    assert!(Arc::clone(&shelf).write(other, put("one", Some(0))).await.is_err());
    assert_eq!(written(&shelf, "s/a", put("two", Some(1))).await.unwrap(), 2);
    assert_eq!(written(&shelf, "s/a", put("one", None)).await.unwrap(), 3);
}

#[tokio::test]
async fn delete_hides_undelete_brings_back_destroy_is_for_good() {
    let shelf = shelf().await;
    for value in [&b"1"[..], &[2; 9000], b"3"] {
        written(&shelf, "s/a", put(value, None)).await.unwrap();
    }
    write(&shelf, "s/a", Operation::Delete { versions: vec![] }).await.unwrap();
    assert!(matches!(value(&shelf, "s/a", None).await, Err(Error::Deleted { version: 3, .. })));
    assert_eq!(value(&shelf, "s/a", Some(1)).await.unwrap(), b"1");
    write(&shelf, "s/a", Operation::Delete { versions: vec![1, 3] }).await.unwrap();
    write(&shelf, "s/a", Operation::Undelete { versions: vec![3] }).await.unwrap();
    assert_eq!(value(&shelf, "s/a", None).await.unwrap(), b"3");
    let unknown = write(&shelf, "s/a", Operation::Delete { versions: vec![2, 7, 9] }).await.err().unwrap();
    assert_eq!(unknown.to_string(), "versions: has no version 7, 9; the current one is 3");
    for version in [2, 3] {
        write(&shelf, "s/a", Operation::Destroy { versions: vec![version], all: false }).await.unwrap();
        let outcome = value(&shelf, "s/a", Some(version)).await;
        assert!(matches!(outcome, Err(Error::Destroyed { .. })));
        let outcome = write(&shelf, "s/a", Operation::Undelete { versions: vec![1, version] }).await;
        assert!(matches!(outcome, Err(Error::Destroyed { .. })));
    }
    assert!(matches!(value(&shelf, "s/a", None).await, Err(Error::Destroyed { version: 3 })));
    assert!(matches!(value(&shelf, "s/a", Some(1)).await, Err(Error::Deleted { version: 1, .. })));
    assert!(matches!(value(&shelf, "s/a", Some(8)).await, Err(Error::NotFound)));
    assert!(matches!(value(&shelf, "s/a", Some(0)).await, Err(Error::Invalid(_))));
    for wrong in [
        Operation::Undelete { versions: vec![] },
        Operation::Destroy { versions: vec![], all: false },
        Operation::Destroy { versions: vec![1], all: true },
    ] {
        assert!(matches!(write(&shelf, "s/a", wrong).await, Err(Error::Invalid(_))));
    }
    // Numbers continue.
    assert_eq!(written(&shelf, "s/a", put(b"4", None)).await.unwrap(), 4);
}

#[tokio::test]
async fn an_expired_version_is_not_read_and_not_patched() {
    let shelf = shelf().await;
    let ttl = Some(Duration::from_secs(5));
    let put = Operation::Put { data: data(&[("k", b"v")]), expected_version: None, ttl, operation_id: None };
    write(&shelf, "s/a", put).await.unwrap();
    let at = |millis| Timestamp::from_millis(NOW + millis);
    assert!(shelf.get(&path("s/a"), None, at(4_999)).await.is_ok());
    let outcome = shelf.get(&path("s/a"), None, at(5_000)).await;
    assert!(matches!(outcome, Err(Error::Expired { version: 1, .. })));
    let late = Request { now: at(5_000), ..request("s/a") };
    assert!(matches!(Arc::clone(&shelf).write(late, patch(&[])).await, Err(Error::Expired { .. })));
}

fn patch(changes: &[(&str, Option<&[u8]>)]) -> Operation {
    let changes = changes
        .iter()
        .map(|(key, value)| (KeyName::parse(key).unwrap(), value.map(SecretBytes::from)))
        .collect();
    Operation::Patch { changes, expected_version: None, ttl: None, operation_id: None }
}

#[tokio::test]
async fn patch_changes_some_keys() {
    let shelf = shelf().await;
    assert!(matches!(write(&shelf, "s/a", patch(&[("a", Some(b"1"))])).await, Err(Error::NotFound)));
    let whole = data(&[("a", b"1"), ("b", b"2"), ("c", &[3; 70_000])]);
    let put = Operation::Put { data: whole, expected_version: None, ttl: None, operation_id: None };
    write(&shelf, "s/a", put).await.unwrap();
    write(&shelf, "s/a", patch(&[("a", None), ("b", Some(b"22")), ("d", Some(b"4")), ("x", None)]))
        .await
        .unwrap();
    let now = read(&shelf, "s/a", None).await.unwrap();
    assert_eq!(now.keys().collect::<Vec<_>>(), ["b", "c", "d"]);
    assert_eq!((&now["b"][..], now["c"].len()), (&b"22"[..], 70_000));
    let too_much = write(&shelf, "s/a", patch(&[("e", Some(&vec![0; 1_000_000]))])).await;
    assert!(matches!(too_much, Err(Error::Invalid(_))));
    write(&shelf, "s/a", Operation::Delete { versions: vec![] }).await.unwrap();
    assert!(matches!(write(&shelf, "s/a", patch(&[])).await, Err(Error::Deleted { .. })));
}

#[tokio::test]
async fn settings_are_checked_and_old_versions_go_with_the_next_puts() {
    let store = Arc::new(MemoryStore::new());
    let shelf = shelf_on(store.clone()).await;
    for version in 0..9 {
        written(&shelf, "s/a", put(&vec![version; 1_000_000], None)).await.unwrap();
    }
    let custom: BTreeMap<_, _> = [("owner".to_owned(), "me".to_owned())].into();
    settle(&shelf, Some(custom.clone()), Some(2), None).await.unwrap();
    assert_eq!(metadata(&shelf, "s/a").await.unwrap().versions.len(), 9);
    for version in 10..14 {
        written(&shelf, "s/a", put(b"small", None)).await.unwrap();
        assert_eq!(metadata(&shelf, "s/a").await.unwrap().current_version, version);
    }
    let after = metadata(&shelf, "s/a").await.unwrap();
    assert_eq!((after.oldest_version, after.versions.len(), after.custom), (12, 2, custom));
    assert!(matches!(value(&shelf, "s/a", Some(3)).await, Err(Error::Destroyed { version: 3 })));
    // Keyring's digest, the secret and the chunk of version 12: nothing is left of the others.
    assert_eq!(store.scan(&[], None, 1000).await.unwrap().len(), 3);

    let pair = |key: usize, value: usize| Some([("k".repeat(key), "v".repeat(value))].into());
    let many = Some((0..65).map(|n| (n.to_string(), String::new())).collect());
    for custom in [pair(0, 1), pair(129, 1), pair(1, 513), many] {
        assert!(matches!(settle(&shelf, custom, None, None).await, Err(Error::Invalid(_))));
    }
    for versions in [0, 1001] {
        assert!(matches!(settle(&shelf, None, Some(versions), None).await, Err(Error::Invalid(_))));
    }
}

#[tokio::test]
async fn keeping_one_version_keeps_only_the_latest() {
    let store = Arc::new(MemoryStore::new());
    let shelf = shelf_on(store.clone()).await;
    written(&shelf, "s/a", put(b"1", None)).await.unwrap();
    settle(&shelf, None, Some(1), None).await.unwrap();
    for _ in 0..3 {
        written(&shelf, "s/a", put(b"2", None)).await.unwrap();
    }
    assert_eq!(metadata(&shelf, "s/a").await.unwrap().versions.len(), 1);
    assert_eq!(store.scan(&[], None, 1000).await.unwrap().len(), 2);
}

#[tokio::test]
async fn destroying_everything_leaves_nothing() {
    let store = Arc::new(MemoryStore::new());
    let shelf = shelf_on(store.clone()).await;
    for version in 0..9 {
        written(&shelf, "s/a/b/c", put(&vec![version; 1_000_000], None)).await.unwrap();
    }
    destroy_all(&shelf, "s/a/b/c").await.unwrap();
    assert!(matches!(destroy_all(&shelf, "s/a/b/c").await, Err(Error::NotFound)));
    assert_eq!(store.scan(&[], None, 1000).await.unwrap().len(), 1);
}

#[tokio::test]
async fn every_write_is_told() {
    let shelf = shelf().await;
    let mut watch = shelf.hub.watch(vec![path("s")], Box::new(ALL));
    written(&shelf, "s/a", put(b"1", None)).await.unwrap();
    write(&shelf, "s/a", Operation::Delete { versions: vec![] }).await.unwrap();
    // Nothing changes, nothing is told.
    write(&shelf, "s/a", Operation::Delete { versions: vec![] }).await.unwrap();
    write(&shelf, "s/a", Operation::Undelete { versions: vec![1] }).await.unwrap();
    settle(&shelf, None, Some(3), None).await.unwrap();
    destroy_all(&shelf, "s/a").await.unwrap();
    use ChangeKind::{Deleted, Destroyed, Metadata, Undeleted, Written};
    for kind in [Written, Deleted, Undeleted, Metadata, Destroyed] {
        assert_eq!(watch.next().await.unwrap().kind, kind);
    }
}

#[tokio::test]
async fn the_mount_says_how_a_secret_begins_and_no_more() {
    let shelf = shelf().await;
    written(&shelf, "s/old", put(b"1", None)).await.unwrap();
    let beginning = Beginning { max_versions: 2, cas_required: true };
    shelf.tune(KvSettings { beginning, ..KvSettings::default() });
    written(&shelf, "s/new", put(b"1", None)).await.unwrap();
    let (old, new) = (metadata(&shelf, "s/old").await.unwrap(), metadata(&shelf, "s/new").await.unwrap());
    assert_eq!((old.max_versions, old.cas_required), (10, false));
    assert_eq!((new.max_versions, new.cas_required), (2, true));
    let refused = written(&shelf, "s/new", put(b"2", None)).await;
    assert!(matches!(refused, Err(Error::CasRequired { current: 1 })));
}

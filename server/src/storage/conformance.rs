//! What every store must keep, as one suite that runs against each of them. It knows the contract and no store.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a suite of tests fails by panicking"
)]

use std::sync::Arc;

use super::{
    Batch, Condition, MAX_BATCH_BYTES, MAX_BATCH_OPERATIONS, MAX_KEY_BYTES, MAX_VALUE_BYTES, Revision, Store,
    StoreError,
};

/// Runs everything, each part against a fresh, empty store of `make`.
///
/// # Panics
/// When the store breaks the contract.
pub async fn run<S: Store>(make: impl AsyncFn() -> S) {
    put_get_delete(&make().await).await;
    conditions(&make().await).await;
    all_or_nothing(&make().await).await;
    scan_in_order(&make().await).await;
    paging(&make().await).await;
    prefix_edges(&make().await).await;
    limits(&make().await).await;
    revisions_grow(&make().await).await;
    concurrent_increments(Arc::new(make().await)).await;
    batches_are_seen_whole(Arc::new(make().await)).await;
}

fn put(key: &[u8], value: &[u8]) -> Batch {
    Batch { puts: vec![(key.to_vec(), value.to_vec())], ..Batch::default() }
}

fn delete(key: &[u8]) -> Batch {
    Batch { deletes: vec![key.to_vec()], ..Batch::default() }
}

fn when(mut batch: Batch, key: &[u8], condition: Condition) -> Batch {
    batch.conditions.push((key.to_vec(), condition));
    batch
}

async fn keys<S: Store>(store: &S, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Vec<u8>> {
    store.scan(prefix, after, limit).await.unwrap().into_iter().map(|(key, _)| key).collect()
}

async fn value<S: Store>(store: &S, key: &[u8]) -> Option<Vec<u8>> {
    store.get(key).await.unwrap().map(|record| record.value)
}

async fn put_get_delete<S: Store>(store: &S) {
    assert_eq!(store.get(b"k").await.unwrap(), None);
    store.commit(delete(b"k")).await.unwrap();
    let first = store.commit(put(b"k", b"one")).await.unwrap();
    let record = store.get(b"k").await.unwrap().unwrap();
    assert_eq!((record.value.as_slice(), record.revision), (&b"one"[..], first));
    let second = store.commit(put(b"k", b"")).await.unwrap();
    let record = store.get(b"k").await.unwrap().unwrap();
    assert_eq!((record.value.as_slice(), record.revision), (&b""[..], second));
    store.commit(delete(b"k")).await.unwrap();
    assert_eq!(store.get(b"k").await.unwrap(), None);
    assert_eq!(keys(store, b"", None, 10).await, Vec::<Vec<u8>>::new());
}

async fn conditions<S: Store>(store: &S) {
    let first = store.commit(when(put(b"k", b"1"), b"k", Condition::Absent)).await.unwrap();
    let refused = store.commit(when(put(b"k", b"2"), b"k", Condition::Absent)).await;
    assert!(matches!(refused, Err(StoreError::Conflict(key)) if key == b"k"));
    let second = store.commit(when(put(b"k", b"3"), b"k", Condition::At(first))).await.unwrap();
    let refused = store.commit(when(put(b"k", b"4"), b"k", Condition::At(first))).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))));
    let refused = store.commit(when(put(b"other", b""), b"gone", Condition::At(second))).await;
    assert!(matches!(refused, Err(StoreError::Conflict(key)) if key == b"gone"));
    assert_eq!(value(store, b"k").await.unwrap(), b"3");
    // Conditions are judged before the batch's own changes, and may name records it does not touch.
    let mut batch = when(put(b"other", b"5"), b"k", Condition::At(second));
    batch.deletes.push(b"k".to_vec());
    store.commit(batch).await.unwrap();
    assert_eq!(value(store, b"k").await, None);
    // A record that came back is not the one that was there.
    store.commit(put(b"k", b"3")).await.unwrap();
    let refused = store.commit(when(delete(b"k"), b"k", Condition::At(second))).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))));
}

async fn all_or_nothing<S: Store>(store: &S) {
    store.commit(put(b"b", b"old")).await.unwrap();
    let batch = Batch {
        conditions: vec![(b"c".to_vec(), Condition::Absent), (b"b".to_vec(), Condition::Absent)],
        puts: vec![(b"a".to_vec(), b"new".to_vec()), (b"c".to_vec(), b"new".to_vec())],
        deletes: vec![b"b".to_vec()],
        urgent: false,
    };
    assert!(matches!(store.commit(batch.clone()).await, Err(StoreError::Conflict(_))));
    assert_eq!(keys(store, b"", None, 10).await, [b"b".to_vec()]);
    let revision = store.commit(Batch { conditions: Vec::new(), ..batch }).await.unwrap();
    let page = store.scan(b"", None, 10).await.unwrap();
    assert_eq!(page.len(), 2);
    assert!(page.iter().all(|(_, record)| record.revision == revision && record.value == b"new"));
}

async fn scan_in_order<S: Store>(store: &S) {
    for key in [&b"m"[..], b"b", b"ba", b"a", b"b\0", b"z", b"bb"] {
        store.commit(put(key, key)).await.unwrap();
    }
    let expected: Vec<Vec<u8>> = [&b"b"[..], b"b\0", b"ba", b"bb"].map(<[u8]>::to_vec).into();
    assert_eq!(keys(store, b"b", None, 100).await, expected);
    assert_eq!(keys(store, b"", None, 100).await.len(), 7);
    assert_eq!(keys(store, b"c", None, 100).await.len(), 0);
    let page = store.scan(b"b", None, 100).await.unwrap();
    assert!(page.iter().all(|(key, record)| *key == record.value));
}

async fn paging<S: Store>(store: &S) {
    let all: Vec<Vec<u8>> = (0..50_u8).map(|n| vec![b'p', n]).collect();
    let puts = all.iter().map(|key| (key.clone(), key.clone())).collect();
    store.commit(Batch { puts, ..Batch::default() }).await.unwrap();
    store.commit(put(b"q", b"")).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None::<Vec<u8>>);
    for _ in 0..=all.len() {
        let page = keys(store, b"p", after.as_deref(), 7).await;
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 7);
        after = Some(last.clone());
        seen.extend(page);
    }
    assert_eq!(seen, all);
    assert_eq!(keys(store, b"p", None, 0).await.len(), 0);
    // A place before the prefix, after it, and one where no record is (any more).
    assert_eq!(keys(store, b"p", Some(b"a"), 100).await.len(), 50);
    assert_eq!(keys(store, b"p", Some(b"q"), 100).await.len(), 0);
    assert_eq!(keys(store, b"p", Some(b"p\x09\x01"), 100).await, all[10..]);
}

async fn prefix_edges<S: Store>(store: &S) {
    let longest = vec![0xff; MAX_KEY_BYTES];
    for key in [&[0xfe_u8, 0xff][..], &[0xff], &[0xff, 0], &[0xff, 0xff], &longest, &[0], &[0, 0]] {
        store.commit(put(key, b"")).await.unwrap();
    }
    assert_eq!(
        keys(store, &[0xff], None, 10).await,
        [vec![0xff], vec![0xff, 0], vec![0xff, 0xff], longest.clone()]
    );
    assert_eq!(keys(store, &[0xff, 0xff], None, 10).await, [vec![0xff, 0xff], longest.clone()]);
    assert_eq!(keys(store, &[0xff], Some(&[0xff, 0xff]), 10).await, std::slice::from_ref(&longest));
    assert_eq!(keys(store, &longest, Some(&longest), 10).await.len(), 0);
    assert_eq!(keys(store, b"", Some(&longest), 10).await.len(), 0);
    assert_eq!(keys(store, &[0xfe], None, 10).await, [vec![0xfe, 0xff]]);
    assert_eq!(keys(store, &[0], None, 10).await, [vec![0], vec![0, 0]]);
    assert_eq!(keys(store, b"", None, 10).await.len(), 7);
}

async fn limits<S: Store>(store: &S) {
    let refused =
        async |batch: Batch| assert!(matches!(store.commit(batch).await, Err(StoreError::TooLarge(_))));
    let long = vec![b'k'; MAX_KEY_BYTES + 1];
    refused(put(&long, b"")).await;
    refused(delete(&long)).await;
    refused(put(b"", b"")).await;
    refused(when(put(b"k", b""), &long, Condition::Absent)).await;
    refused(put(b"k", &vec![0; MAX_VALUE_BYTES + 1])).await;
    let many = |count: usize, size: usize| Batch {
        puts: (0..count).map(|n| (n.to_be_bytes().to_vec(), vec![7; size])).collect(),
        ..Batch::default()
    };
    refused(many(MAX_BATCH_OPERATIONS + 1, 1)).await;
    refused(many(MAX_BATCH_BYTES / MAX_VALUE_BYTES + 1, MAX_VALUE_BYTES)).await;
    refused(Batch { deletes: vec![b"k".to_vec()], ..put(b"k", b"") }).await;
    refused(Batch { deletes: vec![b"k".to_vec(), b"k".to_vec()], ..Batch::default() }).await;
    assert!(matches!(store.get(&long).await, Err(StoreError::TooLarge(_))));
    assert!(matches!(store.scan(&long, None, 1).await, Err(StoreError::TooLarge(_))));
    assert_eq!(keys(store, b"", None, 10).await.len(), 0);

    store.commit(many(MAX_BATCH_OPERATIONS, 1)).await.unwrap();
    store.commit(many(MAX_BATCH_BYTES / MAX_VALUE_BYTES, MAX_VALUE_BYTES)).await.unwrap();
    store.commit(put(&long[..MAX_KEY_BYTES], b"fits")).await.unwrap();
    assert_eq!(keys(store, b"", None, usize::MAX).await.len(), MAX_BATCH_OPERATIONS + 1);
    assert_eq!(value(store, &0_usize.to_be_bytes()).await.unwrap(), vec![7; MAX_VALUE_BYTES]);
}

async fn revisions_grow<S: Store>(store: &S) {
    let mut last = Revision(0);
    for batch in [put(b"a", b""), delete(b"a"), delete(b"a"), Batch::default(), put(b"b", b"")] {
        let revision = store.commit(batch).await.unwrap();
        assert!(revision > last, "{revision:?} after {last:?}");
        last = revision;
    }
    assert_eq!(store.get(b"b").await.unwrap().unwrap().revision, last);
}

/// Read, add one, write if unchanged: no increment may be lost, and no two batches share a revision.
async fn concurrent_increments<S: Store>(store: Arc<S>) {
    const TASKS: u64 = 8;
    const EACH: u64 = 10;
    store.commit(put(b"n", &0_u64.to_be_bytes())).await.unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut revisions = Vec::new();
                while revisions.len() < usize::try_from(EACH).unwrap() {
                    let record = store.get(b"n").await.unwrap().unwrap();
                    let next = u64::from_be_bytes(record.value.try_into().unwrap()) + 1;
                    let batch = when(put(b"n", &next.to_be_bytes()), b"n", Condition::At(record.revision));
                    match store.commit(batch).await {
                        Ok(revision) => revisions.push(revision),
                        Err(StoreError::Conflict(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                revisions
            })
        })
        .collect();
    let mut revisions = Vec::new();
    for task in tasks {
        revisions.extend(task.await.unwrap());
    }
    let count = revisions.len();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), count);
    assert_eq!(value(&*store, b"n").await.unwrap(), (TASKS * EACH).to_be_bytes());
}

/// A scan sees both halves of a batch or neither, what was acknowledged is there, and time does not run backwards.
async fn batches_are_seen_whole<S: Store>(store: Arc<S>) {
    const BATCHES: u64 = 60;
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for n in 0..BATCHES {
                // A key that moves, between two that are rewritten: deletes, inserts and changes in every batch.
                let moved = |n: u64| [&b"m"[..], &n.to_be_bytes()].concat();
                let bytes = n.to_be_bytes().to_vec();
                let puts =
                    vec![(b"a".to_vec(), bytes.clone()), (moved(n), bytes.clone()), (b"z".to_vec(), bytes)];
                let deletes = n.checked_sub(1).map(moved).into_iter().collect();
                store.commit(Batch { puts, deletes, ..Batch::default() }).await.unwrap();
                let seen = store.get(b"a").await.unwrap().unwrap().value;
                assert_eq!(seen, n.to_be_bytes());
            }
        }
    });
    let mut last = Revision(0);
    while !writing.is_finished() {
        let page = store.scan(b"", None, 10).await.unwrap();
        assert!(page.is_empty() || page.len() == 3, "{} records", page.len());
        assert!(page.iter().all(|(_, record)| *record == page[0].1), "half a batch was seen");
        if let Some((_, record)) = page.first() {
            assert!(record.revision >= last);
            last = record.revision;
        }
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
    assert_eq!(value(&*store, b"z").await.unwrap(), (BATCHES - 1).to_be_bytes());
}

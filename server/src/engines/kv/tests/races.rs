//! Many at once.

use super::*;
use crate::{
    barrier::{BarrierError, Changes},
    engines::kv::SecretAddress,
    storage::fault::{FaultStore, Operation as Io},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_expect_the_same_version_one_wins() {
    let shelf = shelf().await;
    for version in 0..5 {
        let writers: Vec<_> = (0..64u8)
            .map(|value| {
                let shelf = Arc::clone(&shelf);
                tokio::spawn(async move { written(&shelf, "s/a/b", put(&[value], Some(version))).await })
            })
            .collect();
        let mut won = 0;
        for writer in writers {
            match writer.await.unwrap() {
                Ok(got) => {
                    assert_eq!(got, version + 1);
                    won += 1;
                }
                Err(Error::VersionMismatch { expected, current }) => {
                    assert_eq!((expected, current), (version, version + 1));
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(won, 1);
    }
}

/// Writers that create and destroy names of one folder again and again never lose one, neither in the lists that are
/// remembered nor in those collected again, and leave no folder behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn creating_and_destroying_at_once_loses_no_name() {
    let store = Arc::new(MemoryStore::new());
    let shelf = shelf_on(store.clone()).await;
    for round in 0..60 {
        let writers: Vec<_> = (0..6)
            .map(|writer| {
                let shelf = Arc::clone(&shelf);
                tokio::spawn(async move {
                    let at = format!("s/x/y/{writer}");
                    for _ in 0..3 {
                        retried(|| written(&shelf, &at, put(b"v", None))).await;
                        names(&shelf, "s/x/y").await;
                        retried(|| destroy_all(&shelf, &at)).await;
                    }
                    if (writer + round) % 3 == 0 {
                        retried(|| written(&shelf, &at, put(b"v", None))).await;
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let left: Vec<String> =
            (0..6).filter(|writer| (writer + round) % 3 == 0).map(|n| n.to_string()).collect();
        assert_eq!(names(&shelf, "s/x/y").await, left);
        let restarted = Arc::new(on(shelf.view.clone()));
        assert_eq!(names(&restarted, "s/x/y").await, left);
        assert_eq!(walked(&restarted, "s", ALL).await.len(), 2);
        assert_eq!(names(&shelf, "s").await, ["x/"]);
        for name in left {
            destroy_all(&shelf, &format!("s/x/y/{name}")).await.unwrap();
        }
        assert!(names(&shelf, "s").await.is_empty());
        assert_eq!(store.scan(&[], None, 99).await.unwrap().len(), 1, "round {round}");
    }
}

/// A caller who is told of a conflict comes again.
async fn retried<T, F: Future<Output = Result<T, Error>>>(mut write: impl FnMut() -> F) -> T {
    loop {
        match write().await {
            Ok(done) => return done,
            Err(Error::Barrier(BarrierError::Conflict)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// While versions are written, pruned and created again, a reader gets whole versions and never an alarm.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_never_see_a_mixture() {
    let shelf = shelf().await;
    let writer = Arc::clone(&shelf);
    written(&shelf, "s/a", put(&[0; 150_000], None)).await.unwrap();
    let settings = Operation::UpdateMetadata { custom: None, max_versions: Some(1), cas_required: None };
    write(&shelf, "s/a", settings).await.unwrap();
    let writing = tokio::spawn(async move {
        for value in 0..60u8 {
            written(&writer, "s/a", put(&[value; 150_000], None)).await.unwrap();
            if value % 10 == 9 {
                destroy_all(&writer, "s/a").await.unwrap();
            }
        }
    });
    while !writing.is_finished() {
        match value(&shelf, "s/a", None).await {
            Ok(bytes) => assert!(bytes.len() == 150_000 && bytes.iter().all(|byte| *byte == bytes[0])),
            Err(Error::NotFound) => {}
            Err(Error::Barrier(BarrierError::Conflict)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    writing.await.unwrap();
}

/// Between reading the record and its first chunk the secret changes: the read starts over.
#[tokio::test]
async fn a_read_that_was_overtaken_starts_over() {
    for destroyed in [false, true] {
        let store = Arc::new(FaultStore::new(MemoryStore::new()));
        let shelf = shelf_on(store.clone()).await;
        written(&shelf, "s/a", put(&[1; 150_000], None)).await.unwrap();
        let settings = Operation::UpdateMetadata { custom: None, max_versions: Some(1), cas_required: None };
        write(&shelf, "s/a", settings).await.unwrap();

        let (record, chunk) = (store.hold(Io::Get), store.hold(Io::Get));
        let reader = Arc::clone(&shelf);
        let reading = tokio::spawn(async move { value(&reader, "s/a", None).await });
        record.reached().await.release();
        let stopped = chunk.reached().await;
        if destroyed {
            destroy_all(&shelf, "s/a").await.unwrap();
        }
        written(&shelf, "s/a", put(&[2; 100_000], None)).await.unwrap();
        stopped.release();
        assert!(reading.await.unwrap().unwrap() == vec![2; 100_000], "destroyed: {destroyed}");
    }
}

#[tokio::test]
async fn a_lost_chunk_is_an_alarm_and_not_nothing() {
    let shelf = shelf().await;
    written(&shelf, "s/a", put(&[1; 150_000], None)).await.unwrap();
    let chunk = SecretAddress::of(&path("s/a")).unwrap().chunk(1, 1);
    shelf.commit(Changes { deletes: vec![chunk], ..Changes::default() }).await.unwrap();
    let outcome = value(&shelf, "s/a", None).await;
    assert!(matches!(outcome, Err(Error::Barrier(BarrierError::Corrupt { .. }))));
}

//! Listing, and folders that come and go.

use super::*;
use crate::storage::fault::{Fault, FaultStore, Operation as Io};

async fn filled(shelf: &Arc<Shelf>, paths: &[&str]) {
    for at in paths {
        written(shelf, at, put(b"v", None)).await.unwrap();
    }
}

#[tokio::test]
async fn one_level_sorted_paged_and_only_what_may_be_seen() {
    let shelf = shelf().await;
    filled(&shelf, &["s/b", "s/a/x", "s/a", "s/a-b", "s/a0", "s/c/d/e", "s/z"]).await;
    let all = ["a", "a-b", "a/", "a0", "b", "c/", "z"];
    for _ in 0..2 {
        assert_eq!(names(&shelf, "s").await, all);
    }
    for size in 1..=8 {
        let (mut got, mut token) = (Vec::new(), None);
        loop {
            let (names, next) = page(&shelf, "s", size, token.as_deref(), ALL).await;
            got.extend(names);
            token = next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(got, all, "{size}");
    }
    let (seen, next) = page(&shelf, "s", 2, None, Sees(|path| path < "s/a0")).await;
    assert_eq!((seen, next.is_some()), (vec!["a".into(), "a-b".into()], true));
    // What comes behind the page is hidden, so there is no further one.
    assert_eq!(page(&shelf, "s", 2, None, Sees(|path| ["s/a-b", "s/b"].contains(&path))).await.1, None);
    assert!(names(&shelf, "s/nothing/here").await.is_empty());
    for (size, token) in [(0, None), (1001, None), (1, Some("?"))] {
        assert!(matches!(shelf.list(&path("s"), size, token, &ALL).await, Err(Error::Invalid(_))));
    }
}

#[tokio::test]
async fn a_walk_gives_whole_paths_in_order() {
    let shelf = shelf().await;
    let mut paths: Vec<String> = (0..2500).map(|n| format!("s/many/{n:04}")).collect();
    paths.extend(["s/b", "s/a/x", "s/a", "s/a-b", "s/c/d/e/f", "s/c/d-e", "s/c/d"].map(String::from));
    for at in &paths {
        written(&shelf, at, put(b"v", None)).await.unwrap();
    }
    paths.sort();
    assert_eq!(walked(&shelf, "s", ALL).await, paths);
    assert_eq!(walked(&shelf, "s/c", ALL).await, ["s/c/d", "s/c/d-e", "s/c/d/e/f"]);
    assert_eq!(walked(&shelf, "s/a", ALL).await, ["s/a/x"]);
    assert_eq!(walked(&shelf, "s", Sees(|path| path.starts_with("s/c") && path != "s/c/d-e")).await.len(), 2);
}

#[tokio::test]
async fn folders_go_with_their_last_name() {
    let shelf = shelf().await;
    filled(&shelf, &["s/a/b/c", "s/a/b/d", "s/a/e"]).await;
    assert_eq!(names(&shelf, "s").await, ["a/"]);
    destroy_all(&shelf, "s/a/b/c").await.unwrap();
    assert_eq!(names(&shelf, "s/a").await, ["b/", "e"]);
    destroy_all(&shelf, "s/a/b/d").await.unwrap();
    assert_eq!(names(&shelf, "s/a").await, ["e"]);
    destroy_all(&shelf, "s/a/e").await.unwrap();
    assert!(names(&shelf, "s").await.is_empty());
    filled(&shelf, &["s/a/b/c"]).await;
    assert_eq!(names(&shelf, "s/a").await, ["b/"]);
}

/// The same after a restart, when names are collected and not remembered.
async fn names_collected(shelf: &Shelf, at: &str) -> Vec<String> {
    names(&on(shelf.view.clone()), at).await
}

#[tokio::test]
async fn a_crash_while_a_folder_closes_is_harmless() {
    // Commits of the destroy: the secret with its mark, folder b with its parent's mark, folder a.
    for survived in 1..=2 {
        let store = Arc::new(FaultStore::new(MemoryStore::new()));
        let shelf = shelf_on(store.clone()).await;
        filled(&shelf, &["s/a/b/c"]).await;
        names(&shelf, "s").await;
        // The commit after those that survived fails.
        let mut held = Vec::new();
        for _ in 0..survived {
            held.push(store.hold(Io::Commit));
        }
        store.inject(Io::Commit, Fault::ReadOnly);
        let writer = Arc::clone(&shelf);
        let destroying = tokio::spawn(async move { destroy_all(&writer, "s/a/b/c").await });
        for held in held {
            held.reached().await.release();
        }
        destroying.await.unwrap().unwrap();
        for folder in ["s", "s/a"] {
            assert!(names(&shelf, folder).await.is_empty(), "{folder} after {survived}");
            assert!(names_collected(&shelf, folder).await.is_empty(), "{folder} after {survived}");
        }
        assert!(walked(&shelf, "s", ALL).await.is_empty());
        // Whoever comes next finds everything in order.
        filled(&shelf, &["s/a/b/new"]).await;
        assert_eq!(names(&shelf, "s").await, ["a/"]);
        assert_eq!(names_collected(&shelf, "s/a").await, ["b/"]);
        destroy_all(&shelf, "s/a/b/new").await.unwrap();
        assert_eq!(store.inner().scan(&[], None, 99).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn what_may_have_happened_is_looked_up_again() {
    let store = Arc::new(FaultStore::new(MemoryStore::new()));
    let shelf = shelf_on(store.clone()).await;
    filled(&shelf, &["s/a"]).await;
    assert_eq!(names(&shelf, "s").await, ["a"]);
    store.inject(Io::Commit, Fault::ReadOnly);
    assert!(written(&shelf, "s/b", put(b"v", None)).await.is_err());
    assert_eq!(names(&shelf, "s").await, ["a"]);
    filled(&shelf, &["s/b"]).await;
    assert_eq!(names(&shelf, "s").await, ["a", "b"]);
}

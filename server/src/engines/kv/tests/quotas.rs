//! Quotas of stored bytes: nobody exceeds one, alone or together, and nobody is refused who has room.

use tokio::task::JoinSet;

use super::*;

const KIB: u64 = 1024;

async fn with(quotas: &[(&str, u64)]) -> Arc<Shelf> {
    let shelf = shelf().await;
    limit(&shelf, quotas);
    shelf
}

fn limit(shelf: &Shelf, quotas: &[(&str, u64)]) {
    let quotas = quotas.iter().map(|(folder, bytes)| (Box::from(*folder), *bytes)).collect();
    shelf.tune(KvSettings { quotas, ..KvSettings::default() });
}

fn held(shelf: &Shelf, folder: &str) -> Option<u64> {
    shelf.quotas.load().used().into_iter().find(|quota| &*quota.folder == folder).unwrap().held
}

/// What a count finds now.
async fn counted(shelf: &Arc<Shelf>, folder: &str) -> u64 {
    shelf.forget_all();
    assert_eq!(held(shelf, folder), None);
    let same = write(shelf, "s/nothing/here", Operation::Delete { versions: Vec::new() }).await;
    assert!(same.is_err());
    written(shelf, &format!("s/{folder}/counted"), put(b"", None)).await.unwrap();
    destroy_all(shelf, &format!("s/{folder}/counted")).await.unwrap();
    held(shelf, folder).unwrap()
}

fn is_over(error: &Error, folder: &str) -> bool {
    matches!(error, Error::QuotaExceeded { folder: at, .. } if &**at == folder)
}

#[tokio::test]
async fn what_is_below_a_folder_is_counted_and_limited() {
    let shelf = with(&[("a", 100 * KIB), ("", 200 * KIB)]).await;
    written(&shelf, "s/a/b/c", put(&[1; 60_000], None)).await.unwrap();
    let error = written(&shelf, "s/a/d", put(&[1; 60_000], None)).await.unwrap_err();
    assert!(is_over(&error, "a"), "{error}");
    assert!(matches!(metadata(&shelf, "s/a/d").await, Err(Error::NotFound)), "nothing was written");
    // What only begins like the folder is not in it.
    written(&shelf, "s/ab", put(&[1; 60_000], None)).await.unwrap();
    written(&shelf, "s/a", put(&[1; 60_000], None)).await.unwrap();
    let error = written(&shelf, "s/elsewhere", put(&[1; 60_000], None)).await.unwrap_err();
    assert!(is_over(&error, ""), "{error}");
    assert_eq!(
        EngineError::from(error).to_string(),
        "the quota of 0 MiB for this mount is used up; destroy what is not needed, or ask whoever manages the mount for more"
    );
    // A second version counts as well, until it is destroyed.
    destroy_all(&shelf, "s/ab").await.unwrap();
    let error = written(&shelf, "s/a/b/c", put(&[2; 60_000], None)).await.unwrap_err();
    assert!(is_over(&error, "a"), "{error}");
    destroy_all(&shelf, "s/a/b/c").await.unwrap();
    assert_eq!(held(&shelf, "a"), Some(0));
    written(&shelf, "s/a/d", put(&[1; 60_000], None)).await.unwrap();
}

/// Whatever is done, what is carried along is what a count finds.
#[tokio::test]
async fn the_sum_is_that_of_a_count() {
    let shelf = with(&[("a", 1 << 40)]).await;
    for (at, size) in
        [("s/a/x", 10), ("s/a/x", 5_000), ("s/a/x", 70_000), ("s/a/deep/er/y", 4_000), ("s/b", 9)]
    {
        written(&shelf, at, put(&vec![1; size], None)).await.unwrap();
    }
    let versions = vec![2];
    write(&shelf, "s/a/x", Operation::Delete { versions: vec![3] }).await.unwrap();
    write(&shelf, "s/a/x", Operation::Destroy { versions, all: false }).await.unwrap();
    let custom = Some(BTreeMap::from([("owner".to_owned(), "somebody".to_owned())]));
    write(&shelf, "s/a/x", Operation::UpdateMetadata { custom, max_versions: Some(1), cas_required: None })
        .await
        .unwrap();
    written(&shelf, "s/a/x", put(&[3; 100], None)).await.unwrap();
    written(&shelf, "s/a/gone", put(&[3; 9_000], None)).await.unwrap();
    destroy_all(&shelf, "s/a/gone").await.unwrap();
    let carried = held(&shelf, "a").unwrap();
    assert!(carried > 4_000, "{carried}");
    assert_eq!(counted(&shelf, "a").await, carried);
}

/// Room is taken before it is used: writers at one moment do not exceed it together.
#[tokio::test]
async fn many_at_once_exceed_nothing() {
    let shelf = with(&[("a", 100 * KIB)]).await;
    let mut writers = JoinSet::new();
    for number in 0..40 {
        let shelf = Arc::clone(&shelf);
        writers.spawn(async move { written(&shelf, &format!("s/a/{number}"), put(&[1; 9_000], None)).await });
    }
    let done = writers.join_all().await;
    let (fit, refused): (Vec<_>, Vec<_>) = done.into_iter().partition(Result::is_ok);
    assert!(refused.iter().all(|result| is_over(result.as_ref().unwrap_err(), "a")));
    // 100 KiB hold ten of 9,000 bytes and their overhead.
    assert_eq!(fit.len(), 10);
    assert!(held(&shelf, "a").unwrap() <= 100 * KIB);
    assert_eq!(counted(&shelf, "a").await, held(&shelf, "a").unwrap());
}

/// A quota below what is kept already only stops growth.
#[tokio::test]
async fn a_lower_quota_refuses_only_what_grows() {
    let shelf = with(&[]).await;
    written(&shelf, "s/a/x", put(&[1; 60_000], None)).await.unwrap();
    limit(&shelf, &[("a", KIB)]);
    let error = written(&shelf, "s/a/y", put(b"", None)).await.unwrap_err();
    assert!(is_over(&error, "a"), "{error}");
    assert!(held(&shelf, "a").unwrap() > 60_000);
    write(&shelf, "s/a/x", Operation::Destroy { versions: vec![1], all: false }).await.unwrap();
    assert!(held(&shelf, "a").unwrap() < KIB);
}

#[test]
fn settings_name_folders_and_mebibytes() {
    let read = |name: &str, value: &str| KvSettings::of(&[(name.to_owned(), value.to_owned())].into());
    assert_eq!(read("quota_mib", "3").unwrap().quotas, [("".into(), 3 << 20)].into());
    assert_eq!(read("quota_mib/a/b", "3").unwrap().quotas, [("a/b".into(), 3 << 20)].into());
    for (name, value) in [
        ("quota_mib", "0"),
        ("quota_mib", "much"),
        ("quota_mib/", "3"),
        ("quota_mib/a//b", "3"),
        ("quota_mib/a/", "3"),
        ("quota", "3"),
        ("max_versions/a", "3"),
    ] {
        read(name, value).unwrap_err();
    }
}

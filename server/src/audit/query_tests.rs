//! What a query finds, in order and within its limits.

use std::sync::Arc;

use super::*;
use crate::{
    audit::{Broker, Config, Event, EventKind, Status},
    clock::SystemClock,
    model::RequestId,
};

async fn write(broker: &Broker, from: u32, to: u32) {
    for n in from..to {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&n.to_be_bytes());
        let path = format!("secret/{}/x{n}", if n % 10 == 0 { "ten" } else { "tens" });
        let event = Event {
            paths: &[&path],
            ..Event::new(EventKind::Request, RequestId(id), "Secrets.Get", Status::Ok)
        };
        broker.record(&event).await.unwrap();
    }
}

fn broker(segment_bytes: u64) -> (tempfile::TempDir, Broker) {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { segment_bytes, ..Config::new(directory.path()) };
    let (broker, _) = Broker::open(&config, Arc::new(SystemClock), vec![]).unwrap();
    (directory, broker)
}

async fn collect(mut lines: Lines) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(some) = lines.recv().await {
        all.extend(some.unwrap());
    }
    all
}

fn seqs(lines: &[String]) -> Vec<u64> {
    lines.iter().map(|line| seq_of(line.as_bytes()).unwrap()).collect()
}

#[tokio::test]
async fn tail_gives_the_last_and_follows_across_segments() {
    let (_directory, broker) = broker(20_000);
    write(&broker, 0, 300).await;
    assert_eq!(
        seqs(&collect(broker.reader().tail(7, false).unwrap()).await),
        (295..=301).collect::<Vec<_>>()
    );
    assert_eq!(collect(broker.reader().tail(10_000, false).unwrap()).await.len(), 301);
    let mut follow = broker.reader().tail(1, true).unwrap();
    write(&broker, 300, 600).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&601) {
        seen.extend(seqs(&follow.recv().await.unwrap().unwrap()));
    }
    assert_eq!(seen, (301..=601).collect::<Vec<_>>());
}

#[tokio::test]
async fn query_gives_the_newest_that_match_in_order() {
    let (_directory, broker) = broker(20_000);
    write(&broker, 0, 400).await;
    let reader = broker.reader();
    let ten = || Filter { path: Some("secret/ten".to_owned()), ..Filter::default() };
    assert_eq!(collect(reader.query(ten(), 1000).unwrap()).await.len(), 40);
    let newest = collect(reader.query(ten(), 3).unwrap()).await;
    assert_eq!(seqs(&newest), [372, 382, 392]);
    let one = Filter { request_id: Some(RequestId([0; 16]).to_string()), ..Filter::default() };
    assert_eq!(seqs(&collect(reader.query(one, 10).unwrap()).await), [2]);
    let exact = Filter { path: Some("secret/ten/x10".to_owned()), ..Filter::default() };
    assert_eq!(seqs(&collect(reader.query(exact, 10).unwrap()).await), [12]);
    let future =
        Filter { from: Some(Timestamp::from_millis(i64::from(u32::MAX) * 1000)), ..Filter::default() };
    assert!(collect(reader.query(future, 10).unwrap()).await.is_empty());
    let past = Filter { until: Some(Timestamp::from_millis(1)), ..Filter::default() };
    assert!(collect(reader.query(past, 10).unwrap()).await.is_empty());
}

#[tokio::test]
async fn a_place_in_a_large_file_is_found() {
    let (directory, broker) = broker(u64::MAX);
    write(&broker, 0, 2_000).await;
    let path = file::segments(directory.path()).unwrap()[0].path.clone();
    let mut reader = BufReader::new(File::open(path).unwrap());
    let mut line = Vec::new();
    for seq in [1, 2, 3, 999, 1_500, 2_000, 2_001] {
        let place = locate(&mut reader, seq).unwrap();
        reader.seek(SeekFrom::Start(place)).unwrap();
        read_line(&mut reader, &mut line).unwrap();
        assert_eq!(seq_of(&line), Some(seq));
    }
    assert!(locate(&mut reader, 2_002).is_err());
}

#[tokio::test]
async fn a_hole_is_an_error_and_not_an_answer() {
    let (directory, broker) = broker(20_000);
    write(&broker, 0, 600).await;
    let segments = file::segments(directory.path()).unwrap();
    assert!(segments.len() > 5, "it rotated");
    let missing = &segments[2];
    let reader = broker.reader();
    let newest = Filter { request_id: Some(RequestId([9; 16]).to_string()), ..Filter::default() };
    assert!(collect(reader.query(newest.clone(), 10).unwrap()).await.is_empty());

    std::fs::rename(&missing.path, missing.path.with_extension("away")).unwrap();
    let (from, to) = (missing.first_seq, segments[3].first_seq - 1);
    let hole = |error: Option<Result<Vec<String>, QueryError>>| match error {
        Some(Err(QueryError::Hole { from, to })) => (from, to),
        other => panic!("{other:?}"),
    };
    assert_eq!(hole(reader.query(newest.clone(), 10).unwrap().recv().await), (from, to));
    let mut tail = reader.tail(10_000, false).unwrap();
    let told = loop {
        match tail.recv().await {
            Some(Ok(_)) => {}
            other => break hole(other),
        }
    };
    assert_eq!(told.0, from);
    // What is newer than the hole is still found.
    assert_eq!(seqs(&collect(reader.query(Filter::default(), 20).unwrap()).await).len(), 20);

    for segment in file::segments(directory.path()).unwrap() {
        std::fs::remove_file(segment.path).unwrap();
    }
    assert_eq!(hole(reader.query(newest, 10).unwrap().recv().await).0, 1);
}

#[test]
fn each_path_of_a_record_is_found() {
    let event = Event {
        paths: &["secret/apps/a", "secret/apps/b c\"", "sys/auth/userpass/carol"],
        ..Event::new(EventKind::Request, RequestId([1; 16]), "X", Status::Ok)
    };
    let of = |body: &str| format!("{{\"seq\":1,\"time\":\"2026-11-23T00:00:00.000Z\",{body}}}");
    let now = of(std::str::from_utf8(&event.body()).unwrap());
    // As it was written before there were lists.
    let before = of("\"kind\":\"request\",\"path\":\"secret/apps/a secret/apps/b sys/auth/userpass/carol\"");
    let found = |line: &str, path: &str| {
        let filter = Filter { path: Some(path.to_owned()), ..Filter::default() };
        filter.matches(line.as_bytes(), &Bounds::of(&filter))
    };
    for line in [&now, &before] {
        for path in ["secret/apps/a", "secret/apps", "secret", "sys/auth", "sys/auth/userpass/carol"] {
            assert!(found(line, path), "{path} in {line}");
        }
        for path in ["secret/app", "apps", "sys/auth/userpass/car", "secret/apps/a/b"] {
            assert!(!found(line, path), "{path} in {line}");
        }
    }
}

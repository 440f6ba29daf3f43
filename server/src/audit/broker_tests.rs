//! The broker as requests meet it: durable before it answers, bounded, closed in good order.

use std::{
    io,
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use super::*;
use crate::{
    audit::{Recovery, Usage, chain::LineParts, chain::link, file::Room},
    clock::{ManualClock, SystemClock},
    crypto::Key,
    model::Timestamp,
};

fn id(n: u32) -> RequestId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    RequestId(bytes)
}

fn read(n: u32) -> Event<'static> {
    Event { paths: &["secret/a"], ..Event::new(EventKind::Request, id(n), "Secrets.Get", Status::Ok) }
}

fn intent(n: u32) -> Event<'static> {
    Event { paths: &["secret/w"], ..Event::new(EventKind::Request, id(n), "Secrets.Put", Status::Pending) }
}

fn signing_key() -> SigningKey {
    SigningKey::from_seed(&Key::from_bytes(&[42; 32])).unwrap()
}

fn state() -> Box<dyn Fn() -> StoreState + Send> {
    Box::new(|| StoreState { batch_seq: 5, set_digest: [3; 32] })
}

fn open(config: &Config) -> (Broker, RecoveredLog) {
    Broker::open(config, Arc::new(SystemClock), vec![]).unwrap()
}

/// All lines of a directory; checks the chain on the way.
fn lines(config: &Config) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut head = [0; 32];
    for segment in crate::audit::file::segments(&config.directory).unwrap() {
        assert_eq!(segment.first_seq, lines.len() as u64 + 1);
        for line in std::fs::read_to_string(&segment.path).unwrap().lines() {
            let parts = LineParts::of(line).unwrap();
            assert_eq!(parts.seq, lines.len() as u64 + 1, "no gap");
            assert_eq!(parts.prev, head);
            assert_eq!(link(&head, parts.canonical.as_bytes()), parts.hash);
            head = parts.hash;
            lines.push(line.to_owned());
        }
    }
    lines
}

fn count(lines: &[String], kind: &str) -> usize {
    let kind = format!("\",\"kind\":\"{kind}\"");
    lines.iter().filter(|line| line.contains(&kind)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_records_form_one_chain() {
    for durability in [Durability::Fsync, Durability::Os] {
        form_one_chain(durability).await;
    }
}

async fn form_one_chain(durability: Durability) {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { segment_bytes: 200_000, durability, ..Config::new(directory.path().join("audit")) };
    let (broker, _) = open(&config);
    broker.unsealed(signing_key(), state(), "").await;
    let broker = Arc::new(broker);
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let broker = broker.clone();
            tokio::spawn(async move {
                for n in 0..50 {
                    let recorded = broker.record(&read(task * 50 + n)).await.unwrap();
                    assert_eq!(recorded.request_id(), id(task * 50 + n));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // Those that began while there was a key to sign with: the end of the log may be just long enough for one more.
    let segments = crate::audit::file::segments(&config.directory).unwrap();
    broker.sealed().await;
    broker.close().await;
    let lines = lines(&config);
    assert_eq!(count(&lines, "request"), 3200);
    assert!(count(&lines, "checkpoint") >= 3, "one each 1,024 records");
    let since: Vec<_> = lines.split(|line| line.contains("\"kind\":\"checkpoint\"")).collect();
    assert!(since.iter().all(|group| group.len() <= 1025));
    assert!(segments.len() > 2, "it rotated");
    for segment in &segments[1..] {
        let first = &lines[usize::try_from(segment.first_seq).unwrap() - 1];
        let before = &lines[usize::try_from(segment.first_seq).unwrap() - 2];
        assert!(first.contains("checkpoint") && before.contains("checkpoint"), "checkpoints on both sides");
    }
    assert!(broker.record(&read(0)).await.is_err(), "closed");
}

#[tokio::test]
async fn an_end_settles_its_request_before_the_caller_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, _) = open(&Config::new(directory.path()));
    let settled = Arc::new(Mutex::new(Vec::new()));
    let seen = settled.clone();
    broker.on_settled(move |ids, _| seen.lock().unwrap().extend_from_slice(ids));
    broker.record(&intent(1)).await.unwrap();
    broker.record(&intent(2)).await.unwrap();
    assert_eq!(*settled.lock().unwrap(), []);
    let recovered = EventKind::Recovered(Recovery::Applied);
    for (n, kind) in [(2, EventKind::Outcome), (1, recovered)] {
        broker.record(&Event::new(kind, id(n), "Secrets.Put", Status::Ok)).await.unwrap();
        assert_eq!(settled.lock().unwrap().last(), Some(&id(n)));
    }
    broker.close().await;
}

#[tokio::test]
async fn without_fsync_an_end_settles_with_the_next_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { durability: Durability::Os, ..Config::new(directory.path()) };
    let (broker, _) = open(&config);
    let settled = Arc::new(Mutex::new(Vec::new()));
    let seen = settled.clone();
    broker.on_settled(move |ids, _| seen.lock().unwrap().extend_from_slice(ids));
    broker.unsealed(signing_key(), state(), "").await;
    broker.record(&intent(1)).await.unwrap();
    broker.record(&Event::new(EventKind::Outcome, id(1), "Secrets.Put", Status::Ok)).await.unwrap();
    broker.sealed().await;
    assert_eq!(*settled.lock().unwrap(), [id(1)]);
}

/// What is told of the log must be on the disk: the store keeps it, and a log without it counts as an older copy.
#[tokio::test]
async fn how_far_the_log_is_told_is_never_ahead_of_the_disk() {
    for durability in [Durability::Fsync, Durability::Os] {
        let (fake, opened) = (Fake::default(), RecoveredLog::fresh());
        let config = Config { durability, ..Config::new("unused") };
        let clock = Arc::new(SystemClock);
        let broker = Broker::start(&config, clock, vec![], Box::new(fake.clone()), &opened).unwrap();
        let (disk, told) = (fake.clone(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&told);
        broker.on_settled(move |_, point| {
            let synced = disk.0.synced.load(Ordering::SeqCst);
            let lines =
                disk.0.appended.lock().unwrap()[..synced].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(point.seq, lines as u64);
            count.store(lines, Ordering::SeqCst);
        });
        fake.permit(1_000_000);
        for n in 0..20 {
            broker.record(&read(n)).await.unwrap();
        }
        broker.unsealed(signing_key(), state(), "").await;
        broker.sealed().await;
        assert!(told.load(Ordering::SeqCst) >= 22, "{durability:?}");
        broker.close().await;
        assert!(broker.health().failed.is_none(), "no assertion failed over there");
    }
}

#[tokio::test]
async fn goes_on_and_tells_open_intents_across_segments() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { segment_bytes: 2_000, ..Config::new(directory.path()) };
    let (broker, opened) = open(&config);
    assert_eq!((opened.next_seq, opened.last_checkpoint.is_none()), (1, true));
    broker.unsealed(signing_key(), state(), "").await;
    for n in 0..3 {
        broker.record(&intent(n)).await.unwrap();
    }
    broker.record(&Event::new(EventKind::Outcome, id(1), "Secrets.Put", Status::Ok)).await.unwrap();
    for n in 100..140 {
        broker.record(&read(n)).await.unwrap();
    }
    broker.record(&Event::new(EventKind::Outcome, id(0), "Secrets.Put", Status::Ok)).await.unwrap();
    broker.close().await;
    let written = lines(&config);
    assert!(count(&written, "carried") > 0);

    let (broker, opened) = open(&config);
    assert_eq!(opened.next_seq, written.len() as u64 + 1);
    let open_ids: Vec<_> = opened.open_intents.iter().map(|intent| intent.request_id).collect();
    assert_eq!(open_ids, [id(2)]);
    assert_eq!(opened.open_intents[0].paths, ["secret/w"]);
    let checkpoint = opened.last_checkpoint.unwrap();
    assert_eq!(checkpoint.state, StoreState { batch_seq: 5, set_digest: [3; 32] });
    checkpoint.verify(&signing_key().public_key()).unwrap();
    let recovered = Event::new(EventKind::Recovered(Recovery::Applied), id(2), "Secrets.Put", Status::Ok);
    broker.record(&recovered).await.unwrap();
    broker.close().await;
    assert_eq!(open(&config).1.open_intents, []);
}

/// A file that waits for a gate before each sync, and fails when told to.
#[derive(Clone, Default)]
struct Fake(Arc<FakeState>);

#[derive(Default)]
struct FakeState {
    appended: Mutex<Vec<u8>>,
    synced: AtomicUsize,
    permits: Mutex<usize>,
    permitted: Condvar,
    fail_sync: AtomicBool,
    fail_append: AtomicBool,
    full: AtomicBool,
    taken: AtomicBool,
    /// There is little room.
    tight: AtomicBool,
}

impl Fake {
    fn permit(&self, syncs: usize) {
        *self.0.permits.lock().unwrap() += syncs;
        self.0.permitted.notify_all();
    }
}

impl Log for Fake {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.0.fail_append.load(Ordering::SeqCst) {
            return Err(io::Error::other("disk on fire"));
        }
        self.0.appended.lock().unwrap().extend_from_slice(bytes);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        let mut permits = self.0.permits.lock().unwrap();
        while *permits == 0 {
            permits = self.0.permitted.wait(permits).unwrap();
        }
        *permits -= 1;
        if self.0.fail_sync.load(Ordering::SeqCst) {
            return Err(io::Error::other("disk on fire"));
        }
        self.0.synced.store(self.0.appended.lock().unwrap().len(), Ordering::SeqCst);
        Ok(())
    }
    fn start_segment(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn reserve(&mut self) -> io::Result<Room> {
        let tight = self.0.tight.load(Ordering::SeqCst);
        Ok(Room { bytes: if tight { 100_000 } else { 1 << 30 }, is_enough: true })
    }
    fn in_place(&self) -> io::Result<()> {
        match self.0.taken.load(Ordering::SeqCst) {
            true => Err(io::Error::other("taken away")),
            false => Ok(()),
        }
    }
    fn segment_bytes(&self) -> u64 {
        0
    }
    fn usage(&self) -> io::Result<Usage> {
        let used = if self.0.full.load(Ordering::SeqCst) { 99 } else { 1 };
        Ok(Usage { used, available: 100 - used })
    }
    fn close(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn with_fake(clock: Arc<dyn Clock>) -> (Arc<Broker>, Fake) {
    on_fake(&Config::new("unused"), clock)
}

fn on_fake(config: &Config, clock: Arc<dyn Clock>) -> (Arc<Broker>, Fake) {
    let fake = Fake::default();
    let broker = Broker::start(config, clock, vec![], Box::new(fake.clone()), &RecoveredLog::fresh());
    (Arc::new(broker.unwrap()), fake)
}

/// One for which the kernel is enough, once its thread has nothing to do: then a record is there at the first look.
async fn idle() -> (Arc<Broker>, Fake) {
    let config = Config { durability: Durability::Os, ..Config::new("unused") };
    let (broker, fake) = on_fake(&config, Arc::new(SystemClock));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let event = read(0);
        let mut recording = Box::pin(broker.record(&event));
        if let Poll::Ready(recorded) = futures_util::poll!(&mut recording) {
            recorded.unwrap();
            break;
        }
        recording.await.unwrap();
        assert!(std::time::Instant::now() < deadline, "nobody but the thread writes");
    }
    (broker, fake)
}

/// Nobody waits for the thread then, except in line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_log_is_written_by_who_comes_and_a_busy_one_is_not_waited_for() {
    let (broker, fake) = idle().await;
    let has = |text: &str| String::from_utf8(fake.0.appended.lock().unwrap().clone()).unwrap().contains(text);
    let unsealing = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.unsealed(signing_key(), state(), "").await }
    });
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !has("\"kind\":\"unsealed\"") {
        assert!(std::time::Instant::now() < deadline, "not unsealed");
        tokio::task::yield_now().await;
    }
    // Its first checkpoint waits for the disk, which stands still.
    let event = read(1);
    let mut recording = Box::pin(broker.record(&event));
    assert!(futures_util::poll!(&mut recording).is_pending());
    assert!(!has(&id(1).to_string()));
    fake.permit(1_000);
    recording.await.unwrap();
    unsealing.await.unwrap();
    broker.close().await;
    let text = String::from_utf8(fake.0.appended.lock().unwrap().clone()).unwrap();
    let mut head = [0; 32];
    for (line, seq) in text.lines().zip(1..) {
        let parts = LineParts::of(line).unwrap();
        assert!(parts.seq == seq && parts.prev == head && parts.fits(), "{line}");
        head = parts.hash;
    }
    let health = broker.health();
    assert_eq!((health.durable_seq, health.failed.is_none()), (text.lines().count() as u64, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_is_the_end_whoever_makes_it() {
    let (broker, fake) = idle().await;
    fake.0.fail_append.store(true, Ordering::SeqCst);
    assert!(matches!(broker.record(&read(1)).await, Err(AuditError::Unavailable { .. })));
    fake.0.fail_append.store(false, Ordering::SeqCst);
    let outcome = Event::new(EventKind::Outcome, id(1), "Secrets.Put", Status::Ok);
    for told in [broker.record(&read(2)).await.map(drop), broker.hand_over(&outcome)] {
        assert!(told.unwrap_err().to_string().contains("disk on fire"));
    }
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_recorded_before_it_is_durable() {
    let (broker, fake) = with_fake(Arc::new(SystemClock));
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let (broker, fake) = (broker.clone(), fake.clone());
            tokio::spawn(async move {
                broker.record(&read(n)).await.unwrap();
                let synced = fake.0.synced.load(Ordering::SeqCst);
                let text = String::from_utf8(fake.0.appended.lock().unwrap()[..synced].to_vec()).unwrap();
                assert!(text.contains(&id(n).to_string()), "answered before the sync");
            })
        })
        .collect();
    let release = tokio::task::spawn_blocking(move || fake.permit(100_000));
    for task in tasks {
        task.await.unwrap();
    }
    release.await.unwrap();
}

/// It has the line before the next record is answered, and settles it only then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_handed_over_is_on_the_disk_before_what_comes_after_it() {
    let (broker, fake) = with_fake(Arc::new(SystemClock));
    let settled = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&settled);
    fake.permit(2);
    broker.on_settled(move |ids, _| seen.lock().unwrap().extend_from_slice(ids));
    broker.record(&intent(1)).await.unwrap();
    *fake.0.permits.lock().unwrap() = 0;
    broker.hand_over(&Event::new(EventKind::Outcome, id(1), "Secrets.Put", Status::Ok)).unwrap();
    let after = read(2);
    let mut next = Box::pin(broker.record(&after));
    assert!(futures_util::poll!(&mut next).is_pending());
    assert_eq!(*settled.lock().unwrap(), [], "the disk stands still");
    fake.permit(1_000);
    next.await.unwrap();
    assert_eq!(*settled.lock().unwrap(), [id(1)]);
    broker.close().await;
    let text = String::from_utf8(fake.0.appended.lock().unwrap().clone()).unwrap();
    assert!(text.find("\"outcome\"") < text.find(&id(2).to_string()));
}

/// Nobody waits for it, and it is the end all the same; what was handed over then is never called settled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_dies_under_what_was_handed_over_ends_it() {
    let (broker, fake) = with_fake(Arc::new(SystemClock));
    let settled = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&settled);
    broker.on_settled(move |ids, _| seen.lock().unwrap().extend_from_slice(ids));
    fake.permit(100);
    broker.record(&intent(1)).await.unwrap();
    fake.0.fail_sync.store(true, Ordering::SeqCst);
    let outcome = Event::new(EventKind::Outcome, id(1), "Secrets.Put", Status::Ok);
    broker.hand_over(&outcome).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while broker.health().failed.is_none() {
        assert!(std::time::Instant::now() < deadline, "not noticed");
        tokio::task::yield_now().await;
    }
    assert!(broker.record(&read(2)).await.is_err() && broker.hand_over(&outcome).is_err());
    assert_eq!(*settled.lock().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_ends_it_for_everybody_and_for_good() {
    let (broker, fake) = with_fake(Arc::new(SystemClock));
    fake.0.fail_sync.store(true, Ordering::SeqCst);
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let broker = broker.clone();
            tokio::spawn(async move { broker.record(&read(n)).await.map(drop) })
        })
        .collect();
    fake.permit(1);
    for task in tasks {
        assert!(matches!(task.await.unwrap(), Err(AuditError::Unavailable { .. })));
    }
    fake.0.fail_sync.store(false, Ordering::SeqCst);
    fake.permit(100);
    let error = broker.record(&read(1)).await.unwrap_err();
    assert!(error.to_string().contains("disk on fire"));
    assert!(broker.health().failed.is_some());
    broker.sealed().await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_taken_away_ends_it_before_another_checkpoint() {
    let (broker, fake) = with_fake(Arc::new(SystemClock));
    fake.permit(1_000_000);
    broker.unsealed(signing_key(), state(), "").await;
    broker.record(&read(1)).await.unwrap();
    fake.0.taken.store(true, Ordering::SeqCst);
    let signed = |fake: &Fake| {
        let text = String::from_utf8(fake.0.appended.lock().unwrap().clone()).unwrap();
        text.matches("\"kind\":\"checkpoint\"").count()
    };
    let before = signed(&fake);
    // Nobody asks for anything: it is noticed all the same.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while broker.health().failed.is_none() {
        assert!(std::time::Instant::now() < deadline, "not noticed");
        tokio::task::yield_now().await;
    }
    assert!(matches!(broker.record(&read(2)).await, Err(AuditError::Unavailable { .. })));
    assert_eq!(signed(&fake), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses() {
    let (broker, fake) = with_fake(Arc::new(SystemClock));
    let mut waiting: Vec<_> = (0..20_000).map(|n| Box::pin(record(broker.clone(), n))).collect();
    let mut overloaded = 0;
    for future in &mut waiting {
        if let Poll::Ready(Err(AuditError::Overloaded)) = futures_util::poll!(future) {
            overloaded += 1;
        }
    }
    assert!(overloaded >= 20_000 - 8192 - 1024, "{overloaded}");
    fake.permit(100_000);
    drop(waiting);
    broker.close().await;
    let written = fake.0.appended.lock().unwrap().iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(written, 20_000 - overloaded + 2, "dropping a future takes no record back");
}

async fn record(broker: Arc<Broker>, n: u32) -> Result<(), AuditError> {
    broker.record(&read(n)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_it_until_there_is_space() {
    let (broker, fake) = with_fake(Arc::new(SystemClock));
    fake.permit(1_000_000);
    fake.0.full.store(true, Ordering::SeqCst);
    while broker.record(&read(1)).await.is_ok() {}
    assert!(broker.health().full && broker.health().failed.is_none());
    fake.0.full.store(false, Ordering::SeqCst);
    while broker.record(&read(1)).await.is_err() {
        tokio::task::yield_now().await;
    }
}

/// However full file and queue are, what was let in gets its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_let_in_gets_its_end_on_a_full_disk_and_in_a_full_queue() {
    let (broker, fake) = with_fake(Arc::new(SystemClock));
    fake.permit(1_000_000);
    let outcome = |n| Event::new(EventKind::Outcome, id(n), "Secrets.Put", Status::Ok);
    for n in 0..500 {
        broker.record(&intent(n)).await.unwrap();
    }
    fake.0.full.store(true, Ordering::SeqCst);
    while broker.record(&read(1)).await.is_ok() {}
    for n in 0..250 {
        broker.record(&outcome(n)).await.unwrap();
        assert!(broker.record(&intent(9_000 + n)).await.is_err(), "nothing more is let in");
    }
    fake.0.full.store(false, Ordering::SeqCst);
    while broker.record(&read(1)).await.is_err() {
        tokio::task::yield_now().await;
    }

    // The disk stands still, and the queue fills.
    *fake.0.permits.lock().unwrap() = 0;
    let mut waiting: Vec<_> = (0..20_000).map(|n| Box::pin(record(broker.clone(), n))).collect();
    let mut refused = 0;
    for future in &mut waiting {
        refused +=
            usize::from(matches!(futures_util::poll!(future), Poll::Ready(Err(AuditError::Overloaded))));
    }
    assert!(refused > 10_000, "{refused}");
    let mut ends: Vec<_> = (250..500).map(|n| Box::pin(end(broker.clone(), n))).collect();
    for end in &mut ends {
        assert!(futures_util::poll!(end).is_pending(), "it waits for the disk, and is not refused");
    }
    fake.permit(1_000_000);
    for end in ends {
        end.await.unwrap();
    }
}

async fn end(broker: Arc<Broker>, n: u32) -> Result<(), AuditError> {
    broker.record(&Event::new(EventKind::Outcome, id(n), "Secrets.Put", Status::Ok)).await.map(drop)
}

/// No more is let in than the file is sure to take, ends included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_let_in_than_there_is_room_for() {
    let fake = Fake::default();
    fake.0.tight.store(true, Ordering::SeqCst);
    let opened = RecoveredLog::fresh();
    let clock = Arc::new(SystemClock);
    let broker =
        Broker::start(&Config::new("unused"), clock, vec![], Box::new(fake.clone()), &opened).unwrap();
    fake.permit(1_000_000);
    let mut let_in = 0;
    while broker.record(&intent(let_in)).await.is_ok() {
        let_in += 1;
    }
    // 2,048 bytes and more are kept for each end.
    assert!((20..45).contains(&let_in), "{let_in}");
    for n in 0..let_in {
        broker.record(&Event::new(EventKind::Outcome, id(n), "Secrets.Put", Status::Ok)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_refusals_is_counted() {
    let (broker, fake) = with_fake(Arc::new(ManualClock::at(Timestamp::from_millis(5_000))));
    fake.permit(1_000_000);
    for n in 0..1_000 {
        let event = Event::new(EventKind::Request, id(n), "Secrets.Get", Status::Denied);
        broker.refuse(&event).await.unwrap();
    }
    broker.close().await;
    let text = String::from_utf8(fake.0.appended.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("\"kind\":\"request\"").count(), 10);
    let counted: u64 = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["count"].as_u64())
        .sum();
    assert_eq!(counted, 990, "also at the close");
    assert_eq!(broker.health().suppressed, 990);
}

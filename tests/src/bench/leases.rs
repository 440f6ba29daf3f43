//! Many leases: what they weigh, how long it takes to read and to look at all of them, and how late they end when many end at once.
//! In this process, on a store in memory and with an engine that takes no time: what is measured is the server's own part.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use strongroom_server::{
    barrier::{Applied, Barrier, Keyring},
    clock::{Clock, SystemClock},
    crypto::SystemEntropy,
    leases::{Lease, Leases},
    model::{LogPoint, Path, Pod, Principal, RequestId, SecretBytes, SessionId, StoreId, Timestamp, Verb},
    storage::memory::MemoryStore,
    tokens::Session,
};
use tokio::task::JoinSet;

use crate::{
    figures::{Bar, Figure},
    server::{Memory, memory_mib},
};

const LEASES: u32 = 100_000;
/// Written at a time, and ended: as the keeper does.
const AT_ONCE: usize = 32;
/// Until the first ends: by then all are written and read again.
const FIRST: Duration = Duration::from_secs(20);
/// From the first end to the last.
const ENDING: Duration = Duration::from_secs(10);
/// How often the keeper looks.
const TICK: Duration = Duration::from_millis(500);
const HOUR: Duration = Duration::from_secs(3600);

/// The group of rows. What a request did is settled by the audit log, for which the measurement stands in.
///
/// # Errors
/// The store failed.
pub async fn many() -> io::Result<Vec<Figure>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (now, entropy) = (clock.now(), Arc::new(SystemEntropy));
    let keyring = Keyring::create(&*entropy, now).map_err(io::Error::other)?;
    let (store, id) = (Arc::new(MemoryStore::new()), StoreId([1; 16]));
    let applied = Arc::<Applied>::default();
    let log = Arc::clone(&applied);
    let barrier = Barrier::open(store, id, keyring, entropy, Arc::clone(&clock), applied, Arc::default());
    let view = barrier.await.map_err(io::Error::other)?.view("sys/leases");

    let first = Arc::new(Leases::load(view.clone(), Arc::clone(&clock)).await.map_err(io::Error::other)?);
    write(&first, &log, clock.now().plus(FIRST)).await?;

    // The writer still has its own: what is added is what one server has of them.
    let before = memory_mib(std::process::id(), Memory::Now)?;
    let started = Instant::now();
    let leases = Arc::new(Leases::load(view, Arc::clone(&clock)).await.map_err(io::Error::other)?);
    let read = started.elapsed();
    let memory = memory_mib(std::process::id(), Memory::Now)? - before;

    let started = Instant::now();
    leases.review(|_| false).await;
    let looked = started.elapsed();
    let late = end_all(&leases, &log, &*clock).await?;
    let name = |what: &str| format!("{LEASES} leases: {what}");
    Ok(vec![
        Figure::plain(&name("memory"), memory, "MiB", Bar::AtMost(100.0)),
        Figure::plain(&name("read at an unseal"), ms(read), "ms", Bar::None),
        Figure::plain(&name("a look at the sessions of all"), ms(looked), "ms", Bar::None),
        Figure::plain(&name("all end within 10 s: how late, p99"), ms(late), "ms", Bar::AtMost(2000.0)),
    ])
}

async fn write(leases: &Arc<Leases>, log: &Arc<Applied>, first: Timestamp) -> io::Result<()> {
    let mut writers = JoinSet::new();
    for writer in 0..u32::try_from(AT_ONCE).unwrap_or(1) {
        let (leases, log) = (Arc::clone(leases), Arc::clone(log));
        writers.spawn(async move {
            for n in (writer..LEASES).step_by(AT_ONCE) {
                let data = SecretBytes::from(vec![b'x'; 120]);
                let lease = lease(n, first);
                let id = lease.id;
                leases.begin(lease, data).await.map_err(io::Error::other)?.made();
                log.settle(&[id], LogPoint::default());
            }
            Ok::<_, io::Error>(())
        });
    }
    writers.join_all().await.into_iter().collect()
}

/// One of a pod's, of which there are many.
fn lease(n: u32, first: Timestamp) -> Lease {
    let pod = n % 10_000;
    let principal = Principal::ServiceAccount {
        cluster: "main".into(),
        namespace: format!("ns-{}", pod % 100).into(),
        name: "app".into(),
        uid: "0d3c2c5e-1fd6-4d10-9d2a-3b5c1f5f4a11".into(),
        pod: Some(Pod {
            name: format!("app-{pod}").into(),
            uid: format!("0d3c2c5e-1fd6-4d10-9d2a-{pod:012}").into(),
            node: Some("node-1".into()),
        }),
    };
    let expires = first.plus(ENDING * n / LEASES);
    let mut id = [0; 16];
    id[..4].copy_from_slice(&n.to_be_bytes());
    let session = Session {
        id: SessionId(id),
        principal: Arc::new(principal),
        issued: first,
        expires: first.plus(HOUR),
        max_expires: first.plus(HOUR),
        ttl: HOUR,
    };
    Lease {
        id: RequestId(id),
        path: Path::parse(&format!("db-{}/reporting", n % 8))
            .unwrap_or_else(|_| unreachable!("it is a path")),
        verbs: vec![Verb::Use],
        what: format!("user sr_reporting_app_{n}").into(),
        session,
        issued: first,
        expires,
        max_expires: expires.plus(HOUR),
        ttl: HOUR,
        ending: None,
    }
}

/// Ends them as they are due, and says how late that was for all but a hundredth.
async fn end_all(leases: &Arc<Leases>, log: &Applied, clock: &dyn Clock) -> io::Result<Duration> {
    let (mut late, mut ending) = (Vec::new(), JoinSet::new());
    let mut tick = tokio::time::interval(TICK);
    while late.len() < LEASES as usize {
        while let Some(lease) = leases.take() {
            let leases = Arc::clone(leases);
            ending.spawn(async move { leases.remove(lease.id, lease.id).await.map(|()| lease) });
        }
        tokio::select! {
            _ = tick.tick() => {}
            Some(ended) = ending.join_next() => {
                let ended = ended.map_err(io::Error::other)?.map_err(io::Error::other)?;
                late.push(clock.now().since(ended.expires));
                log.settle(&[ended.id], LogPoint::default());
            }
        }
    }
    late.sort_unstable();
    Ok(late.get(late.len() * 99 / 100).copied().unwrap_or_default())
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

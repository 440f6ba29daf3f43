//! Leases over a real barrier: limits, what the store refuses, and news from elsewhere.

use super::*;
use crate::{
    auth::conformance::view,
    barrier::conformance,
    clock::ManualClock,
    model::{Principal, Verb},
    tokens::session_of,
};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn lease(n: u8) -> Lease {
    Lease {
        id: RequestId([n; 16]),
        path: Path::parse("database/reporting").unwrap(),
        verbs: vec![Verb::Use],
        what: "v-reporting-1".into(),
        session: session_of(Principal::Root),
        issued: NOW,
        expires: NOW.plus(HOUR),
        max_expires: NOW.plus(HOUR * 2),
        ttl: HOUR,
        ending: None,
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(NOW))
}

fn data() -> SecretBytes {
    SecretBytes::from(&b"drop the user"[..])
}

/// What is written is what is read, in all its fields; and nothing of an engine's data is in a Debug output.
#[tokio::test]
async fn a_lease_is_read_as_it_was_written() {
    let view = view("sys/leases").await;
    let leases = Leases::load(view.clone(), clock()).await.unwrap();
    leases.begin(lease(1), data()).await.unwrap().made();
    let again = Leases::load(view, clock()).await.unwrap();
    assert_eq!(*again.find(RequestId([1; 16])).unwrap(), lease(1));
    let stored = again.read(RequestId([1; 16])).await.unwrap().unwrap();
    assert_eq!(stored.data.expose(), data().expose());
    assert!(matches!(again.begin(lease(1), data()).await, Err(LeaseError::Barrier(BarrierError::Conflict))));
}

#[tokio::test]
async fn one_that_is_held_is_not_ended() {
    let clock = Arc::new(ManualClock::at(NOW));
    let leases = Leases::load(view("sys/leases").await, clock.clone()).await.unwrap();
    let making = leases.begin(lease(1), data()).await.unwrap();
    clock.advance(HOUR * 3);
    assert!(leases.take().is_none(), "it is still being made");
    assert!(matches!(leases.hold(RequestId([1; 16])).await, Err(LeaseError::Ending(_))));
    making.made();
    assert_eq!(leases.take().unwrap().id, RequestId([1; 16]));
    assert!(leases.take().is_none(), "one attempt at a time");
}

/// Writing down why it has to end does not make it due again; somebody who asks for it does.
#[tokio::test]
async fn what_failed_waits_for_its_turn() {
    let clock = Arc::new(ManualClock::at(NOW));
    let view = view("sys/leases").await;
    let leases = Leases::load(view.clone(), clock.clone()).await.unwrap();
    leases.begin(lease(1), data()).await.unwrap().made();
    clock.advance(HOUR);
    leases.failed(&leases.take().unwrap(), "away").await;
    assert!(leases.take().is_none());
    let again = Leases::load(view, clock.clone()).await.unwrap();
    assert_eq!(again.find(RequestId([1; 16])).unwrap().ending, Some(Cause::Expired), "it is written down");
    clock.advance(Duration::from_secs(2));
    leases.failed(&leases.take().unwrap(), "away").await;
    assert!(leases.take().is_none());
    leases.end(&[RequestId([1; 16])], Cause::Revoked, None).await.unwrap();
    assert!(leases.take().is_some());
}

impl conformance::Subject for Leases {
    async fn load(house: &conformance::House) -> Self {
        let leases = Leases::load(house.barrier().await.view("sys/leases"), clock()).await.unwrap();
        if leases.counts() == Counts::default() {
            leases.begin(lease(1), data()).await.unwrap().made();
            leases.begin(lease(2), data()).await.unwrap().made();
        }
        leases
    }

    fn derived(&self) -> &dyn Derived {
        self
    }

    /// One is new, one has to end, and one is gone.
    async fn change(&self) {
        self.begin(lease(3), data()).await.unwrap().made();
        self.end(&[RequestId([1; 16])], Cause::Revoked, None).await.unwrap();
        self.remove(RequestId([2; 16]), RequestId([9; 16])).await.unwrap();
    }

    async fn shows(&self) -> bool {
        let ending = |n| self.find(RequestId([n; 16])).ok().map(|lease| lease.ending);
        match (ending(1), ending(2), ending(3)) {
            (Some(Some(Cause::Revoked)), None, Some(None)) => true,
            (Some(None), Some(None), None) => false,
            other => panic!("a part of it: {other:?}"),
        }
    }

    fn is_empty(&self) -> bool {
        self.counts() == Counts::default()
    }
}

#[tokio::test]
async fn leases_follow_the_store() {
    conformance::check::<Leases>().await;
}

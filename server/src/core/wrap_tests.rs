//! Wrapped answers through the pipeline: what leaves is a token, and every opening stands in the log.

use std::{sync::Arc, time::Duration};

use super::{
    context::Origin,
    error::Error,
    handle,
    lease_tests::mount,
    request::{Action, Answer, Request, Wrap},
    tests::{House, anywhere, shape},
    wrap::{Unwrapped, unwrap},
};
use crate::{
    engines::lent::{Lend, World},
    model::{Path, RequestId, SecretBytes},
    storage::fault::{Fault, Operation},
};
use strongroom_proto::Reason;

const TTL: Duration = Duration::from_secs(60);

async fn house(world: &str) -> (House, SecretBytes, Arc<World>) {
    let (house, root) = House::open().await;
    mount(&house, &root, "lent", world).await;
    (house, root, World::named(world))
}

fn origin(number: u8, name: &'static str) -> Origin {
    Origin { id: RequestId([number; 16]), name, peer: None }
}

/// The token of something lent.
async fn lend(
    house: &House,
    root: &SecretBytes,
    number: u8,
    name: &'static str,
) -> Result<SecretBytes, Error> {
    let operation = Box::new(Lend { name, ttl: TTL * 10, max: TTL * 20 });
    let paths = vec![Path::parse("lent/things").unwrap()];
    let action = Action::Wrap { paths, operation, wrap: Wrap { operation: "Lent.Lend", ttl: TTL } };
    let request = Request {
        origin: origin(number, "Wrapping.Wrap"),
        slot: anywhere(),
        bearer: Some(SecretBytes::from(root.expose())),
        action: Ok(action),
    };
    match handle(&house.core, request).await? {
        Answer::Wrapped { token, what, .. } => {
            assert_eq!(what.as_deref(), Some(name));
            Ok(token)
        }
        _ => panic!("it was told"),
    }
}

async fn open(house: &House, number: u8, token: &SecretBytes) -> Result<Unwrapped, Error> {
    let token = SecretBytes::from(token.expose());
    unwrap(&house.core, origin(number, "Wrapping.Unwrap"), anywhere(), token).await
}

#[tokio::test]
async fn what_is_wrapped_is_told_once_and_the_log_has_all_of_it() {
    let (house, root, world) = house("wrapped").await;
    let token = lend(&house, &root, 1, "thing").await.unwrap();
    assert_eq!(world.things(), ["thing"]);
    let wrapped = house.records("Wrapping.Wrap");
    assert_eq!(shape(&wrapped), [("request", "pending", ""), ("outcome", "ok", "")]);
    assert_eq!(wrapped[0]["target"], "Lent.Lend for 60 s");

    let Unwrapped { about, answer } = open(&house, 2, &token).await.unwrap();
    assert_eq!((&*about.by, about.path.as_str(), answer.is_empty()), ("root", "lent/things", false));
    assert_eq!(open(&house, 3, &token).await.err().unwrap().reason(), Reason::AlreadyOpened);
    let records = house.records("Wrapping.Unwrap");
    assert_eq!(
        shape(&records),
        [("request", "pending", ""), ("outcome", "ok", ""), ("request", "denied", "ALREADY_OPENED")]
    );
    for record in &records {
        assert_eq!(record["path"], "lent/things");
    }
    assert_eq!(records[0]["objects"][0], format!("answer {} of Lent.Lend", about.id));
    let all = format!("{wrapped:?}{records:?}");
    assert!(!all.contains(token.expose_str().unwrap()) && !all.contains("srw1_"));

    // Junk is a stranger's refusal.
    let junk = SecretBytes::from("srw1_no");
    assert_eq!(open(&house, 4, &junk).await.err().unwrap().reason(), Reason::NotFound);
}

#[tokio::test]
async fn its_time_is_over() {
    let (house, root, _) = house("overdue").await;
    let token = lend(&house, &root, 1, "thing").await.unwrap();
    house.clock.advance(TTL);
    assert_eq!(open(&house, 2, &token).await.err().unwrap().reason(), Reason::NotFound);
}

/// Nobody has the token of what could not be kept, so nobody has what it was for.
#[tokio::test]
async fn what_could_not_be_wrapped_is_unmade() {
    let (house, root, _) = house("unkept").await;
    let lease = || house.core.unsealed().unwrap().leases.counts();
    let held = house.store.hold(Operation::Commit);
    let (core, bearer) = (&house, SecretBytes::from(root.expose()));
    let (result, ()) = tokio::join!(lend(core, &bearer, 1, "thing"), async {
        // The lease is written, and then the answer is not.
        let lease = held.reached().await;
        house.store.inject(Operation::Commit, Fault::ReadOnly);
        lease.release();
    });
    assert!(result.is_err());
    assert_eq!(lease().live, 0, "it is to be ended");
}

#[tokio::test]
async fn an_opening_that_is_not_written_tells_nothing_and_works_later() {
    let (house, root, _) = house("later").await;
    let token = lend(&house, &root, 1, "thing").await.unwrap();
    house.store.inject(Operation::Commit, Fault::ReadOnly);
    assert_eq!(open(&house, 2, &token).await.err().unwrap().reason(), Reason::ReadOnly);
    open(&house, 3, &token).await.unwrap();
}

/// Of many at once one has it, and no intent stays without its end.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_has_it() {
    let (house, root, _) = house("race").await;
    let token = lend(&house, &root, 1, "thing").await.unwrap();
    let mut openings = tokio::task::JoinSet::new();
    for number in 10..42 {
        let (core, token) = (Arc::clone(&house.core), SecretBytes::from(token.expose()));
        openings.spawn(async move {
            unwrap(&core, origin(number, "Wrapping.Unwrap"), anywhere(), token).await.is_ok()
        });
    }
    let opened = openings.join_all().await.into_iter().filter(|opened| *opened).count();
    assert_eq!(opened, 1);
    let records = house.records("Wrapping.Unwrap");
    let count = |status: &str| records.iter().filter(|record| record["status"] == status).count();
    let outcomes = records.iter().filter(|record| record["kind"] == "outcome").count();
    assert_eq!(count("pending"), outcomes);
}

/// A crash between the opening and its record: the next unseal says what became of it.
#[tokio::test]
async fn after_a_crash_the_log_says_whether_it_was_opened() {
    let (house, root, _) = house("crash").await;
    let token = lend(&house, &root, 1, "thing").await.unwrap();
    house.store.inject(Operation::Commit, Fault::UnknownAfter);
    assert!(open(&house, 2, &token).await.is_err());
    let house = house.again().await;
    let records = house.records("Wrapping.Unwrap");
    assert!(records.iter().any(|record| record["status"] == "pending"));
    assert_eq!(open(&house, 3, &token).await.err().unwrap().reason(), Reason::AlreadyOpened);
}

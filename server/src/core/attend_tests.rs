//! What engines have to do by themselves is done once, on the record, and tried again with patience.

use std::{sync::Arc, time::Duration};

use super::{
    lease_tests::mount,
    tests::{House, shape},
};
use crate::{clock::Clock, engines::lent::World, model::SecretBytes};

const MINUTE: Duration = Duration::from_secs(60);

async fn house(world: &str) -> (House, SecretBytes, Arc<World>) {
    let (house, root) = House::open().await;
    mount(&house, &root, "lent", world).await;
    (house, root, World::named(world))
}

#[tokio::test]
async fn what_is_due_is_done_once_and_recorded() {
    let (house, _, world) = house("due").await;
    world.owe("one", house.clock.now().plus(MINUTE));
    house.core.attend_once().await;
    assert_eq!((world.owed(), world.unmakings()), (1, 0), "not before its time");

    house.clock.advance(MINUTE);
    house.core.attend_once().await;
    house.core.attend_once().await;
    assert_eq!((world.owed(), world.unmakings()), (0, 1));
    let records = house.records("Upkeep.Attend");
    assert_eq!(shape(&records), [("request", "pending", ""), ("outcome", "ok", "")]);
    assert!(records.iter().all(|record| record["principal"].is_null()));
    assert_eq!((&records[0]["path"], &records[0]["objects"][0]), (&"lent/one".into(), &"duty one".into()));
}

#[tokio::test]
async fn what_fails_waits_longer_each_time_and_holds_up_no_other_mount() {
    let (house, root, world) = house("tired").await;
    mount(&house, &root, "well", "well").await;
    let well = World::named("well");
    for name in ["a", "b", "c", "d", "e"] {
        world.owe(name, house.clock.now());
    }
    well.owe("one", house.clock.now());
    world.be_away(true);
    house.core.attend_once().await;
    assert_eq!((well.owed(), world.owed()), (0, 5));
    assert_eq!(world.unmakings(), 3, "three failures one after the other are enough for a round");
    assert_eq!(shape(&house.records("Upkeep.Attend")).iter().filter(|line| line.1 == "error").count(), 3);

    house.core.attend_once().await;
    assert_eq!(world.unmakings(), 5, "only those that were not tried");
    house.core.attend_once().await;
    assert_eq!(world.unmakings(), 5);
    house.clock.advance(MINUTE);
    house.core.attend_once().await;
    house.core.attend_once().await;
    assert_eq!(world.unmakings(), 10);
    house.clock.advance(MINUTE);
    house.core.attend_once().await;
    assert_eq!(world.unmakings(), 10, "two minutes after the second failure");

    world.be_away(false);
    house.clock.advance(MINUTE);
    house.core.attend_once().await;
    assert_eq!((world.owed(), world.unmakings()), (0, 15));
    assert!(house.core.failing.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_due_any_more_is_forgotten_and_without_a_record_nothing_is_done() {
    let (house, _, world) = house("forgetful").await;
    world.owe("one", house.clock.now());
    world.be_away(true);
    house.core.attend_once().await;
    assert_eq!(house.core.failing.lock().unwrap().len(), 1);
    world.owe("one", house.clock.now().plus(MINUTE * 600));
    house.core.attend_once().await;
    assert!(house.core.failing.lock().unwrap().is_empty());

    world.be_away(false);
    world.owe("one", house.clock.now());
    house.core.audit.close().await;
    house.core.attend_once().await;
    assert_eq!((world.owed(), world.unmakings()), (1, 1));
}

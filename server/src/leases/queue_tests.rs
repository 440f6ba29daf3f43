//! The queue against a model: whatever happens in whatever order, it never does what it must not.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::*;

const LANES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Set {
        id: u8,
        after: u64,
    },
    Remove(u8),
    /// Takes all there is, as the keeper does.
    Take,
    /// The running one at this place, modulo how many there are.
    Fail(usize),
    Succeed(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<u8>(), 0..90_000_u64).prop_map(|(id, after)| Step::Set { id, after }),
        1 => any::<u8>().prop_map(Step::Remove),
        4 => Just(Step::Take),
        3 => any::<usize>().prop_map(Step::Fail),
        3 => any::<usize>().prop_map(Step::Succeed),
        3 => (1..60_000_u64).prop_map(Step::Pass),
    ]
}

fn id(n: u8) -> RequestId {
    let mut id = [n.wrapping_mul(37); 16];
    id[15] = n;
    RequestId(id)
}

fn lane(n: u8) -> &'static str {
    LANES[usize::from(n) % LANES.len()]
}

fn later(now: Timestamp, millis: u64) -> Timestamp {
    now.plus(Duration::from_millis(millis))
}

proptest! {
    #[test]
    fn it_keeps_its_promises(steps in vec(step(), 1..200)) {
        let (mut queue, mut now) = (Queue::default(), Timestamp::from_millis(1_000_000));
        let mut waiting: BTreeMap<u8, Timestamp> = BTreeMap::new();
        let mut running: BTreeSet<u8> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Set { id: n, after } => {
                    let due = later(now, after);
                    queue.set(lane(n), id(n), due);
                    if !running.contains(&n) {
                        waiting.insert(n, due);
                    }
                }
                Step::Remove(n) => {
                    queue.remove(id(n));
                    waiting.remove(&n);
                    running.remove(&n);
                }
                Step::Take => {
                    let mut last: BTreeMap<&str, Timestamp> = BTreeMap::new();
                    while let Some(taken) = queue.take(now) {
                        let n = taken.0[15];
                        prop_assert!(!running.contains(&n), "handed out twice");
                        let due = waiting.remove(&n).expect("it was waiting");
                        prop_assert!(due <= now, "before its time");
                        prop_assert!(last.insert(lane(n), due).is_none_or(|before| before <= due), "out of order");
                        running.insert(n);
                        let beside = running.iter().filter(|other| lane(**other) == lane(n)).count();
                        prop_assert!(beside <= PER_LANE && running.len() <= AT_ONCE);
                    }
                }
                Step::Fail(at) if !running.is_empty() => {
                    let n = *running.iter().nth(at % running.len()).unwrap();
                    running.remove(&n);
                    queue.failed(id(n), now);
                    let (failures, due) = queue.of(id(n)).expect("what failed is never dropped");
                    prop_assert!(failures > 0 && due > now && due <= now.plus(LAST_RETRY * 2));
                    waiting.insert(n, due);
                }
                Step::Succeed(at) if !running.is_empty() => {
                    let n = *running.iter().nth(at % running.len()).unwrap();
                    running.remove(&n);
                    queue.succeeded(id(n));
                    prop_assert!(queue.of(id(n)).is_none());
                }
                Step::Fail(_) | Step::Succeed(_) => {}
                Step::Pass(millis) => now = later(now, millis),
            }
        }
        // Whatever happened: with time, and attempts that succeed, all of it ends.
        let mut left: BTreeSet<u8> = waiting.keys().copied().chain(running.iter().copied()).collect();
        for n in running {
            queue.succeeded(id(n));
            left.remove(&n);
        }
        for _ in 0..1_000 {
            now = later(now, 10_000);
            while let Some(taken) = queue.take(now) {
                queue.succeeded(taken);
                left.remove(&taken.0[15]);
            }
        }
        prop_assert!(left.is_empty(), "{left:?} are never ended");
        prop_assert!(queue.lanes.is_empty() && queue.items.is_empty() && queue.running == 0);
    }
}

/// A lane that fails is asked with one at a time, less and less often; the others do not notice.
#[test]
fn a_failing_lane_is_not_stormed() {
    let (mut queue, start) = (Queue::default(), Timestamp::from_millis(0));
    for n in 0..200 {
        queue.set("down", id(n), start);
    }
    let (mut attempts, mut now) = (0, start);
    let hour = start.plus(Duration::from_secs(3600));
    while now < hour {
        let taken: Vec<_> = std::iter::from_fn(|| queue.take(now)).collect();
        attempts += taken.len();
        taken.into_iter().for_each(|id| queue.failed(id, now));
        now = later(now, 500);
    }
    assert!((15..60).contains(&attempts), "{attempts} attempts in an hour of 200 that are due");
    queue.set("up", id(250), now);
    assert_eq!(queue.take(now), Some(id(250)), "another lane goes on");
    queue.succeeded(id(250));

    // It is back: the first that succeeds opens the lane, and all go in their order.
    now = now.plus(LAST_RETRY * 2);
    let mut ended = 0;
    while let Some(first) = queue.take(now) {
        queue.succeeded(first);
        ended += 1;
    }
    assert_eq!(ended, 200);
}

/// One that cannot be ended holds nobody up.
#[test]
fn one_bad_lease_waits_alone() {
    let (mut queue, mut now) = (Queue::default(), Timestamp::from_millis(0));
    queue.set("lane", id(0), now);
    for n in 1..=100 {
        queue.set("lane", id(n), later(now, u64::from(n) * 1_000));
    }
    let mut ended = 0;
    for _ in 0..110 {
        now = later(now, 1_000);
        while let Some(taken) = queue.take(now) {
            if taken == id(0) {
                queue.failed(taken, now);
            } else {
                queue.succeeded(taken);
                ended += 1;
            }
        }
    }
    assert_eq!(ended, 100);
    assert!(queue.of(id(0)).is_some_and(|(failures, _)| (5..10).contains(&failures)));
}

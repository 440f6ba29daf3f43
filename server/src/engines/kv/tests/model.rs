//! Random operations, compared with a simple model in maps.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const PATHS: [&str; 5] = ["s/a", "s/a/b", "s/a/b/c", "s/d/e", "s/d/f"];

#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize, Option<u64>),
    Delete(usize, Vec<u64>),
    Undelete(usize, Vec<u64>),
    Destroy(usize, Vec<u64>),
    DestroyAll(usize),
    Keep(usize, u32),
    List,
    Anew,
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..PATHS.len();
    let versions = proptest::collection::vec(1u64..6, 1..3);
    let size = prop_oneof![Just(3usize), Just(4090), Just(70_000)];
    prop_oneof![
        6 => (at.clone(), size, proptest::option::weighted(0.2, 0u64..4)).prop_map(|(p, s, e)| Step::Put(p, s, e)),
        2 => (at.clone(), versions.clone()).prop_map(|(p, v)| Step::Delete(p, v)),
        2 => (at.clone(), versions.clone()).prop_map(|(p, v)| Step::Undelete(p, v)),
        2 => (at.clone(), versions).prop_map(|(p, v)| Step::Destroy(p, v)),
        2 => at.clone().prop_map(Step::DestroyAll),
        1 => (at, 1u32..4).prop_map(|(p, n)| Step::Keep(p, n)),
        2 => Just(Step::List),
        1 => Just(Step::Anew),
    ]
}

#[derive(Clone, Default)]
struct Version {
    value: Vec<u8>,
    deleted: bool,
    destroyed: bool,
}

#[derive(Clone)]
struct Modelled {
    versions: BTreeMap<u64, Version>,
    current: u64,
    keep: usize,
}

type World = BTreeMap<&'static str, Modelled>;

/// Does the step in the model; whether it should work.
fn expect(world: &mut World, step: &Step, byte: u8) -> bool {
    match step {
        Step::Put(at, size, expected) => {
            let current = world.get(PATHS[*at]).map_or(0, |secret| secret.current);
            if expected.is_some_and(|expected| expected != current) {
                return false;
            }
            let fresh = || Modelled { versions: BTreeMap::new(), current: 0, keep: 10 };
            let secret = world.entry(PATHS[*at]).or_insert_with(fresh);
            secret.current += 1;
            secret
                .versions
                .insert(secret.current, Version { value: vec![byte; *size], ..Version::default() });
            while secret.versions.len() > secret.keep {
                secret.versions.pop_first();
            }
            true
        }
        Step::Delete(at, wanted) => {
            change(world, *at, wanted, |version| version.deleted |= !version.destroyed)
        }
        Step::Undelete(at, wanted) => {
            let destroyed = |secret: &Modelled| {
                wanted
                    .iter()
                    .any(|wanted| secret.versions.get(wanted).is_some_and(|version| version.destroyed))
            };
            if world.get(PATHS[*at]).is_some_and(destroyed) {
                return false;
            }
            change(world, *at, wanted, |version| version.deleted = false)
        }
        Step::Destroy(at, wanted) => change(world, *at, wanted, |version| version.destroyed = true),
        Step::DestroyAll(at) => world.remove(PATHS[*at]).is_some(),
        Step::Keep(at, keep) => {
            world.get_mut(PATHS[*at]).map(|secret| secret.keep = *keep as usize).is_some()
        }
        Step::List | Step::Anew => true,
    }
}

fn change(world: &mut World, at: usize, wanted: &[u64], change: impl Fn(&mut Version)) -> bool {
    let Some(secret) = world.get_mut(PATHS[at]) else { return false };
    if wanted.iter().any(|version| !secret.versions.contains_key(version)) {
        return false;
    }
    for version in wanted {
        secret.versions.get_mut(version).into_iter().for_each(&change);
    }
    true
}

async fn really(shelf: &mut Arc<Shelf>, step: &Step, byte: u8) -> bool {
    let (at, operation) = match step.clone() {
        Step::Put(at, size, expected) => (at, put(&vec![byte; size], expected)),
        Step::Delete(at, versions) => (at, Operation::Delete { versions }),
        Step::Undelete(at, versions) => (at, Operation::Undelete { versions }),
        Step::Destroy(at, versions) => (at, Operation::Destroy { versions, all: false }),
        Step::DestroyAll(at) => (at, Operation::Destroy { versions: Vec::new(), all: true }),
        Step::Keep(at, keep) => {
            (at, Operation::UpdateMetadata { custom: None, max_versions: Some(keep), cas_required: None })
        }
        Step::List => {
            for folder in ["s", "s/a", "s/a/b", "s/d"] {
                names(shelf, folder).await;
            }
            return true;
        }
        Step::Anew => {
            *shelf = Arc::new(on(shelf.view.clone()));
            return true;
        }
    };
    write(shelf, PATHS[at], operation).await.is_ok()
}

async fn compare(shelf: &Arc<Shelf>, world: &World) {
    for at in PATHS {
        let Some(secret) = world.get(at) else {
            assert!(matches!(metadata(shelf, at).await, Err(Error::NotFound)), "{at}");
            continue;
        };
        let known = metadata(shelf, at).await.unwrap();
        assert_eq!(known.current_version, secret.current);
        assert_eq!(known.versions.len(), secret.versions.len());
        for (number, version) in &secret.versions {
            match value(shelf, at, Some(*number)).await {
                Ok(value) => assert!(!version.deleted && !version.destroyed && value == version.value),
                Err(Error::Destroyed { .. }) => assert!(version.destroyed),
                Err(Error::Deleted { .. }) => assert!(version.deleted && !version.destroyed),
                Err(error) => panic!("{at} {number}: {error}"),
            }
        }
    }
    assert_eq!(walked(shelf, "s", ALL).await, world.keys().copied().collect::<Vec<_>>());
    for folder in ["s", "s/a", "s/a/b", "s/d"] {
        let below = world.keys().filter_map(|at| at.strip_prefix(folder)?.strip_prefix('/'));
        let level: BTreeSet<String> = below
            .map(|rest| {
                rest.split_once('/').map_or_else(|| rest.to_owned(), |(first, _)| format!("{first}/"))
            })
            .collect();
        assert_eq!(names(shelf, folder).await, level.into_iter().collect::<Vec<_>>(), "{folder}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn kv_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Arc::new(MemoryStore::new());
            let mut shelf = shelf_on(store.clone()).await;
            let mut world = World::new();
            for (number, step) in steps.iter().enumerate() {
                let expected = expect(&mut world, step, number as u8);
                assert_eq!(really(&mut shelf, step, number as u8).await, expected, "{step:?}");
                compare(&shelf, &world).await;
            }
            for at in PATHS {
                let _ = destroy_all(&shelf, at).await;
            }
            // Only the digest's record: no chunk and no folder outlives its secret.
            assert!(store.scan(&[], None, 99).await.unwrap().len() <= 1);
        });
    }
}

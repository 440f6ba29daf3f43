//! A byte, a page, an end, another file.

use super::*;

/// Commits of the small store.
const COMMITS: u64 = 60;
/// Most records that one damaged page of the tree takes with it, when older copies of it are gone.
const PAGE_OF_RECORDS: usize = 16;

/// A store of one segment that was opened twice and stopped, and what it held after each commit.
async fn small(root: &TempDir) -> (PathBuf, Vec<Content>) {
    let directory = root.path().join("data");
    let mut states = fill(&SledStore::open(options(&directory)).unwrap(), 0, COMMITS / 2).await;
    states.extend(fill(&SledStore::open(options(&directory)).unwrap(), COMMITS / 2, COMMITS / 2).await);
    (directory, states)
}

/// The same with several segments, of which some were used again.
async fn several(root: &TempDir) -> (PathBuf, Vec<Content>) {
    let (directory, mut states) = small(root).await;
    for commits in [0..30, 30..50] {
        let store = SledStore::open(options(&directory)).unwrap();
        for commit in commits {
            let (batch, mut now) = (large(commit), states.last().unwrap().clone());
            apply(&mut now, &batch);
            store.commit(batch).await.unwrap();
            states.push(now);
        }
    }
    (directory, states)
}

/// What became of a damaged copy.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Started,
    /// Records that salvage did not bring back as they were, and records that had been deleted.
    Refused(usize),
}

/// Starts a copy to which `how` was done. It has everything, or it is refused as it was and salvage invents nothing.
async fn fate(directory: &Path, states: &[Content], what: &str, how: impl FnOnce(&Path)) -> Fate {
    let root = TempDir::new().unwrap();
    let (copied, all) = (root.path().join("data"), states.last().unwrap());
    copy(directory, &copied);
    how(&copied);
    let before = bytes(&copied);
    match SledStore::open(options(&copied)) {
        Ok(store) => {
            assert!(contents(&store).await == *all, "{what}: it started without something");
            Fate::Started
        }
        Err(OpenError::NotWhole { .. } | OpenError::Damaged { .. } | OpenError::Format(_)) => {
            assert!(bytes(&copied) == before, "{what}: the refused start wrote");
            if !copied.join("db").exists() {
                return Fate::Refused(all.len());
            }
            let saved = salvaged(&copied);
            assert!(bytes(&copied) == before, "{what}: salvage wrote");
            for (key, value) in &saved {
                let once = states.iter().any(|state| state.get(key) == Some(value));
                assert!(once, "{what}: a record that never was");
            }
            let lost = all.iter().filter(|(key, value)| saved.get(*key) != Some(value)).count();
            Fate::Refused(lost + saved.keys().filter(|key| !all.contains_key(*key)).count())
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

fn change(directory: &Path, name: &str, how: impl FnOnce(&mut Vec<u8>)) {
    let path = directory.join(name);
    let mut content = fs::read(&path).unwrap();
    how(&mut content);
    fs::write(path, content).unwrap();
}

#[tokio::test]
async fn a_flipped_byte_is_refused_untouched_or_costs_nothing() {
    let root = TempDir::new().unwrap();
    let (directory, states) = small(&root).await;
    let used = fs::read(directory.join("db")).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    let mut refused = 0;
    for (round, at) in (0..used).step_by(used / 24).enumerate() {
        let flip = |copied: &Path| change(copied, "db", |db| db[at] ^= 1 << (round % 8));
        match fate(&directory, &states, &format!("byte {at}"), flip).await {
            Fate::Started => {}
            Fate::Refused(lost) => {
                refused += 1;
                assert!(lost <= 1, "byte {at}: {lost} lost");
            }
        }
    }
    assert!(refused > 18, "{refused} refused");
}

#[tokio::test]
async fn several_segments_are_as_safe_as_one() {
    let root = TempDir::new().unwrap();
    let (directory, states) = several(&root).await;
    let db = fs::read(directory.join("db")).unwrap();
    assert!(db.len() > 2 * SEGMENT_BYTES, "{} bytes are not several segments", db.len());
    let used: Vec<usize> =
        (0..db.len()).step_by(4096).filter(|at| db[*at..].iter().take(4096).any(|b| *b != 0)).collect();
    let (mut dice, mut refused) = (Dice(1), 0);
    for round in 0..16 {
        let at = used[dice.below(used.len())] + dice.below(4096);
        let what = format!("round {round}, byte {at}");
        let done = fate(&directory, &states, &what, |copied| {
            change(copied, "db", |db| match round % 4 {
                0 => db.truncate(at),
                1 => db[at / 4096 * 4096..].iter_mut().take(4096).for_each(|byte| *byte = 0),
                _ => db[at] ^= 1 << (round % 8),
            });
        });
        if let Fate::Refused(lost) = done.await {
            refused += 1;
            assert!(lost <= PAGE_OF_RECORDS || round % 4 == 0, "{what}: {lost} lost");
        }
    }
    assert!(refused > 4, "{refused} refused");
}

#[tokio::test]
async fn the_heads_of_segments_are_missed() {
    let root = TempDir::new().unwrap();
    let (directory, states) = several(&root).await;
    let length = fs::metadata(directory.join("db")).unwrap().len() as usize;
    for at in (0..length).step_by(SEGMENT_BYTES) {
        let what = format!("header at {at}");
        let flip = |copied: &Path| change(copied, "db", |db| db[at + 5] ^= 4);
        match fate(&directory, &states, &what, flip).await {
            Fate::Started | Fate::Refused(0) => {}
            Fate::Refused(lost) => panic!("{what}: {lost} lost"),
        }
    }
}

#[tokio::test]
async fn the_small_files_cost_nothing() {
    let root = TempDir::new().unwrap();
    let (directory, states) = small(&root).await;
    let names = bytes(&directory).into_keys().map(|path| path.file_name().unwrap().to_owned());
    for name in names.filter(|name| name != "db" && name != "LOCK") {
        let name = name.to_str().unwrap();
        let length = fs::metadata(directory.join(name)).unwrap().len() as usize;
        for at in (0..length).step_by(length.div_ceil(10).max(1)) {
            let flip = |copied: &Path| change(copied, name, |content| content[at] ^= 1);
            let fate = fate(&directory, &states, &format!("byte {at} of {name}"), flip).await;
            assert!(
                fate == Fate::Started || (fate == Fate::Refused(0) && name == "FORMAT"),
                "{name}: {fate:?}"
            );
        }
        let empty = |copied: &Path| change(copied, name, Vec::clear);
        let gone = |copied: &Path| fs::remove_file(copied.join(name)).unwrap();
        let fates = [
            fate(&directory, &states, &format!("{name} is empty"), empty).await,
            fate(&directory, &states, &format!("{name} is gone"), gone).await,
        ];
        let expected = if name == "FORMAT" { Fate::Refused(0) } else { Fate::Started };
        assert!(fates.iter().all(|fate| *fate == expected), "{name}: {fates:?}");
    }
}

#[tokio::test]
async fn a_log_that_is_empty_gone_or_too_short_is_refused() {
    let root = TempDir::new().unwrap();
    let (directory, states) = small(&root).await;
    let everything = Fate::Refused(states.last().unwrap().len());
    let gone = |copied: &Path| fs::remove_file(copied.join("db")).unwrap();
    assert_eq!(fate(&directory, &states, "gone", gone).await, everything);
    let empty = |copied: &Path| change(copied, "db", Vec::clear);
    assert_eq!(fate(&directory, &states, "empty", empty).await, everything);
    let used = fs::read(directory.join("db")).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    for length in (0..used).step_by(used / 12) {
        let cut = |copied: &Path| change(copied, "db", |db| db.truncate(length));
        let fate = fate(&directory, &states, &format!("cut to {length}"), cut).await;
        assert!(matches!(fate, Fate::Refused(_)), "cut to {length}");
    }
}

//! Listing. Stored names are hashed, so the order of people is not that of the store: the sorted names of a folder are
//! kept in memory once somebody listed it, and every commit of this engine keeps them right.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use data_encoding::BASE64URL_NOPAD;
use futures_util::stream;
use strongroom_proto::limits::PAGE_SIZE;
use tokio::sync::Semaphore;

use super::{
    Error, Output, RecordKind, Shelf, Sight, Stream,
    folders::is_closing,
    record::{FOLDER, SECRET},
};
use crate::{
    barrier::{BarrierError, Changes},
    model::{Invalid, Path, SecretBytes},
    storage::Revision,
};

/// Most bytes of remembered names, so that listing cannot eat the server's memory. The folder listed last stays even if
/// it alone is larger: without it each of its pages would read all of it again.
const INDEX_BYTES: usize = 64 << 20;
/// Most folders remembered; finding the one to forget looks at each.
const INDEX_FOLDERS: usize = 4096;
/// What a remembered name takes beside its bytes.
const NAME_OVERHEAD: usize = 64;
/// Records read at once when a folder's names are collected: 256 times 60 KiB at the very worst.
const SCAN: usize = 256;
/// Names taken out of the index at once.
const BLOCK: usize = 1024;
/// Folders collected at the same time; it is the one thing here that reads a lot.
const COLLECTORS: usize = 2;
/// How often a collection that was forgotten before it was done starts over.
const ATTEMPTS: usize = 8;

/// What stands behind a name. Of several states since the same revision the greatest is right: see [`Slot::set`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// Nothing: it was there once. Kept, because news of an older change may still arrive.
    Gone,
    There,
    /// A folder that may be empty.
    Closing,
}

/// A change of one name: `name` or `name/` in a folder.
pub(super) struct Move {
    folder: Box<str>,
    label: Box<str>,
    state: State,
}

impl Move {
    /// What `changes` do to names.
    pub(super) fn all_of(changes: &Changes) -> Vec<Self> {
        let puts = changes.puts.iter().map(|(address, content)| (address, Some(content)));
        let deletes = changes.deletes.iter().map(|address| (address, None));
        puts.chain(deletes)
            .filter_map(|(at, content)| Self::of(at.kind, &at.folder, &at.name, content))
            .collect()
    }

    /// What a record says of a name; no content: it was deleted.
    pub(super) fn of(
        kind: RecordKind,
        folder: &str,
        name: &str,
        content: Option<&SecretBytes>,
    ) -> Option<Self> {
        let label = label(kind, name)?;
        let state = match content {
            Some(content) if kind == FOLDER && is_closing(content) => State::Closing,
            Some(_) => State::There,
            None => State::Gone,
        };
        Some(Self { folder: folder.into(), label, state })
    }
}

/// How a name is shown.
fn label(kind: RecordKind, name: &str) -> Option<Box<str>> {
    match kind {
        SECRET => Some(name.into()),
        FOLDER => Some(format!("{name}/").into()),
        _ => None,
    }
}

/// A name's state since a revision. News may arrive in any order; the youngest is right.
#[derive(Clone, Copy)]
struct Mark {
    at: Revision,
    state: State,
}

type Names = BTreeMap<Box<str>, Mark>;

/// The names of one folder.
struct Slot {
    id: u64,
    names: Names,
    /// Whether all that was there before this slot is in it.
    complete: bool,
    /// The youngest change known when the slot was made. News of older ones come late: collecting sees what they did.
    floor: Revision,
    used: u64,
    bytes: usize,
    gone: usize,
}

impl Slot {
    fn set(&mut self, label: Box<str>, mark: Mark) {
        let known = self.names.get(&label).copied();
        // One commit can carry the batches of several callers, and their news come in any order. A name that goes and comes in one
        // commit is there: it is made only where it is gone, and what was made in a commit is not removed in it. `Closing` is
        // shown only if a look says so, which is right for any state.
        if known.is_some_and(|known| (known.at, known.state) >= (mark.at, mark.state)) {
            return;
        }
        self.gone -= usize::from(known.is_some_and(|known| known.state == State::Gone));
        self.gone += usize::from(mark.state == State::Gone);
        if known.is_none() {
            self.bytes += label.len() + NAME_OVERHEAD;
        }
        self.names.insert(label, mark);
    }
}

/// The sorted names of the folders listed most recently.
pub(super) struct Index {
    slots: Mutex<Slots>,
    collectors: Semaphore,
}

#[derive(Default)]
struct Slots {
    by_folder: HashMap<Box<str>, Slot>,
    /// The youngest commit that was told.
    newest: Revision,
    counter: u64,
}

impl Default for Index {
    fn default() -> Self {
        Self { slots: Mutex::default(), collectors: Semaphore::new(COLLECTORS) }
    }
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a commit.
    pub(super) fn apply(&self, moves: Vec<Move>, at: Revision) {
        let mut slots = self.lock();
        slots.newest = slots.newest.max(at);
        for Move { folder, label, state } in moves {
            let Some(slot) = slots.by_folder.get_mut(&folder) else { continue };
            if at > slot.floor {
                slot.set(label, Mark { at, state });
            }
            // More memory of what is gone than of what is there: better collected again.
            if slot.gone > slot.names.len() / 2 + BLOCK {
                slots.by_folder.remove(&folder);
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.lock().by_folder.clear();
    }

    /// Those whose names are remembered.
    pub(super) fn folders(&self) -> Vec<Box<str>> {
        self.lock().by_folder.keys().cloned().collect()
    }

    /// Forgets the names of one folder.
    pub(super) fn drop_folder(&self, folder: &str) {
        self.lock().by_folder.remove(folder);
    }

    /// Up to [`BLOCK`] names behind `after`, if the folder is known.
    fn block(&self, folder: &str, after: Option<&str>) -> Option<Vec<(Box<str>, State)>> {
        let mut slots = self.lock();
        slots.counter += 1;
        let used = slots.counter;
        let slot = slots.by_folder.get_mut(folder).filter(|slot| slot.complete)?;
        slot.used = used;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let there = slot
            .names
            .range::<str, _>((from, Bound::Unbounded))
            .filter(|(_, mark)| mark.state != State::Gone);
        Some(there.take(BLOCK).map(|(label, mark)| (label.clone(), mark.state)).collect())
    }

    /// Makes room for a folder's names; from now on changes are noted there. Says which slot it is.
    fn begin(&self, folder: &str) -> u64 {
        let mut slots = self.lock();
        slots.counter += 1;
        let (id, floor) = (slots.counter, slots.newest);
        let fresh =
            || Slot { id, names: Names::new(), complete: false, floor, used: id, bytes: 256, gone: 0 };
        slots.by_folder.entry(folder.into()).or_insert_with(fresh).id
    }

    /// Adds what was collected since [`Index::begin`]; `false` if the slot was forgotten meanwhile.
    fn complete(&self, folder: &str, id: u64, names: Names) -> bool {
        let mut slots = self.lock();
        let Some(slot) = slots.by_folder.get_mut(folder).filter(|slot| slot.id == id) else { return false };
        for (label, mark) in names {
            slot.set(label, mark);
        }
        slot.complete = true;
        slots.evict(folder);
        true
    }
}

impl Slots {
    /// Forgets what was not used for longest until the rest is small enough, but never `latest`.
    fn evict(&mut self, latest: &str) {
        let mut bytes: usize = self.by_folder.values().map(|slot| slot.bytes).sum();
        while bytes > INDEX_BYTES || self.by_folder.len() > INDEX_FOLDERS {
            let others = self.by_folder.iter().filter(|(folder, _)| &***folder != latest);
            let Some((oldest, _)) = others.min_by_key(|(_, slot)| slot.used) else { return };
            let oldest = oldest.clone();
            bytes -= self.by_folder.remove(&oldest).map_or(0, |slot| slot.bytes);
        }
    }
}

impl Shelf {
    pub(super) async fn list(
        &self,
        path: &Path,
        page_size: u32,
        page_token: Option<&str>,
        sight: &dyn Sight,
    ) -> Result<Output, Error> {
        if !(1..=PAGE_SIZE).contains(&page_size) {
            return Err(
                Invalid::new("page_size", format!("is {page_size}; expected 1 to {PAGE_SIZE}")).into()
            );
        }
        let size = usize::try_from(page_size).unwrap_or(usize::MAX);
        let mut after = page_token.map(open_token).transpose()?;
        let mut names: Vec<Box<str>> = Vec::new();
        loop {
            let block = self.block(path.within_mount(), after.as_deref()).await?;
            let last = block.len() < BLOCK;
            for (label, state) in block {
                if self.visible(path, &label, state, sight).await?.is_some() {
                    // Only a further visible name makes a further page: an empty one would tell of hidden names.
                    if names.len() == size {
                        let next = names.last().map(|last| make_token(last));
                        return Ok(Output::Page { names, next });
                    }
                    names.push(label.clone());
                }
                after = Some(label);
            }
            if last {
                return Ok(Output::Page { names, next: None });
            }
            tokio::task::yield_now().await;
        }
    }

    /// Everything below `path` that may be seen, depth first, which is the order of whole paths.
    pub(super) fn walk(self: Arc<Self>, path: Path, sight: Box<dyn Sight>) -> Stream<Vec<Path>> {
        let walk = Walk { shelf: self, sight, levels: vec![Level::new(path)] };
        Box::pin(stream::try_unfold(walk, |mut walk| async move {
            let page = walk.page().await?;
            Ok((!page.is_empty()).then_some((page, walk)))
        }))
    }

    /// The path of a name, if the caller may see that it exists.
    async fn visible(
        &self,
        folder: &Path,
        label: &str,
        state: State,
        sight: &dyn Sight,
    ) -> Result<Option<Path>, Error> {
        let name = label.strip_suffix('/');
        let path =
            folder.join(name.unwrap_or(label)).map_err(|error| Invalid::new("path", error.to_string()))?;
        let seen = if name.is_some() { sight.sees_folder(&path) } else { sight.sees_leaf(&path) };
        let there = match state {
            State::There => seen,
            State::Closing => seen && self.is_inhabited(path.within_mount()).await?,
            State::Gone => false,
        };
        Ok(there.then_some(path))
    }

    async fn block(&self, folder: &str, after: Option<&str>) -> Result<Vec<(Box<str>, State)>, Error> {
        for _ in 0..ATTEMPTS {
            if let Some(block) = self.index.block(folder, after) {
                return Ok(block);
            }
            let _turn = self.index.collectors.acquire().await.map_err(|_| BarrierError::Stopped)?;
            // Whoever had the turn before may have done it.
            if let Some(block) = self.index.block(folder, after) {
                return Ok(block);
            }
            let id = self.index.begin(folder);
            let names = self.collect(folder).await?;
            self.index.complete(folder, id, names);
        }
        Err(BarrierError::Conflict.into())
    }

    async fn collect(&self, folder: &str) -> Result<Names, BarrierError> {
        let mut names = Names::new();
        for kind in [SECRET, FOLDER] {
            let mut after = None;
            loop {
                let page = self.view.scan(kind, folder, after.as_ref(), SCAN).await?;
                let last = page.len() < SCAN;
                for found in page {
                    let closing = kind == FOLDER && is_closing(&found.entry.content);
                    let state = if closing { State::Closing } else { State::There };
                    if let Some(label) = label(kind, &found.name) {
                        names.insert(label, Mark { at: found.entry.revision, state });
                    }
                    after = Some(found.cursor);
                }
                if last {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        Ok(names)
    }
}

/// A walk through a tree: at most one block of names for each of the sixteen levels a path can have.
struct Walk {
    shelf: Arc<Shelf>,
    sight: Box<dyn Sight>,
    levels: Vec<Level>,
}

struct Level {
    path: Path,
    block: VecDeque<(Box<str>, State)>,
    after: Option<Box<str>>,
    last: bool,
}

impl Level {
    fn new(path: Path) -> Self {
        Self { path, block: VecDeque::new(), after: None, last: false }
    }

    async fn next(&mut self, shelf: &Shelf) -> Result<Option<(Box<str>, State)>, Error> {
        if self.block.is_empty() && !self.last {
            self.block = shelf.block(self.path.within_mount(), self.after.as_deref()).await?.into();
            self.last = self.block.len() < BLOCK;
            self.after = self.block.back().map(|(label, _)| label.clone());
        }
        Ok(self.block.pop_front())
    }
}

impl Walk {
    /// The next paths; empty at the end.
    async fn page(&mut self) -> Result<Vec<Path>, Error> {
        let mut page = Vec::new();
        while let Some(level) = self.levels.last_mut() {
            let Some((label, state)) = level.next(&self.shelf).await? else {
                self.levels.pop();
                continue;
            };
            let Some(path) = self.shelf.visible(&level.path, &label, state, &*self.sight).await? else {
                continue;
            };
            if label.ends_with('/') {
                // A deny of `list` further down is not got round by beginning higher up (GHSA-xp3c-3jw3-4vcr).
                if self.sight.may_list(&path) {
                    self.levels.push(Level::new(path));
                }
                continue;
            }
            page.push(path);
            if page.len() as u64 == u64::from(PAGE_SIZE) {
                break;
            }
        }
        Ok(page)
    }
}

const TOKEN_FORMAT: u8 = 1;
/// A name, a slash and the format byte, in base64.
const TOKEN_BYTES: usize = 180;

/// The last name of a page: it was shown to the caller anyway, so the token tells nothing new.
fn make_token(label: &str) -> String {
    let mut bytes = vec![TOKEN_FORMAT];
    bytes.extend_from_slice(label.as_bytes());
    BASE64URL_NOPAD.encode(&bytes)
}

fn open_token(token: &str) -> Result<Box<str>, Invalid> {
    let invalid = || Invalid::new("page_token", "was not made by this server; list again from the start");
    if token.len() > TOKEN_BYTES {
        return Err(invalid());
    }
    let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).map_err(|_| invalid())?;
    let label = bytes.strip_prefix(&[TOKEN_FORMAT]).ok_or_else(invalid)?;
    let label = std::str::from_utf8(label).map_err(|_| invalid())?;
    let name = label.strip_suffix('/').unwrap_or(label);
    // A name is what can follow a mount in a path, in one segment.
    match Path::parse(name) {
        Ok(path) if path.segments().count() == 1 => Ok(label.into()),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(label: &str, state: State) -> Vec<Move> {
        vec![Move { folder: "f".into(), label: label.into(), state }]
    }

    fn shown(index: &Index) -> Vec<String> {
        index.block("f", None).unwrap().into_iter().map(|(label, _)| label.into()).collect()
    }

    #[test]
    fn late_news_of_an_older_change_changes_nothing() {
        let index = Index::default();
        let id = index.begin("f");
        index.apply(moved("a", State::Gone), Revision(5));
        index.apply(moved("a", State::There), Revision(4));
        let scanned =
            [("a", 3), ("b", 2)].map(|(l, at)| (l.into(), Mark { at: Revision(at), state: State::There }));
        assert!(index.complete("f", id, scanned.into()));
        assert_eq!(shown(&index), ["b"]);
        index.clear();
        let id = index.begin("f");
        assert!(index.complete("f", id, Names::new()));
        index.apply(moved("a", State::There), Revision(4));
        assert!(shown(&index).is_empty());
        index.apply(moved("a", State::There), Revision(6));
        assert_eq!(shown(&index), ["a"]);
    }

    /// The batches of two callers become one commit: the one removes the name, the other makes it anew. Whose news come first is
    /// chance.
    #[test]
    fn a_name_that_goes_and_comes_in_one_commit_is_there() {
        for states in [[State::Gone, State::There], [State::There, State::Gone]] {
            let index = Index::default();
            let id = index.begin("f");
            index.apply(moved("a", State::There), Revision(4));
            assert!(index.complete("f", id, Names::new()));
            states.into_iter().for_each(|state| index.apply(moved("a", state), Revision(5)));
            assert_eq!(shown(&index), ["a"], "{states:?}");
            index.apply(moved("a", State::Gone), Revision(6));
            assert!(shown(&index).is_empty());
        }
    }

    #[test]
    fn what_was_forgotten_while_collecting_is_not_kept() {
        let index = Index::default();
        let id = index.begin("f");
        index.clear();
        assert!(!index.complete("f", id, Names::new()));
        assert!(index.block("f", None).is_none());
        assert_ne!(index.begin("f"), id);
    }

    #[test]
    fn folders_not_used_for_long_are_forgotten() {
        let index = Index::default();
        for folder in 0..=INDEX_FOLDERS {
            let folder = folder.to_string();
            let id = index.begin(&folder);
            index.complete(&folder, id, Names::new());
            let _ = index.block("0", None);
        }
        assert!(index.block("0", None).is_some());
        assert!(index.block("1", None).is_none());
        assert!(index.lock().by_folder.len() <= INDEX_FOLDERS);
    }

    #[test]
    fn foreign_tokens_are_refused() {
        assert_eq!(&*open_token(&make_token("a/")).unwrap(), "a/");
        let long = "a".repeat(129);
        for bad in
            ["", "x", "AQ", "!", &make_token("a/b"), &make_token(".."), &make_token(&long), &"A".repeat(999)]
        {
            assert!(open_token(bad).is_err(), "{bad}");
        }
    }
}

//! From a subject to what is bound to it. One table of pages: a lookup touches two or three lines of memory, however large
//! the set is, and a change copies the pages of the subjects that it names.

use std::{
    collections::{BTreeSet, HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::Arc,
};

use super::{
    document::{Binding, Conditions, Subject},
    parse::BINDINGS,
    role::Role,
};

/// Up to this many bindings it is quicker to look at each of them.
const PLAIN_BINDINGS: usize = 8;
/// A role with more different beginnings than this is looked at for every path, so that the index stays small.
const ROLE_HEADS: usize = 64;
/// Subjects of a page, about: few enough to copy, and so many that the list of pages stays in the cache.
const PAGE_SUBJECTS: usize = 128;
/// Most pages: those of the most bindings, if each has a subject of its own. More subjects make larger pages.
const MOST_PAGES: usize = BINDINGS.div_ceil(PAGE_SUBJECTS).next_power_of_two();
/// Places of the only page, and of each of many, at first.
const PLACES: [usize; 2] = [8, 64];
/// Odd, and its bits are those of the golden ratio, which spread well.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The name of a subject in the table. Words hold no control character, and the last part ends like the others, so a
/// name that does hold one is never taken for two.
pub(super) type Key<'a> = [&'a str; 4];

/// In place of a name: all of them.
pub(super) const ALL: &str = "*";

#[derive(Clone)]
pub(super) struct Index {
    /// A power of two of them.
    pages: Box<[Page]>,
    /// Drawn once for each table.
    seed: u64,
}

/// Open addressing: an entry stands where its hash says, or in the next free place. What is known of a page stands in the list of
/// pages, so that a lookup goes from there to the entry and waits once for memory.
#[derive(Clone)]
struct Page {
    entries: Arc<[Option<Entry>]>,
    used: usize,
}

#[derive(Clone)]
struct Entry {
    hash: u64,
    key: Box<str>,
    grants: Grants,
}

/// What is bound to one subject.
#[derive(Clone)]
pub(super) enum Grants {
    /// Of nearly all subjects: one role, without conditions. It stands here, and nothing else has to be looked at.
    One(Arc<Role>, Arc<Binding>),
    Many(Arc<Many>),
}

#[derive(Clone, Default)]
pub(super) struct Many {
    /// Sorted by the name of the binding.
    all: Vec<Pair>,
    /// Only where there are many.
    by_head: Option<ByHead>,
}

#[derive(Clone)]
struct Pair {
    role: Arc<Role>,
    binding: Arc<Binding>,
}

/// Places in `all`, by the one or two literal segments that paths begin with.
#[derive(Clone, Default)]
struct ByHead {
    heads: HashMap<Box<str>, Vec<usize>>,
    rest: Vec<usize>,
}

/// A role that is bound, by which binding, and what has to hold for it to count.
#[derive(Clone, Copy)]
pub(super) struct Grant<'a> {
    pub(super) role: &'a Arc<Role>,
    pub(super) binding: &'a Arc<Binding>,
    pub(super) conditions: Option<&'a Conditions>,
}

impl Index {
    /// An empty one for about so many subjects.
    pub(super) fn for_subjects(count: usize) -> Self {
        let pages = count.div_ceil(PAGE_SUBJECTS).next_power_of_two().min(MOST_PAGES);
        let places = if pages > 1 { PLACES[1] } else { PLACES[0] };
        let pages = (0..pages).map(|_| Page::of(places)).collect();
        Self { pages, seed: RandomState::new().hash_one(count) }
    }

    /// Whether it has grown so far that another one with more pages is better.
    pub(super) fn is_crowded(&self) -> bool {
        self.pages.len() < MOST_PAGES && self.pages.iter().any(|page| page.used > 4 * PAGE_SUBJECTS)
    }

    pub(super) fn get(&self, key: Key<'_>) -> Option<&Grants> {
        let hash = self.hash(key);
        let page = self.pages.get(self.page_of(hash))?;
        page.entries.get(page.place(hash, key))?.as_ref().map(|entry| &entry.grants)
    }

    /// Binds a role to all subjects of a binding.
    pub(super) fn bind(&mut self, role: &Arc<Role>, binding: &Arc<Binding>) {
        for subject in &binding.subjects {
            self.change(key_of(subject), |grants| {
                let pair = Pair { role: Arc::clone(role), binding: Arc::clone(binding) };
                match grants {
                    None => Grants::of(vec![pair]),
                    Some(grants) => {
                        let mut all = grants.pairs();
                        match all.binary_search_by(|other| other.binding.name.cmp(&binding.name)) {
                            // The same subject twice in one binding.
                            Ok(_) => return grants,
                            Err(place) => all.insert(place, pair),
                        }
                        Grants::of(all)
                    }
                }
            });
        }
    }

    /// Takes it from them.
    pub(super) fn unbind(&mut self, binding: &Binding) {
        for subject in &binding.subjects {
            self.change(key_of(subject), |grants| {
                let mut all = grants.map(|grants| grants.pairs()).unwrap_or_default();
                all.retain(|pair| pair.binding.name != binding.name);
                Grants::of(all)
            });
        }
    }

    fn change(&mut self, key: Key<'_>, change: impl FnOnce(Option<Grants>) -> Grants) {
        let hash = self.hash(key);
        let page = self.page_of(hash);
        if let Some(page) = self.pages.get_mut(page) {
            page.change(hash, key, change);
        }
    }

    /// Quick, and no more: whoever could choose subjects that collide may manage the policy, and has better ways to harm.
    fn hash(&self, key: Key<'_>) -> u64 {
        let mut hash = self.seed;
        for part in key {
            let (words, rest) = part.as_bytes().as_chunks::<8>();
            let mut last = [0xff; 8];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            for word in words.iter().chain([&last]) {
                hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(SPREAD);
                hash ^= hash >> 32;
            }
        }
        hash
    }

    /// By the upper half of the hash; the lower one says where in the page.
    fn page_of(&self, hash: u64) -> usize {
        place(hash >> 32, self.pages.len())
    }
}

impl Page {
    fn of(size: usize) -> Self {
        Self { entries: vec![None; size].into(), used: 0 }
    }

    /// Where the subject stands, or where it would. There is always a free place.
    fn place(&self, hash: u64, key: Key<'_>) -> usize {
        let size = self.entries.len();
        let mut at = place(hash, size);
        while let Some(Some(entry)) = self.entries.get(at) {
            if entry.hash == hash && entry.is(key) {
                break;
            }
            at = (at + 1) & (size - 1);
        }
        at
    }

    fn change(&mut self, hash: u64, key: Key<'_>, change: impl FnOnce(Option<Grants>) -> Grants) {
        if self.used * 4 >= self.entries.len() * 3 {
            self.grow();
        }
        let at = self.place(hash, key);
        let Some(entry) = Arc::make_mut(&mut self.entries).get_mut(at) else { return };
        match entry {
            Some(entry) => entry.grants = change(Some(entry.grants.clone())),
            None => {
                let key = (key.join("\n") + "\n").into();
                *entry = Some(Entry { hash, key, grants: change(None) });
                self.used += 1;
            }
        }
    }

    /// Room for more, without the subjects that have nothing any more.
    fn grow(&mut self) {
        let size = self.entries.len() * 2;
        let mut entries: Box<[Option<Entry>]> = vec![None; size].into();
        self.used = 0;
        for entry in self.entries.iter().flatten().filter(|entry| !entry.grants.is_empty()) {
            let mut at = place(entry.hash, size);
            while matches!(entries.get(at), Some(Some(_))) {
                at = (at + 1) & (size - 1);
            }
            if let Some(free) = entries.get_mut(at) {
                *free = Some(entry.clone());
                self.used += 1;
            }
        }
        self.entries = entries.into();
    }
}

impl Entry {
    fn is(&self, key: Key<'_>) -> bool {
        let mut rest = &*self.key;
        for part in key {
            match rest.strip_prefix(part).and_then(|rest| rest.strip_prefix('\n')) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        rest.is_empty()
    }
}

/// The lowest bits of a number, as a place among a power of two of them.
fn place(number: u64, size: usize) -> usize {
    usize::try_from(number & 0xffff_ffff).unwrap_or_default() & (size - 1)
}

pub(super) fn key_of(subject: &Subject) -> Key<'_> {
    match subject {
        Subject::User { method, name } => ["user", method, name, ""],
        Subject::Group { method, name } => ["group", method, name, ""],
        Subject::ServiceAccount { cluster, namespace, name } => {
            ["account", cluster, namespace.as_deref().unwrap_or(ALL), name.as_deref().unwrap_or(ALL)]
        }
    }
}

impl Grants {
    fn of(all: Vec<Pair>) -> Self {
        match <[Pair; 1]>::try_from(all) {
            Ok([Pair { role, binding }]) if binding.conditions == Conditions::default() => {
                Grants::One(role, binding)
            }
            Ok(one) => Grants::Many(Arc::new(Many { all: one.into(), by_head: None })),
            Err(all) => {
                let by_head = (all.len() > PLAIN_BINDINGS).then(|| ByHead::of(&all));
                Grants::Many(Arc::new(Many { all, by_head }))
            }
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Grants::Many(many) if many.all.is_empty())
    }

    fn pairs(&self) -> Vec<Pair> {
        match self {
            Grants::One(role, binding) => {
                vec![Pair { role: Arc::clone(role), binding: Arc::clone(binding) }]
            }
            Grants::Many(many) => many.all.clone(),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Grant<'_>> {
        let (one, many) = self.split();
        one.into_iter().chain(many.into_iter().flat_map(|many| many.all.iter().map(Pair::grant)))
    }

    /// Those that may have a rule for a path with these beginnings; a binding may come twice.
    pub(super) fn near(&self, heads: (&str, Option<&str>)) -> impl Iterator<Item = Grant<'_>> {
        let (one, many) = self.split();
        one.into_iter().chain(many.into_iter().flat_map(move |many| many.near(heads)))
    }

    fn split(&self) -> (Option<Grant<'_>>, Option<&Many>) {
        match self {
            Grants::One(role, binding) => (Some(Grant { role, binding, conditions: None }), None),
            Grants::Many(many) => (None, Some(many)),
        }
    }
}

impl Many {
    fn near(&self, heads: (&str, Option<&str>)) -> impl Iterator<Item = Grant<'_>> {
        let (all, places): (&[Pair], [&[usize]; 3]) = match &self.by_head {
            None => (&self.all, [&[]; 3]),
            Some(index) => {
                let get = |head: &str| index.heads.get(head).map_or(&[][..], Vec::as_slice);
                (&[], [&index.rest, get(heads.0), heads.1.map_or(&[][..], get)])
            }
        };
        let near = places.into_iter().flatten().filter_map(|place| self.all.get(*place));
        all.iter().chain(near).map(Pair::grant)
    }
}

impl Pair {
    fn grant(&self) -> Grant<'_> {
        Grant { role: &self.role, binding: &self.binding, conditions: Some(&self.binding.conditions) }
    }
}

impl ByHead {
    fn of(all: &[Pair]) -> Self {
        let mut by_head = Self::default();
        for (place, pair) in all.iter().enumerate() {
            let heads: Option<BTreeSet<&str>> = pair.role.paths().map(|path| path.head()).collect();
            match heads.filter(|heads| heads.len() <= ROLE_HEADS) {
                None => by_head.rest.push(place),
                Some(heads) => {
                    for head in heads {
                        by_head.heads.entry(head.into()).or_default().push(place);
                    }
                }
            }
        }
        by_head
    }
}

//! Roles and bindings at rest, and the set in force. One record for each document, as `stored.rs` writes it.
//!
//! An apply is atomic at any size. What fits into one batch is one batch. What does not is first written as a journal,
//! in one batch; from then on it counts, here and at the next load, and it is carried over to the records batch by
//! batch; the last of them removes the journal. A crash at any point leaves the old policy or the new one.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{
    diff::Plan,
    document::{Documents, ObjectKind},
    set::PolicySet,
};
use crate::{
    barrier::{Address, BarrierError, Changes, Derived, RecordKind, View},
    model::{RequestId, SecretBytes},
    storage::StoreKey,
};

pub const ROLE: RecordKind = RecordKind::new(32, "Role");
const BINDING: RecordKind = RecordKind::new(33, "Binding");

/// Most records of one batch, below the barrier's 100.
const BATCH_RECORDS: usize = 96;
/// Most bytes of one batch, below the barrier's 1,216 KiB.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes of one piece of a journal, below the barrier's 60 KiB.
const PIECE_BYTES: usize = 56 << 10;
/// Most pieces: what a journal of the largest plan has, and some.
const PIECES: u64 = 32;
/// Records read at once at load.
const PAGE: usize = 1000;

const DOCUMENTS: &str = "documents";
const JOURNAL: &str = "journal";

/// See the module.
pub struct PolicyStore(Arc<Inner>);

struct Inner {
    view: View,
    force: ArcSwap<PolicySet>,
    /// One apply at a time. True: the store may hold something else than `force`, or a journal; load before writing.
    behind: Mutex<bool>,
}

/// Puts and removals by name.
#[derive(Default)]
struct Journal {
    removed: Vec<(ObjectKind, Arc<str>)>,
    put: Documents,
}

impl PolicyStore {
    /// Reads all documents and makes the set. Ends what an interrupted apply had begun.
    ///
    /// # Errors
    /// A record does not open or is not a document, or the store cannot be read.
    pub async fn load(view: View) -> Result<Self, BarrierError> {
        let store = Self(Arc::new(Inner { view, force: ArcSwap::default(), behind: Mutex::new(true) }));
        Derived::load(&store).await?;
        Ok(store)
    }

    /// The set in force. Another one after each apply that changed something, and never otherwise.
    pub fn current(&self) -> Arc<PolicySet> {
        self.0.force.load_full()
    }

    /// The documents in force, without the default roles.
    pub fn documents(&self) -> Arc<Documents> {
        Arc::clone(self.0.force.load().documents())
    }

    /// Carries out a plan: durable and in force when it returns, even if the caller stops waiting.
    ///
    /// # Errors
    /// `Conflict`: the plan was made from documents that have changed since. Others: nothing has changed, as far as the
    /// store can tell.
    pub async fn apply(&self, plan: Plan, by: Option<RequestId>) -> Result<(), BarrierError> {
        let inner = Arc::clone(&self.0);
        // A task of its own: a caller that goes away between commit and install must not leave the old policy in force.
        tokio::spawn(async move { inner.apply(plan, by).await }).await.map_err(|_| BarrierError::Stopped)?
    }
}

/// An apply is in force as a whole: so is one that another server made, whichever of its records is told first.
#[async_trait]
impl Derived for PolicyStore {
    async fn load(&self) -> Result<(), BarrierError> {
        let mut behind = self.0.behind.lock().await;
        *behind = true;
        // A store that cannot be written now is still good to decide by.
        *behind = match self.0.read().await? {
            Some(journal) => carry_over(&self.0.view, &journal).await.is_err(),
            None => false,
        };
        Ok(())
    }

    async fn changed(&self, keys: &[StoreKey]) -> Result<(), BarrierError> {
        let ours = [(ROLE, DOCUMENTS), (BINDING, DOCUMENTS), (ROLE, JOURNAL)];
        let is_ours =
            |key: &StoreKey| ours.into_iter().any(|(kind, folder)| self.0.view.is_in(kind, folder, key));
        if !keys.iter().any(is_ours) {
            return Ok(());
        }
        let mut behind = self.0.behind.lock().await;
        let before = std::mem::replace(&mut *behind, true);
        // A journal is carried over by whoever wrote it.
        *behind = self.0.read().await?.is_some() || before;
        Ok(())
    }

    /// Until it is loaded again nobody but root may do anything.
    fn forget(&self) {
        self.0.force.store(Arc::default());
        if let Ok(mut behind) = self.0.behind.try_lock() {
            *behind = true;
        }
    }
}

impl Inner {
    async fn apply(&self, plan: Plan, by: Option<RequestId>) -> Result<(), BarrierError> {
        let mut behind = self.behind.lock().await;
        if *behind {
            self.catch_up().await?;
            *behind = false;
        }
        if plan.base != *self.force.load().documents() {
            return Err(BarrierError::Conflict);
        }
        if plan.changed.is_empty() {
            return Ok(());
        }
        let journal = Journal::of(&plan);
        // Made before anything is written: what does not compile is never stored.
        let next = plan.after(&self.force.load()).map_err(|_| corrupt(BINDING))?;
        // Until all is known to be well.
        *behind = true;
        match self.write(&journal, by).await {
            Ok(in_journal) => {
                self.force.store(Arc::new(next));
                *behind = in_journal && carry_over(&self.view, &journal).await.is_err();
                Ok(())
            }
            // It may have happened all the same: the store knows.
            Err(error) => {
                *behind = self.catch_up().await.is_err();
                if *self.force.load().documents() == plan.next { Ok(()) } else { Err(error) }
            }
        }
    }

    /// The moment of truth. True: as a journal, which is yet to be carried over.
    async fn write(&self, journal: &Journal, by: Option<RequestId>) -> Result<bool, BarrierError> {
        let mut batches = journal.batches();
        let (changes, in_journal) = match (batches.pop(), batches.is_empty()) {
            (Some(only), true) => (only, false),
            _ => (journal.pieces()?, true),
        };
        self.view.commit(Changes { by, urgent: true, ..changes }).await.map(|_| in_journal)
    }

    /// Takes over what the store holds, and says what of it is yet to be carried over.
    async fn read(&self) -> Result<Option<Journal>, BarrierError> {
        let (documents, journal) = load(&self.view).await?;
        if documents != **self.force.load().documents() {
            tell_ambiguous(&documents);
            let set = PolicySet::compile(documents).map_err(|_| corrupt(BINDING))?;
            self.force.store(Arc::new(set));
        }
        Ok(journal)
    }

    /// The same, and leaves no journal.
    async fn catch_up(&self) -> Result<(), BarrierError> {
        match self.read().await? {
            Some(journal) => carry_over(&self.view, &journal).await,
            None => Ok(()),
        }
    }
}

/// Rules of an earlier release that count for less than they say.
fn tell_ambiguous(documents: &Documents) {
    for role in documents.roles.values() {
        for pattern in role.paths().filter(|path| path.is_ambiguous()) {
            tracing::warn!(
                role = &*role.name,
                path = pattern.as_str(),
                "two templates in one segment allow nothing any more, and only deny; put a / between them and apply the role"
            );
        }
    }
}

/// All documents as they count, and the journal that is yet to be carried over.
async fn load(view: &View) -> Result<(Documents, Option<Journal>), BarrierError> {
    let mut documents = Documents::default();
    for kind in [ObjectKind::Role, ObjectKind::Binding] {
        let mut cursor = None;
        loop {
            let page = view.scan(record_kind(kind), DOCUMENTS, cursor.as_ref(), PAGE).await?;
            for found in &page {
                let one = parse(kind, found.entry.content.expose())?;
                if !one.names().map(|(kind, name)| (kind, &**name)).eq([(kind, &*found.name)]) {
                    return Err(corrupt(record_kind(kind)));
                }
                documents.extend(one);
            }
            match page.into_iter().last() {
                Some(last) => cursor = Some(last.cursor),
                None => break,
            }
        }
    }
    let journal = Journal::read(view).await?;
    if let Some(journal) = &journal {
        for (kind, name) in &journal.removed {
            documents.remove(*kind, name);
        }
        documents.extend(journal.put.clone());
    }
    Ok((documents, journal))
}

/// If it fails, the journal is still there, and nothing may be written until it is gone.
async fn carry_over(view: &View, journal: &Journal) -> Result<(), BarrierError> {
    let last = Changes { deletes: (0..PIECES).map(piece_address).collect(), ..Changes::default() };
    for batch in journal.batches().into_iter().chain([last]) {
        view.commit(Changes { urgent: true, ..batch }).await.inspect_err(|error| {
            tracing::warn!(%error, "the journal of a policy change could not be applied yet");
        })?;
    }
    Ok(())
}

impl Journal {
    fn of(plan: &Plan) -> Self {
        let mut journal = Self::default();
        for (kind, name) in &plan.changed {
            if !journal.put.take_over(&plan.next, *kind, name) {
                journal.removed.push((*kind, Arc::clone(name)));
            }
        }
        journal
    }

    fn batches(&self) -> Vec<Changes> {
        let mut batches = vec![Changes::default()];
        let mut bytes = 0;
        let puts = self
            .put
            .names()
            .filter_map(|(kind, name)| Some((kind, name, Some(self.put.stored(kind, name)?))));
        let deletes = self.removed.iter().map(|(kind, name)| (*kind, name, None));
        for (kind, name, text) in puts.chain(deletes) {
            bytes += text.as_ref().map_or(0, String::len);
            let full =
                |last: &Changes| last.puts.len() + last.deletes.len() >= BATCH_RECORDS || bytes > BATCH_BYTES;
            if batches.last().is_none_or(full) {
                batches.push(Changes::default());
                bytes = text.as_ref().map_or(0, String::len);
            }
            let Some(batch) = batches.last_mut() else { continue };
            let address = Address {
                kind: record_kind(kind),
                folder: DOCUMENTS.into(),
                name: (&**name).into(),
                part: 0,
            };
            match text {
                Some(text) => batch.puts.push((address, SecretBytes::new(text.into_bytes()))),
                None => batch.deletes.push(address),
            }
        }
        batches
    }

    /// `bytes of the rest`, a line for each removal, `---`, YAML: cut into pieces.
    fn pieces(&self) -> Result<Changes, BarrierError> {
        let mut text: String = self.removed.iter().map(|(kind, name)| format!("{kind} {name}\n")).collect();
        text.push_str("---\n");
        text.push_str(&self.put.to_yaml());
        let text = format!("{}\n{text}", text.len());
        let pieces = text.as_bytes().chunks(PIECE_BYTES);
        let puts: Vec<_> = (0..PIECES)
            .zip(pieces)
            .map(|(part, piece)| (piece_address(part), SecretBytes::new(piece.to_vec())))
            .collect();
        if text.len() > BATCH_BYTES + PIECE_BYTES {
            return Err(BarrierError::TooLarge("a policy change of more than 1 MiB"));
        }
        Ok(Changes { puts, ..Changes::default() })
    }

    async fn read(view: &View) -> Result<Option<Self>, BarrierError> {
        let mut bytes = Vec::new();
        for part in 0..PIECES {
            match view.get(&piece_address(part)).await? {
                Some(piece) => bytes.extend_from_slice(piece.content.expose()),
                None => break,
            }
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        Self::parse(&bytes).map(Some).ok_or_else(|| corrupt(ROLE))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (length, text) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
        if length.parse() != Ok(text.len()) {
            return None;
        }
        let (removed, yaml) = match text.strip_prefix("---\n") {
            Some(yaml) => ("", yaml),
            None => text.split_once("\n---\n")?,
        };
        let name = |line: &str| {
            let (kind, name) = line.split_once(' ')?;
            Some((ObjectKind::parse(kind)?, name.into()))
        };
        Some(Self {
            removed: removed.lines().map(name).collect::<Option<_>>()?,
            put: Documents::from_stored([yaml]).ok()?,
        })
    }
}

fn parse(kind: ObjectKind, content: &[u8]) -> Result<Documents, BarrierError> {
    let text = std::str::from_utf8(content).map_err(|_| corrupt(record_kind(kind)))?;
    Documents::from_stored([text]).map_err(|_| corrupt(record_kind(kind)))
}

fn piece_address(part: u64) -> Address {
    Address { kind: ROLE, folder: JOURNAL.into(), name: JOURNAL.into(), part }
}

fn record_kind(kind: ObjectKind) -> RecordKind {
    match kind {
        ObjectKind::Role => ROLE,
        ObjectKind::Binding => BINDING,
    }
}

fn corrupt(kind: RecordKind) -> BarrierError {
    BarrierError::Corrupt { kind, namespace: "sys/policy".into() }
}

//! Opening, in the one order that survives a power cut at any point of it.

use std::{
    collections::BTreeMap,
    fs::File,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::{
    Durable, Hooks, OpenError, REVISION_KEY, Shared, SledOptions, SledStore,
    commit::WriteThread,
    copies::Copies,
    decode, directory,
    log::{self, SEGMENT_BYTES},
    mark::{self, Mark},
    space,
};
use crate::storage::{Revision, StoreError};

/// Batches waiting for the committer. Those above group what they have, so few are ever waiting.
const QUEUE: usize = 64;

impl Default for Hooks {
    fn default() -> Self {
        Self {
            on_fatal: Box::new(|reason| {
                tracing::error!(reason, "the store cannot promise anything any more: the process ends");
                std::process::abort();
            }),
            before_sync: Box::new(|| Ok(())),
            space: Box::new(space::of),
        }
    }
}

impl SledStore {
    /// Opens what is there, or makes a new store.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing that was ever finished is deleted, and what is damaged is not touched.
    pub fn open(options: SledOptions) -> Result<Self, OpenError> {
        Self::open_with(options, Hooks::default())
    }

    /// As [`Self::open`], for tests that watch and break.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(options: SledOptions, hooks: Hooks) -> Result<Self, OpenError> {
        let path = options.directory.as_path();
        let failed = |action| move |source| OpenError::Io { action, path: path.to_owned(), source };
        directory::prepare(path, options.allow_unsafe_filesystem)?;
        let lock = directory::lock(path)?;
        let initialised = directory::initialised(path)?;
        let expected = if initialised { look(&options)? } else { Revision(0) };
        directory::remove_unfinished_snapshots(path)?;
        space::before_open(&hooks, path, options.reserve_bytes).map_err(failed("make room in"))?;

        // The background flusher stays on: sled cleans its segments nowhere else.
        let config =
            sled::Config::new().path(path).cache_capacity(options.cache_bytes).segment_size(SEGMENT_BYTES);
        let db = config.open().map_err(|error| damaged(path, &error))?;
        directory::narrow(path)?;
        if !initialised {
            // The sentinel: there is something in the log whose loss a later start would notice.
            db.insert(REVISION_KEY, &options.at_least.0.to_be_bytes())
                .and_then(|_| db.flush())
                .map_err(|error| damaged(path, &error))?;
        }
        directory::sync(path)?;
        if !initialised {
            directory::mark_initialised(path)?;
        }
        let revision = revision(&db, path)?;
        if revision < expected {
            let reason = format!("it ends at commit {}, its file at {}", revision.0, expected.0);
            return Err(OpenError::Damaged { path: path.to_owned(), reason });
        }
        let mark = Mark::open(path, revision.0).map_err(failed("write the mark of"))?;
        let copies = copies(&db, &options)?;
        space::after_open(&hooks, path, options.reserve_bytes)
            .map_err(failed("write the ballast file of"))?;

        let log = File::open(path.join("db")).map_err(failed("open the log of"))?;
        let durable = ArcSwap::from_pointee(Durable { revision, before: Default::default() });
        let shared = Arc::new(Shared { db, durable, gate: Mutex::new(()), directory: path.to_owned() });
        let (requests, queue) = mpsc::channel(QUEUE);
        let writer = WriteThread { shared: Arc::clone(&shared), log, mark, copies, hooks };
        let thread = thread::Builder::new().name("committer".into()).spawn(move || writer.run(queue));
        let committer = Some(thread.map_err(failed("start the committer of"))?);
        Ok(Self { shared, requests: Some(requests), committer, _lock: lock })
    }
}

/// Nothing is written before this has said that sled will find everything: the commit it will come to.
fn look(options: &SledOptions) -> Result<Revision, OpenError> {
    let path = options.directory.as_path();
    let snapshot = directory::last_snapshot(path)?;
    let audit = (options.at_least > Revision(0)).then_some(options.at_least.0);
    let looked = log::look(path, snapshot.as_deref(), mark::read(path), audit)
        .map_err(|source| OpenError::Io { action: "read the log of", path: path.to_owned(), source })?;
    let look = looked.map_err(|damage| OpenError::NotWhole { path: path.to_owned(), damage })?;
    if look.snapshot_damaged {
        tracing::warn!("the snapshot is damaged, the log is whole: the snapshot is set aside and made anew");
        directory::set_snapshots_aside(path)?;
    }
    if look.settings_damaged {
        tracing::warn!("the file conf is damaged, the log is whole: conf is set aside and made anew");
        directory::set_settings_aside(path)?;
    }
    Ok(Revision(look.revision))
}

fn revision(db: &sled::Db, path: &Path) -> Result<Revision, OpenError> {
    let reason = match db.get(REVISION_KEY) {
        Ok(Some(stored)) => match <[u8; 8]>::try_from(stored.as_ref()) {
            Ok(bytes) => return Ok(Revision(u64::from_be_bytes(bytes))),
            Err(_) => "its revision is damaged".into(),
        },
        Ok(None) => "its revision is missing".into(),
        Err(error) => error.to_string(),
    };
    Err(OpenError::Damaged { path: path.to_owned(), reason })
}

/// Copies of what the store holds under the keys to be copied.
fn copies(db: &sled::Db, options: &SledOptions) -> Result<Copies, OpenError> {
    let path = options.directory.as_path();
    let mut values = BTreeMap::new();
    for key in &options.copied {
        if let Some(stored) = db.get(key).map_err(|error| damaged(path, &error))? {
            let unread =
                |error: StoreError| OpenError::Damaged { path: path.to_owned(), reason: error.to_string() };
            values.insert(key.clone(), decode(&stored).map_err(unread)?.value);
        }
    }
    Copies::open(path, options.copied.clone(), values).map_err(|source| OpenError::Io {
        action: "write the copies of seal and keyring in",
        path: path.to_owned(),
        source,
    })
}

fn damaged(path: &Path, error: &sled::Error) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), reason: error.to_string() }
}

//! Opening, in the one order that survives a power cut at any point of it.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::{
    Durable, Hooks, OpenError, REVISION_KEY, Shared, SledOptions, SledStore, commit::WriteThread, directory,
    space,
};
use crate::storage::Revision;

/// With segments of this size a record of 64 KiB always stays in the log; with smaller ones sled would put it into a blob
/// file, which it never syncs.
const SEGMENT_BYTES: usize = 8 << 20;

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
    /// See [`OpenError`]. Nothing that was ever finished is deleted.
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
        directory::remove_unfinished_snapshots(path)?;
        space::before_open(&hooks, path, options.reserve_bytes).map_err(failed("make room in"))?;

        let db = open_or_repair(&options)?;
        directory::narrow(path)?;
        if !initialised {
            // The sentinel: there is something in the log whose loss a later start would notice.
            db.insert(REVISION_KEY, &0_u64.to_be_bytes())
                .and_then(|_| db.flush())
                .map_err(|error| damaged(path, &error))?;
        }
        directory::sync(path)?;
        if !initialised {
            directory::mark_initialised(path)?;
        }
        let revision = revision(&db, path)?;
        space::after_open(&hooks, path, options.reserve_bytes)
            .map_err(failed("write the ballast file of"))?;

        let log = File::open(path.join("db")).map_err(failed("open the log of"))?;
        let durable = ArcSwap::from_pointee(Durable { revision, before: Default::default() });
        let shared = Arc::new(Shared { db, durable, gate: Mutex::new(()), directory: path.to_owned() });
        let (requests, queue) = mpsc::channel(QUEUE);
        let writer = WriteThread { shared: Arc::clone(&shared), log, hooks };
        let thread = thread::Builder::new().name("committer".into()).spawn(move || writer.run(queue));
        let committer = Some(thread.map_err(failed("start the committer of"))?);
        Ok(Self { shared, requests: Some(requests), committer, _lock: lock })
    }
}

fn open_or_repair(options: &SledOptions) -> Result<sled::Db, OpenError> {
    let path = options.directory.as_path();
    // The background flusher stays on: sled cleans its segments nowhere else.
    let config =
        sled::Config::new().path(path).cache_capacity(options.cache_bytes).segment_size(SEGMENT_BYTES);
    let opened = config.open().or_else(|error| match error {
        sled::Error::Corruption { .. } => {
            tracing::warn!("sled finds its snapshot damaged: it is set aside and rebuilt from the log");
            directory::set_snapshots_aside(path).map_err(|error| sled::Error::Io(io::Error::other(error)))?;
            config.open()
        }
        other => Err(other),
    });
    opened.map_err(|error| damaged(path, &error))
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

fn damaged(path: &Path, error: &sled::Error) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), reason: error.to_string() }
}

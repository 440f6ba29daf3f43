//! Quotas: how many bytes a mount, or what is below a folder of it, may keep. Whoever may write there can fill that much and
//! not the disk.
//!
//! What is kept below a folder is counted when somebody writes there for the first time, and carried along from then on; who
//! writes meanwhile waits for the count, so that it is exact. Room is taken before the batch is committed and given back if it
//! is not: writers at one moment cannot exceed a quota together. A write that makes a secret no larger is never refused.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::OnceCell;

use super::{
    Error,
    record::{FOLDER, SECRET, Secret},
    settings::KvSettings,
};
use crate::{
    barrier::{BarrierError, Found, View},
    model::QuotaUse,
};

/// Records of one step of a count.
const PAGE: usize = 128;

/// The quotas of one mount.
#[derive(Default)]
pub(super) struct Quotas(Vec<Quota>);

struct Quota {
    /// Within the mount; empty for all of it.
    folder: Box<str>,
    limit: u64,
    held: OnceCell<AtomicU64>,
}

/// Room for a write that is not committed yet; given back when it is dropped.
pub(super) struct Claim {
    quotas: Arc<Quotas>,
    /// The secret, within the mount.
    secret: Box<str>,
    /// What was taken.
    growth: u64,
    /// What is given back once the write stands.
    freed: u64,
}

impl Quotas {
    pub(super) fn of(settings: &KvSettings) -> Self {
        let quotas = settings.quotas.iter();
        Self(quotas.map(|(folder, limit)| Quota::new(folder.clone(), *limit)).collect())
    }

    /// What is counted, as far as it is.
    pub(super) fn used(&self) -> Vec<QuotaUse> {
        let used = |quota: &Quota| QuotaUse {
            folder: quota.folder.clone(),
            limit: quota.limit,
            held: quota.held.get().map(|held| held.load(Ordering::Relaxed)),
        };
        self.0.iter().map(used).collect()
    }

    /// All that there is may have changed: to be counted again.
    pub(super) fn recount(&self) -> Self {
        Self(self.0.iter().map(|quota| Quota::new(quota.folder.clone(), quota.limit)).collect())
    }

    /// Room for a secret that takes up `after` bytes instead of `before`.
    ///
    /// # Errors
    /// There is not so much.
    pub(super) async fn claim(
        self: &Arc<Self>,
        view: &View,
        secret: &str,
        before: u64,
        after: u64,
    ) -> Result<Claim, Error> {
        for quota in self.over(secret) {
            quota.held.get_or_try_init(|| count(view, &quota.folder)).await?;
        }
        let growth = after.saturating_sub(before);
        for (taken, quota) in self.over(secret).enumerate() {
            if !quota.take(growth) {
                self.over(secret).take(taken).for_each(|quota| quota.give(growth));
                return Err(Error::QuotaExceeded { folder: quota.folder.clone(), limit: quota.limit });
            }
        }
        let freed = before.saturating_sub(after);
        Ok(Claim { quotas: Arc::clone(self), secret: secret.into(), growth, freed })
    }

    /// Those that count what is at this place within the mount.
    fn over<'a>(&'a self, secret: &'a str) -> impl Iterator<Item = &'a Quota> {
        self.0.iter().filter(move |quota| {
            let below = secret.strip_prefix(&*quota.folder);
            quota.folder.is_empty() || below.is_some_and(|below| below.starts_with('/'))
        })
    }
}

impl Quota {
    fn new(folder: Box<str>, limit: u64) -> Self {
        Self { folder, limit, held: OnceCell::new() }
    }

    fn take(&self, bytes: u64) -> bool {
        let Some(held) = self.held.get() else { return true };
        let more = |held: u64| held.checked_add(bytes).filter(|held| bytes == 0 || *held <= self.limit);
        held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give(&self, bytes: u64) {
        if let Some(held) = self.held.get() {
            // It never refuses.
            let _was = held
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| Some(held.saturating_sub(bytes)));
        }
    }
}

impl Claim {
    /// The write stands.
    pub(super) fn keep(mut self) {
        self.growth = 0;
        self.quotas.over(&self.secret).for_each(|quota| quota.give(self.freed));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.quotas.over(&self.secret).for_each(|quota| quota.give(self.growth));
    }
}

/// What is kept below `folder`, by walking over it.
async fn count(view: &View, folder: &str) -> Result<AtomicU64, BarrierError> {
    let mut bytes = 0_u64;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for kind in [SECRET, FOLDER] {
            let mut after = None;
            loop {
                let page = view.scan(kind, &folder, after.as_ref(), PAGE).await?;
                after = page.last().map(|found| found.cursor.clone());
                let last = page.len() < PAGE;
                for Found { name, entry, .. } in page {
                    if kind == FOLDER {
                        folders.push(if folder.is_empty() {
                            name.into()
                        } else {
                            format!("{folder}/{name}")
                        });
                    } else {
                        let secret = Secret::decode(&entry.content).map_err(|_| BarrierError::Corrupt {
                            kind,
                            namespace: format!("{folder}/{name}"),
                        })?;
                        bytes = bytes.saturating_add(secret.held);
                    }
                }
                if last {
                    break;
                }
            }
        }
    }
    Ok(AtomicU64::new(bytes))
}

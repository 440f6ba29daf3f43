//! Reading: one get for a small latest version, one more per chunk otherwise.

use super::{
    Error, Output, SecretAddress, Shelf, corrupt,
    record::{self, Data, Row, SECRET, Secret, VERSION},
};
use crate::{
    model::{Invalid, Path, Timestamp},
    storage::Revision,
};

/// How often a read starts over because the secret was written while its chunks were read.
const ATTEMPTS: usize = 16;

/// A secret's record and when it was written.
pub(super) struct Stored {
    pub(super) secret: Secret,
    pub(super) revision: Revision,
}

impl Shelf {
    pub(super) async fn get(
        &self,
        path: &Path,
        version: Option<u64>,
        now: Timestamp,
    ) -> Result<Output, Error> {
        let place = SecretAddress::of(path)?;
        if version == Some(0) {
            return Err(Invalid::new("version", "is 0; versions start at 1").into());
        }
        for _ in 0..ATTEMPTS {
            let stored = self.stored(path, &place).await?.ok_or(Error::NotFound)?;
            let row = readable(&stored.secret, version.unwrap_or(stored.secret.current), now)?;
            if let Some(data) = self.data(path, &place, &stored, row).await? {
                let metadata = row.metadata();
                return Ok(Output::Secret { data, metadata, custom: stored.secret.custom });
            }
        }
        Err(crate::barrier::BarrierError::Conflict.into())
    }

    pub(super) async fn metadata(&self, path: &Path) -> Result<Output, Error> {
        let stored = self.stored(path, &SecretAddress::of(path)?).await?.ok_or(Error::NotFound)?;
        Ok(Output::Metadata(stored.secret.metadata(path)))
    }

    pub(super) async fn stored(&self, path: &Path, place: &SecretAddress) -> Result<Option<Stored>, Error> {
        let Some(entry) = self.view.get(&place.secret()).await? else { return Ok(None) };
        let secret = Secret::decode(&entry.content).map_err(|_| corrupt(SECRET, path))?;
        Ok(Some(Stored { secret, revision: entry.revision }))
    }

    /// The data of a version, or `None` if the secret was changed meanwhile and `stored` is to be read again.
    pub(super) async fn data(
        &self,
        path: &Path,
        place: &SecretAddress,
        stored: &Stored,
        row: &Row,
    ) -> Result<Option<Data>, Error> {
        if row.chunks == 0 {
            let inline = stored.secret.inline.as_ref().ok_or_else(|| corrupt(SECRET, path))?;
            return record::decode_data(inline.expose()).map(Some).map_err(|_| corrupt(SECRET, path));
        }
        let mut chunks = Vec::with_capacity(usize::from(row.chunks));
        for chunk in 0..row.chunks {
            let entry = self.view.get(&place.chunk(row.version, chunk)).await?;
            // A record names only chunks as old as itself or older. A younger or missing one was changed since, or the
            // secret was destroyed and created again; if its record is still the same, it is the store that is wrong.
            let suspicious = entry.as_ref().is_none_or(|entry| entry.revision > stored.revision);
            if suspicious && !self.unchanged(place, stored.revision).await? {
                return Ok(None);
            }
            chunks.push(entry.ok_or_else(|| corrupt(VERSION, path))?.content);
        }
        let data = record::decode_data(&record::join(&chunks)).map_err(|_| corrupt(VERSION, path))?;
        Ok(Some(data))
    }

    async fn unchanged(&self, place: &SecretAddress, revision: Revision) -> Result<bool, Error> {
        Ok(self.view.get(&place.secret()).await?.is_some_and(|entry| entry.revision == revision))
    }
}

/// The version, if it can be read now.
pub(super) fn readable(secret: &Secret, version: u64, now: Timestamp) -> Result<&Row, Error> {
    let Some(row) = secret.row(version) else {
        // Versions are never skipped: one that is not there but was once has been pruned.
        let pruned = version <= secret.current;
        return Err(if pruned { Error::Destroyed { version } } else { Error::NotFound });
    };
    if row.destroyed {
        return Err(Error::Destroyed { version });
    }
    if let Some(at) = row.deleted {
        return Err(Error::Deleted { version, at });
    }
    match row.expires {
        Some(at) if at <= now => Err(Error::Expired { version, at }),
        _ => Ok(row),
    }
}

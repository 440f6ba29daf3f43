//! Writing. Each attempt reads, decides, and commits on condition that nothing it read has changed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use strongroom_proto::limits::{
    CUSTOM_KEY_BYTES, CUSTOM_PAIRS, CUSTOM_VALUE_BYTES, MAX_VERSIONS, TTL_SECONDS,
};

use super::{
    ChangeKind, Error, Operation, Output, Request, SecretAddress, SecretMetadata, Shelf, check_operation_id,
    quota::Claim,
    read::{Stored, readable},
    record::{self, CHUNK_BYTES, Data, INLINE_BYTES, Row, Secret, Stamp},
};
use crate::{
    barrier::{BarrierError, Changes},
    model::{Invalid, KeyName, SecretBytes, Timestamp, Verb},
    storage::Condition,
};

/// How often a write that lost to another one tries again before its caller hears of it.
const ATTEMPTS: usize = 16;
/// Chunks removed with one write: beside 19 records of a version and 15 folders, a batch has room for 64 of its 100.
const ERASE: usize = 64;

/// What a put or patch carries.
enum Content {
    Whole(Data),
    Changes(BTreeMap<KeyName, Option<SecretBytes>>),
}

/// Under which terms.
struct Terms {
    expected: Option<u64>,
    ttl: Option<Duration>,
    operation: Box<str>,
}

impl Shelf {
    /// Does a write to its end, even if the caller stops waiting: otherwise lists and watchers could miss what happened.
    pub(super) async fn write(
        self: Arc<Self>,
        request: Request,
        operation: Operation,
    ) -> Result<Output, Error> {
        let tasks = self.tasks.clone();
        let task = tasks.spawn(async move {
            let result = self.retry(&request, operation).await;
            if request.may_read { result } else { own_doing(result) }
        });
        task.await.unwrap_or(Err(BarrierError::Stopped.into()))
    }

    async fn retry(&self, request: &Request, operation: Operation) -> Result<Output, Error> {
        let place = SecretAddress::of(&request.path)?;
        let write = Write::checked(operation)?;
        for _ in 0..ATTEMPTS {
            let result = match &write {
                Write::Put(content, terms) => self.put(request, &place, content, terms).await,
                Write::Delete(versions) => self.delete(request, &place, versions).await,
                Write::Undelete(versions) => self.undelete(request, &place, versions).await,
                Write::Destroy(versions) => self.destroy(request, &place, versions).await,
                Write::DestroyAll => self.destroy_all(request, &place).await,
                Write::Settings(settings) => self.settle(request, &place, settings).await,
            };
            match result {
                Err(Error::Barrier(BarrierError::Conflict)) => tokio::task::yield_now().await,
                other => return other,
            }
        }
        Err(BarrierError::Conflict.into())
    }

    async fn put(
        &self,
        request: &Request,
        place: &SecretAddress,
        content: &Content,
        terms: &Terms,
    ) -> Result<Output, Error> {
        let stored = self.stored(&request.path, place).await?;
        if let Some(stored) = &stored
            && is_repeated(&stored.secret, request, terms)
        {
            let metadata = stored.secret.metadata(&request.path);
            return Ok(Output::Written { version: stored.secret.current, metadata });
        }
        admit(request, content, terms, stored.as_ref().map(|stored| &stored.secret))?;
        let merged;
        let data = match (content, &stored) {
            (Content::Whole(data), _) => data,
            (Content::Changes(changes), Some(stored)) => {
                merged = self.merge(request, place, stored, changes).await?;
                &merged
            }
            (Content::Changes(_), None) => return Err(Error::NotFound),
        };

        let mut changes = Changes::default();
        let mut secret = match stored {
            Some(stored) => {
                changes.conditions.push((place.secret(), Condition::At(stored.revision)));
                stored.secret
            }
            None => {
                changes.conditions.push((place.secret(), Condition::Absent));
                self.enter(&place.folder, &mut changes).await?;
                Secret::new(request.stamp(), &self.settings.load().beginning)
            }
        };
        secret.append(place, data, request.stamp(), terms, &mut changes)?;
        prune(&mut secret, place, &mut changes);
        changes.by = Some(request.id);
        let version = secret.current;
        let metadata = self.store(request, place, secret, changes, ChangeKind::Written).await?;
        Ok(Output::Written { version, metadata })
    }

    async fn merge(
        &self,
        request: &Request,
        place: &SecretAddress,
        stored: &Stored,
        changes: &BTreeMap<KeyName, Option<SecretBytes>>,
    ) -> Result<Data, Error> {
        let row = readable(&stored.secret, stored.secret.current, request.now)?;
        let mut data = self.data(&request.path, place, stored, row).await?.ok_or(BarrierError::Conflict)?;
        for (key, change) in changes {
            match change {
                Some(value) => data.insert(key.clone(), SecretBytes::from(value.expose())),
                None => data.remove(key),
            };
        }
        record::check_data(&data)?;
        Ok(data)
    }

    async fn delete(
        &self,
        request: &Request,
        place: &SecretAddress,
        versions: &[u64],
    ) -> Result<Output, Error> {
        let mut stored = self.existing(request, place).await?;
        let latest = [stored.secret.current];
        let versions = if versions.is_empty() { &latest } else { versions };
        check_known(&stored.secret, versions)?;
        let mut changed = false;
        for row in stored.secret.rows.iter_mut().filter(|row| versions.contains(&row.version)) {
            if row.deleted.is_none() && !row.destroyed {
                row.deleted = Some(request.now);
                changed = true;
            }
        }
        self.replace(request, place, stored, changed, ChangeKind::Deleted).await
    }

    async fn undelete(
        &self,
        request: &Request,
        place: &SecretAddress,
        versions: &[u64],
    ) -> Result<Output, Error> {
        let mut stored = self.existing(request, place).await?;
        check_known(&stored.secret, versions)?;
        let mut changed = false;
        for row in stored.secret.rows.iter_mut().filter(|row| versions.contains(&row.version)) {
            if row.destroyed {
                return Err(Error::Destroyed { version: row.version });
            }
            changed |= row.deleted.take().is_some();
        }
        self.replace(request, place, stored, changed, ChangeKind::Undeleted).await
    }

    async fn settle(
        &self,
        request: &Request,
        place: &SecretAddress,
        settings: &Settings,
    ) -> Result<Output, Error> {
        let mut stored = self.existing(request, place).await?;
        let secret = &mut stored.secret;
        secret.custom = settings.custom.clone().unwrap_or_else(|| std::mem::take(&mut secret.custom));
        secret.max_versions = settings.max_versions.unwrap_or(secret.max_versions);
        secret.cas_required = settings.cas_required.unwrap_or(secret.cas_required);
        secret.check_room()?;
        self.replace(request, place, stored, true, ChangeKind::Metadata).await
    }

    /// Erases as many versions as fit into a batch at a time. Each of them goes at once with its bytes; of all of them a
    /// crash may leave some, and asking again does the rest. Only the last batch says whose request it is, so that nobody
    /// is told after a crash that what is left is gone.
    async fn destroy(
        &self,
        request: &Request,
        place: &SecretAddress,
        versions: &[u64],
    ) -> Result<Output, Error> {
        check_known(&self.existing(request, place).await?.secret, versions)?;
        loop {
            let mut stored = self.existing(request, place).await?;
            let mut changes = Changes::default();
            let rest = erase(&mut stored.secret, place, versions, &mut changes);
            changes.conditions.push((place.secret(), Condition::At(stored.revision)));
            stored.secret.updated = request.stamp();
            changes.by = (!rest).then_some(request.id);
            self.store(request, place, stored.secret, changes, ChangeKind::Destroyed).await?;
            if !rest {
                return Ok(Output::Destroyed);
            }
        }
    }

    /// Bytes first, the record that names them last, so that a crash leaves no bytes that nobody knows of.
    async fn destroy_all(&self, request: &Request, place: &SecretAddress) -> Result<Output, Error> {
        loop {
            let mut stored = self.existing(request, place).await?;
            let all: Vec<u64> = stored.secret.rows.iter().map(|row| row.version).collect();
            let mut changes = Changes::default();
            changes.conditions.push((place.secret(), Condition::At(stored.revision)));
            if erase(&mut stored.secret, place, &all, &mut changes) {
                self.store(request, place, stored.secret, changes, ChangeKind::Destroyed).await?;
                continue;
            }
            changes.deletes.push(place.secret());
            (changes.by, changes.urgent) = (Some(request.id), true);
            self.leave(&place.folder, &mut changes).await?;
            let claim = self.claim(request, stored.secret.held, 0).await?;
            self.commit(changes).await?;
            claim.keep();
            self.hub.publish(ChangeKind::Destroyed, &request.path, stored.secret.current);
            // The secret is gone, whatever becomes of its empty folders: the next one to leave tidies them too.
            if let Err(error) = self.close(&place.folder).await {
                tracing::warn!(%error, "an empty folder could not be removed");
            }
            return Ok(Output::Destroyed);
        }
    }

    async fn existing(&self, request: &Request, place: &SecretAddress) -> Result<Stored, Error> {
        self.stored(&request.path, place).await?.ok_or(Error::NotFound)
    }

    /// Writes a secret's record back, if it was changed, and answers with its metadata.
    async fn replace(
        &self,
        request: &Request,
        place: &SecretAddress,
        mut stored: Stored,
        changed: bool,
        kind: ChangeKind,
    ) -> Result<Output, Error> {
        if !changed {
            return Ok(Output::Metadata(stored.secret.metadata(&request.path)));
        }
        stored.secret.updated = request.stamp();
        let conditions = vec![(place.secret(), Condition::At(stored.revision))];
        let changes = Changes { conditions, by: Some(request.id), ..Changes::default() };
        self.store(request, place, stored.secret, changes, kind).await.map(Output::Metadata)
    }

    async fn store(
        &self,
        request: &Request,
        place: &SecretAddress,
        secret: Secret,
        mut changes: Changes,
        kind: ChangeKind,
    ) -> Result<SecretMetadata, Error> {
        let record = secret.encode()?;
        let claim = self.claim(request, secret.held, secret.bytes(&record)).await?;
        changes.puts.push((place.secret(), record));
        changes.urgent = matches!(kind, ChangeKind::Deleted | ChangeKind::Destroyed);
        self.commit(changes).await?;
        claim.keep();
        self.hub.publish(kind, &request.path, secret.current);
        Ok(secret.metadata(&request.path))
    }
}

impl Shelf {
    async fn claim(&self, request: &Request, before: u64, after: u64) -> Result<Claim, Error> {
        self.quotas.load_full().claim(&self.view, request.path.within_mount(), before, after).await
    }
}

impl Request {
    fn stamp(&self) -> Stamp {
        Stamp { at: self.now, by: self.actor.clone() }
    }
}

impl Secret {
    /// Adds the next version. The former one moves out of the record if it stood inline.
    fn append(
        &mut self,
        place: &SecretAddress,
        data: &Data,
        stamp: Stamp,
        terms: &Terms,
        changes: &mut Changes,
    ) -> Result<(), Error> {
        if let Some(inline) = self.inline.take() {
            let current = self.current;
            let row = self.row_mut(current).ok_or(BarrierError::TooLarge("inline data of no version"))?;
            row.chunks = 1;
            changes.puts.push((place.chunk(current, 0), inline));
        }
        self.current += 1;
        let bytes = record::encode_data(data);
        let mut chunks = 0;
        if bytes.len() <= INLINE_BYTES {
            self.inline = Some(bytes);
        } else {
            for chunk in bytes.expose().chunks(CHUNK_BYTES) {
                changes.puts.push((place.chunk(self.current, chunks), SecretBytes::from(chunk)));
                chunks += 1;
            }
        }
        self.rows.push(Row {
            version: self.current,
            created: stamp.clone(),
            deleted: None,
            destroyed: false,
            expires: terms.ttl.map(|ttl| stamp.at.plus(ttl)),
            size: record::value_bytes(data),
            chunks,
        });
        self.updated = stamp;
        self.operation = terms.operation.clone();
        Ok(())
    }
}

/// Whether this very write has been done: its answer was lost and the caller tries again. It must be the same caller, so
/// that two who number their writes alike do not take each other's for their own.
fn is_repeated(secret: &Secret, request: &Request, terms: &Terms) -> bool {
    let same_writer = secret.rows.last().is_some_and(|row| row.created.by == request.actor);
    !terms.operation.is_empty() && secret.operation == terms.operation && same_writer
}

/// Whether the caller may write, and means what is there. Who says what is expected says with it which of the two verbs is
/// needed: the answer is then the same whether the secret is there or not, and a write that cannot happen tells nothing.
fn admit(request: &Request, content: &Content, terms: &Terms, secret: Option<&Secret>) -> Result<(), Error> {
    let creates = matches!(content, Content::Whole(_))
        && terms.expected.map_or(secret.is_none(), |expected| expected == 0);
    match creates {
        true if !request.may_create => return Err(Error::Needs(Verb::Create)),
        false if !request.may_update => return Err(Error::Needs(Verb::Update)),
        _ => {}
    }
    let current = secret.map_or(0, |secret| secret.current);
    match terms.expected {
        Some(expected) if expected != current => Err(Error::VersionMismatch { expected, current }),
        None if secret.is_some_and(|secret| secret.cas_required) => Err(Error::CasRequired { current }),
        _ => Ok(()),
    }
}

/// What somebody is told who may not read the metadata: what they did themselves, or that they could not, but nothing of
/// what was there.
fn own_doing(result: Result<Output, Error>) -> Result<Output, Error> {
    match result {
        Ok(Output::Written { version, metadata }) => {
            Ok(Output::Written { version, metadata: metadata.of_version(Some(version)) })
        }
        Ok(Output::Metadata(metadata)) => Ok(Output::Metadata(metadata.of_version(None))),
        Err(Error::VersionMismatch { .. }) => Err(Error::NotExpected),
        Err(Error::CasRequired { .. }) => Err(Error::ExpectationMissing),
        Err(
            Error::UnknownVersions(_)
            | Error::Deleted { .. }
            | Error::Destroyed { .. }
            | Error::Expired { .. },
        ) => Err(Error::NotFound),
        other => other,
    }
}

impl SecretMetadata {
    /// Only the path, and what is known of one version.
    fn of_version(self, version: Option<u64>) -> Self {
        Self {
            versions: self.versions.into_iter().filter(|row| Some(row.version) == version).collect(),
            path: self.path,
            current_version: version.unwrap_or_default(),
            oldest_version: version.unwrap_or_default(),
            custom: BTreeMap::new(),
            max_versions: 0,
            cas_required: false,
            created_at: Timestamp::default(),
            created_by: "".into(),
            updated_at: Timestamp::default(),
            updated_by: "".into(),
        }
    }
}

fn check_known(secret: &Secret, versions: &[u64]) -> Result<(), Error> {
    let unknown = secret.unknown(versions);
    if unknown.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = unknown.iter().map(u64::to_string).collect();
    Err(Error::UnknownVersions(Invalid::new(
        "versions",
        format!("has no version {}; the current one is {}", named.join(", "), secret.current),
    )))
}

/// Drops the oldest versions beyond those to keep, as many as fit; the rest goes with the next put.
fn prune(secret: &mut Secret, place: &SecretAddress, changes: &mut Changes) {
    let keep = usize::try_from(secret.max_versions).unwrap_or(usize::MAX);
    let mut pruned = 0;
    for row in secret.rows.iter().take(secret.rows.len().saturating_sub(keep)) {
        if changes.deletes.len() + usize::from(row.chunks) > ERASE {
            break;
        }
        changes.deletes.extend((0..row.chunks).map(|chunk| place.chunk(row.version, chunk)));
        pruned += 1;
    }
    // A version that moved out of the record in this very write and is pruned at once must not be written after all.
    changes.puts.retain(|(address, _)| !changes.deletes.contains(address));
    secret.rows.drain(..pruned);
}

/// Marks `versions` destroyed and removes their bytes, as many as fit; whether there are more.
fn erase(secret: &mut Secret, place: &SecretAddress, versions: &[u64], changes: &mut Changes) -> bool {
    let current = secret.current;
    for row in secret.rows.iter_mut().filter(|row| !row.destroyed && versions.contains(&row.version)) {
        if changes.deletes.len() + usize::from(row.chunks) > ERASE {
            return true;
        }
        changes.deletes.extend((0..row.chunks).map(|chunk| place.chunk(row.version, chunk)));
        if row.version == current {
            secret.inline = None;
        }
        row.destroyed = true;
        row.chunks = 0;
    }
    false
}

/// A write whose fields are what they should be, whatever is stored.
enum Write {
    Put(Content, Terms),
    Delete(Vec<u64>),
    Undelete(Vec<u64>),
    Destroy(Vec<u64>),
    DestroyAll,
    Settings(Settings),
}

struct Settings {
    custom: Option<BTreeMap<String, String>>,
    max_versions: Option<u32>,
    cas_required: Option<bool>,
}

impl Write {
    fn checked(operation: Operation) -> Result<Self, Error> {
        Ok(match operation {
            Operation::Put { data, expected_version, ttl, operation_id } => {
                record::check_data(&data)?;
                Self::Put(Content::Whole(data), Terms::checked(expected_version, ttl, operation_id)?)
            }
            Operation::Patch { changes, expected_version, ttl, operation_id } => {
                record::check_data(changes.iter().filter_map(|(key, value)| Some((key, value.as_ref()?))))?;
                Self::Put(Content::Changes(changes), Terms::checked(expected_version, ttl, operation_id)?)
            }
            Operation::Delete { versions } => Self::Delete(few(versions)?),
            Operation::Undelete { versions } => Self::Undelete(some(few(versions)?)?),
            Operation::Destroy { versions, all: false } => Self::Destroy(some(few(versions)?)?),
            Operation::Destroy { versions, all: true } if versions.is_empty() => Self::DestroyAll,
            Operation::Destroy { .. } => {
                return Err(
                    Invalid::new("versions", "must be empty when all of the secret is destroyed").into()
                );
            }
            Operation::UpdateMetadata { custom, max_versions, cas_required } => {
                check_custom(custom.as_ref())?;
                if let Some(kept) = max_versions
                    && !(1..=MAX_VERSIONS).contains(&kept)
                {
                    return Err(Invalid::new(
                        "max_versions",
                        format!("is {kept}; expected 1 to {MAX_VERSIONS}"),
                    )
                    .into());
                }
                Self::Settings(Settings { custom, max_versions, cas_required })
            }
            _ => return Err(Error::WrongEngine),
        })
    }
}

impl Terms {
    fn checked(
        expected: Option<u64>,
        ttl: Option<Duration>,
        operation: Option<Box<str>>,
    ) -> Result<Self, Invalid> {
        if let Some(ttl) = ttl
            && (ttl.is_zero() || ttl > Duration::from_secs(TTL_SECONDS))
        {
            let problem = format!("is {}; expected 1 to {TTL_SECONDS}", ttl.as_secs());
            return Err(Invalid::new("ttl_seconds", problem));
        }
        let operation = operation.unwrap_or_default();
        check_operation_id(&operation)?;
        Ok(Self { expected, ttl, operation })
    }
}

fn few(versions: Vec<u64>) -> Result<Vec<u64>, Invalid> {
    if versions.len() as u64 > u64::from(MAX_VERSIONS) {
        let problem = format!("has {} entries; at most {MAX_VERSIONS} are allowed", versions.len());
        return Err(Invalid::new("versions", problem));
    }
    Ok(versions)
}

fn some(versions: Vec<u64>) -> Result<Vec<u64>, Invalid> {
    if versions.is_empty() {
        return Err(Invalid::new("versions", "is empty; name at least one version"));
    }
    Ok(versions)
}

fn check_custom(custom: Option<&BTreeMap<String, String>>) -> Result<(), Invalid> {
    let Some(custom) = custom else { return Ok(()) };
    if custom.len() > CUSTOM_PAIRS {
        return Err(Invalid::new(
            "custom",
            format!("has {} pairs; at most {CUSTOM_PAIRS} are allowed", custom.len()),
        ));
    }
    for (key, value) in custom {
        if key.is_empty() || key.len() > CUSTOM_KEY_BYTES {
            let problem = format!("has a key of {} bytes; expected 1 to {CUSTOM_KEY_BYTES}", key.len());
            return Err(Invalid::new("custom", problem));
        }
        if value.len() > CUSTOM_VALUE_BYTES {
            let problem =
                format!("has a value of {} bytes; at most {CUSTOM_VALUE_BYTES} are allowed", value.len());
            return Err(Invalid::new("custom", problem));
        }
    }
    Ok(())
}

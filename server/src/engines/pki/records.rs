//! What a mount keeps: its issuers, its roles, which issuer is the default one, and what is revoked. Sealed like everything,
//! and changed on condition that nobody else has changed it since.

use prost::Message;
use strongroom_proto::v1::Sensitive;

use super::{error::Error, role::Role};
use crate::{
    barrier::{Address, BarrierError, Changes, RecordKind, View},
    engines::names,
    model::{Path, RequestId, SecretBytes},
    storage::{Condition, Revision},
};

const DEFAULT: RecordKind = RecordKind::new(26, "PkiDefault");
const CRL: RecordKind = RecordKind::new(27, "PkiCrl");
const REVOKED: RecordKind = RecordKind::new(28, "PkiRevoked");
/// Records read, or deleted, at once: a commit takes no more.
const BATCH: usize = 100;

/// Something that is kept at a path.
pub(super) trait Kept: Message + Default {
    const KIND: RecordKind;
    /// As in "there is no role at this path".
    const WHAT: &str;
}

/// An authority.
#[derive(Message)]
#[prost(skip_debug)]
pub(super) struct Issuer {
    /// What its revocations are kept under: no other issuer ever has it.
    #[prost(string, tag = "1")]
    pub(super) id: String,
    /// PKCS #8.
    #[prost(message, optional, tag = "2")]
    pub(super) key: Option<Sensitive>,
    /// DER, its own certificate first. Empty: nobody has signed it yet.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(super) chain: Vec<Vec<u8>>,
    /// DER; empty: it was imported.
    #[prost(bytes = "vec", tag = "4")]
    pub(super) csr: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(super) subject: String,
    #[prost(string, tag = "6")]
    pub(super) crl_url: String,
}

/// The default issuer.
#[derive(Message)]
struct DefaultIssuer {
    #[prost(string, tag = "1")]
    path: String,
}

/// How far an issuer is with its lists.
#[derive(Message, Clone)]
pub(super) struct CrlState {
    /// Of the last one; 0 = there was none.
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
    /// Deltas say what came after this one.
    #[prost(uint64, tag = "2")]
    pub(super) base: u64,
    #[prost(int64, tag = "3")]
    pub(super) base_at_ms: i64,
    #[prost(int64, tag = "4")]
    pub(super) built_at_ms: i64,
    #[prost(int64, tag = "5")]
    pub(super) next_ms: i64,
    /// Whether something was revoked since.
    #[prost(bool, tag = "6")]
    pub(super) changed: bool,
    /// How many records there are at most.
    #[prost(uint64, tag = "7")]
    pub(super) count: u64,
}

/// One revoked certificate.
#[derive(Message, Clone)]
pub(super) struct RevokedRecord {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) serial: Vec<u8>,
    #[prost(int64, tag = "2")]
    pub(super) at_ms: i64,
    #[prost(int64, tag = "3")]
    pub(super) not_after_ms: i64,
    #[prost(uint32, tag = "4")]
    pub(super) reason: u32,
    /// The number of the first list that has it.
    #[prost(uint64, tag = "5")]
    pub(super) since: u64,
}

impl Kept for Issuer {
    const KIND: RecordKind = RecordKind::new(24, "PkiIssuer");
    const WHAT: &str = "issuer";
}

impl Kept for Role {
    const KIND: RecordKind = RecordKind::new(25, "PkiRole");
    const WHAT: &str = "role";
}

#[derive(Clone)]
pub(super) struct Records(View);

impl Records {
    pub(super) fn new(view: View) -> Self {
        Self(view)
    }

    pub(super) async fn find<R: Kept>(&self, path: &Path) -> Result<Option<(R, Revision)>, Error> {
        self.at(&names::address(R::KIND, path, R::WHAT)?).await
    }

    async fn at<R: Message + Default>(&self, address: &Address) -> Result<Option<(R, Revision)>, Error> {
        let Some(found) = self.0.get(address).await? else { return Ok(None) };
        Ok(Some((decode(address.kind, &found.content)?, found.revision)))
    }

    pub(super) async fn get<R: Kept>(&self, path: &Path) -> Result<(R, Revision), Error> {
        self.find(path).await?.ok_or(Error::NotFound(R::WHAT))
    }

    /// Writes a record over the one of `was`, or where there is none and none of the kind `Other` either: a path names one
    /// thing, so that a policy means one thing.
    pub(super) async fn put<R: Kept, Other: Kept>(
        &self,
        path: &Path,
        record: &R,
        was: Option<Revision>,
        by: RequestId,
    ) -> Result<(), Error> {
        self.put_with::<R, Other>(path, record, was, false, by).await
    }

    /// The same; it may be the first issuer, and becomes the default one.
    pub(super) async fn put_with<R: Kept, Other: Kept>(
        &self,
        path: &Path,
        record: &R,
        was: Option<Revision>,
        becomes_default: bool,
        by: RequestId,
    ) -> Result<(), Error> {
        let address = names::address(R::KIND, path, R::WHAT)?;
        let mut changes = Changes { by: Some(by), ..Changes::default() };
        changes.conditions.push((address.clone(), was.map_or(Condition::Absent, Condition::At)));
        changes.conditions.push((names::address(Other::KIND, path, Other::WHAT)?, Condition::Absent));
        changes.puts.push((address, SecretBytes::from(record.encode_to_vec())));
        if becomes_default {
            changes.conditions.push((at_mount(), Condition::Absent));
            changes.puts.push((at_mount(), default(path.within_mount())));
        }
        self.0.commit(changes).await?;
        Ok(())
    }

    pub(super) async fn delete<R: Kept>(&self, path: &Path, by: RequestId) -> Result<(), Error> {
        let (_, revision) = self.get::<R>(path).await?;
        let address = names::address(R::KIND, path, R::WHAT)?;
        let conditions = vec![(address.clone(), Condition::At(revision))];
        let changes =
            Changes { conditions, deletes: vec![address], urgent: true, by: Some(by), ..Changes::default() };
        self.0.commit(changes).await?;
        Ok(())
    }

    pub(super) async fn page<R: Kept>(
        &self,
        folder: &Path,
        after: Option<&str>,
        sees: impl Fn(&Path) -> bool,
    ) -> Result<(Vec<Path>, Option<String>), Error> {
        Ok(names::page(&self.0, R::KIND, folder, after, sees).await?)
    }

    /// The default issuer, by its name within the mount.
    pub(super) async fn default_issuer(&self) -> Result<Option<String>, Error> {
        Ok(self.at::<DefaultIssuer>(&at_mount()).await?.map(|(kept, _)| kept.path))
    }

    pub(super) async fn set_default(&self, name: &str, by: RequestId) -> Result<(), Error> {
        let puts = vec![(at_mount(), default(name))];
        self.0.commit(Changes { puts, by: Some(by), ..Changes::default() }).await?;
        Ok(())
    }

    pub(super) async fn crl(&self, issuer: &str) -> Result<Option<(CrlState, Revision)>, Error> {
        self.at(&of(CRL, issuer)).await
    }

    pub(super) async fn revoked(&self, issuer: &str, serial: &str) -> Result<Option<RevokedRecord>, Error> {
        Ok(self.at(&revocation(issuer, serial)).await?.map(|(record, _)| record))
    }

    /// Keeps how far the issuer is, over the state of `was`, and with it what was revoked.
    pub(super) async fn put_crl(
        &self,
        issuer: &str,
        state: &CrlState,
        was: Option<Revision>,
        revoked: Option<(&str, &RevokedRecord)>,
        by: Option<RequestId>,
    ) -> Result<Revision, Error> {
        let mut changes = Changes { by, ..Changes::default() };
        let address = of(CRL, issuer);
        changes.conditions.push((address.clone(), was.map_or(Condition::Absent, Condition::At)));
        changes.puts.push((address, SecretBytes::from(state.encode_to_vec())));
        if let Some((serial, record)) = revoked {
            changes.urgent = true;
            changes.conditions.push((revocation(issuer, serial), Condition::Absent));
            changes.puts.push((revocation(issuer, serial), SecretBytes::from(record.encode_to_vec())));
        }
        Ok(self.0.commit(changes).await?)
    }

    /// Everything that the issuer has revoked, but for what `erase` says: that is erased.
    pub(super) async fn all_revoked(
        &self,
        issuer: &str,
        erase: impl Fn(&RevokedRecord) -> bool,
    ) -> Result<Vec<RevokedRecord>, Error> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let found = self.0.scan(REVOKED, issuer, cursor.as_ref(), BATCH).await?;
            let Some(last) = found.last() else { return Ok(all) };
            cursor = Some(last.cursor.clone());
            let mut changes = Changes::default();
            for record in found {
                let revoked: RevokedRecord = decode(REVOKED, &record.entry.content)?;
                match erase(&revoked) {
                    true => changes.deletes.push(revocation(issuer, &record.name)),
                    false => all.push(revoked),
                }
            }
            if !changes.deletes.is_empty() {
                self.0.commit(changes).await?;
            }
        }
    }

    /// As if so many had been revoked, each with a reason and a serial of full length.
    #[cfg(test)]
    pub(super) async fn fill(&self, issuer: &str, count: u64, not_after: crate::model::Timestamp) {
        let numbers: Vec<u64> = (0..count).collect();
        for some in numbers.chunks(BATCH) {
            let mut changes = Changes::default();
            for number in some {
                let serial = [&[0x7f; 12][..], &number.to_be_bytes()].concat();
                let name = data_encoding::HEXLOWER.encode(&serial);
                let not_after_ms = not_after.as_millis();
                let record = RevokedRecord { serial, at_ms: 1 << 40, not_after_ms, reason: 1, since: 1 };
                changes.puts.push((revocation(issuer, &name), SecretBytes::from(record.encode_to_vec())));
            }
            self.0.commit(changes).await.unwrap();
        }
    }

    pub(super) async fn erase(&self) -> Result<(), BarrierError> {
        // First what says which revocations there are.
        let mut issuers = Vec::new();
        names::each(&self.0, CRL, |state| {
            issuers.push(state.name);
            Ok(())
        })
        .await?;
        for issuer in issuers {
            self.0.erase(REVOKED, &issuer).await?;
        }
        for kind in [CRL, DEFAULT, Issuer::KIND, Role::KIND] {
            self.0.erase(kind, "").await?;
        }
        Ok(())
    }
}

fn decode<R: Message + Default>(kind: RecordKind, content: &SecretBytes) -> Result<R, BarrierError> {
    let corrupt = |_| BarrierError::Corrupt { kind, namespace: "pki".to_owned() };
    R::decode(content.expose()).map_err(corrupt)
}

fn default(name: &str) -> SecretBytes {
    SecretBytes::from(DefaultIssuer { path: name.to_owned() }.encode_to_vec())
}

fn at_mount() -> Address {
    of(DEFAULT, "default")
}

fn of(kind: RecordKind, name: &str) -> Address {
    Address { kind, folder: Box::default(), name: name.into(), part: 0 }
}

fn revocation(issuer: &str, serial: &str) -> Address {
    Address { kind: REVOKED, folder: issuer.into(), name: serial.into(), part: 0 }
}

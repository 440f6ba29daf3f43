//! A lease and its record. Fields of the record are given once and never used again.

use std::{ops::RangeInclusive, time::Duration};

use prost::Message;

use crate::{
    barrier::{Address, BarrierError, Found, OpenedRecord, RecordKind},
    engines::Granted,
    model::{Path, RequestId, SecretBytes, Timestamp, Verb},
    storage::Revision,
    tokens::Session,
};

/// A lease.
pub(super) const LEASE: RecordKind = RecordKind::new(50, "Lease");

/// Something that was issued and has to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// That of the request it was issued for.
    pub id: RequestId,
    /// Where it was issued; its mount is asked to renew and to end it.
    pub path: Path,
    /// One of these had to be granted there.
    pub verbs: Vec<Verb>,
    /// What it is, for people.
    pub what: Box<str>,
    /// To whom: it ends with the session, or with the pod behind it.
    pub session: Session,
    pub issued: Timestamp,
    /// To be ended from here on.
    pub expires: Timestamp,
    /// No renewal goes past this.
    pub max_expires: Timestamp,
    /// What a renewal adds.
    pub ttl: Duration,
    /// It is to be ended, whatever its time.
    pub ending: Option<Cause>,
}

/// Why a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its time is over.
    Expired,
    /// The session is over, or the pod or the service account behind it is gone.
    Session,
    /// Somebody revoked it.
    Revoked,
    /// What it was for could not be made, or not wholly.
    Failed,
    /// The server died before it had answered: nobody has it.
    Undelivered,
}

/// A lease as it is in the store.
pub struct Stored {
    pub lease: Lease,
    /// For the engine.
    pub data: SecretBytes,
    pub(super) revision: Revision,
}

impl Cause {
    const ALL: [Self; 5] = [Self::Expired, Self::Session, Self::Revoked, Self::Failed, Self::Undelivered];

    /// As in lists, the audit log and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Session => "session",
            Self::Revoked => "revoked",
            Self::Failed => "failed",
            Self::Undelivered => "undelivered",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(string, repeated, tag = "2")]
    verbs: Vec<String>,
    #[prost(string, tag = "3")]
    what: String,
    #[prost(bytes = "vec", tag = "4")]
    session: Vec<u8>,
    #[prost(int64, tag = "5")]
    issued_ms: i64,
    #[prost(int64, tag = "6")]
    expires_ms: i64,
    #[prost(int64, tag = "7")]
    max_expires_ms: i64,
    #[prost(uint64, tag = "8")]
    ttl_ms: u64,
    /// Empty while it lives.
    #[prost(string, tag = "9")]
    ending: String,
    #[prost(bytes = "vec", tag = "10")]
    data: Vec<u8>,
}

impl Drop for Record {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.data);
    }
}

impl Lease {
    /// When it is to be ended, as of `now`.
    pub(super) fn due(&self, now: Timestamp) -> Timestamp {
        match self.ending {
            Some(_) => self.expires.min(now),
            None => self.expires,
        }
    }

    /// What its holder is told of it now.
    pub fn granted(&self, now: Timestamp) -> Granted {
        let (expires, max_expires) = (self.expires, self.max_expires);
        Granted { id: self.id, expires, max_expires, lifetime: expires.since(now) }
    }

    /// Why it is to be ended.
    pub fn cause(&self) -> Cause {
        self.ending.unwrap_or(Cause::Expired)
    }

    pub(super) fn encode(&self, data: &SecretBytes) -> SecretBytes {
        let record = Record {
            path: self.path.to_string(),
            verbs: self.verbs.iter().map(ToString::to_string).collect(),
            what: self.what.to_string(),
            session: self.session.encode(),
            issued_ms: self.issued.as_millis(),
            expires_ms: self.expires.as_millis(),
            max_expires_ms: self.max_expires.as_millis(),
            ttl_ms: u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
            ending: self.ending.map_or("", Cause::as_str).to_owned(),
            data: data.expose().to_vec(),
        };
        SecretBytes::new(record.encode_to_vec())
    }
}

impl Stored {
    pub(super) fn found(found: &Found) -> Result<Self, BarrierError> {
        Self::read(RequestId::parse(&found.name).ok_or_else(corrupt)?, &found.entry)
    }

    pub(super) fn read(id: RequestId, record: &OpenedRecord) -> Result<Self, BarrierError> {
        Self::decode(id, record).ok_or_else(corrupt)
    }

    fn decode(id: RequestId, opened: &OpenedRecord) -> Option<Self> {
        let mut record = Record::decode(opened.content.expose()).ok()?;
        let ending = match &*record.ending {
            "" => None,
            text => Some(Cause::parse(text)?),
        };
        let lease = Lease {
            id,
            path: Path::parse(&record.path).ok()?,
            verbs: record.verbs.iter().map(|verb| Verb::parse(verb)).collect::<Option<_>>()?,
            what: std::mem::take(&mut record.what).into(),
            session: Session::decode(&record.session)?,
            issued: Timestamp::from_millis(record.issued_ms),
            expires: Timestamp::from_millis(record.expires_ms),
            max_expires: Timestamp::from_millis(record.max_expires_ms),
            ttl: Duration::from_millis(record.ttl_ms),
            ending,
        };
        let data = SecretBytes::new(std::mem::take(&mut record.data));
        Some(Self { lease, data, revision: opened.revision })
    }
}

/// The key of a record ends with the part, so that one whose record is gone is found by its key.
pub(super) fn address(id: RequestId) -> Address {
    let [a, b, c, d, e, f, g, h, ..] = id.0;
    let part = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    Address { kind: LEASE, folder: Box::default(), name: id.to_string().into(), part }
}

pub(super) fn corrupt() -> BarrierError {
    BarrierError::Corrupt { kind: LEASE, namespace: "sys/leases".to_owned() }
}

/// The ids whose records can have such a key.
pub(super) fn ids_of(key: &[u8]) -> Option<RangeInclusive<RequestId>> {
    let (mut first, mut last) = ([0; 16], [u8::MAX; 16]);
    let part = key.last_chunk::<8>()?;
    first.split_at_mut(8).0.copy_from_slice(part);
    last.split_at_mut(8).0.copy_from_slice(part);
    Some(RequestId(first)..=RequestId(last))
}

//! A wrapped answer in the store: what is known of it, and the answer itself, which goes when it is opened.

use prost::Message;

use super::{ANSWER_BYTES, About, Token};
use crate::{
    barrier::{Address, BarrierError, MAX_PLAINTEXT, OpenedRecord, RecordKind},
    model::{Path, RequestId, SecretBytes, Timestamp},
    storage::Revision,
};

/// What is known of it.
pub(super) const HEADER: RecordKind = RecordKind::new(51, "Wrapped");
/// The answer, in parts.
const ANSWER: RecordKind = RecordKind::new(52, "WrappedAnswer");

/// What a record holds beside its name.
pub(super) const PART_BYTES: usize = MAX_PLAINTEXT - 1024;
/// As many as the longest answer has.
const PARTS: u64 = ANSWER_BYTES.div_ceil(PART_BYTES) as u64;

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(string, tag = "1")]
    operation: String,
    #[prost(string, tag = "2")]
    path: String,
    #[prost(string, tag = "3")]
    by: String,
    #[prost(int64, tag = "4")]
    at_ms: i64,
    #[prost(int64, tag = "5")]
    expires_ms: i64,
    /// SHA-256 of the token.
    #[prost(bytes = "vec", tag = "6")]
    token: Vec<u8>,
    /// 0 = not yet.
    #[prost(int64, tag = "7")]
    opened_ms: i64,
}

/// The record, and since when it is as it is.
pub(super) struct Stored {
    record: Record,
    pub(super) revision: Revision,
}

impl Stored {
    pub(super) fn of(about: &About, token: &Token) -> Self {
        let record = Record {
            operation: about.operation.to_string(),
            path: about.path.to_string(),
            by: about.by.to_string(),
            at_ms: about.at.as_millis(),
            expires_ms: about.expires.as_millis(),
            token: token.digest().to_vec(),
            opened_ms: 0,
        };
        Self { record, revision: Revision(0) }
    }

    pub(super) fn decode(found: &OpenedRecord) -> Result<Self, BarrierError> {
        let record = Record::decode(found.content.expose()).map_err(|_| corrupt())?;
        Ok(Self { record, revision: found.revision })
    }

    pub(super) fn encode(&self) -> SecretBytes {
        SecretBytes::from(self.record.encode_to_vec())
    }

    pub(super) fn about(&self, id: RequestId) -> Result<About, BarrierError> {
        let Record { operation, path, by, at_ms, .. } = &self.record;
        Ok(About {
            id,
            operation: operation.as_str().into(),
            path: Path::parse(path).map_err(|_| corrupt())?,
            by: by.as_str().into(),
            at: Timestamp::from_millis(*at_ms),
            expires: self.expires(),
        })
    }

    /// Digests tell nothing of what they were made of, so they are compared like any bytes.
    pub(super) fn is_opened_by(&self, token: &Token) -> bool {
        self.record.token == token.digest()
    }

    pub(super) fn opened(&self) -> Option<Timestamp> {
        (self.record.opened_ms != 0).then(|| Timestamp::from_millis(self.record.opened_ms))
    }

    pub(super) fn opened_at(mut self, now: Timestamp) -> Self {
        self.record.opened_ms = now.as_millis();
        self
    }

    pub(super) fn by(&self) -> &str {
        &self.record.by
    }

    pub(super) fn expires(&self) -> Timestamp {
        Timestamp::from_millis(self.record.expires_ms)
    }
}

pub(super) fn address(id: RequestId) -> Address {
    at(HEADER, id, 0)
}

/// All the places that an answer may take, in order.
pub(super) fn answer_addresses(id: RequestId) -> impl Iterator<Item = Address> {
    (0..PARTS).map(move |part| at(ANSWER, id, part))
}

fn at(kind: RecordKind, id: RequestId, part: u64) -> Address {
    Address { kind, folder: Box::default(), name: id.to_string().into(), part }
}

pub(super) fn id(name: &str) -> Option<RequestId> {
    RequestId::parse(name)
}

fn corrupt() -> BarrierError {
    BarrierError::Corrupt { kind: HEADER, namespace: "wrapping".to_owned() }
}

//! The seal record: what is stored, unsealed, so that the server knows how to unseal. A version byte and a protobuf
//! message. It holds the root key only wrapped.

use prost::Message;

use super::{KINDS, Kind, MAX_THRESHOLD, SetId};
use crate::model::StoreId;

const VERSION: u8 = 1;

/// How the root key of a store is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealRecord {
    pub kind: Kind,
    /// How many shares were made; 0 where there are none.
    pub shares: u8,
    /// How many of them are needed; 0 where there are none.
    pub threshold: u8,
    /// Drawn anew with every seal.
    pub set: SetId,
    /// Of which store.
    pub store: StoreId,
    /// The root key under the seal key.
    pub wrapped: Vec<u8>,
}

/// Stored bytes that are no seal record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored seal record is damaged or of a later version: {0}")]
pub struct MalformedRecord(&'static str);

#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint32, tag = "2")]
    shares: u32,
    #[prost(uint32, tag = "3")]
    threshold: u32,
    #[prost(bytes = "vec", tag = "4")]
    set: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    store: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    wrapped: Vec<u8>,
}

impl SealRecord {
    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let wire = Wire {
            kind: self.kind.number,
            shares: self.shares.into(),
            threshold: self.threshold.into(),
            set: self.set.to_vec(),
            store: self.store.0.to_vec(),
            wrapped: self.wrapped.clone(),
        };
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&wire.encode_to_vec());
        bytes
    }

    /// From stored bytes.
    ///
    /// # Errors
    /// They are not what [`SealRecord::encode`] makes.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedRecord> {
        let (version, rest) = bytes.split_first().ok_or(MalformedRecord("it is empty"))?;
        if *version != VERSION {
            return Err(MalformedRecord("its version is not known"));
        }
        let wire = Wire::decode(rest).map_err(|_| MalformedRecord("it is no message"))?;
        let kind =
            KINDS.iter().find(|k| k.number == wire.kind).ok_or(MalformedRecord("its kind is not known"))?;
        let record = Self {
            kind: *kind,
            shares: wire.shares.try_into().map_err(|_| MalformedRecord("its shares are out of range"))?,
            threshold: wire
                .threshold
                .try_into()
                .map_err(|_| MalformedRecord("its threshold is out of range"))?,
            set: wire.set.try_into().map_err(|_| MalformedRecord("its set id has another length"))?,
            store: StoreId(
                wire.store.try_into().map_err(|_| MalformedRecord("its store id has another length"))?,
            ),
            wrapped: wire.wrapped,
        };
        let most = MAX_THRESHOLD.min(record.shares);
        if record.kind.by_shares && !(1..=most).contains(&record.threshold) {
            return Err(MalformedRecord("its threshold is out of range"));
        }
        Ok(record)
    }
}

//! A view: the part of the barrier one engine or subsystem can see. Its namespace is hashed into every key, so there is
//! no address with which it could reach anything else.

use std::sync::Arc;

use super::{BarrierError, Kind, Revision};
use crate::{model::SecretBytes, storage::Condition};

/// Where a record is, within a view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// What it is.
    pub kind: Kind,
    /// The folder to scan to find it: `apps/payments`, or empty.
    pub folder: Box<str>,
    /// Its name in the folder.
    pub name: Box<str>,
    /// Tells records of one name apart: a version and chunk, or 0. Records of one name scan in this order.
    pub part: u64,
}

/// An opened record.
pub struct Entry {
    /// What was put.
    pub content: SecretBytes,
    /// When it was written, for conditions.
    pub revision: Revision,
}

/// Changes of one view that happen together or not at all. At most 100 puts and deletes.
#[derive(Default)]
pub struct Changes {
    /// Must hold.
    pub conditions: Vec<(Address, Condition)>,
    /// Written; at most [`super::MAX_PLAINTEXT`] each, the name included.
    pub puts: Vec<(Address, SecretBytes)>,
    /// Removed.
    pub deletes: Vec<Address>,
}

/// One record of a scan.
pub struct Found {
    /// Its name in the folder.
    pub name: Box<str>,
    /// Its part.
    pub part: u64,
    /// Where the next scan goes on.
    pub cursor: Cursor,
    /// Its content.
    pub entry: Entry,
}

/// A place in a scan; opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub(super) Vec<u8>);

/// See the module.
#[derive(Clone)]
pub struct View {
    barrier: Arc<super::Barrier>,
    namespace: Arc<str>,
}

impl View {
    /// The record at `address`.
    pub async fn get(&self, address: &Address) -> Result<Option<Entry>, BarrierError>;
    /// At most `limit` records of `kind` in `folder`, in the (meaningless but stable) order of their hashed names.
    pub async fn scan(&self, kind: Kind, folder: &str, after: Option<&Cursor>, limit: usize) -> Result<Vec<Found>, BarrierError>;
    /// Does all of `changes` durably, or nothing. Groups with what others commit at the same time.
    pub async fn commit(&self, changes: Changes) -> Result<Revision, BarrierError>;
}

//! How much of a quota is used.

/// A quota of stored bytes, and what counts towards it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUse {
    /// Within the mount; empty for all of it.
    pub folder: Box<str>,
    /// Bytes.
    pub limit: u64,
    /// Bytes; none as long as nobody has counted.
    pub held: Option<u64>,
}

//! A point of the audit log, small enough to be kept elsewhere: in the store, on another machine, in a runbook.

use std::fmt;

/// So many records, and the hash of the last of them. None of it is a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPoint {
    /// Number of a record; 0 before the first, where nothing is known.
    pub seq: u64,
    /// Its hash.
    pub head: [u8; 32],
}

impl LogPoint {
    /// From `SIZE:HEAD`, as `strongroom audit anchor` and `audit verify` print it.
    pub fn parse(text: &str) -> Option<Self> {
        let (seq, head) = text.split_once(':')?;
        let head = data_encoding::HEXLOWER_PERMISSIVE.decode(head.as_bytes()).ok()?.try_into().ok()?;
        Some(Self { seq: seq.parse().ok()?, head })
    }
}

impl fmt::Display for LogPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, data_encoding::HEXLOWER.encode(&self.head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_again_and_nothing_else() {
        let point = LogPoint { seq: 7, head: [0xab; 32] };
        assert_eq!(LogPoint::parse(&point.to_string()), Some(point));
        for wrong in ["", "7", "7:ab", ":", "x:00"] {
            assert_eq!(LogPoint::parse(wrong), None, "{wrong}");
        }
    }
}

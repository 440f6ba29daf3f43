//! What sled 0.34.7 writes, byte by byte, as far as it must be read without sled: sled repairs while it opens, and what
//! it takes for a torn end it overwrites. Pure functions; nothing else in the house knows these bytes.
//!
//! Where to look it up, below `src/` of the crate: segments, messages and their checksums in `pagecache/logger.rs`, kinds
//! in `pagecache/mod.rs`, sizes in `pagecache/constants.rs`, varints, pages, links and snapshots in `serialization.rs`,
//! the frame of a snapshot in `pagecache/snapshot.rs`. Another version of sled is another format: a test holds on to it.
//!
//! The log is a file of segments. A segment begins with a header that says at which position of the endless log (its lsn,
//! a multiple of the segment's size) it stands; segments are used again in any order. Behind it come messages: a page
//! whole, a change of a page, a page given up, padding, or the head of a batch that counts wholly or not at all.

/// The version all of this was read from.
#[cfg(test)]
pub(super) const SLED: &str = "0.34.7";
/// With segments of this size a record of 64 KiB always stays in the log; with smaller ones sled would put it into a blob
/// file, which it never syncs.
pub(in super::super) const SEGMENT_BYTES: usize = 8 << 20;
/// As a distance in the file and in the endless log.
pub(in super::super) const SEGMENT: u64 = SEGMENT_BYTES as u64;
/// Header of a segment.
pub(super) const SEGMENT_HEADER: usize = 20;
/// Nothing begins in the last bytes of a segment: the header of a message may take as many.
pub(super) const RED_ZONE: usize = 32;
/// Longest message that is not padding: what is longer goes to a blob file, and ours never do.
pub(super) const MESSAGE_MOST: usize = SEGMENT_BYTES / 4;

/// Start of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Where in the endless log, in segments.
    pub(super) number: u64,
    /// Up to which lsn everything was written when it was begun.
    pub(super) stable: Option<u64>,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Canceled,
    Cap,
    Batch,
    Free,
    Counter,
    Meta,
    Node,
    Link,
    /// Kept in a file beside the log. Ours are never that large.
    Blob,
}

/// A message whose checksum fits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: Kind,
    /// Number of the segment it was written for.
    pub(super) number: u64,
    pub(super) page: u64,
    pub(super) body: &'a [u8],
    /// Bytes in front of the body.
    pub(super) head: usize,
}

/// A change of a page. Keys of both are without the page's prefix.
pub(super) enum Link<'a> {
    Set(&'a [u8], &'a [u8]),
    Delete(&'a [u8]),
    /// Of the tree itself.
    Other,
}

/// A page.
pub(super) struct Node<'a> {
    /// Its first key, and the one behind its last; empty: no end.
    pub(super) low: &'a [u8],
    pub(super) high: &'a [u8],
    /// So many bytes of `low` are left out of each key.
    pub(super) prefix: usize,
    /// The page that begins with `high`.
    pub(super) next: Option<u64>,
    /// Keys and values; none of an inner page.
    pub(super) leaf: Option<Vec<(&'a [u8], &'a [u8])>>,
}

/// Where a message of a page stands: lsn, place in the file, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) lsn: u64,
    pub(super) at: u64,
    pub(super) bytes: u64,
}

/// What the pages were when sled was opened last.
pub(super) struct Snapshot {
    /// The log up to here is in it.
    pub(super) stable: u64,
    /// By number of the page; none of a page that is free.
    pub(super) pages: Vec<Vec<Pointer>>,
}

/// Whether sled's settings, its file `conf`, are as some sled wrote them: `lines of text | crc u32`. sled itself does not
/// mind a checksum that does not fit.
pub(super) fn are_settings(bytes: &[u8]) -> bool {
    let parts = bytes.split_last_chunk::<4>().filter(|(text, _)| !text.is_empty());
    parts.is_some_and(|(text, crc)| u32::from_le_bytes(*crc) == crc32fast::hash(text))
}

impl SegmentHeader {
    /// `crc u32 | lsn i64 | stable i64`, each of the latter two with all bits but the sign turned.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        const TURNED: i64 = 0x7fff_ffff_ffff_ffff;
        let (crc, rest) = bytes.split_first_chunk::<4>()?;
        let (covered, _) = rest.split_first_chunk::<16>()?;
        if u32::from_le_bytes(*crc) ^ u32::MAX != crc32fast::hash(covered) {
            return None;
        }
        let (lsn, stable) = covered.split_first_chunk::<8>()?;
        let lsn = u64::try_from(i64::from_le_bytes(*lsn) ^ TURNED).ok()?;
        let stable = i64::from_le_bytes(*stable.first_chunk::<8>()?) ^ TURNED;
        let number = lsn.is_multiple_of(SEGMENT).then_some(lsn / SEGMENT)?;
        Some(Self { number, stable: u64::try_from(stable).ok() })
    }
}

impl<'a> Message<'a> {
    /// The message at the start of `bytes`, which end where the segment does, or the file.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (crc, covered) = bytes.split_first_chunk::<4>()?;
        let (kind, mut rest) = covered.split_first()?;
        let kind = Kind::of(*kind)?;
        let length = usize::try_from(varint(&mut rest)?).ok()?;
        let number = varint(&mut rest)?;
        let page = varint(&mut rest)?;
        let body = rest.get(..length)?;
        let head = bytes.len() - rest.len();
        let mut hash = crc32fast::Hasher::new();
        hash.update(body);
        hash.update(bytes.get(4..head)?);
        let fits = hash.finalize() ^ u32::MAX == u32::from_le_bytes(*crc);
        fits.then_some(Self { kind, number, page, body, head })
    }

    pub(super) fn bytes(&self) -> usize {
        self.head + self.body.len()
    }

    /// Of a batch: the lsn of its last byte.
    pub(super) fn batch_end(&self) -> Option<u64> {
        let (end, _) = self.body.split_first_chunk::<8>()?;
        u64::try_from(i64::from_le_bytes(*end)).ok()
    }
}

impl Kind {
    const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Canceled,
            2 => Self::Cap,
            3 => Self::Batch,
            4 => Self::Free,
            5 => Self::Counter,
            6 => Self::Meta,
            8 => Self::Node,
            10 => Self::Link,
            7 | 9 | 11 => Self::Blob,
            _ => return None,
        })
    }
}

/// Whether a message can begin here: what is cheap to see before a checksum is worth its time.
pub(super) fn may_begin(bytes: &[u8], number: impl Fn(u64) -> bool) -> bool {
    let Some((kind, mut rest)) = bytes.get(4..).and_then(<[u8]>::split_first) else { return false };
    // Padding is the end of a segment: nothing to go on with is behind it.
    if matches!(Kind::of(*kind), None | Some(Kind::Cap)) {
        return false;
    }
    let fits = |length: u64| usize::try_from(length).is_ok_and(|length| length <= MESSAGE_MOST);
    varint(&mut rest).is_some_and(fits) && varint(&mut rest).is_some_and(number)
}

impl<'a> Link<'a> {
    pub(super) fn read(mut body: &'a [u8]) -> Option<Self> {
        let (kind, rest) = body.split_first()?;
        body = rest;
        Some(match kind {
            0 => Self::Set(sized(&mut body)?, sized(&mut body)?),
            1 => Self::Delete(sized(&mut body)?),
            _ => Self::Other,
        })
    }
}

impl<'a> Node<'a> {
    pub(super) fn read(mut body: &'a [u8]) -> Option<Self> {
        let rest = &mut body;
        let next = Some(varint(rest)?).filter(|next| *next != 0);
        let _merging_child = varint(rest)?;
        let _merging = byte(rest)?;
        let prefix = usize::from(byte(rest)?);
        let (low, high) = (sized(rest)?, sized(rest)?);
        let is_leaf = byte(rest)? == 0;
        let count = usize::try_from(varint(rest)?).ok()?;
        let leaf = if is_leaf {
            let keys = (0..count).map(|_| sized(rest)).collect::<Option<Vec<_>>>()?;
            let values = (0..count).map(|_| sized(rest)).collect::<Option<Vec<_>>>()?;
            Some(keys.into_iter().zip(values).collect())
        } else {
            None
        };
        (prefix <= low.len()).then_some(Self { low, high, prefix, next, leaf })
    }

    /// A key of it, whole.
    pub(super) fn whole(&self, key: &[u8]) -> Vec<u8> {
        whole(self.low, self.prefix, key)
    }
}

/// A key of a page that begins with `low` and leaves out so many bytes of it.
pub(super) fn whole(low: &[u8], prefix: usize, key: &[u8]) -> Vec<u8> {
    [low.get(..prefix).unwrap_or_default(), key].concat()
}

impl Snapshot {
    /// `content | length u64 | crc u32`, the content `stable i64 + 1 | active segment | pages`.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (content, tail) = bytes.split_at_checked(bytes.len().checked_sub(12)?)?;
        let crc = tail.get(8..)?.first_chunk::<4>()?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(content) {
            return None;
        }
        let (stable, mut rest) = content.split_first_chunk::<8>()?;
        let stable = u64::try_from(i64::from_le_bytes(*stable).checked_sub(1)?).ok()?;
        let _active = varint(&mut rest)?;
        let mut pages = Vec::new();
        while !rest.is_empty() {
            let count = byte(&mut rest)?;
            if count == 0 {
                // Free: where that stands is of no use.
                let _ = (fixed(&mut rest)?, place(&mut rest)?);
                pages.push(Vec::new());
            } else {
                let pointers = (0..count).map(|_| {
                    let (lsn, at) = (fixed(&mut rest)?, place(&mut rest)?);
                    Some(Pointer { lsn, at, bytes: varint(&mut rest)? })
                });
                pages.push(pointers.collect::<Option<_>>()?);
            }
        }
        Some(Self { stable, pages })
    }
}

/// sled's own: one byte up to 240, or a first byte that tells how many follow.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let first = byte(bytes)?;
    Some(match first {
        0..=240 => u64::from(first),
        241..=248 => 240 + 256 * (u64::from(first) - 241) + u64::from(byte(bytes)?),
        249 => 2288 + 256 * u64::from(byte(bytes)?) + u64::from(byte(bytes)?),
        _ => {
            let (given, rest) = bytes.split_at_checked(usize::from(first) - 247)?;
            *bytes = rest;
            given.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        }
    })
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn fixed(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    u64::try_from(i64::from_le_bytes(*number)).ok()
}

/// Where in the file. That of a blob names a file as well, which ours never do.
fn place(bytes: &mut &[u8]) -> Option<u64> {
    (byte(bytes)? == 0).then_some(())?;
    varint(bytes)
}

fn sized<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    let (given, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_of_the_version_that_is_built_in() {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
        let lock = std::fs::read_to_string(lock).unwrap();
        let package = format!("name = \"sled\"\nversion = \"{SLED}\"\n");
        assert!(lock.contains(&package), "another sled: read its format anew before this file is believed");
    }

    #[test]
    fn numbers_are_read_as_sled_writes_them() {
        for (bytes, number) in [
            (&[0][..], 0),
            (&[240], 240),
            (&[241, 0], 240),
            (&[241, 1], 241),
            (&[248, 255], 2287),
            (&[249, 0, 0], 2288),
            (&[249, 255, 255], 67823),
            (&[250, 0xf0, 0x08, 0x01], 67824),
            (&[255, 1, 0, 0, 0, 0, 0, 0, 1], (1 << 56) + 1),
        ] {
            let mut rest = bytes;
            assert_eq!((varint(&mut rest), rest.len()), (Some(number), 0), "{bytes:?}");
        }
        assert_eq!(varint(&mut &[250, 1, 2][..]), None);
    }

    #[test]
    fn nothing_that_is_cut_or_changed_is_read() {
        let body = [1, 1, b'k'];
        let mut message = vec![0; 4];
        message.extend([10, 3, 7, 200]);
        let mut hash = crc32fast::Hasher::new();
        hash.update(&body);
        hash.update(&message[4..]);
        message[..4].copy_from_slice(&(hash.finalize() ^ u32::MAX).to_le_bytes());
        message.extend(body);
        let read = Message::read(&message).unwrap();
        assert_eq!((read.kind, read.number, read.page, read.bytes()), (Kind::Link, 7, 200, 11));
        assert!(matches!(Link::read(read.body), Some(Link::Delete(b"k"))));
        for at in 0..message.len() {
            assert!(Message::read(&message[..at]).is_none());
            for bit in 0..8 {
                let mut flipped = message.clone();
                flipped[at] ^= 1 << bit;
                assert!(Message::read(&flipped).is_none(), "byte {at} bit {bit}");
            }
        }
    }
}

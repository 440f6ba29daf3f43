//! What kv keeps: one record per secret with its versions, settings and, while it is small, the data of the latest
//! version (so that reading it is a single get); other versions in chunks. Only bytes and types, no store.

use std::collections::BTreeMap;

use prost::Message;
use strongroom_proto::limits::{MAX_VERSIONS, SECRET_BYTES, SECRET_KEYS};
use zeroize::Zeroizing;

use super::{SecretMetadata, VersionMetadata, settings::Beginning};
use crate::{
    barrier::{MAX_PLAINTEXT, RecordKind},
    model::{Invalid, KeyName, Path, SecretBytes, Timestamp},
};

/// Names, versions and metadata of one secret.
pub const SECRET: RecordKind = RecordKind::new(16, "KvSecret");
/// The bytes of one version, in chunks.
pub const VERSION: RecordKind = RecordKind::new(17, "KvVersion");
/// A folder within a folder.
pub(super) const FOLDER: RecordKind = RecordKind::new(18, "KvFolder");

/// Data up to this size stands in the secret's own record. More would make listing, which opens these records, slower.
pub(super) const INLINE_BYTES: usize = 4 << 10;
/// Bytes of one chunk: a record without its name (at most 512 bytes) and framing.
pub(super) const CHUNK_BYTES: usize = MAX_PLAINTEXT - 1024;
/// Most bytes of versions, settings and custom metadata of one secret: a record without what may stand inline.
const HEADER_BYTES: usize = CHUNK_BYTES - INLINE_BYTES - 16;
/// Bytes one version is reckoned with when max_versions and custom metadata are set; names of writers come on top, once each.
const ROW_BYTES: usize = 48;

/// Bytes that a secret is reckoned with beside what it holds: keys, seals and a place in its folder.
const OVERHEAD: u64 = 512;

const FORMAT: u8 = 1;

/// A stored record that is not what this code writes.
#[derive(Debug)]
pub(super) struct Malformed;

/// When something was done and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) at: Timestamp,
    pub(super) by: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) version: u64,
    pub(super) created: Stamp,
    pub(super) deleted: Option<Timestamp>,
    pub(super) destroyed: bool,
    pub(super) expires: Option<Timestamp>,
    pub(super) size: u64,
    /// 0 if the data stands inline, or is destroyed.
    pub(super) chunks: u16,
}

/// One secret without the data of older versions.
pub(super) struct Secret {
    /// Oldest first; the last is the current one.
    pub(super) rows: Vec<Row>,
    pub(super) current: u64,
    pub(super) custom: BTreeMap<String, String>,
    pub(super) max_versions: u32,
    pub(super) cas_required: bool,
    pub(super) created: Stamp,
    pub(super) updated: Stamp,
    /// The id the current version was written with, or empty.
    pub(super) operation: Box<str>,
    /// The encoded data of the current version, if small.
    pub(super) inline: Option<SecretBytes>,
    /// Bytes that it took up when it was read; 0 for one that is new.
    pub(super) held: u64,
}

impl Secret {
    /// One that has no version yet.
    pub(super) fn new(created: Stamp, beginning: &Beginning) -> Self {
        Self {
            rows: Vec::new(),
            current: 0,
            custom: BTreeMap::new(),
            max_versions: beginning.max_versions,
            cas_required: beginning.cas_required,
            updated: created.clone(),
            created,
            operation: Box::default(),
            inline: None,
            held: 0,
        }
    }

    pub(super) fn row(&self, version: u64) -> Option<&Row> {
        self.rows.iter().find(|row| row.version == version)
    }

    pub(super) fn row_mut(&mut self, version: u64) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.version == version)
    }

    /// The versions among `wanted` that are not here.
    pub(super) fn unknown(&self, wanted: &[u64]) -> Vec<u64> {
        wanted.iter().copied().filter(|version| self.row(*version).is_none()).collect()
    }

    /// Whether settings and custom pairs leave room for the history they promise.
    pub(super) fn check_room(&self) -> Result<(), Invalid> {
        let custom: usize = self.custom.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
        let versions = usize::try_from(self.max_versions.min(MAX_VERSIONS)).unwrap_or(usize::MAX);
        let needed = custom.saturating_add(versions.saturating_mul(ROW_BYTES));
        if needed > HEADER_BYTES {
            let problem = format!(
                "custom metadata of {custom} bytes and {versions} versions need {needed} bytes; \
                 together at most {HEADER_BYTES} are allowed"
            );
            return Err(Invalid::new("custom", problem));
        }
        Ok(())
    }

    /// The bytes to store.
    ///
    /// # Errors
    /// The history and custom metadata are too long for a record.
    pub(super) fn encode(&self) -> Result<SecretBytes, Invalid> {
        let header = Header::from(self).encode_to_vec();
        if header.len() > HEADER_BYTES {
            let problem = format!(
                "history and custom metadata take {} bytes; at most {HEADER_BYTES} are allowed: \
                 lower max_versions or shorten custom metadata",
                header.len()
            );
            return Err(Invalid::new("max_versions", problem));
        }
        let inline = self.inline.as_ref().map_or(&[][..], SecretBytes::expose);
        // Exact from the start: growing would leave unwiped copies behind.
        let mut bytes = Vec::with_capacity(5 + header.len() + inline.len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(inline);
        Ok(SecretBytes::new(bytes))
    }

    pub(super) fn decode(bytes: &SecretBytes) -> Result<Self, Malformed> {
        let mut rest = Reader(bytes.expose());
        if rest.take(1)? != [FORMAT] {
            return Err(Malformed);
        }
        let length = rest.length::<4>()?;
        let header = Header::decode(rest.take(length)?).map_err(|_| Malformed)?;
        let inline = (!rest.0.is_empty()).then(|| SecretBytes::from(rest.0));
        let mut secret = header.open(inline)?;
        secret.held = secret.bytes(bytes);
        Ok(secret)
    }

    /// Bytes that it takes up with `record` as its encoded form: all of its versions, as they are before they are sealed.
    pub(super) fn bytes(&self, record: &SecretBytes) -> u64 {
        let chunked = self.rows.iter().filter(|row| row.chunks > 0);
        let own = u64::try_from(record.expose().len()).unwrap_or(u64::MAX);
        chunked.fold(own.saturating_add(OVERHEAD), |sum, row| sum.saturating_add(row.size))
    }

    /// What may be shown.
    pub(super) fn metadata(&self, path: &Path) -> SecretMetadata {
        SecretMetadata {
            path: path.clone(),
            current_version: self.current,
            oldest_version: self.rows.first().map_or(self.current, |row| row.version),
            versions: self.rows.iter().map(Row::metadata).collect(),
            custom: self.custom.clone(),
            max_versions: self.max_versions,
            cas_required: self.cas_required,
            created_at: self.created.at,
            created_by: self.created.by.clone(),
            updated_at: self.updated.at,
            updated_by: self.updated.by.clone(),
        }
    }
}

impl Row {
    pub(super) fn metadata(&self) -> VersionMetadata {
        VersionMetadata {
            version: self.version,
            created_at: self.created.at,
            created_by: self.created.by.clone(),
            deleted_at: self.deleted,
            destroyed: self.destroyed,
            expires_at: self.expires,
            size: self.size,
        }
    }
}

/// [`Secret`] as stored, but for the inline data: that never passes through a decoder that copies.
#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(message, repeated, tag = "1")]
    rows: Vec<StoredRow>,
    /// Every writer once; rows name them by place.
    #[prost(string, repeated, tag = "2")]
    writers: Vec<String>,
    #[prost(btree_map = "string, string", tag = "3")]
    custom: BTreeMap<String, String>,
    #[prost(uint32, tag = "4")]
    max_versions: u32,
    #[prost(bool, tag = "5")]
    cas_required: bool,
    #[prost(uint64, tag = "6")]
    current: u64,
    #[prost(int64, tag = "7")]
    created_at: i64,
    #[prost(uint32, tag = "8")]
    created_by: u32,
    #[prost(int64, tag = "9")]
    updated_at: i64,
    #[prost(uint32, tag = "10")]
    updated_by: u32,
    #[prost(string, tag = "11")]
    operation: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRow {
    #[prost(uint64, tag = "1")]
    version: u64,
    #[prost(int64, tag = "2")]
    created_at: i64,
    #[prost(uint32, tag = "3")]
    created_by: u32,
    #[prost(int64, optional, tag = "4")]
    deleted_at: Option<i64>,
    #[prost(bool, tag = "5")]
    destroyed: bool,
    #[prost(int64, optional, tag = "6")]
    expires_at: Option<i64>,
    #[prost(uint64, tag = "7")]
    size: u64,
    #[prost(uint32, tag = "8")]
    chunks: u32,
}

impl From<&Secret> for Header {
    fn from(secret: &Secret) -> Self {
        let mut writers = Writers::default();
        let rows = secret
            .rows
            .iter()
            .map(|row| StoredRow {
                version: row.version,
                created_at: row.created.at.as_millis(),
                created_by: writers.place(&row.created.by),
                deleted_at: row.deleted.map(Timestamp::as_millis),
                destroyed: row.destroyed,
                expires_at: row.expires.map(Timestamp::as_millis),
                size: row.size,
                chunks: u32::from(row.chunks),
            })
            .collect();
        Self {
            rows,
            custom: secret.custom.clone(),
            max_versions: secret.max_versions,
            cas_required: secret.cas_required,
            current: secret.current,
            created_at: secret.created.at.as_millis(),
            created_by: writers.place(&secret.created.by),
            updated_at: secret.updated.at.as_millis(),
            updated_by: writers.place(&secret.updated.by),
            operation: secret.operation.to_string(),
            writers: writers.names,
        }
    }
}

impl Header {
    fn open(self, inline: Option<SecretBytes>) -> Result<Secret, Malformed> {
        let stamp = |at, by: u32| {
            let by = usize::try_from(by).ok().and_then(|place| self.writers.get(place)).ok_or(Malformed)?;
            Ok(Stamp { at: Timestamp::from_millis(at), by: by.as_str().into() })
        };
        let rows: Result<Vec<Row>, Malformed> = self
            .rows
            .iter()
            .map(|row| {
                Ok(Row {
                    version: row.version,
                    created: stamp(row.created_at, row.created_by)?,
                    deleted: row.deleted_at.map(Timestamp::from_millis),
                    destroyed: row.destroyed,
                    expires: row.expires_at.map(Timestamp::from_millis),
                    size: row.size,
                    chunks: u16::try_from(row.chunks).map_err(|_| Malformed)?,
                })
            })
            .collect();
        let created = stamp(self.created_at, self.created_by)?;
        let updated = stamp(self.updated_at, self.updated_by)?;
        Ok(Secret {
            rows: rows?,
            current: self.current,
            max_versions: self.max_versions,
            cas_required: self.cas_required,
            created,
            updated,
            operation: self.operation.into(),
            custom: self.custom,
            inline,
            held: 0,
        })
    }
}

/// Names of writers, each once: a history of a thousand versions has few writers.
#[derive(Default)]
struct Writers {
    names: Vec<String>,
}

impl Writers {
    fn place(&mut self, name: &str) -> u32 {
        let place = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }
}

/// The data of a version: key -> value.
pub(super) type Data = BTreeMap<KeyName, SecretBytes>;

/// Bytes of all values together.
pub(super) fn value_bytes(data: &Data) -> u64 {
    data.values().map(|value| value.len() as u64).sum()
}

/// Whether data of this shape may be kept.
pub(super) fn check_data<'a>(
    data: impl IntoIterator<Item = (&'a KeyName, &'a SecretBytes)>,
) -> Result<(), Invalid> {
    let (mut keys, mut bytes) = (0, 0);
    for (key, value) in data {
        keys += 1;
        bytes += key.as_str().len() + value.len();
    }
    if keys > SECRET_KEYS {
        return Err(Invalid::new("data", format!("has {keys} keys; at most {SECRET_KEYS} are allowed")));
    }
    if bytes > SECRET_BYTES {
        let problem = format!("has {bytes} bytes of keys and values; at most {SECRET_BYTES} are allowed");
        return Err(Invalid::new("data", problem));
    }
    Ok(())
}

/// Format byte, number of keys, then each key and value behind its length. Written by hand, because a general encoder
/// would leave copies of the values that nobody wipes.
pub(super) fn encode_data(data: &Data) -> SecretBytes {
    let length: usize = data.iter().map(|(key, value)| 6 + key.as_str().len() + value.len()).sum();
    let mut bytes = Vec::with_capacity(5 + length);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    for (key, value) in data {
        bytes.extend_from_slice(&u16::try_from(key.as_str().len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(key.as_str().as_bytes());
        bytes.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(value.expose());
    }
    SecretBytes::new(bytes)
}

/// The reverse of [`encode_data`]; takes nothing that it would not write itself.
pub(super) fn decode_data(bytes: &[u8]) -> Result<Data, Malformed> {
    let mut rest = Reader(bytes);
    if rest.take(1)? != [FORMAT] {
        return Err(Malformed);
    }
    let count = rest.length::<4>()?;
    let mut data = Data::new();
    for _ in 0..count {
        let length = rest.length::<2>()?;
        let key = std::str::from_utf8(rest.take(length)?).map_err(|_| Malformed)?;
        let key = KeyName::parse(key).map_err(|_| Malformed)?;
        let length = rest.length::<4>()?;
        let value = SecretBytes::from(rest.take(length)?);
        if data.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(Malformed);
        }
        data.insert(key, value);
    }
    if rest.0.is_empty() { Ok(data) } else { Err(Malformed) }
}

/// Puts chunks together again in one buffer that is wiped.
pub(super) fn join(chunks: &[SecretBytes]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(chunks.iter().map(SecretBytes::len).sum()));
    for chunk in chunks {
        bytes.extend_from_slice(chunk.expose());
    }
    bytes
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A big-endian number of `N` bytes.
    fn length<const N: usize>(&mut self) -> Result<usize, Malformed> {
        Ok(self.take(N)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
        proptest::collection::vec(
            ("[a-z][A-Za-z0-9._-]{0,20}", proptest::collection::vec(any::<u8>(), 0..200)),
            0..20,
        )
    }

    fn stamp(at: i64, by: &str) -> Stamp {
        Stamp { at: Timestamp::from_millis(at), by: by.into() }
    }

    fn plain(data: &Data) -> Vec<(&str, &[u8])> {
        data.iter().map(|(key, value)| (key.as_str(), value.expose())).collect()
    }

    proptest! {
        #[test]
        fn data_comes_back(pairs in data()) {
            let data: Data = pairs.iter()
                .map(|(key, value)| (KeyName::parse(key).unwrap(), SecretBytes::from(value.as_slice()))).collect();
            let bytes = encode_data(&data);
            let back = decode_data(bytes.expose()).unwrap();
            prop_assert_eq!(plain(&back), plain(&data));
            // Cut anywhere, or longer, it is not data.
            for cut in 0..bytes.len() {
                prop_assert!(decode_data(&bytes.expose()[..cut]).is_err());
            }
            let mut longer = bytes.expose().to_vec();
            longer.push(0);
            prop_assert!(decode_data(&longer).is_err());
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(data) = decode_data(&bytes) {
                let again = encode_data(&data);
                prop_assert_eq!(again.expose(), bytes.as_slice());
            }
            let _ = Secret::decode(&SecretBytes::from(bytes.as_slice()));
        }

        #[test]
        fn a_secret_comes_back(
            versions in proptest::collection::vec((0i64..9999, "[a-c]", proptest::option::of(0i64..9), any::<bool>()), 0..30),
            custom in proptest::collection::btree_map("[a-z]{1,9}", "\\PC{0,9}", 0..9),
            inline in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..99)),
        ) {
            let mut secret = Secret::new(stamp(1, "x"), &Beginning::default());
            for (index, (at, by, deleted, destroyed)) in versions.iter().enumerate() {
                secret.current = index as u64 + 1;
                secret.rows.push(Row {
                    version: secret.current, created: stamp(*at, by), deleted: deleted.map(Timestamp::from_millis),
                    destroyed: *destroyed, expires: deleted.map(Timestamp::from_millis), size: 7, chunks: 3,
                });
            }
            secret.custom = custom;
            secret.inline = inline.as_ref().map(|bytes| SecretBytes::from(bytes.as_slice()));
            let back = Secret::decode(&secret.encode().unwrap()).unwrap();
            prop_assert_eq!(&back.rows, &secret.rows);
            prop_assert_eq!(&back.custom, &secret.custom);
            prop_assert_eq!(back.inline.as_ref().map(|b| b.expose().to_vec()), inline);
            prop_assert_eq!(back.metadata(&Path::parse("a/b").unwrap()), secret.metadata(&Path::parse("a/b").unwrap()));
        }
    }

    #[test]
    fn a_history_as_long_as_was_promised_fits() {
        let mut secret = Secret::new(stamp(i64::MAX, "kubernetes/main/payments/web"), &Beginning::default());
        secret.max_versions = MAX_VERSIONS;
        secret.check_room().unwrap();
        for version in 0..u64::from(MAX_VERSIONS) + 64 {
            secret.rows.push(Row {
                version: (1 << 40) + version,
                created: stamp(4_000_000_000_000, "userpass/alice"),
                deleted: Some(Timestamp::from_millis(4_000_000_000_000)),
                destroyed: true,
                expires: Some(Timestamp::from_millis(4_000_000_000_000)),
                size: 1 << 20,
                chunks: 18,
            });
        }
        assert!(secret.encode().is_ok());
        let pair = |n: u32| (format!("{n:0128}"), "v".repeat(512));
        secret.custom = (0..64).map(pair).collect();
        assert!(secret.check_room().is_err());
    }
}
